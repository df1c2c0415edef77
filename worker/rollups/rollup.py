"""Hourly and daily sums: signed deltas of the rows that changed, in the transaction that changed them.

A rollup so costs what the change costs, not what the day holds; late data lands in its own day, and history
survives when records are dropped. `differences` proves that rollups are the sums of the records behind them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from operator import add
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from psycopg.sql import SQL

from worker.db.database import Connection
from worker.pricing.price import pico
from worker.rollups import coarse, measure_sql
from worker.rollups.coarse import DAILY_COLUMNS, DAILY_DELTA, HOURLY_COLUMNS, HOURLY_DELTA
from worker.storage import register, store
from worker.storage.staging import column_list
from worker.storage.store import Row
from worker.usage.measures import COSTS, LATENCY_BOUNDS_MS, MEASURES

QUARTER_S = 15 * 60

ONE_DAY = timedelta(days=1)
LAST_DAY = date.max - 2 * ONE_DAY

DAYS_AT_ONCE = 7
"""How many days are compared with their records in one statement."""

Sums = dict[tuple[Any, int], tuple[Any, ...]]
"""Measures, whole numbers, by (hour or day, dimension); None for what the records of then no longer tell."""


class Deltas(NamedTuple):
    """What to add to the rollups: measures by (hour or day, dimension), costs in units of 1e-12 US dollars."""

    hourly: Sums
    daily: Sums


def deltas(rows: Iterable[Row], zone: ZoneInfo) -> Deltas:
    """Sum what `rows` add to the hours, and to the days of `zone`."""
    places: dict[int, int] = {}
    numbers: dict[tuple[datetime, date], int] = {}
    sums: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        # Every zone's offset is a multiple of a quarter of an hour: within one, hour and day are the same for all.
        quarter = int(row.occurred_at.timestamp()) // QUARTER_S
        place = places.get(quarter)
        if place is None:
            place = places[quarter] = numbers.setdefault(buckets(row.occurred_at, zone), len(numbers))
        key = (place, row.dimension_id)
        known = sums.get(key)
        if known is None:
            known = sums[key] = [0] * WIDTH
        _count(known, row)
    hours: dict[tuple[datetime, int], list[int]] = {}
    days: dict[tuple[date, int], list[int]] = {}
    buckets_of = list(numbers)
    for (place, dimension_id), counted in sums.items():
        hour, day = buckets_of[place]
        before = hours.get((hour, dimension_id))
        hours[hour, dimension_id] = counted if before is None else list(map(add, before, counted))
        before = days.get((day, dimension_id))
        days[day, dimension_id] = counted if before is None else list(map(add, before, counted))
    return Deltas({key: _measures(c) for key, c in hours.items()}, {key: _measures(c) for key, c in days.items()})


def difference(new: Deltas, old: Deltas) -> Deltas:
    """Return what turns `old` into `new`: added where it comes, taken away where it was."""
    return Deltas(_less(new.hourly, old.hourly), _less(new.daily, old.daily))


def _less(new: Sums, old: Sums) -> Sums:
    result = dict(new)
    for key, less in old.items():
        result[key] = tuple(map(_minus, result.get(key, NOTHING), less))
    return {key: changed for key, changed in result.items() if any(changed)}


def _minus(new: Any, old: Any) -> Any:
    """Subtract; what is not known is None and stays it."""
    return None if new is None or old is None else new - old


NOTHING = (0,) * len(MEASURES)


def buckets(at: datetime, zone: ZoneInfo) -> tuple[datetime, date]:
    """Return the UTC hour and the day of `zone` that `at` lies in."""
    return _hour(at.astimezone(UTC)), at.astimezone(zone).date()


def _count(sums: list[int], row: Row) -> None:
    """Add one record to sums: requests, ten counts of tokens, four costs, and what `_measures` makes of the rest."""
    (_, latency, ttft, reported_input, output, reasoning, cached, total, uncached, cache_read, cache_write, billed,
     unclassified, *_, cost, actual, read_cost, write_cost, _, estimated) = row  # fmt: skip
    sums[0] += 1
    sums[1] += reported_input
    sums[2] += output
    sums[3] += reasoning
    sums[4] += cached
    sums[5] += total
    sums[6] += uncached
    sums[7] += cache_read
    sums[8] += cache_write
    sums[9] += billed
    sums[10] += unclassified
    if cost is None:
        sums[15] += 1
    else:
        sums[11] += cost
        sums[12] += actual or 0
        sums[13] += read_cost or 0
        sums[14] += write_cost or 0
        if estimated:
            sums[19] += cost
        if cost > 0 or uncached or cache_read or cache_write or billed or unclassified:
            sums[20] += 1
    if ttft is not None:
        sums[17] += ttft
        sums[18] += 1
        sums[FIRST_TTFT_PLACE + bisect_left(LATENCY_BOUNDS_MS, ttft)] += 1
    if latency is not None:
        sums[16] += latency
        sums[FIRST_PLACE + bisect_left(LATENCY_BOUNDS_MS, latency)] += 1


FIRST_PLACE = 21
"""Where the counts of latencies begin: one for each place among the bounds, and one beyond the last."""

FIRST_TTFT_PLACE = FIRST_PLACE + len(LATENCY_BOUNDS_MS) + 1
"""Where those of times to the first token begin, in the same way."""

WIDTH = FIRST_TTFT_PLACE + len(LATENCY_BOUNDS_MS) + 1


def _measures(sums: Sequence[int]) -> tuple[int, ...]:
    """Return sums of records as the measures of a rollup; usage.record_measure says the same of each in SQL."""
    *up_to, everything = accumulate(sums[FIRST_PLACE:FIRST_TTFT_PLACE])
    *ttft_up_to, _ = accumulate(sums[FIRST_TTFT_PLACE:])
    return (
        *sums[:17], everything, sums[17], sums[18], *up_to[3:12], *ttft_up_to[3:12],
        sums[19], *up_to[:3], *up_to[12:], *ttft_up_to[:3], *ttft_up_to[12:], sums[20],
    )  # fmt: skip


# -- adding -----------------------------------------------------------------------------------------------------

ADD_HOURLY = SQL("""
INSERT INTO usage.hourly AS h ({columns})
SELECT {columns} FROM {delta} ORDER BY hour, dimension_id
ON CONFLICT (hour, dimension_id) DO UPDATE SET
    {added}
