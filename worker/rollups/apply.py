"""Sums of hours and days: signed deltas of the rows that changed, in the transaction that changed them.

A rollup so costs what the change costs, not what the day holds; late data lands in its own day, and history survives
when records are dropped. The summary rollups grow by the deltas of the table that they sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from worker.db.copy import copy_binary, numeric
from worker.db.database import Connection
from worker.rollups import statements
from worker.rollups.calendar import day_bounds
from worker.rollups.deltas import Bucket, Deltas, Sums
from worker.rollups.tables import DAILY, HOURLY, TABLES
from worker.usage.measures import COSTS, MEASURES
from worker.usage.money import pico

UPSERTS = tuple(map(statements.upsert, TABLES))
DELETE_EMPTY = tuple(map(statements.delete_empty, TABLES))
IS_COST = tuple(name in COSTS for name in MEASURES)
REQUESTS = tuple(MEASURES).index("requests")


def apply(connection: Connection, changed: Deltas) -> None:
    """Add the deltas to the rollups. Rows are touched in the order of their key, by every worker."""
    if not changed.hourly:
        return
    for table, sums in ((HOURLY, changed.hourly), (DAILY, changed.daily)):
        delta = statements.DELTAS[table.name]
        connection.execute(delta.create)
        copy_binary(connection, delta.copy, delta.types, _written(sums))
    for statement in UPSERTS:
        connection.execute(statement)
    if any(added[REQUESTS] <= 0 for added in changed.daily.values()):
        for statement in DELETE_EMPTY:
            connection.execute(statement)


def _written(sums: Mapping[Bucket, Sums]) -> Iterator[tuple[Any, ...]]:
    for bucket, counted in sums.items():
        yield *bucket, *(numeric(n) if is_cost else n for n, is_cost in zip(counted, IS_COST, strict=True))


SELECT_HOURLY_OF, SELECT_DAILY_OF = map(statements.select_of_dimensions, (HOURLY, DAILY))


def of_dimensions(connection: Connection, dimension_ids: Sequence[int]) -> Deltas:
    """Return all that the rollups hold for these dimensions."""
    hourly = connection.execute(SELECT_HOURLY_OF, [list(dimension_ids)]).fetchall()
    daily = connection.execute(SELECT_DAILY_OF, [list(dimension_ids)]).fetchall()
    return Deltas(dict(map(_stored, hourly)), dict(map(_stored, daily)))


def _stored(row: Sequence[Any]) -> tuple[Bucket, Sums]:
    at, dimension_id, *measures = row
    return (at, dimension_id), tuple(pico(n) if cost else n for n, cost in zip(measures, IS_COST, strict=True))


SELECT_SPAN = "SELECT min(hour), max(hour) + interval '1 hour' FROM usage.hourly WHERE dimension_id = ANY(%s)"


def span_of(connection: Connection, dimension_ids: Sequence[int]) -> tuple[datetime, datetime] | None:
    """Return the instants between which these dimensions have records; None when they have none."""
    row = connection.execute(SELECT_SPAN, [list(dimension_ids)]).fetchone()
    return (row[0], row[1]) if row and row[0] is not None else None


SELECT_NEXT_DAY = """
SELECT day FROM usage.daily
WHERE day >= %(first)s AND dimension_id = ANY(%(dimensions)s)
ORDER BY day
LIMIT 1
"""


def next_day(
    connection: Connection, dimension_ids: Sequence[int], zone: ZoneInfo, at: datetime
) -> tuple[datetime, datetime] | None:
    """Return the bounds of the first day, from the one that `at` lies in, on which these dimensions have records."""
    arguments = {"first": at.astimezone(zone).date(), "dimensions": list(dimension_ids)}
    row = connection.execute(SELECT_NEXT_DAY, arguments).fetchone()
    return day_bounds(row[0], zone) if row else None


LOCK_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('usage.rollups', 0))"
LOCK_TO_CHANGE = "SELECT pg_advisory_xact_lock_shared(hashtextextended('usage.rollups', 0))"


def lock(connection: Connection) -> None:
    """Keep every other transaction from changing rollups until this one ends."""
    connection.execute(LOCK_ALONE)
    connection.execute(statements.LOCK_ALL)


def lock_to_change(connection: Connection) -> None:
    """Keep rollups from being locked until this transaction ends; what others change in them it leaves to them.

    First in a transaction that changes records and rollups: one that locks them, a rebuild or a link, then either
    waits for all of it or comes before all of it.
    """
    connection.execute(LOCK_TO_CHANGE)
