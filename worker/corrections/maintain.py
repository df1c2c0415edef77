"""`worker maintain`: partitions ahead, and what is older than its retention dropped. By default records and sums stay.

Records go by whole months, and rollups stay: history does not shrink. Each step is small and a transaction of its
own, waits for no lock longer than a moment, and leaves what it cannot do to the next run, which is told of.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, LiteralString, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.engine import Engine

from worker.clock import now
from worker.config import Retention
from worker.db import database, migrations, settings
from worker.db.database import Connection
from worker.errors import TransientDatabaseError
from worker.rollups.calendar import day_bounds
from worker.storage import records, upstreams

log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")

MONTHS_AHEAD = 2
MONTHS_AT_ONCE = 3
STEP_ROWS, STEPS = 2000, 25
"""Rows of one kind that one run deletes at most: so many at once, so many times."""

EMPTY_RUNS_KEPT = timedelta(days=1)
"""Passes that found nothing are listed for so long: they would soon be nearly all of the list."""

COUNTED_MAX = 1_000_000
"""What is left is counted no further than this."""

SELECT_EARLIER = "SELECT least(%s::timestamptz, now())"
WAIT_BRIEFLY = "SET LOCAL lock_timeout = '1s'"


class Maintained(NamedTuple):
    """What a run of maintenance did, or would do."""

    made: list[str]
    """Months (YYYY-MM) that got their partition."""
    dropped: list[str]
    """Months whose records were dropped."""
    deleted: dict[str, int]
    """Rows by kind: quarantine, runs, empty_runs, batches."""
    left: dict[str, int]
    """What is older than its retention and still there: months and rows by kind."""


def maintain(engine: Engine, retention: Retention, *, dry_run: bool = False) -> Maintained:
    """Make the partitions of the coming months, and drop what is older than its retention, some of it at a time.

    Args:
        engine: the database.
        retention: for how many days what is kept; 0 for ever.
        dry_run: only say what a run would do.

    Raises:
        DatabaseError: PostgreSQL cannot be reached, or its schema is newer than this program.
    """
    if not dry_run:
        migrations.upgrade(engine)  # as a pass does: whichever comes first
    with database.transaction(engine) as connection:
        at = _earlier(connection, now())
        there = _months(connection)
        old = _old(connection, retention, at)
    missing = [month for month in _coming(at) if month not in there]
    due = [month for month in there if _is_due(month, retention, at)]
    if dry_run:
        return Maintained(missing, due, old, {})
    for month in missing:
        _try(engine, partial(records.ensure_partition, month=f"{month}-01"))
    dropped = [m for m in due[:MONTHS_AT_ONCE] if _try(engine, partial(_drop, month=m)) is not None]
    deleted = {kind: _trim(engine, kind, retention, at) for kind in KINDS}
    with database.transaction(engine) as connection:
        left = {"months": len(due) - len(dropped), **_old(connection, retention, at)}
    done = Maintained(missing, dropped, deleted, left)
    log.info("maintain.done", **done._asdict())
    return done


def _earlier(connection: Connection, at: datetime) -> datetime:
    """Return `at`, or the server's time where that is earlier: a clock that jumps ahead makes nothing old."""
    row = connection.execute(SELECT_EARLIER, [at]).fetchone()
    return row[0] if row else at


def _try(engine: Engine, work: Callable[[Connection], T]) -> T | None:
    """Do one step in a transaction; None where it would have had to wait: the next run does it."""
    try:
        with database.transaction(engine) as connection:
            connection.execute(WAIT_BRIEFLY)
            return work(connection)
    except TransientDatabaseError as e:
        log.info("maintain.later", reason=str(e))
        return None


SELECT_MONTHS = """
SELECT replace(substr(c.relname, 8), '_', '-')
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'usage.record'::regclass
ORDER BY 1
"""
DROP_MONTH = "SELECT usage.drop_record_partition(%s::date)"
NOTE_DROPPED = """
UPDATE usage.upstream SET records_dropped_before = %(before)s, records_complete_from = %(complete_from)s
WHERE records_dropped_before IS NULL OR records_dropped_before < %(before)s
"""


def _months(connection: Connection) -> list[str]:
    return [month for (month,) in connection.execute(SELECT_MONTHS)]


def _coming(at: datetime) -> list[str]:
    """Return this month and those ahead."""
    months = [at.strftime("%Y-%m")]
    while len(months) <= MONTHS_AHEAD:
        months.append(_end(months[-1]).strftime("%Y-%m"))
    return months


def _end(month: str) -> datetime:
    """Return the instant at which a month's partition ends: months are UTC's."""
    year, number = int(month[:4]), int(month[5:])
    return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


def _is_due(month: str, retention: Retention, at: datetime) -> bool:
    return retention.records_days > 0 and _end(month) <= at - timedelta(days=retention.records_days)


def _drop(connection: Connection, month: str) -> str:
    """Drop a month's records, and note from which day on they are whole, in one transaction."""
    connection.execute(DROP_MONTH, [f"{month}-01"])
    before = _end(month)
    zone = ZoneInfo(settings.setting(connection, "timezone") or "UTC")
    day = before.astimezone(zone).date()
    if day_bounds(day, zone)[0] < before:
        day += timedelta(days=1)
    connection.execute(NOTE_DROPPED, {"before": before, "complete_from": day})
    return month


