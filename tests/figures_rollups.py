"""What the figures from the rollups must be: counted in plain Python from single records, never with SQL sums.

Each function says a figure as its documentation does, and takes the long way: no rollup, no histogram's bounds where
the values themselves are known, days from zoneinfo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

from support import LATENCY_BOUNDS_MS, Books

Row = dict[str, Any]

DIMENSIONS = ("upstream", "channel", "channel_group", "channel_kind", "client_key", "provider", "endpoint", "model",
              "alias")  # fmt: skip
REPORTED = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "total_tokens")
EXCLUSIVE = ("uncached_input_tokens", "cache_read_tokens", "cache_write_tokens", "billed_output_tokens",
             "unclassified_tokens")  # fmt: skip
COSTS = ("cost_usd", "actual_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd", "estimated_cost_usd")
REQUESTS = ("success", "failed", "cancelled")
SHARES = {"p50": Decimal("0.5"), "p75": Decimal("0.75"), "p90": Decimal("0.9"), "p95": Decimal("0.95"),
          "p99": Decimal("0.99")}  # fmt: skip
BOUNDS = (0, *LATENCY_BOUNDS_MS.values())


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record, as v1_records shows it."""

    occurred_at: datetime
    completed_at: datetime | None
    upstream: str
    channel: str
    channel_group: str
    channel_kind: str
    client_key: str
    provider: str
    endpoint: str
    model: str
    alias: str
    outcome: str
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    total_tokens: int
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    billed_output_tokens: int
    unclassified_tokens: int
    cost_usd: Decimal | None
    actual_cost_usd: Decimal | None
    cache_read_cost_usd: Decimal | None
    cache_write_cost_usd: Decimal | None
    estimated_cost_usd: Decimal | None
    latency_ms: int | None
    ttft_ms: int | None

    @property
    def tokens(self) -> int:
        return sum(getattr(self, name) for name in EXCLUSIVE)


SELECT_RECORDS = f"SELECT {', '.join(field.name for field in fields(Record))} FROM usage_api.v1_records"
NAMES = [field.name for field in fields(Record)]


def records_of(books: Books) -> list[Record]:
    """Every record, read once."""
    return [Record(**dict(zip(NAMES, row, strict=True))) for row in books.ask(SELECT_RECORDS)]


def within(records: Iterable[Record], since: datetime | None, until: datetime | None) -> list[Record]:
    return [
        r for r in records if (since is None or r.occurred_at >= since) and (until is None or r.occurred_at < until)
    ]


