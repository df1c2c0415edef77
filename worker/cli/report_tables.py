"""How reports are printed: as tables for people, as JSON or CSV for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from worker.cli import show
from worker.cli.options import Format
from worker.reports.report import Figures
from worker.secret import is_masked

UNKNOWN = "unknown"


def print_figures(figures: Figures, style: Format = Format.TABLE) -> None:
    """Print figures as a table, a JSON document or CSV; what there is nothing of is said in words."""
    family, rows = figures.family, figures.rows
    if style is Format.JSON:
        show.json_document(_document(figures))
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
        columns, here = _columns(figures), [_in_zone(row, ZoneInfo(figures.timezone)) for row in rows]
        show.table(
            family.title, columns, here, *_notes(figures), *_page(figures),
            keys=family.by, bar=family.bar, spare=family.spare,
        )  # fmt: skip


def _document(figures: Figures) -> dict[str, Any]:
    """Return what programs get: which part of which figures this is, and the rows."""
    rows = figures.rows
    window: dict[str, Any] = {"since": figures.since, "until": figures.until, "tz": figures.timezone}
    if figures.at is not None:
        window["at"] = figures.at
    document: dict[str, Any] = {"report": figures.what, "window": window, "count": len(rows)}
    if figures.limit is not None:
        document["page"] = {"limit": figures.limit, "next": figures.next, "total": figures.total}
    if "unpriced_requests" in figures.family.columns:
        document["unpriced"] = {"requests": sum(row["unpriced_requests"] or 0 for row in rows)}
    return {**document, "data": rows}


def _columns(figures: Figures) -> Sequence[str]:
    """Return the columns of a table: those at a glance, and what else it takes to tell its rows apart."""
    family = figures.family
    shown = [name for name in family.by if name in family.at_a_glance]
    if len({tuple(row[name] for name in shown) for row in figures.rows}) == len(figures.rows) or not shown:
        return family.at_a_glance
    return (*family.by, *(name for name in family.at_a_glance if name not in family.by))


def _in_zone(row: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    return {name: value.astimezone(zone) if isinstance(value, datetime) else value for name, value in row.items()}


def _calendar(figures: Figures) -> tuple[str, dict[date, int], str]:
    values = {row["day"]: row["requests"] for row in figures.rows}
    most = max(values.values())
    busiest = next(day for day, requests in values.items() if requests == most)
    used = sum(requests > 0 for requests in values.values())
    note = (
        f"{sum(values.values()):,} requests on {used} of {len(values)} days, the most on {busiest}: {most:,}; "
        f"each shade is a quarter of the days with usage; days in {figures.timezone}"
    )
    return figures.family.title, values, note


def _notes(figures: Figures) -> list[str]:
    """Return what a reader must know: which days these are, what has no price, what no channel is known of."""
    family, rows = figures.family, figures.rows
    notes: list[str] = []
    if family.days is not None and figures.since is not None:
        notes.append(f"from {figures.since} until {figures.until} in {figures.timezone}")
    elif {"day", "today_requests"} & set(family.columns):
        notes.append(f"days in {figures.timezone}")
    elif {"hour", "period", "occurred_at"} & set(family.columns):
        notes.append(f"{'hours' if 'hour' in family.columns else 'times'} in {figures.timezone}")
    if any(row.get("unpriced_requests") for row in rows):
        notes.append("* without the requests that have no price: `worker prices unpriced`")
    if any(row.get("estimated_cost_usd") for row in rows):
        notes.append("~ estimated in part: `worker prices unpriced --estimated`")
    if any(is_masked(row.get("client_key") or "") for row in rows):
        notes.append("***: the proxy masks client keys, and several may look alike")
    if any(row.get("channel") == UNKNOWN or row.get("channel_group") == UNKNOWN for row in rows):
        notes.append("unknown: the proxy lists no credential that fits, see `worker resolve`")
    if any(value is None and row.get(name.replace("_to_ms", "_ms")) is not None for row in rows
           for name, value in row.items() if name.endswith("_to_ms")):  # fmt: skip
        notes.append("> beyond the last bound that is counted by")
    if "p50_ms" in family.columns:
        notes.append("estimated between the bounds of a histogram, which --format json names")
    return notes


def _page(figures: Figures) -> list[str]:
    """Return which part of all records these are, and how the next one is asked for."""
    if figures.total is None:
        return []
    said = f"{len(figures.rows):,} of {figures.total:,} records"
    return [f"{said}, older ones: --before {figures.next}" if figures.next else said]
