"""Rollups summed anew from their records."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from worker.db import database, migrations, settings
from worker.db.retry import run_transaction
from worker.db.session import LONG
from worker.errors import UsageError
from worker.rollups import apply as rollups
from worker.rollups import verify
from worker.storage import upstreams


class Rebuilt(NamedTuple):
    """What a rebuild did: the days it summed, and the sums that were different before."""

    days: list[date]
    skipped: list[date]
    """Days that were left alone, since some of their records are no longer here."""
    timezone: str
    differences: list[verify.Difference]


def rebuild(
    engine: Engine,
    *,
    since: date | None = None,
    until: date | None = None,
    timezone: str | None = None,
    dry_run: bool = False,
) -> Rebuilt:
    """Sum the rollups of the days `[since, until)` anew from their records.

    Args:
        engine: the database.
        since: the first day; from the beginning when None.
        until: the day after the last; to the end when None.
        timezone: cut all days by this zone from now on; only for all of history at once.
        dry_run: only say what would change.

    Raises:
        UsageError: another time zone is asked for while records of some days are gone, or for a part of history.
    """
    if timezone is not None and (since or until):
        raise UsageError("--timezone cuts every day anew: leave out --since and --until")
    migrations.schema_version(engine)  # refuses one that is newer than this program

    def work(connection: database.Connection) -> Rebuilt:
        rollups.lock(connection)
        zone = ZoneInfo(timezone or settings.setting(connection, "timezone") or "UTC")
        complete_from = upstreams.records_complete_from(connection)
        if timezone is not None and complete_from is not None:
            raise UsageError(f"records before {complete_from} are gone: their days cannot be cut by another time zone")
        days = verify.covered_days(connection, zone, since, until)
        whole = [day for day in days if complete_from is None or day >= complete_from]
        found = list(verify.differences(connection, zone, days[0], until)) if days else []
        if not dry_run:
            _replace(connection, zone, days, whole, everything=timezone is not None)
        return Rebuilt(whole, [day for day in days if day not in whole], zone.key, found)

    return run_transaction(engine, work, LONG)


def _replace(
    connection: database.Connection, zone: ZoneInfo, days: list[date], whole: list[date], *, everything: bool
) -> None:
    if everything:
        settings.change_setting(connection, "timezone", zone.key)
    verify.rebuild(connection, zone, days, whole)
