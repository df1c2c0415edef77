"""Sums by few dimensions, so that a year of them is read in a moment: what rollup.py keeps, without the rest.

Days by channel, model and outcome; days and hours by client key and outcome. Each grows by the deltas that its finer
rollup grows by, in the same transaction. A sum is as unknown as any part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

from psycopg.sql import SQL

from worker.db.database import Connection
from worker.rollups import measure_sql
from worker.storage.staging import StagingTable
from worker.usage.measures import COSTS, MEASURES

# -- adding -----------------------------------------------------------------------------------------------------

MEASURE_TYPES = {name: "numeric" if name in COSTS else "int8" for name in MEASURES}
HOURLY_COLUMNS = {"hour": "timestamptz", "dimension_id": "int4", **MEASURE_TYPES}
DAILY_COLUMNS = {"day": "date", "dimension_id": "int4", **MEASURE_TYPES}
# What is added to usage.hourly and usage.daily, put there by `rollup`.
HOURLY_DELTA = StagingTable("hourly_delta", HOURLY_COLUMNS)
DAILY_DELTA = StagingTable("daily_delta", DAILY_COLUMNS)
ADD_CHANNELS = SQL("""
INSERT INTO usage.daily_channel AS c
SELECT
    day, channel_id, model, outcome, {sums}
FROM {delta}
JOIN usage.dimension USING (dimension_id)
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
ON CONFLICT (day, channel_id, model, outcome) DO UPDATE SET
    {added}
""").format(delta=DAILY_DELTA.name, sums=measure_sql.summed(), added=measure_sql.added("c"))
ADD_KEYS = SQL("""
INSERT INTO usage.daily_key AS k
SELECT
    day, client_key_id, outcome, {sums}
FROM {delta}
JOIN usage.dimension USING (dimension_id)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
ON CONFLICT (day, client_key_id, outcome) DO UPDATE SET
    {added}
""").format(delta=DAILY_DELTA.name, sums=measure_sql.summed(), added=measure_sql.added("k"))
ADD_KEY_HOURS = SQL("""
INSERT INTO usage.hourly_key AS k
SELECT
    hour, client_key_id, outcome, {sums}
FROM {delta}
JOIN usage.dimension USING (dimension_id)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
ON CONFLICT (hour, client_key_id, outcome) DO UPDATE SET
    {added}
""").format(delta=HOURLY_DELTA.name, sums=measure_sql.summed(), added=measure_sql.added("k"))
ADD = (ADD_CHANNELS, ADD_KEYS, ADD_KEY_HOURS)
# A sum of nothing is no row: what a move has emptied goes.
DELETE_EMPTY_CHANNELS = SQL("""
DELETE FROM usage.daily_channel AS c USING {delta} AS x JOIN usage.dimension AS d USING (dimension_id)
WHERE c.day = x.day AND c.channel_id = d.channel_id AND c.model = d.model AND c.outcome = d.outcome AND c.requests = 0
""").format(delta=DAILY_DELTA.name)
DELETE_EMPTY_KEYS = SQL("""
DELETE FROM usage.daily_key AS k USING {delta} AS x JOIN usage.dimension AS d USING (dimension_id)
WHERE k.day = x.day AND k.client_key_id = d.client_key_id AND k.outcome = d.outcome AND k.requests = 0
""").format(delta=DAILY_DELTA.name)
DELETE_EMPTY_KEY_HOURS = SQL("""
DELETE FROM usage.hourly_key AS k USING {delta} AS x JOIN usage.dimension AS d USING (dimension_id)
WHERE k.hour = x.hour AND k.client_key_id = d.client_key_id AND k.outcome = d.outcome AND k.requests = 0
""").format(delta=HOURLY_DELTA.name)
# What was not known of a sum is known again once the part that was not has moved away.
LEARN_CHANNELS = SQL("""
UPDATE usage.daily_channel AS c SET
    {learned}
FROM (
    SELECT
        day, channel_id, model, outcome,
        {sums}
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day IN (SELECT day FROM usage.daily_channel AS u JOIN {delta} USING (day) WHERE {unknown_u})
    GROUP BY 1, 2, 3, 4
) AS s
WHERE c.day = s.day AND c.channel_id = s.channel_id AND c.model = s.model AND c.outcome = s.outcome
  AND {unknown_c}
