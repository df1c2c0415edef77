"""Figures for people, from the views and functions of usage_api and nothing else: every formula is there.

Asks, and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, LiteralString, get_args

import psycopg
from psycopg.rows import dict_row
from sqlalchemy.engine import Engine

from worker.db import database
from worker.errors import UsageError
from worker.pricing.price import STANDARD_TIERS
from worker.usage.measures import ADDED, EXCLUSIVE_TOKENS

TOKENS = EXCLUSIVE_TOKENS
COSTS = ("cost_usd", "actual_cost_usd")
AT_A_GLANCE = ("requests", "failed", "cancelled", "success_rate", "warmups", *TOKENS, *COSTS, "estimated_cost_usd",
               "mean_latency_ms")  # fmt: skip
TOTALS = ("requests", "failed", "success_rate", "warmups", *TOKENS, "total_tokens", *COSTS, "unpriced_requests",
          "mean_latency_ms", "succeeded", "error_rate", "input_tokens", "output_tokens", "reasoning_tokens",
          "cached_tokens", "tokens", "cache_hit_rate", "cache_read_cost_usd", "cache_write_cost_usd",
          "mean_ttft_ms", "cancelled", "estimated_cost_usd", *ADDED)  # fmt: skip
"""The measures of a grouping, in the order of its CSV: what comes new is added at the end."""

SPARE = ("cache_read_tokens", "actual_cost_usd", "uncached_input_tokens", "billed_output_tokens")
"""What a narrow terminal does without of the measures, in this order."""

Shape = Literal["table", "facts", "calendar"]
Grouping = Literal["all", "channel", "channel_group", "model"]

WINDOW = ("since", "until", "timezone")
FILTERS = ("upstream", "channel", "client_key", "model")


@dataclass(frozen=True, kw_only=True)
class ReportFilter:
    """What a report is asked for; None where nothing was said. Which family takes what is in FAMILIES."""

    since: date | None = None
    """The first day."""
    until: date | None = None
    """The day after the last."""
    timezone: str | None = None
    """Whose days; those of the rollup time zone when None."""
    at: datetime | None = None
    """The instant that a report about now is about."""
    upstream: str | None = None
    channel: str | None = None
    client_key: str | None = None
    model: str | None = None
    outcome: str | None = None
    search: str | None = None
    grain: str | None = None
    by: str | None = None
    limit: int | None = None
    before: tuple[datetime, str] | None = None
    """The last record of the page before: when it began, and its record_id."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of figures: its query, and what a person wants to see of it."""

    title: str
    query: LiteralString
    columns: tuple[str, ...]
    at_a_glance: tuple[str, ...]
    """The columns that a person wants first."""
    by: tuple[str, ...] = ()
    """The columns that tell rows apart."""
    takes: tuple[str, ...]
    """The fields of ReportFilter that have a meaning for it."""
    shape: Shape = "table"
    days: int | None = None
    """How many days it looks at when no first day is given; None for all."""
    limit: int | None = None
    bar: str = ""
    """The column that is drawn as well."""
    spare: tuple[str, ...] = ()
    """What a narrow terminal does without, in this order."""
    counts: tuple[str, ...] = ("requests", "warmups")
    """The columns that are all zero when there is nothing to show; none where rows alone tell."""
    nothing: str = "no usage in this period"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one report answers: rows by column name, in order, and what they cover."""

    what: str
    family: Family
    rows: Sequence[Mapping[str, Any]]
    timezone: str
    since: date | None
    until: date | None
    limit: int | None
    """How many rows there are at most; None for all."""
    at: datetime | None
    """The instant that they are about, where they are about one."""
    total: int | None
    """How many rows all pages have together; None where nobody asked."""
    known: bool
    """Whether the database holds any usage at all."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show but zeros."""
        return self._all_zero(self.family.counts)

    @property
    def blank(self) -> bool:
        """Whether nothing was counted, be that shown as zeros or not at all."""
        return self._all_zero(self.family.counts or tuple(filter(None, [self.family.bar])))

    @property
    def next(self) -> str | None:
        """What --before names the page after this one by; None where this is the last, or there are no pages."""
        if "before" not in self.family.takes or len(self.rows) != self.limit or len(self.rows) == self.total:
            return None
        last = self.rows[-1]
        return f"{last['occurred_at']:%Y-%m-%dT%H:%M:%S.%fZ},{last['record_id']}"

    def _all_zero(self, counts: tuple[str, ...]) -> bool:
        return not self.rows or (bool(counts) and not any(row[name] for row in self.rows for name in counts))


