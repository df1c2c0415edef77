"""Figures for people, from the views of usage_api and nothing else. Composes queries, prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, FromClause, Numeric, Select, case, column, desc, func, select, table
from sqlalchemy.engine import Engine

from worker import database
from worker.rollup import day_bounds

SCHEMA = "usage_api"
DIMENSIONS = ("upstream", "channel", "channel_group", "channel_kind", "client_key", "provider", "endpoint", "model",
              "alias", "outcome")  # fmt: skip
TOKENS = ("uncached_input_tokens", "cache_read_tokens", "cache_write_tokens", "billed_output_tokens",
          "unclassified_tokens")  # fmt: skip
COSTS = ("cost_usd", "actual_cost_usd")
MEASURES = ("requests", "failed", "success_rate", "warmups", *TOKENS, "total_tokens", *COSTS,
            "unpriced_requests", "mean_latency_ms")  # fmt: skip
NOT_AT_A_GLANCE = ("channel_group", "unpriced_requests", "total_tokens")
SUMS = (*TOKENS, "total_tokens", *COSTS, "unpriced_requests", "latency_ms_sum", "latency_samples")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one report answers: rows by column name, in order, and what they cover."""

    title: str
    columns: Sequence[str]
    at_a_glance: Sequence[str]
    """The columns that a person wants first."""
    rows: Sequence[Mapping[str, Any]]
    timezone: str


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """A family of the report: which view, grouped by what, in which order."""

    title: str
    by: tuple[str, ...]
    view: str = "v1_daily"
    newest_first: bool = False


FAMILIES: Mapping[str, Grouping] = {
    "channels": Grouping(title="Usage by channel", by=("channel", "channel_group", "channel_kind")),
    "models": Grouping(title="Usage by model", by=("model", "provider")),
    "keys": Grouping(title="Usage by client key", by=("client_key",)),
    "endpoints": Grouping(title="Usage by endpoint", by=("endpoint", "provider")),
    "daily": Grouping(title="Usage by day", by=("day",), newest_first=True),
    "hourly": Grouping(title="Usage by hour (UTC)", by=("hour",), view="v1_hourly", newest_first=True),
    "summary": Grouping(title="Summary", by=()),
}


def usage(
    engine: Engine, what: str, *, since: date | None = None, until: date | None = None, upstream: str | None = None
) -> Figures:
    """Return one family of figures over the days `[since, until)` of the rollup time zone.

    Args:
        engine: the database.
        what: one of FAMILIES.
        since: the first day; from the beginning when None.
        until: the day after the last; to the end when None.
        upstream: only this proxy's usage.

    Raises:
        DatabaseError: it cannot be reached, or has no schema yet.
    """
    family = FAMILIES[what]
    zone = timezone(engine)
    view = _view(family)
    query = _grouped(view, family)
    for condition in _window(view, family, since, until, zone):
        query = query.where(condition)
    if upstream is not None:
        query = query.where(view.c.upstream == upstream)
    rows = [_finished(row) for row in _fetch(engine, query)]
    columns = [*family.by, *MEASURES]
    glance = [name for name in columns if name not in NOT_AT_A_GLANCE]
    return Figures(title=family.title, columns=columns, at_a_glance=glance, rows=rows, timezone=zone)


def unpriced(
    engine: Engine, *, since: date | None = None, until: date | None = None, upstream: str | None = None
) -> list[dict[str, Any]]:
    """Return the models that have records without a cost, those with the most first.

    `unclassified` counts the requests whose tokens no price fits, since nobody knows what kind they are.
    """
    zone = ZoneInfo(timezone(engine))
    names = ("occurred_at", "upstream", "provider", "model", "alias", "cost_usd", *TOKENS)
    view = table("v1_records", *map(column, names), schema=SCHEMA)
    by = [view.c[name] for name in ("model", "provider", "alias")]
    unclassified = func.sum(case((view.c.unclassified_tokens > 0, 1), else_=0))
    query = (
        select(*by, func.count().label("requests"), unclassified.label("unclassified_requests"),
               *(func.sum(view.c[name]).label(name) for name in TOKENS))
        .where(view.c.cost_usd.is_(None))
        .group_by(*by)
        .order_by(desc("requests"), *by)
    )  # fmt: skip
    if since is not None:
        query = query.where(view.c.occurred_at >= day_bounds(since, zone)[0])
    if until is not None:
        query = query.where(view.c.occurred_at < day_bounds(until, zone)[0])
    if upstream is not None:
        query = query.where(view.c.upstream == upstream)
    return [{k: int(v) if k in TOKENS else v for k, v in row.items()} for row in _fetch(engine, query)]


