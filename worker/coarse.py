"""Sums by few dimensions, so that a year of them is read in a moment: what rollup.py keeps, without the rest.

Days by channel, model and outcome; days and hours by client key and outcome. Each grows by the deltas that its finer
rollup grows by, in the same transaction. A sum is as unknown as any part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

from worker.database import Connection

# -- adding -----------------------------------------------------------------------------------------------------

# hourly_delta and daily_delta hold what is added to usage.hourly and usage.daily: see rollup.py.
ADD_CHANNELS = """
INSERT INTO usage.daily_channel AS c
SELECT
    day, channel_id, model, outcome, sum(requests),
    sum(input_tokens), sum(output_tokens), sum(reasoning_tokens), sum(cached_tokens), sum(total_tokens),
    sum(uncached_input_tokens), sum(cache_read_tokens), sum(cache_write_tokens),
    sum(billed_output_tokens), sum(unclassified_tokens),
    sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd), sum(unpriced_requests),
    sum(latency_ms_sum), sum(latency_samples), sum(ttft_ms_sum), sum(ttft_samples),
    sum(latency_le_500ms), sum(latency_le_1s), sum(latency_le_2500ms), sum(latency_le_5s), sum(latency_le_10s),
    sum(latency_le_30s), sum(latency_le_60s), sum(latency_le_120s), sum(latency_le_300s),
    CASE WHEN count(ttft_le_500ms) = count(*) THEN sum(ttft_le_500ms) END,
    CASE WHEN count(ttft_le_1s) = count(*) THEN sum(ttft_le_1s) END,
    CASE WHEN count(ttft_le_2500ms) = count(*) THEN sum(ttft_le_2500ms) END,
    CASE WHEN count(ttft_le_5s) = count(*) THEN sum(ttft_le_5s) END,
    CASE WHEN count(ttft_le_10s) = count(*) THEN sum(ttft_le_10s) END,
    CASE WHEN count(ttft_le_30s) = count(*) THEN sum(ttft_le_30s) END,
    CASE WHEN count(ttft_le_60s) = count(*) THEN sum(ttft_le_60s) END,
    CASE WHEN count(ttft_le_120s) = count(*) THEN sum(ttft_le_120s) END,
    CASE WHEN count(ttft_le_300s) = count(*) THEN sum(ttft_le_300s) END