""").format(columns=column_list(HOURLY_COLUMNS), delta=HOURLY_DELTA.name, added=measure_sql.added("h"))
ADD_DAILY = SQL("""
INSERT INTO usage.daily AS d ({columns})
SELECT {columns} FROM {delta} ORDER BY day, dimension_id
ON CONFLICT (day, dimension_id) DO UPDATE SET
    {added}
""").format(columns=column_list(DAILY_COLUMNS), delta=DAILY_DELTA.name, added=measure_sql.added("d"))
# A sum of nothing is no row: what a move has emptied goes.
DELETE_EMPTY_HOURLY = SQL("""
DELETE FROM usage.hourly AS h USING {delta} AS x
WHERE h.hour = x.hour AND h.dimension_id = x.dimension_id AND h.requests = 0
""").format(delta=HOURLY_DELTA.name)
DELETE_EMPTY_DAILY = SQL("""
DELETE FROM usage.daily AS d USING {delta} AS x
WHERE d.day = x.day AND d.dimension_id = x.dimension_id AND d.requests = 0
""").format(delta=DAILY_DELTA.name)
COST_PLACES = tuple(place for place, name in enumerate(MEASURES) if name in COSTS)


def apply(connection: Connection, changed: Deltas) -> None:
    """Add the deltas to the rollups. Rows are touched in the order of their key, by every worker."""
    if not changed.hourly:
        return
    for delta, sums in ((HOURLY_DELTA, changed.hourly), (DAILY_DELTA, changed.daily)):
        connection.execute(delta.create)
        store.copy_binary(connection, delta.copy, delta.types, _rows(sums))
    connection.execute(ADD_HOURLY)
    connection.execute(ADD_DAILY)
    coarse.apply(connection)
    if any(added[0] <= 0 for added in changed.daily.values()):
        connection.execute(DELETE_EMPTY_HOURLY)
        connection.execute(DELETE_EMPTY_DAILY)
        coarse.after_a_move(connection)


def _rows(sums: Sums) -> Iterator[tuple[Any, ...]]:
    for (bucket, dimension_id), counted in sums.items():
        row = list(counted)
        for place in COST_PLACES:
            row[place] = store.numeric(row[place])
        yield bucket, dimension_id, *row


SELECT_HOURLY_OF = "SELECT * FROM usage.hourly WHERE dimension_id = ANY(%s) ORDER BY hour, dimension_id FOR UPDATE"
SELECT_DAILY_OF = "SELECT * FROM usage.daily WHERE dimension_id = ANY(%s) ORDER BY day, dimension_id FOR UPDATE"


def of_dimensions(connection: Connection, dimension_ids: Sequence[int]) -> Deltas:
    """Return all that the rollups hold for these dimensions."""
    hourly = connection.execute(SELECT_HOURLY_OF, [list(dimension_ids)]).fetchall()
    daily = connection.execute(SELECT_DAILY_OF, [list(dimension_ids)]).fetchall()
    return Deltas({row[:2]: _stored(row) for row in hourly}, {row[:2]: _stored(row) for row in daily})


def _stored(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return the measures of a rollup's row, costs in units of 1e-12 US dollars."""
    stored = list(row[2:])
    for place in COST_PLACES:
        stored[place] = pico(stored[place])
    return tuple(stored)


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