def of(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """Those whose attributes are the wanted ones; None wants nothing."""
    return [r for r in records if all(v is None or getattr(r, name) == v for name, v in wanted.items())]


def grouped(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    found: dict[Any, list[Record]] = {}
    for r in records:
        found.setdefault(key(r), []).append(r)
    return found


def rounded(part: Decimal | int, whole: Decimal | int, factor: int = 1) -> Decimal | None:
    """`factor * part / whole` to two decimals, halves away from zero; None where there is nothing to divide by."""
    if not whole:
        return None
    with localcontext() as context:
        context.prec = 60
        return (Decimal(factor) * part / whole).quantize(Decimal("0.01"), ROUND_HALF_UP)


def count(records: Iterable[Record], *outcomes: str) -> int:
    return sum(r.outcome in outcomes for r in records)


def money(records: Sequence[Record], name: str) -> Decimal | None:
    """The sum of what has a price; zero where nothing was used, None where something was and none of it has one."""
    known = [getattr(r, name) for r in records if r.cost_usd is not None]
    used = any(r.tokens or r.cost_usd for r in records if r.cost_usd is not None)
    return sum(known, Decimal(0)) if used or all(r.cost_usd is not None for r in records) else None


def mean(values: Iterable[int | None]) -> Decimal | None:
    measured = [v for v in values if v is not None]
    return rounded(sum(measured), len(measured))


def totals(records: Sequence[Record]) -> Row:
    """The columns that every aggregation has."""
    requests = [r for r in records if r.outcome != "warmup"]
    succeeded, failed = count(records, "success"), count(records, "failed")
    tokens = {name: sum(getattr(r, name) for r in records) for name in (*REPORTED, *EXCLUSIVE)}
    prompt = tokens["uncached_input_tokens"] + tokens["cache_read_tokens"] + tokens["cache_write_tokens"]
    return {
        "requests": len(requests),
        "succeeded": succeeded,
        "failed": failed,
        "warmups": count(records, "warmup"),
        "success_rate": rounded(succeeded, succeeded + failed, 100),
        "error_rate": rounded(failed, succeeded + failed, 100),
        **tokens,
        "tokens": sum(r.tokens for r in records),
        "cache_hit_rate": rounded(tokens["cache_read_tokens"], prompt, 100),
        **{name: money(records, name) for name in COSTS[:4]},
        "unpriced_requests": sum(r.cost_usd is None for r in records),
        "mean_latency_ms": mean(r.latency_ms for r in requests),
        "mean_ttft_ms": mean(r.ttft_ms for r in requests),
        "cancelled": count(records, "cancelled"),
        "estimated_cost_usd": money(records, "estimated_cost_usd"),
    }


def by(records: Iterable[Record], *names: str) -> list[Row]:
    """Totals by some dimensions."""
    groups = grouped(records, lambda r: tuple(getattr(r, name) for name in names))
    return [{**dict(zip(names, key, strict=True)), **totals(some)} for key, some in groups.items()]


def channel_statistics(records: Sequence[Record]) -> Iterator[Row]:
    levels: dict[str, tuple[str, ...]] = {
        "all": (), "group": ("channel_group",), "channel": ("channel_group", "channel"), "model": ("model",)
    }  # fmt: skip
    nobody = dict.fromkeys(("channel_group", "channel", "model"))
    for level, names in levels.items():
        for row in by(records, *names) or ([totals([])] if level == "all" else []):
            yield {"level": level, **nobody, **row}


# -- time -------------------------------------------------------------------------------------------------------


def day_begin(day: date, zone: ZoneInfo) -> datetime:
    """The first instant whose local date is `day`, found by walking over the instants around its midnight."""
    at = datetime.combine(day, time(), UTC) - timedelta(hours=30)
    while at.astimezone(zone).date() < day:
        at += timedelta(minutes=15)
    return at


def hour_begin(at: datetime, zone: ZoneInfo) -> datetime:
    """The full hour before, by the clock that holds at `at`."""
    local = at.astimezone(zone)
    return at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def trend(records: Sequence[Record], since: datetime, until: datetime, grain: str, zone: ZoneInfo) -> list[Row]:
    """A row of totals for each day or hour that has a quarter of an hour in the window."""

    def bucket(at: datetime) -> datetime:
        return day_begin(at.astimezone(zone).date(), zone) if grain == "day" else hour_begin(at, zone)

    groups = grouped(within(records, since, until), lambda r: bucket(r.occurred_at))
    at = since
    while at < until:
        groups.setdefault(bucket(at), [])
        at = datetime.fromtimestamp((at.timestamp() // 900 + 1) * 900, UTC)
    form = "%Y-%m-%d" if grain == "day" else "%Y-%m-%d %H:%M"
    return [
        {"bucket": begin, "label": begin.astimezone(zone).strftime(form), **totals(groups[begin])}
        for begin in sorted(groups)
    ]


def period(name: str, at: datetime, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    day = at.astimezone(zone).date()
    monday, first = day - timedelta(days=day.weekday()), day.replace(day=1)
    following, before = (first + timedelta(days=32)).replace(day=1), (first - timedelta(days=1)).replace(day=1)
    days = {
        "today": (day, day + timedelta(days=1)),
        "yesterday": (day - timedelta(days=1), day),
        "this_week": (monday, monday + timedelta(days=7)),
        "this_month": (first, following),
        "last_month": (before, first),
    }
    if name in days:
        begin, end = days[name]
        return day_begin(begin, zone), day_begin(end, zone)
    if name == "all":
        return None, None
    if name == "rolling_month":
        local = at.astimezone(zone).replace(tzinfo=None)
        last = (local.replace(day=1) - timedelta(days=1)).day
        then = (local.replace(day=1) - timedelta(days=1)).replace(day=min(local.day, last))
        return then.replace(tzinfo=zone).astimezone(UTC), at
    hours = {"last_hour": 1, "last_24_hours": 24, "last_7_days": 168, "last_30_days": 720}
    return at - timedelta(hours=hours[name]), at


# -- pages ------------------------------------------------------------------------------------------------------


def heatmap(records: Iterable[Record], days: int, last_day: date, zone: ZoneInfo) -> list[Row]:
    on = grouped(records, lambda r: r.occurred_at.astimezone(zone).date())
    shown = [last_day - timedelta(days=n) for n in range(days)][::-1]
    most = max(count(on.get(day, []), *REQUESTS) for day in shown)
    return [
        {
            "day": day,
            "requests": count(some, *REQUESTS),
            "failed": count(some, "failed"),
            "tokens": sum(r.tokens for r in some),
            "total_tokens": sum(r.total_tokens for r in some),
            "cost_usd": money(some, "cost_usd"),
            "actual_cost_usd": money(some, "actual_cost_usd"),
            "max_requests": most,
            "cancelled": count(some, "cancelled"),
            "estimated_cost_usd": money(some, "estimated_cost_usd"),
        }
        for day in shown
        for some in [on.get(day, [])]
    ]


def _of_a_dashboard(records: Sequence[Record], prefix: str) -> Row:
    figures = {
        "requests": count(records, *REQUESTS),
        "succeeded": count(records, "success"),
        "failed": count(records, "failed"),
        "input_tokens": sum(r.uncached_input_tokens for r in records),
        "output_tokens": sum(r.billed_output_tokens for r in records),
        "cache_read_tokens": sum(r.cache_read_tokens for r in records),
        "cache_write_tokens": sum(r.cache_write_tokens for r in records),
        "tokens": sum(r.tokens - r.unclassified_tokens for r in records),
        "unclassified_tokens": sum(r.unclassified_tokens for r in records),
        "cost_usd": money(records, "cost_usd"),
        "actual_cost_usd": money(records, "actual_cost_usd"),
    }
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def _more_of_a_dashboard(records: Sequence[Record], prefix: str) -> Row:
    return {
        f"{prefix}_cancelled": count(records, "cancelled"),
        f"{prefix}_estimated_cost_usd": money(records, "estimated_cost_usd"),
    }


def dashboard(records: Sequence[Record], at: datetime, zone: ZoneInfo) -> Row:
    minute = timedelta(minutes=1)
    lately = [r for r in records if r.occurred_at < at and at - 5 * minute <= (r.completed_at or r.occurred_at) < at]
    active = [r for r in within(records, at - 24 * 60 * minute, at) if r.outcome != "warmup"]
    return {
        **_of_a_dashboard(records, "total"),
        **_of_a_dashboard(within(records, *period("today", at, zone)), "today"),
        "mean_latency_ms": totals(records)["mean_latency_ms"],
        "total_client_keys": len({(r.upstream, r.client_key) for r in records}),
        "active_client_keys": len({(r.upstream, r.client_key) for r in active}),
        "rpm": Decimal(count(lately, *REQUESTS)) / 5,
        "succeeded_rpm": Decimal(count(lately, "success")) / 5,
        "tpm": Decimal(sum(r.uncached_input_tokens + r.billed_output_tokens for r in lately)) / 5,
        "cache_tpm": Decimal(sum(r.cache_read_tokens + r.cache_write_tokens for r in lately)) / 5,
        **_more_of_a_dashboard(records, "total"),
        **_more_of_a_dashboard(within(records, *period("today", at, zone)), "today"),
    }


def client_key_costs(records: Iterable[Record], at: datetime, zone: ZoneInfo) -> list[Row]:
    return [
        {
            "upstream": upstream,
            "client_key": client_key,
            **{f"{name}_requests": count(some, *REQUESTS) for name, some in periods.items()},
            **{f"{name}_actual_cost_usd": money(some, "actual_cost_usd") for name, some in periods.items()},
        }
        for (upstream, client_key), its in grouped(records, lambda r: (r.upstream, r.client_key)).items()
        for periods in [
            {
                "today": within(its, *period("today", at, zone)),
                "last_30_days": within(its, at - timedelta(days=30), at),
                "total": its,
            }
        ]
    ]


# -- percentiles ------------------------------------------------------------------------------------------------


def exact_percentile(values: Sequence[int], share: Decimal) -> int:
    """The smallest value that is not exceeded by that share of the values."""
    ordered = sorted(values)
    return next(v for n, v in enumerate(ordered, start=1) if n >= share * len(ordered))


def percentiles(records: Iterable[Record], name_of: Callable[[Record], str]) -> Iterator[Row]:
    """Every percentile from the measured values themselves, then the bounds around it and the place between them."""
    groups = grouped([r for r in records if r.outcome != "warmup"], name_of)
    for measure in ("latency", "ttft"):
        for name, some in groups.items():
            values = [v for r in some if (v := getattr(r, f"{measure}_ms")) is not None]
            row: Row = {"measure": measure, "name": name, "samples": len(values)}
            for share_name, share in SHARES.items():
                row |= _bounded(values, share, share_name)
            yield row


def _bounded(values: Sequence[int], share: Decimal, name: str) -> Row:
    if not values:
        return {f"{name}_ms": None, f"{name}_from_ms": None, f"{name}_to_ms": None}
    exact = exact_percentile(values, share)
    begin = max(bound for bound in BOUNDS if bound < exact)
    end = min((bound for bound in BOUNDS if bound >= exact), default=None)
    estimate: Decimal | None = Decimal(begin)
    if end is not None:
        below, inside = sum(v <= begin for v in values), sum(begin < v <= end for v in values)
        estimate = rounded(begin * inside + (end - begin) * (share * len(values) - below), inside)
    return {f"{name}_ms": estimate, f"{name}_from_ms": begin, f"{name}_to_ms": end}