FROM daily_delta
JOIN usage.dimension USING (dimension_id)
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
ON CONFLICT (day, channel_id, model, outcome) DO UPDATE SET
    requests = c.requests + EXCLUDED.requests,
    input_tokens = c.input_tokens + EXCLUDED.input_tokens,
    output_tokens = c.output_tokens + EXCLUDED.output_tokens,
    reasoning_tokens = c.reasoning_tokens + EXCLUDED.reasoning_tokens,
    cached_tokens = c.cached_tokens + EXCLUDED.cached_tokens,
    total_tokens = c.total_tokens + EXCLUDED.total_tokens,
    uncached_input_tokens = c.uncached_input_tokens + EXCLUDED.uncached_input_tokens,
    cache_read_tokens = c.cache_read_tokens + EXCLUDED.cache_read_tokens,
    cache_write_tokens = c.cache_write_tokens + EXCLUDED.cache_write_tokens,
    billed_output_tokens = c.billed_output_tokens + EXCLUDED.billed_output_tokens,
    unclassified_tokens = c.unclassified_tokens + EXCLUDED.unclassified_tokens,
    cost_usd = c.cost_usd + EXCLUDED.cost_usd,
    actual_cost_usd = c.actual_cost_usd + EXCLUDED.actual_cost_usd,
    cache_read_cost_usd = c.cache_read_cost_usd + EXCLUDED.cache_read_cost_usd,
    cache_write_cost_usd = c.cache_write_cost_usd + EXCLUDED.cache_write_cost_usd,
    unpriced_requests = c.unpriced_requests + EXCLUDED.unpriced_requests,
    latency_ms_sum = c.latency_ms_sum + EXCLUDED.latency_ms_sum,
    latency_samples = c.latency_samples + EXCLUDED.latency_samples,
    ttft_ms_sum = c.ttft_ms_sum + EXCLUDED.ttft_ms_sum,
    ttft_samples = c.ttft_samples + EXCLUDED.ttft_samples,
    latency_le_500ms = c.latency_le_500ms + EXCLUDED.latency_le_500ms,
    latency_le_1s = c.latency_le_1s + EXCLUDED.latency_le_1s,
    latency_le_2500ms = c.latency_le_2500ms + EXCLUDED.latency_le_2500ms,
    latency_le_5s = c.latency_le_5s + EXCLUDED.latency_le_5s,
    latency_le_10s = c.latency_le_10s + EXCLUDED.latency_le_10s,
    latency_le_30s = c.latency_le_30s + EXCLUDED.latency_le_30s,
    latency_le_60s = c.latency_le_60s + EXCLUDED.latency_le_60s,
    latency_le_120s = c.latency_le_120s + EXCLUDED.latency_le_120s,
    latency_le_300s = c.latency_le_300s + EXCLUDED.latency_le_300s,
    ttft_le_500ms = c.ttft_le_500ms + EXCLUDED.ttft_le_500ms,
    ttft_le_1s = c.ttft_le_1s + EXCLUDED.ttft_le_1s,
    ttft_le_2500ms = c.ttft_le_2500ms + EXCLUDED.ttft_le_2500ms,
    ttft_le_5s = c.ttft_le_5s + EXCLUDED.ttft_le_5s,
    ttft_le_10s = c.ttft_le_10s + EXCLUDED.ttft_le_10s,
    ttft_le_30s = c.ttft_le_30s + EXCLUDED.ttft_le_30s,
    ttft_le_60s = c.ttft_le_60s + EXCLUDED.ttft_le_60s,
    ttft_le_120s = c.ttft_le_120s + EXCLUDED.ttft_le_120s,
    ttft_le_300s = c.ttft_le_300s + EXCLUDED.ttft_le_300s
"""
ADD_KEYS = """
INSERT INTO usage.daily_key AS k
SELECT
    day, client_key_id, outcome, sum(requests),
    sum(input_tokens), sum(output_tokens), sum(reasoning_tokens), sum(cached_tokens), sum(total_tokens),
    sum(uncached_input_tokens), sum(cache_read_tokens), sum(cache_write_tokens),
    sum(billed_output_tokens), sum(unclassified_tokens),
    sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd), sum(unpriced_requests),
    sum(latency_ms_sum), sum(latency_samples), sum(ttft_ms_sum), sum(ttft_samples),
    sum(latency_le_500ms), sum(latency_le_1s), sum(latency_le_2500ms), sum(latency_le_5s), sum(latency_le_10s),
    sum(latency_le_30s), sum(latency_le_60s), sum(latency_le_120s), sum(latency_le_300s),
    CASE WHEN count(ttft_le_500ms) = count(*) THEN sum(ttft_le_500ms) END,
    CASE WHEN count(ttft_le_1s) = count(*) THEN sum(ttft_le_1s) END,
    CASE WHEN count(ttft_le_2500ms) = count(*) THEN sum(ttft_le_2500ms) END,
    CASE WHEN count(ttft_le_5s) = count(*) THEN sum(ttft_le_5s) END,
    CASE WHEN count(ttft_le_10s) = count(*) THEN sum(ttft_le_10s) END,
    CASE WHEN count(ttft_le_30s) = count(*) THEN sum(ttft_le_30s) END,
    CASE WHEN count(ttft_le_60s) = count(*) THEN sum(ttft_le_60s) END,
    CASE WHEN count(ttft_le_120s) = count(*) THEN sum(ttft_le_120s) END,
    CASE WHEN count(ttft_le_300s) = count(*) THEN sum(ttft_le_300s) END