def figures(engine: Engine, what: str, asked: ReportFilter | None = None, *, counted: bool = False) -> Figures:
    """Return one family of figures.

    Args:
        engine: the database.
        what: one of FAMILIES.
        asked: which part of it; all when None.
        counted: whether to count what all pages hold together, where the family has pages.

    Raises:
        UsageError: the family does not take an option, or options contradict each other, or the records that the
            answer needs have been dropped.
        DatabaseError: the database cannot be reached, or has no schema yet.
    """
    family, asked = FAMILIES[what], asked or ReportFilter()
    _check(what, family, asked)
    with database.transaction(engine) as connection:
        window = _window(connection, family, asked)
        arguments: dict[str, Any] = {
            **asdict(asked),
            "at": window["at"],
            "zone": window["zone"],
            "hours_zone": asked.timezone or "UTC",
            "since": window["since"],
            "until": window["until"],
            "last_day": window["until_day"],
            "days": window["days"],
            "grain": asked.grain or "day",
            "by": asked.by or "all",
            "limit": asked.limit or family.limit,
            "before_at": asked.before and asked.before[0],
            "before_id": asked.before and asked.before[1],
        }
        found = _rows(connection, family.query, arguments)
        paged = counted and "before" in family.takes and bool(found)
        total = int(_rows(connection, COUNT_RECORDS, arguments)[0]["records"]) if paged else None
    rows = [{name: _plain(row[name]) for name in family.columns} for row in found]
    return Figures(what=what, family=family, rows=rows, timezone=window["zone"], since=window["since_day"],
                   until=window["until_day"], limit=arguments["limit"], known=window["known"], total=total,
                   at=window["at"] if "at" in family.takes else None)  # fmt: skip


SELECT_FUTURE = """
SELECT
    max(future_record_at) AS at,
    (now() AT TIME ZONE coalesce(%(timezone)s::text, usage_api.v1_zone()))::date + 1 AS day
FROM usage_api.v1_freshness
WHERE %(upstream)s::text IS NULL OR upstream = %(upstream)s
"""


def left_to_come(engine: Engine, asked: ReportFilter) -> tuple[datetime, date] | None:
    """Return the time of the latest record from the future that `records` leaves out, and by which day it is asked for.

    None where there is none, or where it is asked for.
    """
    with database.transaction(engine) as connection:
        row = _rows(connection, SELECT_FUTURE, asdict(asked))[0]
    asked_for = asked.until is not None or (asked.since is not None and asked.since >= row["day"])
    return None if row["at"] is None or asked_for else (row["at"], row["day"])


def _check(what: str, family: Family, asked: ReportFilter) -> None:
    for name, value in asdict(asked).items():
        if value is not None and name not in family.takes:
            raise UsageError(f"--{name.replace('_', '-')} has no meaning for `worker report {what}`")
    if asked.since is not None and asked.until is not None and asked.until <= asked.since:
        raise UsageError(
            f"--until {asked.until} is not after --since {asked.since}: it is the day after the last, "
            "so that one day ends with the next"
        )


def _window(connection: database.Connection, family: Family, asked: ReportFilter) -> dict[str, Any]:
    """Return the instants between which a family is asked for, and the days that they come from."""
    days = family.days if asked.grain != "hour" else HOURLY_DAYS
    return _rows(connection, SELECT_WINDOW, {**asdict(asked), "days": days})[0]


