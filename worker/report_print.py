"""How reports are printed: as tables for people, as JSON or CSV for programs."""

from __future__ import annotations

from datetime import date

from worker import show
from worker.options import Format
from worker.report import Figures

UNKNOWN = "unknown"


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
    if any(row.get("channel") == UNKNOWN or row.get("channel_group") == UNKNOWN for row in rows):
        notes.append("unknown: the proxy lists no credential that fits, see `worker resolve`")
    if any(value is None and row.get(name.replace("_to_ms", "_ms")) is not None for row in rows
           for name, value in row.items() if name.endswith("_to_ms")):  # fmt: skip
        notes.append("> beyond the last bound that is counted by")
    if "p50_ms" in family.columns:
        notes.append("estimated between the bounds of a histogram, which --format json names")
    return notes


def page_of(figures: Figures, records: int) -> str:
    """Return which part of so many records these are, and how the next one is asked for."""
    last = figures.rows[-1]
    said = f"{len(figures.rows):,} of {records:,} records"
    if len(figures.rows) == records or len(figures.rows) != figures.limit:
        return said  # the last page
    return f"{said}, older ones: --before {last['occurred_at']:%Y-%m-%dT%H:%M:%S.%fZ},{last['record_id']}"