FROM daily_delta
JOIN usage.dimension USING (dimension_id)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
ON CONFLICT (day, client_key_id, outcome) DO UPDATE SET
    requests = k.requests + EXCLUDED.requests,
    input_tokens = k.input_tokens + EXCLUDED.input_tokens,
    output_tokens = k.output_tokens + EXCLUDED.output_tokens,
    reasoning_tokens = k.reasoning_tokens + EXCLUDED.reasoning_tokens,
    cached_tokens = k.cached_tokens + EXCLUDED.cached_tokens,
    total_tokens = k.total_tokens + EXCLUDED.total_tokens,
    uncached_input_tokens = k.uncached_input_tokens + EXCLUDED.uncached_input_tokens,
    cache_read_tokens = k.cache_read_tokens + EXCLUDED.cache_read_tokens,
    cache_write_tokens = k.cache_write_tokens + EXCLUDED.cache_write_tokens,
    billed_output_tokens = k.billed_output_tokens + EXCLUDED.billed_output_tokens,
    unclassified_tokens = k.unclassified_tokens + EXCLUDED.unclassified_tokens,
    cost_usd = k.cost_usd + EXCLUDED.cost_usd,
    actual_cost_usd = k.actual_cost_usd + EXCLUDED.actual_cost_usd,
    cache_read_cost_usd = k.cache_read_cost_usd + EXCLUDED.cache_read_cost_usd,
    cache_write_cost_usd = k.cache_write_cost_usd + EXCLUDED.cache_write_cost_usd,
    unpriced_requests = k.unpriced_requests + EXCLUDED.unpriced_requests,
    latency_ms_sum = k.latency_ms_sum + EXCLUDED.latency_ms_sum,
    latency_samples = k.latency_samples + EXCLUDED.latency_samples,
    ttft_ms_sum = k.ttft_ms_sum + EXCLUDED.ttft_ms_sum,
    ttft_samples = k.ttft_samples + EXCLUDED.ttft_samples,
    latency_le_500ms = k.latency_le_500ms + EXCLUDED.latency_le_500ms,
    latency_le_1s = k.latency_le_1s + EXCLUDED.latency_le_1s,
    latency_le_2500ms = k.latency_le_2500ms + EXCLUDED.latency_le_2500ms,
    latency_le_5s = k.latency_le_5s + EXCLUDED.latency_le_5s,
    latency_le_10s = k.latency_le_10s + EXCLUDED.latency_le_10s,
    latency_le_30s = k.latency_le_30s + EXCLUDED.latency_le_30s,
    latency_le_60s = k.latency_le_60s + EXCLUDED.latency_le_60s,
    latency_le_120s = k.latency_le_120s + EXCLUDED.latency_le_120s,
    latency_le_300s = k.latency_le_300s + EXCLUDED.latency_le_300s,
    ttft_le_500ms = k.ttft_le_500ms + EXCLUDED.ttft_le_500ms,
    ttft_le_1s = k.ttft_le_1s + EXCLUDED.ttft_le_1s,
    ttft_le_2500ms = k.ttft_le_2500ms + EXCLUDED.ttft_le_2500ms,
    ttft_le_5s = k.ttft_le_5s + EXCLUDED.ttft_le_5s,
    ttft_le_10s = k.ttft_le_10s + EXCLUDED.ttft_le_10s,
    ttft_le_30s = k.ttft_le_30s + EXCLUDED.ttft_le_30s,
    ttft_le_60s = k.ttft_le_60s + EXCLUDED.ttft_le_60s,
    ttft_le_120s = k.ttft_le_120s + EXCLUDED.ttft_le_120s,
    ttft_le_300s = k.ttft_le_300s + EXCLUDED.ttft_le_300s
