"""Proof that rollups are the sums of what is behind them, and what makes them so again.

Hours and days are sums of records, counted by SQL and not as they were loaded; the summary rollups are sums of hours
and days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import islice
from typing import Any, LiteralString, NamedTuple
from zoneinfo import ZoneInfo

from worker.db.database import Connection
from worker.rollups import statements
from worker.rollups.calendar import LAST_DAY, ONE_DAY, Span, span, spans
from worker.rollups.deltas import NOTHING
from worker.rollups.tables import DAILY, HOURLY, SUMMARIES, RollupTable
from worker.storage import upstreams
from worker.usage.measures import MEASURES

# -- which days -------------------------------------------------------------------------------------------------

# From the begin of a day on; days are those of the zone, whatever zone the rollups were cut by.
NEXT_RECORD_OR_ROW = """
SELECT
    least((SELECT min(occurred_at) FROM usage.record WHERE occurred_at >= %(begin)s),
          (SELECT min(hour) FROM usage.hourly WHERE hour >= %(begin)s),
          (SELECT min(hour) FROM usage.hourly_key WHERE hour >= %(begin)s)),
    least((SELECT min(day) FROM usage.daily WHERE day >= %(day)s),
          (SELECT min(day) FROM usage.daily_channel WHERE day >= %(day)s),
          (SELECT min(day) FROM usage.daily_key WHERE day >= %(day)s))
"""


def covered_days(connection: Connection, zone: ZoneInfo, since: date | None, until: date | None) -> list[date]:
    """Return the days of `[since, until)` that have a record or a rollup row: far-off ones cost no days in between."""
    found: list[date] = []
    day = _next_day(connection, zone, since or date.min + ONE_DAY)
    while day is not None and (until is None or day < until):
        found.append(day)
        day = _next_day(connection, zone, day + ONE_DAY) if day < LAST_DAY else None
    return found


def _next_day(connection: Connection, zone: ZoneInfo, day: date) -> date | None:
    """Return the first day from `day` on that has a record or a rollup row."""
    asked = {"begin": datetime(day.year, day.month, day.day, tzinfo=zone), "day": day}
    at, bucket = connection.execute(NEXT_RECORD_OR_ROW, asked).fetchone() or (None, None)
    # An hour's bucket may begin on the day before the one that its records lie in: both are looked at.
    days = [] if at is None else [at.astimezone(zone).date()]
    return min(days if bucket is None else [*days, bucket], default=None)


# -- what differs -----------------------------------------------------------------------------------------------

DIMENSION_NAMES = ("upstream", "channel", "client_key", "provider", "endpoint", "model", "alias", "outcome")
SELECT_DIMENSION = """
SELECT u.name, coalesce(c.label, c.name), coalesce(k.label, k.mask), d.provider, d.endpoint, d.model, d.alias, d.outcome
FROM usage.dimension AS d
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE d.dimension_id = %s
"""
SELECT_CHANNEL = """
SELECT u.name, coalesce(c.label, c.name)
FROM usage.channel AS c JOIN usage.upstream AS u USING (upstream_id)
WHERE c.channel_id = %s
"""
SELECT_CLIENT_KEY = """
SELECT u.name, coalesce(k.label, k.mask)
FROM usage.client_key AS k JOIN usage.upstream AS u USING (upstream_id)
WHERE k.client_key_id = %s
"""
NAMED_BY: Mapping[str, tuple[LiteralString, tuple[str, ...]]] = {
    "dimension_id": (SELECT_DIMENSION, DIMENSION_NAMES),
    "channel_id": (SELECT_CHANNEL, ("upstream", "channel")),
    "client_key_id": (SELECT_CLIENT_KEY, ("upstream", "client_key")),
}
"""How the number in a key is shown: the query, and what it answers."""

DIFFERENCES = {table.name: statements.differences(table) for table in (HOURLY, DAILY, *SUMMARIES)}


class Difference(NamedTuple):
    """One sum that a rollup holds otherwise than what is behind it: records, or a finer rollup."""

    grain: str
    bucket: str
    dimension: Mapping[str, str]
    measure: str
    records: Any
    rollup: Any


def differences(connection: Connection, zone: ZoneInfo, since: date | None, until: date | None) -> Iterator[Difference]:
    """Compare the rollups of the days `[since, until)` with what they are sums of and yield every one that differs.

    Days whose records are no longer all there are not held against them: their sums are all that is known of them.
    The summary rollups are sums of these sums, on every day.
    """
    complete_from = upstreams.records_complete_from(connection)
    first = max(filter(None, (since, complete_from)), default=None)
    for part in spans(covered_days(connection, zone, first, until), zone):
        for table in (HOURLY, DAILY):
            yield from _differing(connection, table, part)
    for part in spans(covered_days(connection, zone, since, until), zone):
        for table in SUMMARIES:
            yield from _differing(connection, table, part)


class _Sides(NamedTuple):
    """The measures that a row should have and those that it has; all zero where there is no row."""

    records: Sequence[Any]
    rollup: Sequence[Any]


def _differing(connection: Connection, table: RollupTable, part: Span) -> Iterator[Difference]:
    found: dict[tuple[Any, ...], _Sides] = {}
    for row in connection.execute(DIFFERENCES[table.name], part).fetchall():
        columns = iter(row)
        key = tuple(islice(columns, len(table.key)))
        summed, *measures = columns
        sides = found.get(key, _Sides(NOTHING, NOTHING))
        found[key] = sides._replace(records=measures) if summed else sides._replace(rollup=measures)
    for (bucket, *dimensions), sides in found.items():
        names = _named(connection, dict(zip(table.dimensions, dimensions, strict=True)))
        for measure, records, rollup in zip(MEASURES, *sides, strict=True):
            if records != rollup:
                yield Difference(table.label, bucket.isoformat(), names, measure, records, rollup)


def _named(connection: Connection, dimensions: Mapping[str, Any]) -> dict[str, str]:
    """Return the dimensions of a row by name; empty where it is a sum over all of one."""
    named: dict[str, str] = dict.fromkeys(DIMENSION_NAMES, "")
    for column, value in dimensions.items():
        if column not in NAMED_BY:
            named[column] = value
            continue
        query, names = NAMED_BY[column]
        shown = connection.execute(query, [value]).fetchone() or ("?",) * len(names)
        named |= dict(zip(names, shown, strict=True))
    return named


# -- rebuilding -------------------------------------------------------------------------------------------------


def rebuild(connection: Connection, zone: ZoneInfo, days: Sequence[date], whole: Sequence[date]) -> None:
    """Sum the rollups of the `days` anew. See `worker.rollups.apply.lock`.

    Hours and days come from the records of those that are `whole`; the summary rollups from all hours and days.
    """
    if whole:
        _replace(connection, (HOURLY, DAILY), span(whole, zone))
    if days:
        _replace(connection, SUMMARIES, span(days, zone))


def _replace(connection: Connection, tables: Sequence[RollupTable], part: Span) -> None:
    for table in tables:
        connection.execute(statements.delete(table), part)
        connection.execute(statements.insert(table), part)
