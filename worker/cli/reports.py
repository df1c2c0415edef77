"""`worker report`: which figures are asked for, and how they are printed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from worker.cli import state
from worker.cli.options import Format, Json, Since, Until, UpstreamName, day
from worker.errors import UsageError

LIMIT_MAX = 50_000


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
    SESSIONS = "sessions"
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
    from zoneinfo import available_timezones

    from worker.cli import show
    from worker.cli.report_tables import print_figures
    from worker.db import database
    from worker.reports import names, report

    if timezone is not None and timezone not in available_timezones():
        raise UsageError(f"--timezone {timezone!r} is not an IANA time zone such as Europe/Berlin")
    if as_json and style is Format.CSV:
        raise UsageError("--json and --format csv contradict each other")
    asked = report.ReportFilter(
        since=day("--since", since), until=day("--until", until), timezone=timezone, at=_instant("--at", at),
        upstream=upstream, channel=channel, client_key=client_key, model=model,
        outcome=outcome and outcome.value, search=search, grain=grain and grain.value, by=by and by.value,
        limit=limit, before=_record(before),
    )  # fmt: skip
    settings = state.configured()
    style = Format.JSON if as_json else style
    future = None
    with database.open_engine(settings) as engine:
        found = report.figures(engine, what.value, asked, counted=style is not Format.CSV)
        if found.known and found.blank:
            names.require(engine, settings, upstream=upstream, channel=channel, client_key=client_key, model=model)
        if what is What.RECORDS and style is Format.TABLE:
            future = report.left_to_come(engine, asked)
    print_figures(found, style)
    if future is not None:
        show.say(f"records from the future, up to {future[0]:%Y-%m-%d}, are left out: --since {future[1]} shows them")


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