"""
ADD_KEY_HOURS = """
INSERT INTO usage.hourly_key AS k
SELECT
    hour, client_key_id, outcome, sum(requests),
    sum(input_tokens), sum(output_tokens), sum(reasoning_tokens), sum(cached_tokens), sum(total_tokens),
    sum(uncached_input_tokens), sum(cache_read_tokens), sum(cache_write_tokens),
    sum(billed_output_tokens), sum(unclassified_tokens),
    sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd), sum(unpriced_requests),
    sum(latency_ms_sum), sum(latency_samples), sum(ttft_ms_sum), sum(ttft_samples),
    sum(latency_le_500ms), sum(latency_le_1s), sum(latency_le_2500ms), sum(latency_le_5s), sum(latency_le_10s),
    sum(latency_le_30s), sum(latency_le_60s), sum(latency_le_120s), sum(latency_le_300s),
    CASE WHEN count(ttft_le_500ms) = count(*) THEN sum(ttft_le_500ms) END,
    CASE WHEN count(ttft_le_1s) = count(*) THEN sum(ttft_le_1s) END,
    CASE WHEN count(ttft_le_2500ms) = count(*) THEN sum(ttft_le_2500ms) END,
    CASE WHEN count(ttft_le_5s) = count(*) THEN sum(ttft_le_5s) END,
    CASE WHEN count(ttft_le_10s) = count(*) THEN sum(ttft_le_10s) END,
    CASE WHEN count(ttft_le_30s) = count(*) THEN sum(ttft_le_30s) END,
    CASE WHEN count(ttft_le_60s) = count(*) THEN sum(ttft_le_60s) END,
    CASE WHEN count(ttft_le_120s) = count(*) THEN sum(ttft_le_120s) END,
    CASE WHEN count(ttft_le_300s) = count(*) THEN sum(ttft_le_300s) END
FROM hourly_delta
JOIN usage.dimension USING (dimension_id)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
ON CONFLICT (hour, client_key_id, outcome) DO UPDATE SET
    requests = k.requests + EXCLUDED.requests,
    input_tokens = k.input_tokens + EXCLUDED.input_tokens,
    output_tokens = k.output_tokens + EXCLUDED.output_tokens,
    reasoning_tokens = k.reasoning_tokens + EXCLUDED.reasoning_tokens,
    cached_tokens = k.cached_tokens + EXCLUDED.cached_tokens,
    total_tokens = k.total_tokens + EXCLUDED.total_tokens,
    uncached_input_tokens = k.uncached_input_tokens + EXCLUDED.uncached_input_tokens,
    cache_read_tokens = k.cache_read_tokens + EXCLUDED.cache_read_tokens,
    cache_write_tokens = k.cache_write_tokens + EXCLUDED.cache_write_tokens,
    billed_output_tokens = k.billed_output_tokens + EXCLUDED.billed_output_tokens,
    unclassified_tokens = k.unclassified_tokens + EXCLUDED.unclassified_tokens,
    cost_usd = k.cost_usd + EXCLUDED.cost_usd,
    actual_cost_usd = k.actual_cost_usd + EXCLUDED.actual_cost_usd,
    cache_read_cost_usd = k.cache_read_cost_usd + EXCLUDED.cache_read_cost_usd,
    cache_write_cost_usd = k.cache_write_cost_usd + EXCLUDED.cache_write_cost_usd,
    unpriced_requests = k.unpriced_requests + EXCLUDED.unpriced_requests,
    latency_ms_sum = k.latency_ms_sum + EXCLUDED.latency_ms_sum,
    latency_samples = k.latency_samples + EXCLUDED.latency_samples,
    ttft_ms_sum = k.ttft_ms_sum + EXCLUDED.ttft_ms_sum,
    ttft_samples = k.ttft_samples + EXCLUDED.ttft_samples,
    latency_le_500ms = k.latency_le_500ms + EXCLUDED.latency_le_500ms,
    latency_le_1s = k.latency_le_1s + EXCLUDED.latency_le_1s,
    latency_le_2500ms = k.latency_le_2500ms + EXCLUDED.latency_le_2500ms,
    latency_le_5s = k.latency_le_5s + EXCLUDED.latency_le_5s,
    latency_le_10s = k.latency_le_10s + EXCLUDED.latency_le_10s,
    latency_le_30s = k.latency_le_30s + EXCLUDED.latency_le_30s,
    latency_le_60s = k.latency_le_60s + EXCLUDED.latency_le_60s,
    latency_le_120s = k.latency_le_120s + EXCLUDED.latency_le_120s,
    latency_le_300s = k.latency_le_300s + EXCLUDED.latency_le_300s,
    ttft_le_500ms = k.ttft_le_500ms + EXCLUDED.ttft_le_500ms,
    ttft_le_1s = k.ttft_le_1s + EXCLUDED.ttft_le_1s,
    ttft_le_2500ms = k.ttft_le_2500ms + EXCLUDED.ttft_le_2500ms,
    ttft_le_5s = k.ttft_le_5s + EXCLUDED.ttft_le_5s,
    ttft_le_10s = k.ttft_le_10s + EXCLUDED.ttft_le_10s,
    ttft_le_30s = k.ttft_le_30s + EXCLUDED.ttft_le_30s,
    ttft_le_60s = k.ttft_le_60s + EXCLUDED.ttft_le_60s,
    ttft_le_120s = k.ttft_le_120s + EXCLUDED.ttft_le_120s,
    ttft_le_300s = k.ttft_le_300s + EXCLUDED.ttft_le_300s
