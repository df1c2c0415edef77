"""`worker report`: which figures are asked for, and how they are printed."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated
from zoneinfo import available_timezones

import typer

from worker import database, report, show, state
from worker.errors import UsageError
from worker.options import Json, Since, Until, UpstreamName, day
from worker.report import Asked, Figures

LIMIT_MAX = 50_000
UNKNOWN = "unknown"


class Format(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Grain(StrEnum):
    """How long each step of a trend is."""

    DAY = "day"
    HOUR = "hour"


class What(StrEnum):
    """The families of figures; a test holds them against report.FAMILIES."""

    CHANNELS = "channels"
    GROUPS = "groups"
    MODELS = "models"
    KEYS = "keys"
    ENDPOINTS = "endpoints"
    DAILY = "daily"
    HOURLY = "hourly"
    SUMMARY = "summary"
    TREND = "trend"
    HEATMAP = "heatmap"
    CALLS = "calls"
    DASHBOARD = "dashboard"
    RECORDS = "records"
    FALLBACKS = "fallbacks"
    CACHE_TTL = "cache-ttl"
    CACHE_HITS = "cache-hits"
    GAPS = "gaps"
    LATENCY = "latency"


class By(StrEnum):
    """What latencies are told apart by; a test holds them against report.GROUPINGS."""

    ALL = "all"
    CHANNEL = "channel"
    CHANNEL_GROUP = "channel_group"
    MODEL = "model"


class Outcome(StrEnum):
    """How a record can have ended."""

    SUCCESS = "success"
    FAILED = "failed"
    WARMUP = "warmup"
    CANCELLED = "cancelled"


def report_command(
    what: Annotated[What, typer.Argument(help="Which figures.")],
    since: Since = None,
    until: Until = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Whose days and hours; the rollup time zone's by default.")
    ] = None,
    upstream: UpstreamName = None,
    channel: Annotated[str | None, typer.Option(metavar="NAME", help="Only this channel.")] = None,
    client_key: Annotated[str | None, typer.Option(metavar="NAME", help="Only this client key: label or mask.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this model ran.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Only records that ended so.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Only records in whose names all of these words are.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=LIMIT_MAX, help="How many records or gaps at most, the newest.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="INSTANT,ID", help="The page that comes after this record.")
    ] = None,
    grain: Annotated[Grain | None, typer.Option(help="How long each step of a trend is.")] = None,
    by: Annotated[By | None, typer.Option(help="What latencies are told apart by.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="The instant that calls and dashboard are about; now.")
    ] = None,
    style: Annotated[Format, typer.Option("--format", help="How to print them.")] = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Print usage figures."""
    if timezone is not None and timezone not in available_timezones():
        raise UsageError(f"--timezone {timezone!r} is not an IANA time zone such as Europe/Berlin")
    if as_json and style is Format.CSV:
        raise UsageError("--json and --format csv contradict each other")
    asked = Asked(
        since=day("--since", since), until=day("--until", until), timezone=timezone, at=_instant("--at", at),
        upstream=upstream, channel=channel, client_key=client_key, model=model,
        outcome=outcome and outcome.value, search=search, grain=grain and grain.value, by=by and by.value,
        limit=limit, before=_record(before),
    )  # fmt: skip
    with database.opened(state.configured()) as engine:
        found = report.figures(engine, what.value, asked)
        page = ""
        if what is What.RECORDS and found.rows and style is Format.TABLE and not as_json:
            page = _page(found, report.count_records(engine, asked))
    print_figures(found, Format.JSON if as_json else style, page)


def print_figures(figures: Figures, style: Format = Format.TABLE, page: str = "") -> None:
    """Print figures as a table, a JSON document or CSV; what there is nothing of is said in words."""
    family, rows = figures.family, figures.rows
    if style is Format.JSON:
        show.json_document(rows)
    elif style is Format.CSV:
        show.csv_rows(family.columns, rows)
    elif not figures.known:
        show.say("no usage yet: nothing has been loaded")
    elif figures.empty:
        show.say(family.nothing)
    elif family.shape == "calendar":
        show.calendar(*_calendar(figures))
    elif family.shape == "facts":
        show.facts(family.title, rows[0], *_notes(figures))
    else:
        notes = (*_notes(figures), *filter(None, [page]))
        show.table(family.title, family.at_a_glance, rows, *notes, bar=family.bar, spare=family.spare)


def _calendar(figures: Figures) -> tuple[str, dict[date, int], int, str]:
    values = {row["day"]: row["requests"] for row in figures.rows}
    most = max(row["max_requests"] for row in figures.rows)
    busiest = next(day for day, requests in values.items() if requests == most)
    used = sum(requests > 0 for requests in values.values())
    note = (
        f"{sum(values.values()):,} requests on {used} of {len(values)} days, the most on {busiest}: {most:,}; "
        f"days in {figures.timezone}"
    )
    return figures.family.title, values, most, note


def _notes(figures: Figures) -> list[str]:
    """Return what a reader must know: which days these are, what has no price, what no channel is known of."""
    family, rows = figures.family, figures.rows
    notes: list[str] = []
    if family.days is not None and figures.since is not None:
        notes.append(f"from {figures.since} until {figures.until} in {figures.timezone}")
    elif {"day", "period", "today_requests"} & set(family.columns):
        notes.append(f"days in {figures.timezone}")
    elif "hour" in family.columns:
        notes.append("hours as UTC")
    if any(row.get("unpriced_requests") for row in rows):
        notes.append("* without the requests that have no price: `worker prices unpriced`")
    if any(row.get("estimated_cost_usd") for row in rows):
        notes.append("~ estimated in part: `worker prices unpriced --estimated`")
    if any(row.get("channel") == UNKNOWN or row.get("channel_group") == UNKNOWN for row in rows):
        notes.append("unknown: the proxy lists no credential that fits, see `worker resolve`")
    if any(value is None and row.get(name.replace("_to_ms", "_ms")) is not None for row in rows
           for name, value in row.items() if name.endswith("_to_ms")):  # fmt: skip
        notes.append("> beyond the last bound that is counted by")
    if "p50_ms" in family.columns:
        notes.append("estimated between the bounds of a histogram, which --format json names")
    return notes


def _page(figures: Figures, records: int) -> str:
    last = figures.rows[-1]
    said = f"{len(figures.rows):,} of {records:,} records"
    if len(figures.rows) == records or len(figures.rows) != figures.limit:
        return said  # the last page
    return f"{said}, older ones: --before {last['occurred_at']:%Y-%m-%dT%H:%M:%S.%fZ},{last['record_id']}"


def _instant(option: str, value: str | None) -> datetime | None:
    """Return the instant that an option names, which is one of UTC where it names no offset."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise UsageError(f"{option} {value!r} is not an instant such as 2026-11-21T08:30Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _record(value: str | None) -> tuple[datetime, str] | None:
    """Return the record that --before names."""
    if value is None:
        return None
    instant, _, record_id = value.partition(",")
    found = _instant("--before", instant)
    if found is None or not re.fullmatch(r"(?:[0-9a-f]{2})+", record_id):
        raise UsageError(
            f"--before {value!r} is no occurred_at and record_id with a comma between, as a report names them"
        )
    return found, record_id