""").format(
    delta=DAILY_DELTA.name,
    learned=measure_sql.learned("c", "s"),
    sums=measure_sql.sums_of_the_unknown(),
    unknown_u=measure_sql.any_unknown("u"),
    unknown_c=measure_sql.any_unknown("c"),
)
LEARN_KEYS = SQL("""
UPDATE usage.daily_key AS k SET
    {learned}
FROM (
    SELECT
        day, client_key_id, outcome,
        {sums}
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day IN (SELECT day FROM usage.daily_key AS u JOIN {delta} USING (day) WHERE {unknown_u})
    GROUP BY 1, 2, 3
) AS s
WHERE k.day = s.day AND k.client_key_id = s.client_key_id AND k.outcome = s.outcome
  AND {unknown_k}
""").format(
    delta=DAILY_DELTA.name,
    learned=measure_sql.learned("k", "s"),
    sums=measure_sql.sums_of_the_unknown(),
    unknown_u=measure_sql.any_unknown("u"),
    unknown_k=measure_sql.any_unknown("k"),
)
LEARN_KEY_HOURS = SQL("""
UPDATE usage.hourly_key AS k SET
    {learned}
FROM (
    SELECT
        hour, client_key_id, outcome,
        {sums}
    FROM usage.hourly
    JOIN usage.dimension USING (dimension_id)
    WHERE hour IN (SELECT hour FROM usage.hourly_key AS u JOIN {delta} USING (hour) WHERE {unknown_u})
    GROUP BY 1, 2, 3
) AS s
WHERE k.hour = s.hour AND k.client_key_id = s.client_key_id AND k.outcome = s.outcome
  AND {unknown_k}
""").format(
    delta=HOURLY_DELTA.name,
    learned=measure_sql.learned("k", "s"),
    sums=measure_sql.sums_of_the_unknown(),
    unknown_u=measure_sql.any_unknown("u"),
    unknown_k=measure_sql.any_unknown("k"),
)
AFTER_A_MOVE = (
    DELETE_EMPTY_CHANNELS, DELETE_EMPTY_KEYS, DELETE_EMPTY_KEY_HOURS, LEARN_CHANNELS, LEARN_KEYS, LEARN_KEY_HOURS,
)  # fmt: skip


def apply(connection: Connection) -> None:
    """Add the deltas. Rows are touched in the order of their key, by every worker."""
    for statement in ADD:
        connection.execute(statement)


def after_a_move(connection: Connection) -> None:
    """Tidy up where the deltas took something away."""
    for statement in AFTER_A_MOVE:
        connection.execute(statement)


# -- proof ------------------------------------------------------------------------------------------------------

# Days and hours of one span: [first, end) and [since, until).
CHANNEL_DIFFERENCES = """
WITH summed AS (
    SELECT * FROM usage.daily_channel_from_daily(%(first)s, %(end)s)
), stored AS (
    SELECT * FROM usage.daily_channel WHERE day >= %(first)s AND day < %(end)s
)
SELECT 'records', * FROM (TABLE summed EXCEPT TABLE stored) AS only_summed
UNION ALL
SELECT 'rollup', * FROM (TABLE stored EXCEPT TABLE summed) AS only_stored
"""
KEY_DIFFERENCES = """
WITH summed AS (
    SELECT * FROM usage.daily_key_from_daily(%(first)s, %(end)s)
), stored AS (
    SELECT * FROM usage.daily_key WHERE day >= %(first)s AND day < %(end)s
)
SELECT 'records', * FROM (TABLE summed EXCEPT TABLE stored) AS only_summed
UNION ALL
SELECT 'rollup', * FROM (TABLE stored EXCEPT TABLE summed) AS only_stored
"""
KEY_HOUR_DIFFERENCES = """
WITH summed AS (
    SELECT * FROM usage.hourly_key_from_hourly(%(since)s, %(until)s)
), stored AS (
    SELECT * FROM usage.hourly_key WHERE hour >= %(since)s AND hour < %(until)s
)
SELECT 'records', * FROM (TABLE summed EXCEPT TABLE stored) AS only_summed
UNION ALL
SELECT 'rollup', * FROM (TABLE stored EXCEPT TABLE summed) AS only_stored
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
DIMENSION_NAMES = ("upstream", "channel", "client_key", "provider", "endpoint", "model", "alias", "outcome")
ALL_TOGETHER: Mapping[str, str] = dict.fromkeys(DIMENSION_NAMES, "")
"""The dimensions of a sum over all of them."""

