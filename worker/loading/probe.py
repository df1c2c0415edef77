"""Who is at fault where PostgreSQL refuses a record: a plain one is tried in its place, and taken back at once.

Where that is refused, too, a record holds nothing that could be wrong: the fault is one of the program or the server.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime
from typing import NamedTuple, NoReturn
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from worker.cliproxyapi.directory import UNKNOWN
from worker.db import database
from worker.db.session import BATCH
from worker.errors import RefusedError
from worker.rollups import rollup
from worker.secret import Keyring
from worker.storage import register, roster, store


class Place(NamedTuple):
    """Where records of an upstream go to."""

    upstream_id: int
    zone: ZoneInfo
    keyring: Keyring


class _TakenError(Exception):
    """The plain record was taken: by this it is taken back."""


def refusal(engine: Engine, place: Place, at: datetime) -> str:
    """Return in which words PostgreSQL refuses a record that holds nothing but a time; nothing where it takes it.

    Args:
        engine: the database, which is left as it was, but for numbers of its sequences.
        place: where records go to.
        at: the time: what is wrong with a partition or a day concerns those of that time alone.

    Raises:
        DatabaseError: the database does not work.
    """
    try:
        with database.transaction(engine, BATCH) as connection:
            _try(connection, place, at)
    except _TakenError:
        return ""
    except RefusedError as e:
        return str(e)
    raise AssertionError("what was tried has not been taken back")


def _try(connection: database.Connection, place: Place, at: datetime) -> NoReturn:
    """Do all that storing a batch of one record does, and raise _TakenError."""
    rollup.lock_to_change(connection)
    name = uuid.uuid4().hex
    batch_id = store.begin_batch(connection, name, place.upstream_id, None, at, 1)
    if batch_id is None:
        raise LookupError("a name that was just made up is there already")
    store.ensure_partition(connection, f"{at:%Y-%m}-01")
    channels = roster.channel_ids(connection, place.upstream_id, {UNKNOWN: (at, at)})
    key = place.keyring.digest("")
    keys = register.client_key_ids(connection, place.upstream_id, {key: register.Seen("", at, at)})
    channel_id = channels[UNKNOWN.kind, UNKNOWN.identity]
    dimension = register.Dimension(channel_id, keys[key], "", "", "", "", "success")
    dimensions = register.dimension_ids(connection, [dimension])
    origin = register.Origin("", place.keyring.digest(name), "", "")
    origins = register.origin_ids(connection, place.upstream_id, {origin: ""})
    row = store.plain(at, dimensions[dimension], origins[origin], secrets.token_bytes(16))
    new = store.insert_records(connection, batch_id, [row], all_new=False)
    rollup.apply(connection, rollup.deltas(new, place.zone))
    aside = store.Aside(secrets.token_bytes(16), "a record to try", "{}", retryable=False)
    store.quarantine(connection, place.upstream_id, [aside], at)
    store.finish_batch(connection, batch_id, place.upstream_id, len(new), 1, at, None)
    raise _TakenError
