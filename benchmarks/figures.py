"""How long each figure takes that people read, and from what it is read: every family of usage_api.

Dashboards' figures are to come within 50 ms, those of any window within 200 ms; the analyses of single requests read
as many records as their window has.
"""

from __future__ import annotations

import re
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import fill
import psycopg

RUNS = 7
TARGET_MS = {"dashboard": 50, "window": 200, "records": 200}
NOW = datetime.combine(fill.LAST, datetime.min.time(), UTC) + timedelta(hours=17, minutes=23, seconds=42)
"""Reads end at an instant that no rollup begins or ends at."""

QUERIES = {
    ("dashboard", "v1_summary, 30 whole days"): "v1_summary(%(day)s - interval '30 days', %(day)s)",
    ("dashboard", "v1_summary, all of history"): "v1_summary(NULL, NULL)",
    ("dashboard", "v1_heatmap, 365 days"): "v1_heatmap(365, %(now)s::date)",
    ("dashboard", "v1_dashboard"): "v1_dashboard(NULL, %(now)s)",
    ("dashboard", "v1_dashboard of one key"): "v1_dashboard(%(key)s, %(now)s)",
    ("dashboard", "v1_by_client_key, 30 whole days"): "v1_by_client_key(%(day)s - interval '30 days', %(day)s)",
    ("dashboard", "v1_by_channel, 30 whole days"): "v1_by_channel(%(day)s - interval '30 days', %(day)s)",
    ("dashboard", "v1_by_channel_group, 30 whole days"): "v1_by_channel_group(%(day)s - interval '30 days', %(day)s)",
    ("dashboard", "v1_by_model, 30 whole days"): "v1_by_model(%(day)s - interval '30 days', %(day)s)",
    ("dashboard", "v1_trend by day, 30 days"): "v1_trend(%(day)s - interval '30 days', %(day)s, 'day')",
    ("dashboard", "v1_trend by hour, 24 hours"): "v1_trend(%(day)s - interval '24 hours', %(day)s, 'hour')",
    ("dashboard", "v1_client_key_costs"): "v1_client_key_costs(%(now)s)",
    ("dashboard", "v1_calls"): "v1_calls(%(now)s)",
    ("dashboard", "v1_latency_percentiles, 30 whole days"):
        "v1_latency_percentiles(%(day)s - interval '30 days', %(day)s)",
    ("dashboard", "the newest 50 records"): "v1_find_records(page_size => 50)",
    ("window", "v1_summary, ragged month"): "v1_summary(%(now)s - interval '1 month', %(now)s)",
    ("window", "v1_by_model, ragged week"): "v1_by_model(%(now)s - interval '7 days', %(now)s)",
    ("window", "v1_by_channel, ragged month"): "v1_by_channel(%(now)s - interval '1 month', %(now)s)",
    ("window", "v1_by_alias, 30 whole days"): "v1_by_alias(%(day)s - interval '30 days', %(day)s)",
    ("window", "v1_by_endpoint, 30 whole days"): "v1_by_endpoint(%(day)s - interval '30 days', %(day)s)",
    ("window", "v1_client_key_models of one key, 30 days"):
        "v1_client_key_models(%(day)s - interval '30 days', %(day)s, %(key)s)",
    ("window", "v1_by_channel_and_model, ragged 24 hours"):
        "v1_by_channel_and_model(%(now)s - interval '24 hours', %(now)s)",
    ("window", "v1_channel_statistics, ragged 14 days"): "v1_channel_statistics(%(now)s - interval '14 days', %(now)s)",
    ("window", "v1_trend by hour, 7 days"): "v1_trend(%(day)s - interval '7 days', %(day)s, 'hour')",
    ("window", "v1_trend by day in New York, 30 days"):
        "v1_trend(%(day)s - interval '30 days', %(day)s, 'day', 'America/New_York')",
    ("window", "v1_trend by day in Kolkata, 7 days"):
        "v1_trend(%(day)s - interval '7 days', %(day)s, 'day', 'Asia/Kolkata')",
    ("window", "v1_latency_percentiles by channel, ragged week"):
        "v1_latency_percentiles(%(now)s - interval '7 days', %(now)s, 'channel')",
    ("window", "v1_find_records, two words, 7 days"):
        "v1_find_records('channel fill', %(now)s - interval '7 days', %(now)s)",
    ("window", "v1_count_records, two words, 7 days"):
        "v1_count_records('channel fill', %(now)s - interval '7 days', %(now)s)",
    ("window", "v1_record"): "v1_record(%(at)s, %(id)s)",
    ("window", "v1_call_details, 1 hour"): "v1_call_details('1h', %(now)s)",
    ("records", "v1_cache_hits, 24 hours"): "v1_cache_hits(%(now)s - interval '24 hours', %(now)s)",
    ("records", "v1_cache_hits, 7 days"): "v1_cache_hits(%(now)s - interval '7 days', %(now)s)",
    ("records", "v1_fallbacks, 24 hours"): "v1_fallbacks(%(now)s - interval '24 hours', %(now)s)",
    ("records", "v1_fallbacks, 7 days"): "v1_fallbacks(%(now)s - interval '7 days', %(now)s)",
    ("records", "v1_logical_requests, 24 hours"): "v1_logical_requests(%(now)s - interval '24 hours', %(now)s)",
    ("records", "v1_cache_ttl, 24 hours"): "v1_cache_ttl(%(now)s - interval '24 hours', %(now)s)",
    ("records", "v1_cache_ttl, 7 days"): "v1_cache_ttl(%(now)s - interval '7 days', %(now)s)",
    ("records", "v1_interval_timeline, 24 hours"): "v1_interval_timeline(%(now)s - interval '24 hours', %(now)s)",
}  # fmt: skip
SELECT_ONE = (
    "SELECT occurred_at, record_id, client_key FROM usage_api.v1_records WHERE occurred_at < %s ORDER BY 1 DESC"
)


def measure(dsn: str) -> tuple[dict[str, list[float]], list[str]]:
    """Return the milliseconds of each figure, planned anew each time, and a text with every plan."""
    found: dict[str, list[float]] = {}
    plans: list[str] = []
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("SET timezone = 'UTC'")
        at, record_id, key = connection.execute(SELECT_ONE, [NOW]).fetchone()
        told: dict[str, Any] = {
            "now": NOW, "day": NOW.replace(hour=0, minute=0, second=0), "at": at, "id": record_id, "key": key,
        }  # fmt: skip
        for (kind, name), call in QUERIES.items():
            query = f"SELECT * FROM usage_api.{call}"
            taken = []
            for _ in range(RUNS + 1):
                started = time.perf_counter()
                connection.execute(query, told).fetchall()
                taken.append((time.perf_counter() - started) * 1000)
            found[f"{name}, ms ({kind}, ≤ {TARGET_MS[kind]})"] = taken[1:]
            with psycopg.ClientCursor(connection) as cursor:
                plan = [line for (line,) in cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {query}", told)]
            plans += ["", f"-- {name}: {statistics.median(taken[1:]):.0f} ms, reads {_read(plan)}", *plan]
    return found, plans


def _read(plan: list[str]) -> str:
    """Say which tables of sums and records a plan has read, without what it never came to."""
    tables: dict[str, None] = {}
    for line in plan:
        scan = re.search(r"Scan.* on (record|hourly\w*|daily\w*?)(?:_\d{4}_\d\d)?(?: \w+)?  \(", line)
        if scan and "never executed" not in line and not re.search(r"actual[^)]*rows=0(?:\.00)? ", line):
            tables[scan[1]] = None
    return ", ".join(tables) or "no sums and no records"