Sides = dict[str, tuple[Any, ...]]
"""The measures of what a row is the sum of ("records") and of the row ("rollup"); one that there is not is left out."""


class Unequal(NamedTuple):
    """A row that is not the sum of its finer rollup."""

    grain: str
    bucket: date
    dimension: Mapping[str, str]
    sides: Sides


def differences(connection: Connection, span: Mapping[str, Any]) -> Iterator[Unequal]:
    """Compare every row of a span with the finer rollup and yield those that differ."""
    yield from _of_channels(connection, connection.execute(CHANNEL_DIFFERENCES, span).fetchall())
    yield from _of_keys(connection, "daily_key", connection.execute(KEY_DIFFERENCES, span).fetchall())
    yield from _of_keys(connection, "hourly_key", connection.execute(KEY_HOUR_DIFFERENCES, span).fetchall())


def _of_channels(connection: Connection, found: list[tuple[Any, ...]]) -> Iterator[Unequal]:
    for (day, channel_id, model, outcome), sides in paired(found, 4):
        upstream, channel = connection.execute(SELECT_CHANNEL, [channel_id]).fetchone() or ("?", "?")
        known = {"upstream": upstream, "channel": channel, "model": model, "outcome": outcome}
        yield Unequal("daily_channel", day, {**ALL_TOGETHER, **known}, sides)


def _of_keys(connection: Connection, grain: str, found: list[tuple[Any, ...]]) -> Iterator[Unequal]:
    for (bucket, client_key_id, outcome), sides in paired(found, 3):
        upstream, client_key = connection.execute(SELECT_CLIENT_KEY, [client_key_id]).fetchone() or ("?", "?")
        known = {"upstream": upstream, "client_key": client_key, "outcome": outcome}
        yield Unequal(grain, bucket, {**ALL_TOGETHER, **known}, sides)


def paired(found: list[tuple[Any, ...]], width: int) -> Iterable[tuple[tuple[Any, ...], Sides]]:
    """Return both sides of each row by its key, the first `width` columns behind the side's name."""
    sides: dict[tuple[Any, ...], Sides] = {}
    for side, *row in found:
        sides.setdefault(tuple(row[:width]), {})[side] = tuple(row[width:])
    return sorted(sides.items())


DELETE_CHANNELS = "DELETE FROM usage.daily_channel WHERE day >= %(first)s AND day < %(end)s"
INSERT_CHANNELS = "INSERT INTO usage.daily_channel SELECT * FROM usage.daily_channel_from_daily(%(first)s, %(end)s)"
DELETE_KEYS = "DELETE FROM usage.daily_key WHERE day >= %(first)s AND day < %(end)s"
INSERT_KEYS = "INSERT INTO usage.daily_key SELECT * FROM usage.daily_key_from_daily(%(first)s, %(end)s)"
DELETE_KEY_HOURS = "DELETE FROM usage.hourly_key WHERE hour >= %(since)s AND hour < %(until)s"
INSERT_KEY_HOURS = "INSERT INTO usage.hourly_key SELECT * FROM usage.hourly_key_from_hourly(%(since)s, %(until)s)"
REBUILD = (DELETE_CHANNELS, INSERT_CHANNELS, DELETE_KEYS, INSERT_KEYS, DELETE_KEY_HOURS, INSERT_KEY_HOURS)


def rebuild(connection: Connection, span: Mapping[str, Any]) -> None:
    """Sum the rows of a span anew from the finer rollups."""
    for statement in REBUILD:
        connection.execute(statement, span)