"""
ADD = (ADD_CHANNELS, ADD_KEYS, ADD_KEY_HOURS)
# A sum of nothing is no row: what a move has emptied goes.
DELETE_EMPTY_CHANNELS = """
DELETE FROM usage.daily_channel AS c USING daily_delta AS x JOIN usage.dimension AS d USING (dimension_id)
WHERE c.day = x.day AND c.channel_id = d.channel_id AND c.model = d.model AND c.outcome = d.outcome AND c.requests = 0
"""
DELETE_EMPTY_KEYS = """
DELETE FROM usage.daily_key AS k USING daily_delta AS x JOIN usage.dimension AS d USING (dimension_id)
WHERE k.day = x.day AND k.client_key_id = d.client_key_id AND k.outcome = d.outcome AND k.requests = 0
"""
DELETE_EMPTY_KEY_HOURS = """
DELETE FROM usage.hourly_key AS k USING hourly_delta AS x JOIN usage.dimension AS d USING (dimension_id)
WHERE k.hour = x.hour AND k.client_key_id = d.client_key_id AND k.outcome = d.outcome AND k.requests = 0
"""
# What was not known of a sum is known again once the part that was not has moved away.
LEARN_CHANNELS = """
UPDATE usage.daily_channel AS c SET
    ttft_le_500ms = s.ttft_le_500ms,
    ttft_le_1s = s.ttft_le_1s,
    ttft_le_2500ms = s.ttft_le_2500ms,
    ttft_le_5s = s.ttft_le_5s,
    ttft_le_10s = s.ttft_le_10s,
    ttft_le_30s = s.ttft_le_30s,
    ttft_le_60s = s.ttft_le_60s,
    ttft_le_120s = s.ttft_le_120s,
    ttft_le_300s = s.ttft_le_300s
FROM (
    SELECT
        day, channel_id, model, outcome,
        sum(ttft_le_500ms) AS ttft_le_500ms,
        sum(ttft_le_1s) AS ttft_le_1s,
        sum(ttft_le_2500ms) AS ttft_le_2500ms,
        sum(ttft_le_5s) AS ttft_le_5s,
        sum(ttft_le_10s) AS ttft_le_10s,
        sum(ttft_le_30s) AS ttft_le_30s,
        sum(ttft_le_60s) AS ttft_le_60s,
        sum(ttft_le_120s) AS ttft_le_120s,
        sum(ttft_le_300s) AS ttft_le_300s
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day IN (SELECT day FROM usage.daily_channel AS u JOIN daily_delta USING (day) WHERE u.ttft_le_500ms IS NULL)
    GROUP BY 1, 2, 3, 4
    HAVING count(ttft_le_500ms) = count(*)
) AS s
WHERE c.day = s.day AND c.channel_id = s.channel_id AND c.model = s.model AND c.outcome = s.outcome
  AND c.ttft_le_500ms IS NULL