# -- proof ------------------------------------------------------------------------------------------------------

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
HOURLY_DIFFERENCES = """
WITH recomputed AS (
    SELECT * FROM usage.hourly_from_records(%(since)s, %(until)s)
), stored AS (
    SELECT * FROM usage.hourly WHERE hour >= %(since)s AND hour < %(until)s
)
SELECT 'records', * FROM (TABLE recomputed EXCEPT TABLE stored) AS only_recomputed
UNION ALL
SELECT 'rollup', * FROM (TABLE stored EXCEPT TABLE recomputed) AS only_stored
"""
DAILY_DIFFERENCES = """
WITH recomputed AS (
    SELECT * FROM usage.daily_from_records(%(days)s::date[], %(begins)s::timestamptz[], %(ends)s::timestamptz[])
), stored AS (
    SELECT * FROM usage.daily WHERE day = ANY(%(days)s::date[])
)
SELECT 'records', * FROM (TABLE recomputed EXCEPT TABLE stored) AS only_recomputed
UNION ALL
SELECT 'rollup', * FROM (TABLE stored EXCEPT TABLE recomputed) AS only_stored
"""
SELECT_DIMENSION = """
SELECT u.name, coalesce(c.label, c.name), coalesce(k.label, k.mask), d.provider, d.endpoint, d.model, d.alias, d.outcome
FROM usage.dimension AS d
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE d.dimension_id = %s
"""


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
    The coarse rollups are sums of these sums, on every day.
    """
    complete_from = register.records_complete_from(connection)
    first = max(filter(None, (since, complete_from)), default=None)
    for span in _spans(covered_days(connection, zone, first, until), zone):
        yield from _named(connection, "hourly", connection.execute(HOURLY_DIFFERENCES, span).fetchall())
        yield from _named(connection, "daily", connection.execute(DAILY_DIFFERENCES, span).fetchall())
    for span in _spans(covered_days(connection, zone, since, until), zone):
        for unequal in coarse.differences(connection, span):
            yield from _differing(*unequal)


def _spans(days: Sequence[date], zone: ZoneInfo) -> Iterator[dict[str, Any]]:
    """Yield days in parts that fit into memory, however long history is. No hour is in two of them."""
    reached = datetime.min.replace(tzinfo=UTC)
    for n in range(0, len(days), DAYS_AT_ONCE):
        span = _span(days[n : n + DAYS_AT_ONCE], zone)
        span["since"] = max(span["since"], reached)
        reached = span["until"]
        yield span


# Writers of rollups wait, readers do not: what a writer adds afterwards is of records that were not seen here.
LOCK_ROLLUPS = """
LOCK TABLE usage.hourly, usage.daily, usage.daily_channel, usage.daily_key, usage.hourly_key
IN SHARE ROW EXCLUSIVE MODE
"""
LOCK_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('usage.rollups', 0))"
LOCK_TO_CHANGE = "SELECT pg_advisory_xact_lock_shared(hashtextextended('usage.rollups', 0))"
DELETE_HOURLY = "DELETE FROM usage.hourly WHERE hour >= %(since)s AND hour < %(until)s"
INSERT_HOURLY = "INSERT INTO usage.hourly SELECT * FROM usage.hourly_from_records(%(since)s, %(until)s)"
DELETE_DAILY = "DELETE FROM usage.daily WHERE day = ANY(%(days)s::date[])"
INSERT_DAILY = """
INSERT INTO usage.daily
SELECT * FROM usage.daily_from_records(%(days)s::date[], %(begins)s::timestamptz[], %(ends)s::timestamptz[])
"""


def lock(connection: Connection) -> None:
    """Keep every other transaction from changing rollups until this one ends."""
    connection.execute(LOCK_ALONE)
    connection.execute(LOCK_ROLLUPS)


def lock_to_change(connection: Connection) -> None:
    """Keep rollups from being locked until this transaction ends; what others change in them it leaves to them.

    First in a transaction that changes records and rollups: one that locks them, a rebuild or a link, then either
    waits for all of it or comes before all of it.
    """
    connection.execute(LOCK_TO_CHANGE)


def rebuild(connection: Connection, zone: ZoneInfo, days: Sequence[date], whole: Sequence[date]) -> None:
    """Sum the rollups of the `days` anew. See `lock`.

    Hours and days come from the records of those that are `whole`; the coarse rollups from all hours and days.
    """
    if whole:
        span = _span(whole, zone)
        for statement in (DELETE_HOURLY, INSERT_HOURLY, DELETE_DAILY, INSERT_DAILY):
            connection.execute(statement, span)
    if days:
        coarse.rebuild(connection, _span(days, zone))


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


def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the instants at which a day of `zone` begins and ends; 23, 24 or 25 hours apart."""
    begins = datetime(day.year, day.month, day.day, tzinfo=zone)
    following = day + timedelta(days=1)
    ends = datetime(following.year, following.month, following.day, tzinfo=zone)
    return begins.astimezone(UTC), ends.astimezone(UTC)