DELETE_QUARANTINE = """
DELETE FROM usage.quarantine WHERE quarantine_id IN
    (SELECT quarantine_id FROM usage.quarantine WHERE first_seen_at < %(before)s ORDER BY first_seen_at LIMIT %(limit)s)
"""
COUNT_QUARANTINE = """
SELECT count(*) FROM (SELECT FROM usage.quarantine WHERE first_seen_at < %(before)s LIMIT %(limit)s) AS t
"""
# Of each upstream the last pass, success and failure stay, however old: freshness is told by them.
DELETE_RUNS = """
DELETE FROM usage.sync_run WHERE run_id IN
    (SELECT run_id FROM usage.sync_run WHERE started_at < %(before)s AND run_id <> ALL(%(kept)s)
     ORDER BY started_at LIMIT %(limit)s)
"""
COUNT_RUNS = """
SELECT count(*) FROM (SELECT FROM usage.sync_run WHERE started_at < %(before)s AND run_id <> ALL(%(kept)s)
                      LIMIT %(limit)s) AS t
"""
# Passes that found nothing and had nothing to say. The words are those of the index sync_run_empty.
DELETE_EMPTY_RUNS = """
DELETE FROM usage.sync_run WHERE run_id IN
    (SELECT run_id FROM usage.sync_run
     WHERE kind = 'sync' AND finished_at IS NOT NULL AND error IS NULL AND pulled = 0 AND quarantined = 0
       AND possible_loss = 0 AND statistics_enabled IS NOT FALSE
       AND started_at < %(before)s AND run_id <> ALL(%(kept)s)
     ORDER BY started_at LIMIT %(limit)s)
"""
COUNT_EMPTY_RUNS = """
SELECT count(*) FROM (
    SELECT FROM usage.sync_run
    WHERE kind = 'sync' AND finished_at IS NOT NULL AND error IS NULL AND pulled = 0 AND quarantined = 0
      AND possible_loss = 0 AND statistics_enabled IS NOT FALSE
      AND started_at < %(before)s AND run_id <> ALL(%(kept)s)
    LIMIT %(limit)s
) AS t
"""
SELECT_LAST_RUNS = """
SELECT run_id
FROM usage.upstream AS u
CROSS JOIN LATERAL (
    (SELECT run_id FROM usage.sync_run AS s
     WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL
     ORDER BY s.run_id DESC LIMIT 1)
    UNION
    (SELECT run_id FROM usage.sync_run AS s
     WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL AND s.error IS NULL
     ORDER BY s.run_id DESC LIMIT 1)
    UNION
    (SELECT run_id FROM usage.sync_run AS s
     WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL AND s.error IS NOT NULL
     ORDER BY s.run_id DESC LIMIT 1)
) AS last
"""
# A batch from before the dropped records' end holds nothing else; what came with it again would be too old, too.
DELETE_BATCHES = """
DELETE FROM usage.batch WHERE batch_id IN
    (SELECT batch_id FROM usage.batch WHERE loaded_at < %(before)s ORDER BY loaded_at LIMIT %(limit)s)
"""
COUNT_BATCHES = "SELECT count(*) FROM (SELECT FROM usage.batch WHERE loaded_at < %(before)s LIMIT %(limit)s) AS t"


class _Kind(NamedTuple):
    delete: LiteralString
    counted: LiteralString


KINDS = {
    "quarantine": _Kind(DELETE_QUARANTINE, COUNT_QUARANTINE),
    "runs": _Kind(DELETE_RUNS, COUNT_RUNS),
    "empty_runs": _Kind(DELETE_EMPTY_RUNS, COUNT_EMPTY_RUNS),
    "batches": _Kind(DELETE_BATCHES, COUNT_BATCHES),
}


def _before(connection: Connection, kind: str, retention: Retention, at: datetime) -> datetime | None:
    """Return the instant before which rows of a kind go; None when they stay."""
    if kind == "batches":
        return upstreams.records_dropped_before_everywhere(connection)
    if kind == "empty_runs":
        return at - EMPTY_RUNS_KEPT
    days = retention.quarantine_days if kind == "quarantine" else retention.runs_days
    return at - timedelta(days=days) if days else None


def _arguments(connection: Connection, kind: str, before: datetime, limit: int) -> dict[str, Any]:
    kept = [run_id for (run_id,) in connection.execute(SELECT_LAST_RUNS)] if kind in ("runs", "empty_runs") else []
    return {"before": before, "limit": limit, "kept": kept}


def _old(connection: Connection, retention: Retention, at: datetime) -> dict[str, int]:
    """Count the rows of each kind that are older than their retention."""
    found = dict.fromkeys(KINDS, 0)
    for kind, statements in KINDS.items():
        before = _before(connection, kind, retention, at)
        if before is not None:
            arguments = _arguments(connection, kind, before, COUNTED_MAX)
            found[kind] = database.one(connection.execute(statements.counted, arguments).fetchone())
    return found


def _trim(engine: Engine, kind: str, retention: Retention, at: datetime) -> int:
    """Delete old rows of one kind, as many as one run may; return how many there were."""

    def step(connection: Connection) -> int:
        before = _before(connection, kind, retention, at)
        if before is None:
            return 0
        return connection.execute(KINDS[kind].delete, _arguments(connection, kind, before, STEP_ROWS)).rowcount

    deleted = 0
    for _ in range(STEPS):
        n = _try(engine, step) or 0
        deleted += n
        if n < STEP_ROWS:
            break
    return deleted