"""
LEARN_KEYS = """
UPDATE usage.daily_key AS k SET
    ttft_le_500ms = s.ttft_le_500ms,
    ttft_le_1s = s.ttft_le_1s,
    ttft_le_2500ms = s.ttft_le_2500ms,
    ttft_le_5s = s.ttft_le_5s,
    ttft_le_10s = s.ttft_le_10s,
    ttft_le_30s = s.ttft_le_30s,
    ttft_le_60s = s.ttft_le_60s,
    ttft_le_120s = s.ttft_le_120s,
    ttft_le_300s = s.ttft_le_300s
FROM (
    SELECT
        day, client_key_id, outcome,
        sum(ttft_le_500ms) AS ttft_le_500ms,
        sum(ttft_le_1s) AS ttft_le_1s,
        sum(ttft_le_2500ms) AS ttft_le_2500ms,
        sum(ttft_le_5s) AS ttft_le_5s,
        sum(ttft_le_10s) AS ttft_le_10s,
        sum(ttft_le_30s) AS ttft_le_30s,
        sum(ttft_le_60s) AS ttft_le_60s,
        sum(ttft_le_120s) AS ttft_le_120s,
        sum(ttft_le_300s) AS ttft_le_300s
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day IN (SELECT day FROM usage.daily_key AS u JOIN daily_delta USING (day) WHERE u.ttft_le_500ms IS NULL)
    GROUP BY 1, 2, 3
    HAVING count(ttft_le_500ms) = count(*)
) AS s
WHERE k.day = s.day AND k.client_key_id = s.client_key_id AND k.outcome = s.outcome AND k.ttft_le_500ms IS NULL
"""
LEARN_KEY_HOURS = """
UPDATE usage.hourly_key AS k SET
    ttft_le_500ms = s.ttft_le_500ms,
    ttft_le_1s = s.ttft_le_1s,
    ttft_le_2500ms = s.ttft_le_2500ms,
    ttft_le_5s = s.ttft_le_5s,
    ttft_le_10s = s.ttft_le_10s,
    ttft_le_30s = s.ttft_le_30s,
    ttft_le_60s = s.ttft_le_60s,
    ttft_le_120s = s.ttft_le_120s,
    ttft_le_300s = s.ttft_le_300s
FROM (
    SELECT
        hour, client_key_id, outcome,
        sum(ttft_le_500ms) AS ttft_le_500ms,
        sum(ttft_le_1s) AS ttft_le_1s,
        sum(ttft_le_2500ms) AS ttft_le_2500ms,
        sum(ttft_le_5s) AS ttft_le_5s,
        sum(ttft_le_10s) AS ttft_le_10s,
        sum(ttft_le_30s) AS ttft_le_30s,
        sum(ttft_le_60s) AS ttft_le_60s,
        sum(ttft_le_120s) AS ttft_le_120s,
        sum(ttft_le_300s) AS ttft_le_300s
    FROM usage.hourly
    JOIN usage.dimension USING (dimension_id)
    WHERE hour IN (SELECT hour FROM usage.hourly_key AS u JOIN hourly_delta USING (hour) WHERE u.ttft_le_500ms IS NULL)
    GROUP BY 1, 2, 3
    HAVING count(ttft_le_500ms) = count(*)
) AS s
WHERE k.hour = s.hour AND k.client_key_id = s.client_key_id AND k.outcome = s.outcome AND k.ttft_le_500ms IS NULL
"""
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