def _span(days: Sequence[date], zone: ZoneInfo) -> dict[str, Any]:
    """Return days, in their order, as the statements take them: each with its bounds, and the hours they touch."""
    bounds = [day_bounds(day, zone) for day in days]
    begins, ends = [b for b, _ in bounds], [e for _, e in bounds]
    since, until = _hour(begins[0]), _hour(ends[-1] + timedelta(minutes=59))
    return {
        "days": list(days), "first": days[0], "end": days[-1] + timedelta(days=1),
        "begins": begins, "ends": ends, "since": since, "until": until,
    }  # fmt: skip


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _named(connection: Connection, grain: str, found: list[tuple[Any, ...]]) -> Iterator[Difference]:
    """Pair the two sides of each row that differs, and name the dimensions and the measures."""
    unknown = ("?",) * len(coarse.DIMENSION_NAMES)
    for (bucket, dimension_id), sides in coarse.paired(found, 2):
        names = connection.execute(SELECT_DIMENSION, [dimension_id]).fetchone() or unknown
        yield from _differing(grain, bucket, dict(zip(coarse.DIMENSION_NAMES, names, strict=True)), sides)


def _differing(grain: str, bucket: date, dimension: Mapping[str, str], sides: coarse.Sides) -> Iterator[Difference]:
    pairs = zip(MEASURES, sides.get("records", NOTHING), sides.get("rollup", NOTHING), strict=True)
    for measure, records, rollup in pairs:
        if records != rollup:
            yield Difference(grain, bucket.isoformat(), dimension, measure, records, rollup)
