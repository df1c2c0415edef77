"""Fills a database with millions of made-up records, inside PostgreSQL, and sums their rollups: history to load beside.

20 client keys, 40 channels, 15 models, three outcomes: about 3,400 combinations, the first ones much more used.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg

LAST = date(2026, 10, 29)
"""The last day that is filled: what `data` makes begins on the next."""

NAMES = """
INSERT INTO usage.upstream (name, newest_record_at) VALUES ('filled', %(until)s);
INSERT INTO usage.channel (upstream_id, kind, identity, name, channel_group, first_seen_at, last_seen_at)
SELECT 1, 'auth', 'c' || n, 'filled channel ' || n, 'group ' || n %% 5, %(since)s, %(until)s
FROM generate_series(1, 40) AS n;
INSERT INTO usage.client_key (upstream_id, digest, mask, first_seen_at, last_seen_at)
SELECT 1, decode(md5(n::text), 'hex'), '…fill#' || n, %(since)s, %(until)s FROM generate_series(1, 20) AS n;
INSERT INTO usage.origin (upstream_id, auth_index, source_digest, source_label, auth_type)
SELECT 1, lpad(to_hex(n), 16, '0'), decode(md5('s' || n), 'hex'), 'filled' || n || '@example.com', 'oauth'
FROM generate_series(1, 40) AS n;
INSERT INTO usage.dimension (channel_id, client_key_id, provider, endpoint, model, alias, outcome)
SELECT c, k, 'provider-' || c %% 7, 'POST /v1/messages', 'model-' || m, 'model-' || m, o
FROM generate_series(1, 40) AS c, generate_series(1, 20) AS k, generate_series(1, 15) AS m,
     unnest(ARRAY['success', 'failed', 'warmup']) AS o
WHERE (c * 7 + k * 3 + m * 5 + length(o)) %% 11 = 0;
INSERT INTO usage.batch (entry_id, upstream_id, loaded_at, pulled) VALUES ('filled', 1, now(), 0);
ANALYZE usage.dimension;
"""
RECORDS = """
INSERT INTO usage.record (
    occurred_at, latency_ms, ttft_ms,
    input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
    uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens,
    batch_id, dimension_id, origin_id, status_code, event_key,
    channel_rule, request_id, service_tier, reasoning_effort, error,
    cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, price_id,
    response_service_tier, cost_estimated)
SELECT
    %(since)s + (n + luck[1]) / %(records)s * (%(until)s - %(since)s), latency, latency / 7,
    input, output, output / 3, cached, input + output,
    input - cached, cached, 0, output, 0,
    1, 1 + (luck[2] ^ 3 * %(dimensions)s)::int %% %(dimensions)s, 1 + n %% 40, 200,
    decode(md5(n::text || %(since)s), 'hex'),
    'auth_index', substr(md5(n::text), 1, 8), CASE WHEN n %% 3 = 0 THEN 'default' ELSE '' END, '', NULL,
    CASE WHEN n %% 50 > 0 THEN cost END, CASE WHEN n %% 50 > 0 THEN cost END,
    CASE WHEN n %% 50 > 0 THEN 0 END, CASE WHEN n %% 50 > 0 THEN 0 END, CASE WHEN n %% 50 > 0 THEN 1 END,
    '', false
FROM generate_series(0, %(records)s - 1) AS n,
     LATERAL (SELECT ARRAY[random(), random(), random(), random()] AS luck WHERE n >= 0) AS l,
     LATERAL (SELECT (luck[3] ^ 4 * 200000)::bigint AS input, (luck[4] ^ 2 * 4000)::bigint AS output,
                     200 + (luck[4] ^ 5 * 200000)::bigint AS latency) AS t,
     LATERAL (SELECT input / 2 AS cached, (input * 3000000 + output * 15000000) * 0.000000000001 AS cost) AS c
"""
ROLLUPS = """
INSERT INTO usage.hourly SELECT * FROM usage.hourly_from_records(%(since)s, %(until)s) ORDER BY 1, 2;
INSERT INTO usage.daily SELECT * FROM usage.daily_from_records(%(days)s, %(begins)s, %(ends)s) ORDER BY 1, 2;
INSERT INTO usage.daily_channel SELECT * FROM usage.daily_channel_from_daily(%(first)s, %(end)s) ORDER BY 1, 2, 3, 4;
INSERT INTO usage.daily_key SELECT * FROM usage.daily_key_from_daily(%(first)s, %(end)s) ORDER BY 1, 2, 3;
INSERT INTO usage.hourly_key SELECT * FROM usage.hourly_key_from_hourly(%(since)s, %(until)s) ORDER BY 1, 2, 3;
"""


def fill(dsn: str, records: int, days: int) -> None:
    """Store so many records over the days up to LAST, evenly, with their rollups by days of UTC."""
    first = LAST - timedelta(days=days - 1)
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SELECT setseed(0.25)")
        connection.execute(NAMES, {"since": _midnight(first), "until": _midnight(LAST + timedelta(days=1))})
        connection.execute("INSERT INTO usage.setting (key, value) VALUES ('timezone', 'UTC') ON CONFLICT DO NOTHING")
        ((dimensions,),) = connection.execute("SELECT count(*) FROM usage.dimension").fetchall()
        done, day = 0, first
        while day <= LAST:
            until = min((day.replace(day=1) + timedelta(days=32)).replace(day=1), LAST + timedelta(days=1))
            upto = round(records * ((until - first) / timedelta(days=days)))
            _month(connection, day, until, {"records": upto - done, "dimensions": dimensions})
            done, day = upto, until
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _month(connection: psycopg.Connection[Any], first: date, until: date, amount: dict[str, Any]) -> None:
    days = [first + timedelta(days=n) for n in range((until - first).days)]
    bounds = {
        "since": _midnight(first), "until": _midnight(until), "first": first, "end": until, "days": days,
        "begins": [_midnight(d) for d in days], "ends": [_midnight(d + timedelta(days=1)) for d in days],
    }  # fmt: skip
    connection.execute("SELECT usage.ensure_record_partition(%s)", [first])
    connection.execute(RECORDS, {**bounds, **amount})
    connection.execute(ROLLUPS, bounds)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