def freshness(engine: Engine) -> list[dict[str, Any]]:
    """Return one row per upstream: how current its usage is."""
    names = ("upstream", "last_pass_at", "last_success_at", "newest_record_at", "journal_entries", "journal_bytes",
             "timezone", "records_complete_from")  # fmt: skip
    view = table("v1_freshness", *map(column, names), schema=SCHEMA)
    return _fetch(engine, select(view).order_by(view.c.upstream))


def timezone(engine: Engine) -> str:
    """Return the rollup time zone; UTC before the first pass has decided it."""
    view = table("v1_freshness", column("timezone"), schema=SCHEMA)
    rows = _fetch(engine, select(view.c.timezone).limit(1))
    return str(rows[0]["timezone"]) if rows and rows[0]["timezone"] else "UTC"


def _view(family: Grouping) -> FromClause:
    bucket = "hour" if family.view == "v1_hourly" else "day"
    names = (bucket, *DIMENSIONS, "requests", *SUMS)
    return table(family.view, *map(column, names), schema=SCHEMA)


def _grouped(view: FromClause, family: Grouping) -> Select[Any]:
    """Sum the measures of `view`; figures that are quotients come from sums and never from other quotients."""
    by = [view.c[name] for name in family.by]
    requests = _counted(view, view.c.outcome != "warmup")
    failed = _counted(view, view.c.outcome == "failed")
    warmups = _counted(view, view.c.outcome == "warmup")
    sums = [func.sum(view.c[name]).label(name) for name in SUMS if name not in COSTS]
    sums += [func.trim_scale(func.sum(view.c[name])).label(name) for name in COSTS]
    query = select(*by, requests.label("requests"), failed.label("failed"), warmups.label("warmups"), *sums)
    if not by:
        return query
    query = query.group_by(*by)
    return query.order_by(desc(by[0])) if family.newest_first else query.order_by(desc("requests"), *by)


def _counted(view: FromClause, condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((condition, view.c.requests), else_=0), type_=Numeric()), 0)


def _window(
    view: FromClause, family: Grouping, since: date | None, until: date | None, zone: str
) -> list[ColumnElement[bool]]:
    """Return the conditions for `[since, until)`; hours are cut where the days of the zone begin."""
    hourly = family.view == "v1_hourly"
    bucket = view.c.hour if hourly else view.c.day
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(bucket >= (_begin(since, zone) if hourly else since))
    if until is not None:
        conditions.append(bucket < (_begin(until, zone) if hourly else until))
    return conditions


def _begin(day: date, zone: str) -> datetime:
    """Return the UTC hour in which a day begins: in a half-hour zone, the whole of it."""
    begins = day_bounds(day, ZoneInfo(zone))[0]
    return begins - timedelta(minutes=begins.minute)


def _finished(row: dict[str, Any]) -> dict[str, Any]:
    """Turn sums into what is shown: whole numbers, the success rate in percent, the mean latency."""
    shown = {k: int(v or 0) if k in SUMS and k not in COSTS else v for k, v in row.items()}
    requests, failed, samples = int(row["requests"]), int(row["failed"]), shown.pop("latency_samples")
    latency = shown.pop("latency_ms_sum")
    shown |= {
        "requests": requests,
        "failed": failed,
        "warmups": int(row["warmups"]),
        "success_rate": round(100 * (requests - failed) / requests, 2) if requests else None,
        "mean_latency_ms": round(latency / samples) if samples else None,
    }
    return shown


def _fetch(engine: Engine, query: Select[Any]) -> list[dict[str, Any]]:
    with database.begun(engine) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
