"""Records gone through in batches, and changed with their rollups: by signed deltas, in the same transaction.

When a correction is interrupted, what is done is done, and doing it again does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from worker.db import database, settings
from worker.db.retry import run_transaction
from worker.rollups import apply as rollups
from worker.rollups.deltas import deltas, difference
from worker.storage import records as stored_records
from worker.storage.rows import Row, Stored

BATCH_RECORDS = 5000

BEGINNING, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)

Key = tuple[datetime, bytes]
"""What records are walked by: when one occurred, and its event key."""

Done = TypeVar("Done")


def walk(engine: Engine, step: Callable[[database.Connection, Key], tuple[Done, Key | None]]) -> Iterator[Done]:
    """Go through records in batches of a transaction each, and yield what each came to.

    When it is interrupted, what is done is done, and walking again does the rest. A step returns the key to go on
    behind; None when there are no more. It looks at one day at most, and at none without records that it wants: what
    it costs is told by them, not by all of history.
    """
    after: Key | None = (BEGINNING, b"")
    while after is not None:

        def work(connection: database.Connection, after: Key = after) -> tuple[Done, Key | None]:
            return step(connection, after)

        done, after = run_transaction(engine, work)
        yield done


def next_batch(
    connection: database.Connection,
    dimension_ids: Sequence[int],
    span: tuple[datetime, datetime],
    after: Key,
    *,
    unpriced: bool = False,
) -> list[Stored]:
    """Return and lock the next records of these dimensions; `unpriced` leaves out those that have a cost."""
    return stored_records.stored(connection, dimension_ids, span, after, BATCH_RECORDS, unpriced=unpriced)


def next_key(found: Sequence[Stored], day: tuple[datetime, datetime]) -> Key:
    """Return where to go on: behind the last record, or behind the day when it has no more."""
    return (found[-1].row.occurred_at, found[-1].row.event_key) if len(found) == BATCH_RECORDS else (day[1], b"")


def change(connection: database.Connection, changed: Sequence[tuple[Row, Row]], zone: ZoneInfo) -> None:
    """Make stored records what they are to be, and the rollups with them, from (before, after)."""
    stored_records.move(connection, [after for _, after in changed])
    was = deltas((before for before, _ in changed), zone)
    becomes = deltas((after for _, after in changed), zone)
    rollups.apply(connection, difference(becomes, was))
    settings.rollup_timezone(connection, zone.key)
