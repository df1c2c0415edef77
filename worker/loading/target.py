"""Where the records of one upstream go, and what the database has settled for all of them."""

from __future__ import annotations

from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from worker.db import database, settings
from worker.db.session import SHORT
from worker.secret import Keyring
from worker.storage import upstreams


class Target(NamedTuple):
    """A database, and one upstream in it."""

    engine: Engine
    upstream: str
    """Its name."""
    upstream_id: int
    keyring: Keyring
    zone: ZoneInfo
    """Whose days the rollups hold."""


def open_target(engine: Engine, upstream: str, *, pepper: str, timezone: str) -> Target:
    """Read what belongs to the database, and enter the upstream where it is new.

    Raises:
        ConfigError: pepper or time zone are not the database's.
        DatabaseError: it cannot be reached.
    """
    with database.transaction(engine, SHORT) as connection:
        keyring = Keyring(settings.pepper(connection, pepper))
        zone = ZoneInfo(settings.rollup_timezone(connection, timezone))
        return Target(engine, upstream, upstreams.upstream_id(connection, upstream), keyring, zone)
