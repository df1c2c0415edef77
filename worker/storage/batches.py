"""Statements on batches: what was loaded in one transaction, and how new an upstream's newest record is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from worker.db.database import Connection

# Its journal entry is dropped once it is committed: that must not mean "in a moment", whatever the server's default.
REALLY_COMMIT = """
SELECT set_config('synchronous_commit', 'local', true) WHERE current_setting('synchronous_commit') = 'off'
"""
INSERT_BATCH = """
INSERT INTO usage.batch (entry_id, upstream_id, run_id, loaded_at, pulled)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (entry_id) DO NOTHING
RETURNING batch_id
"""


def begin_batch(
    connection: Connection, entry_id: str, upstream: int, run_id: int | None, loaded_at: datetime, pulled: int
) -> int | None:
    """Enter a batch and return its id; None when it has been loaded before."""
    connection.execute(REALLY_COMMIT)
    row = connection.execute(INSERT_BATCH, [entry_id, upstream, run_id, loaded_at, pulled]).fetchone()
    return row[0] if row else None


FINISH_BATCH = "UPDATE usage.batch SET inserted = %s, quarantined = %s WHERE batch_id = %s"
TOUCH_UPSTREAM = """
UPDATE usage.upstream SET
    newest_record_at = greatest(newest_record_at, %(newest_at)s::timestamptz),
    future_record_at = greatest(future_record_at, %(future_at)s::timestamptz)
WHERE upstream_id = %(upstream_id)s
  AND (newest_record_at IS DISTINCT FROM greatest(newest_record_at, %(newest_at)s::timestamptz)
       OR future_record_at IS DISTINCT FROM greatest(future_record_at, %(future_at)s::timestamptz))
"""
FUTURE = timedelta(minutes=15)
"""A record from further ahead than a proxy's clock may be is from the future: freshness does not go by it."""


def newest(occurred_at: Iterable[datetime], at: datetime) -> tuple[datetime | None, datetime | None]:
    """Return the newest of some times that is not from the future, seen from `at`, and the newest that is."""
    past: datetime | None = None
    future: datetime | None = None
    for time in occurred_at:
        if time <= at + FUTURE:
            past = time if past is None else max(past, time)
        else:
            future = time if future is None else max(future, time)
    return past, future


def finish_batch(
    connection: Connection,
    batch_id: int,
    upstream: int,
    inserted: int,
    quarantined: int,
    newest_at: datetime | None,
    future_at: datetime | None,
) -> None:
    """Note what a batch came to."""
    connection.execute(FINISH_BATCH, [inserted, quarantined, batch_id])
    if newest_at is not None or future_at is not None:
        touched = {"upstream_id": upstream, "newest_at": newest_at, "future_at": future_at}
        connection.execute(TOUCH_UPSTREAM, touched)