def _rows(connection: database.Connection, query: LiteralString, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        try:
            return cursor.execute(query, arguments).fetchall()
        except psycopg.errors.ObjectNotInPrerequisiteState as e:  # usage_internal.require_records
            raise UsageError(f"{e.diag.message_primary}. {e.diag.message_hint}") from e


def _plain(value: Any) -> Any:
    """Return a number without zeros behind its point, and a count that SQL summed as an int."""
    if not isinstance(value, Decimal):
        return value
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value.normalize()


# The days of a window in its time zone, and where they begin and end. Where a family looks at some days only,
# these end with today.
SELECT_WINDOW = """
SELECT
    zone, since_day, until_day, until_day - since_day AS days, coalesce(%(at)s::timestamptz, now()) AS at,
    usage_api.v1_day_begin(since_day, zone) AS since,
    usage_api.v1_day_begin(until_day, zone) AS until,
    EXISTS (SELECT FROM usage_api.v1_daily_keys) AS known
FROM (
    SELECT zone, coalesce(%(since)s::date, until_day - %(days)s::integer) AS since_day, until_day
    FROM (
        SELECT
            zone,
            coalesce(%(until)s::date, CASE
                WHEN %(days)s::integer IS NOT NULL
                    THEN greatest((now() AT TIME ZONE zone)::date, %(since)s::date) + 1
            END) AS until_day
        FROM (SELECT coalesce(%(timezone)s::text, usage_api.v1_zone()) AS zone) AS decided
    ) AS ended
) AS begun
"""

CHANNELS = """
SELECT * FROM usage_api.v1_totals(
    %(since)s, %(until)s, by_channel => true, by_channel_group => true,
    of_upstream => %(upstream)s, of_channel => %(channel)s, of_client_key => %(client_key)s, of_model => %(model)s)
ORDER BY requests DESC, channel, channel_group, channel_kind
"""
GROUPS = """
SELECT * FROM usage_api.v1_totals(
    %(since)s, %(until)s, by_channel_group => true,
    of_upstream => %(upstream)s, of_channel => %(channel)s, of_client_key => %(client_key)s, of_model => %(model)s)
ORDER BY requests DESC, channel_group
"""
MODELS = """
SELECT * FROM usage_api.v1_totals(
    %(since)s, %(until)s, by_model => true, by_provider => true,
    of_upstream => %(upstream)s, of_channel => %(channel)s, of_client_key => %(client_key)s, of_model => %(model)s)
ORDER BY requests DESC, model, provider
"""
KEYS = """
SELECT * FROM usage_api.v1_totals(
    %(since)s, %(until)s, by_client_key => true,
    of_upstream => %(upstream)s, of_channel => %(channel)s, of_client_key => %(client_key)s, of_model => %(model)s)
ORDER BY requests DESC, client_key
"""
ENDPOINTS = """
SELECT * FROM usage_api.v1_totals(
    %(since)s, %(until)s, by_endpoint => true, by_provider => true,
    of_upstream => %(upstream)s, of_channel => %(channel)s, of_client_key => %(client_key)s, of_model => %(model)s)
ORDER BY requests DESC, endpoint, provider
"""
DAILY = """
SELECT label::date AS day, * FROM usage_api.v1_trend(
    %(since)s, %(until)s, 'day', %(zone)s, of_upstream => %(upstream)s, of_channel => %(channel)s,
    of_client_key => %(client_key)s, of_model => %(model)s)
WHERE requests + warmups > 0
ORDER BY bucket DESC
"""
# Whole hours, also where the days of a time zone begin within one.
HOURLY = """
SELECT bucket AS hour, * FROM usage_api.v1_trend(
    date_trunc('hour', %(since)s::timestamptz, %(hours_zone)s),
    date_trunc('hour', %(until)s::timestamptz, %(hours_zone)s),
    'hour', %(hours_zone)s, of_upstream => %(upstream)s, of_channel => %(channel)s,
    of_client_key => %(client_key)s, of_model => %(model)s)
WHERE requests + warmups > 0
ORDER BY bucket DESC
"""
SUMMARY = """
SELECT * FROM usage_api.v1_summary(
    %(since)s, %(until)s, of_upstream => %(upstream)s, of_channel => %(channel)s,
    of_client_key => %(client_key)s, of_model => %(model)s)
"""
TREND = """
SELECT * FROM usage_api.v1_trend(
    %(since)s, %(until)s, %(grain)s, %(zone)s, of_upstream => %(upstream)s, of_channel => %(channel)s,
    of_client_key => %(client_key)s, of_model => %(model)s)
"""
HEATMAP = """
SELECT * FROM usage_api.v1_heatmap(
    %(days)s, %(last_day)s::date - 1, of_upstream => %(upstream)s, of_client_key => %(client_key)s)
"""
CALLS = """
SELECT * FROM usage_api.v1_calls(
    %(at)s, %(zone)s, of_upstream => %(upstream)s, of_channel => %(channel)s)
"""
DASHBOARD = """
SELECT * FROM usage_api.v1_dashboard(
    %(client_key)s, %(at)s, %(zone)s, of_upstream => %(upstream)s)
"""
# Those from the future stand last: a page of them comes where it is asked for by a first day that is still to come.
RECORDS = """
SELECT * FROM usage_api.v1_find_records(
    %(search)s, %(since)s, coalesce(%(until)s::timestamptz, CASE WHEN %(since)s::timestamptz > now() THEN NULL
        ELSE now() + interval '15 minutes' END), of_upstream => %(upstream)s, of_channel => %(channel)s,
    of_client_key => %(client_key)s, of_model => %(model)s, of_outcome => %(outcome)s,
    page_size => %(limit)s, before_at => %(before_at)s, before_id => %(before_id)s)
"""
COUNT_RECORDS = """
SELECT records FROM usage_api.v1_count_records(
    %(search)s, %(since)s, coalesce(%(until)s::timestamptz, CASE WHEN %(since)s::timestamptz > now() THEN NULL
        ELSE now() + interval '15 minutes' END), of_upstream => %(upstream)s, of_channel => %(channel)s,
    of_client_key => %(client_key)s, of_model => %(model)s, of_outcome => %(outcome)s)
"""
FALLBACKS = """
SELECT * FROM usage_api.v1_fallbacks(
    %(since)s, %(until)s, of_upstream => %(upstream)s, of_client_key => %(client_key)s)
"""
SESSIONS = """
SELECT * FROM usage_api.v1_sessions(
    %(since)s, %(until)s, of_upstream => %(upstream)s, of_channel => %(channel)s, of_client_key => %(client_key)s,
    of_model => %(model)s, page_size => %(limit)s)
"""
CACHE_TTL = """
SELECT * FROM usage_api.v1_cache_ttl(
    %(since)s, %(until)s, of_client_key => %(client_key)s, of_upstream => %(upstream)s)
"""
CACHE_HITS = """
SELECT * FROM usage_api.v1_cache_hits(
    %(since)s, %(until)s, of_client_key => %(client_key)s, of_upstream => %(upstream)s,
    of_channel => %(channel)s, of_model => %(model)s)
"""
GAPS = """
SELECT * FROM usage_api.v1_interval_timeline(
    %(since)s, %(until)s, max_points => %(limit)s, of_client_key => %(client_key)s)
"""
LATENCY = """
SELECT * FROM usage_api.v1_latency_percentiles(
    %(since)s, %(until)s, %(by)s, of_upstream => %(upstream)s, of_channel => %(channel)s, of_model => %(model)s)
"""

HOURLY_DAYS = 2
"""How many days a trend by the hour shows when no first day is given."""

RECORD_COLUMNS = (
    "occurred_at", "completed_at", "upstream", "channel", "channel_group", "channel_kind", "channel_rule", "auth_index",
    "source", "client_key", "provider", "endpoint", "auth_type", "model", "alias", "request_id", "outcome",
    "status_code", "error", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "total_tokens",
    *TOKENS, *COSTS, "cache_read_cost_usd", "cache_write_cost_usd", "service_tier", "reasoning_effort", "latency_ms",
    "ttft_ms", "synced_at", "record_id", "response_service_tier", "cost_estimated", "estimated_cost_usd",
    "execution_id", "stream", "session_id", "parent_session_id", "response_model", "cache_write_1h_tokens",
)  # fmt: skip
PERIOD_FIGURES = ("requests", "succeeded", "failed", "input_tokens", "output_tokens", "cache_read_tokens",
                  "cache_write_tokens", "tokens", "unclassified_tokens", *COSTS)  # fmt: skip
DASHBOARD_COLUMNS = (
    *(f"{period}_{name}" for period in ("today", "total") for name in PERIOD_FIGURES),
    "mean_latency_ms", "total_client_keys", "active_client_keys", "rpm", "succeeded_rpm", "tpm", "cache_tpm",
    *(f"{period}_{name}" for period in ("today", "total") for name in ("cancelled", "estimated_cost_usd")),
)  # fmt: skip
SHARES = ("p50", "p75", "p90", "p95", "p99")
TTL_PERCENT = tuple(f"{name}_percent" for name in ("within_5_min", "within_15_min", "within_30_min", "within_60_min",
                                                    "over_60_min"))  # fmt: skip


def _grouped(title: str, query: LiteralString, *by: str, hidden: tuple[str, ...] = ()) -> Family:
    """Return the family of totals by some dimensions."""
    glance = (*(name for name in by if name not in hidden), *AT_A_GLANCE)
    return Family(title=title, query=query, columns=(*by, *TOTALS), at_a_glance=glance, takes=(*WINDOW, *FILTERS),
                  by=by, shape="table" if by else "facts", bar="requests" if by else "", spare=SPARE)  # fmt: skip


FAMILIES: Mapping[str, Family] = {
    "channels": _grouped(
        "Usage by channel", CHANNELS, "channel", "channel_group", "channel_kind", hidden=("channel_group",)
    ),
    "groups": _grouped("Usage by group of channels", GROUPS, "channel_group"),
    "models": _grouped("Usage by model", MODELS, "model", "provider"),
    "keys": _grouped("Usage by client key", KEYS, "client_key"),
    "endpoints": _grouped("Usage by endpoint", ENDPOINTS, "endpoint", "provider"),
    "daily": _grouped("Usage by day", DAILY, "day"),
    "hourly": _grouped("Usage by hour", HOURLY, "hour"),
    "summary": _grouped("Summary", SUMMARY),
    "trend": Family(
        title="Trend", query=TREND, columns=("bucket", "label", *TOTALS), at_a_glance=("label", *AT_A_GLANCE),
        takes=(*WINDOW, *FILTERS, "grain"), by=("label",), days=30, bar="requests", spare=SPARE,
    ),
    "heatmap": Family(
        title="Requests by day", query=HEATMAP, shape="calendar", days=365,
        takes=("since", "until", "upstream", "client_key"),
        columns=("day", "requests", "failed", "tokens", "total_tokens", *COSTS, "max_requests", "cancelled",
                 "estimated_cost_usd"),
        at_a_glance=("day", "requests"), counts=("requests",),
    ),
    "calls": Family(
        title="Calls", query=CALLS, takes=("at", "timezone", "upstream", "channel"),
        by=("period",), counts=(), bar="total",
        columns=("period", "since", "until", "total", "succeeded", "failed", "warmups", "cancelled"),
        at_a_glance=("period", "since", "total", "succeeded", "failed", "cancelled", "warmups"),
    ),
    "dashboard": Family(
        title="Dashboard", query=DASHBOARD, takes=("at", "timezone", "upstream", "client_key"), shape="facts",
        columns=DASHBOARD_COLUMNS, at_a_glance=DASHBOARD_COLUMNS, counts=("total_requests", "total_client_keys"),
    ),
    "records": Family(
        title="Records", query=RECORDS, takes=(*WINDOW, *FILTERS, "search", "outcome", "limit", "before"), limit=100,
        columns=RECORD_COLUMNS, counts=(), nothing="no such records in this period",
        at_a_glance=("occurred_at", "channel", "client_key", "model", "outcome", "total_tokens", "cost_usd",
                     "latency_ms", "status_code", "alias", "error"),
        spare=("error", "alias", "status_code", "latency_ms", "cost_usd", "client_key"),
    ),
    "sessions": Family(
        title="Sessions", query=SESSIONS, takes=(*WINDOW, *FILTERS, "limit"), days=7, limit=100, counts=(),
        by=("upstream", "client_key", "session_id"), bar="requests",
        nothing="no sessions in this period: the proxy tells them from v8 on",
        columns=("upstream", "client_key", "session_id", "parent_session_id", "first_at", "last_at", "requests",
                 "failed", "cancelled", "models", "total_tokens", *TOKENS, *COSTS, "unpriced_requests",
                 "estimated_cost_usd"),
        at_a_glance=("client_key", "session_id", "first_at", "last_at", "requests", "failed", "models",
                     "total_tokens", "cost_usd"),
        spare=("models", "failed", "first_at"),
    ),
    "fallbacks": Family(
        title="Requests and their attempts", query=FALLBACKS, shape="facts", days=7,
        takes=(*WINDOW, "upstream", "client_key"), counts=("logical_requests",),
        columns=("logical_requests", "attempts", "with_fallback", "switched", "rescued", "final_succeeded",
                 "final_failed", "success_rate", "fallback_rate", "final_cancelled"),
        at_a_glance=("logical_requests", "attempts", "with_fallback", "switched", "rescued", "final_succeeded",
                     "final_failed", "final_cancelled", "success_rate", "fallback_rate"),
    ),
    "cache-ttl": Family(
        title="How long a cache should keep what a client key sends", query=CACHE_TTL, days=7,
        takes=(*WINDOW, "upstream", "client_key"), by=("upstream", "client_key"), counts=(), bar="request_count",
        nothing="no client key has sent three requests in this period: there are no two gaps to judge by",
        columns=("upstream", "client_key", "request_count", "within_5_min", "within_15_min", "within_30_min",
                 "within_60_min", "over_60_min", *TTL_PERCENT, "p50_minutes", "p75_minutes", "p90_minutes",
                 "avg_minutes", "min_minutes", "max_minutes", "recommended_ttl_minutes", "reason"),
        at_a_glance=("upstream", "client_key", "request_count", *TTL_PERCENT, "p50_minutes", "p90_minutes",
                     "recommended_ttl_minutes", "reason"),
        spare=("within_60_min_percent", "within_30_min_percent", "within_15_min_percent", "reason",
               "over_60_min_percent", "within_5_min_percent"),
    ),
    "cache-hits": Family(
        title="What caches did for successful requests", query=CACHE_HITS, shape="facts", days=7,
        takes=(*WINDOW, *FILTERS), counts=("total_requests",), nothing="no request succeeded in this period",
        columns=("total_requests", "requests_with_cache_hit", "request_cache_hit_rate", "uncached_input_tokens",
                 "cache_read_tokens", "cache_write_tokens", "token_cache_hit_rate", "cache_read_cost_usd",
                 "cache_write_cost_usd", "unpriced_requests", "savings_usd", "savings_unknown_requests",
                 "aether_savings_usd"),
        at_a_glance=("total_requests", "requests_with_cache_hit", "request_cache_hit_rate", "uncached_input_tokens",
                     "cache_read_tokens", "cache_write_tokens", "token_cache_hit_rate", "cache_read_cost_usd",
                     "cache_write_cost_usd", "savings_usd"),
    ),
    "gaps": Family(
        title="Gaps between the requests of a client key", query=GAPS, days=1, limit=1000, bar="gap_minutes",
        takes=(*WINDOW, "client_key", "limit"), counts=(),
        nothing="no client key has sent two requests within two hours in this period",
        columns=("occurred_at", "upstream", "client_key", "model", "gap_minutes"),
        at_a_glance=("occurred_at", "upstream", "client_key", "model", "gap_minutes"), spare=("upstream", "model"),
    ),
    "latency": Family(
        title="Latency and time to the first token", query=LATENCY, by=("name", "measure"),
        takes=(*WINDOW, "upstream", "channel", "model", "by"),
        columns=("measure", "name", "samples",
                 *(f"{share}{edge}" for share in SHARES for edge in ("_ms", "_from_ms", "_to_ms"))),
        at_a_glance=("name", "measure", "samples", *(f"{share}_ms" for share in SHARES)),
        counts=("samples",), nothing="nothing was measured in this period", spare=("p75_ms", "p95_ms"),
    ),
}  # fmt: skip

GROUPINGS = get_args(Grouping)

SELECT_UNPRICED = """
SELECT
    model, provider, alias,
    CASE WHEN lower(tier) = ANY(%(standard)s) THEN '' ELSE lower(tier) END AS service_tier,
    count(*) AS requests,
    count(*) FILTER (WHERE unclassified_tokens > 0) AS unclassified_requests,
    sum(uncached_input_tokens)::bigint AS uncached_input_tokens,
    sum(cache_read_tokens)::bigint AS cache_read_tokens,
    sum(cache_write_tokens)::bigint AS cache_write_tokens,
    sum(billed_output_tokens)::bigint AS billed_output_tokens,
    sum(unclassified_tokens)::bigint AS unclassified_tokens
FROM usage_api.v1_records
CROSS JOIN LATERAL (SELECT coalesce(nullif(response_service_tier, ''), service_tier)) AS charged (tier)
WHERE cost_usd IS NULL
  AND (%(since)s::date IS NULL OR occurred_at >= usage_api.v1_day_begin(%(since)s::date, usage_api.v1_zone()))
  AND (%(until)s::date IS NULL OR occurred_at < usage_api.v1_day_begin(%(until)s::date, usage_api.v1_zone()))
  AND (%(upstream)s::text IS NULL OR upstream = %(upstream)s)
GROUP BY 1, 2, 3, 4
ORDER BY requests DESC, model, provider, alias, service_tier
"""
SELECT_ESTIMATED = """
SELECT
    r.model, r.provider, r.alias,
    CASE WHEN lower(tier) = ANY(%(standard)s) THEN '' ELSE lower(tier) END AS service_tier,
    count(*) AS requests, sum(r.cost_usd) AS estimated_cost_usd,
    string_agg(DISTINCT CASE WHEN p.vendor = '' THEN p.model ELSE p.vendor || ': ' || p.model END, ', ') AS charged_as
FROM usage_api.v1_records AS r
LEFT JOIN usage_api.v1_prices AS p USING (price_id)
CROSS JOIN LATERAL (SELECT coalesce(nullif(r.response_service_tier, ''), r.service_tier)) AS charged (tier)
WHERE r.cost_estimated
  AND (%(since)s::date IS NULL OR r.occurred_at >= usage_api.v1_day_begin(%(since)s::date, usage_api.v1_zone()))
  AND (%(until)s::date IS NULL OR r.occurred_at < usage_api.v1_day_begin(%(until)s::date, usage_api.v1_zone()))
  AND (%(upstream)s::text IS NULL OR r.upstream = %(upstream)s)
GROUP BY 1, 2, 3, 4
ORDER BY estimated_cost_usd DESC, 1, 2, 3, 4
"""


def unpriced(
    engine: Engine, *, since: date | None = None, until: date | None = None, upstream: str | None = None
) -> list[dict[str, Any]]:
    """Return the models that have records without a cost, those with the most first.

    `service_tier` is the one that a price is missing for, empty for the standard one. `unclassified_requests` counts
    the requests whose tokens no price fits, since nobody knows what kind they are.
    """
    with database.transaction(engine) as connection:
        return _rows(connection, SELECT_UNPRICED, _of_prices(since, until, upstream))


def estimated(
    engine: Engine, *, since: date | None = None, until: date | None = None, upstream: str | None = None
) -> list[dict[str, Any]]:
    """Return the models that have records whose cost is an estimate, the dearest first, and what they are charged as.

    `charged_as` names prices of the dataset, each as the vendor of the list and the model in it.
    """
    with database.transaction(engine) as connection:
        return _rows(connection, SELECT_ESTIMATED, _of_prices(since, until, upstream))


def _of_prices(since: date | None, until: date | None, upstream: str | None) -> dict[str, Any]:
    return {"since": since, "until": until, "upstream": upstream, "standard": list(STANDARD_TIERS)}


SELECT_FRESHNESS = """
SELECT
    upstream, last_pass_at, last_success_at, newest_record_at, journal_entries, journal_bytes, timezone,
    records_complete_from, last_failure_at, last_error, future_record_at
FROM usage_api.v1_freshness
ORDER BY upstream
"""


def freshness(engine: Engine) -> list[dict[str, Any]]:
    """Return one row per upstream: how current its usage is."""
    with database.transaction(engine) as connection:
        return _rows(connection, SELECT_FRESHNESS, {})


SELECT_ZONE = "SELECT usage_api.v1_zone() AS zone"


def timezone(engine: Engine) -> str:
    """Return the rollup time zone; UTC before the first pass has decided it."""
    with database.transaction(engine) as connection:
        return str(_rows(connection, SELECT_ZONE, {})[0]["zone"])
