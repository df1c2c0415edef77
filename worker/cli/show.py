"""How results look: tables for a terminal, JSON and CSV for programs. Knows no database and no proxy."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, TextIO, cast

import msgspec
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from worker import safe_text
from worker.cli import charts

ENCODER = msgspec.json.Encoder(decimal_format="number")
PIPE_WIDTH = 160
"""How wide a table may be where there is no terminal to measure."""

HEADINGS = {
    "channel_group": "group",
    "channel_kind": "kind",
    "success_rate": "success %",
    "uncached_input_tokens": "input",
    "cache_read_tokens": "cache read",
    "cache_write_tokens": "cache write",
    "billed_output_tokens": "output",
    "unclassified_tokens": "unclassified",
    "total_tokens": "total tokens",
    "cost_usd": "cost USD",
    "actual_cost_usd": "actual USD",
    "unclassified_requests": "unclassified requests",
    "estimated_cost_usd": "estimated USD",
    "cost_usd_before": "cost USD before",
    "cost_usd_after": "cost USD after",
    "actual_cost_usd_before": "actual USD before",
    "actual_cost_usd_after": "actual USD after",
    "input_usd_per_mtok": "input",
    "cache_read_usd_per_mtok": "cache read",
    "cache_write_usd_per_mtok": "cache write",
    "cache_write_1h_usd_per_mtok": "cache write 1h",
    "output_usd_per_mtok": "output",
    "request_usd": "per request",
    "unpriced_requests": "unpriced",
    "mean_latency_ms": "mean ms",
    "gap_minutes": "minutes",
    "request_count": "gaps",
    "within_5_min_percent": "≤5 min %",
    "within_15_min_percent": "≤15 min %",
    "within_30_min_percent": "≤30 min %",
    "within_60_min_percent": "≤60 min %",
    "over_60_min_percent": ">60 min %",
    "recommended_ttl_minutes": "keep minutes",
    "occurred_at": "begun",
    "label": "begin",
    "rpm": "requests per minute",
    "succeeded_rpm": "of them successful",
    "tpm": "tokens per minute",
    "cache_tpm": "cache tokens per minute",
    "with_fallback": "with a second attempt",
    "switched": "with another credential",
    "rescued": "saved by it",
    "fallback_rate": "with a second attempt %",
    "error_rate": "error %",
    "cache_hit_rate": "cache hit %",
    "request_cache_hit_rate": "requests with cache hit %",
    "token_cache_hit_rate": "input tokens from cache %",
    "cache_read_cost_usd": "cache read USD",
    "cache_write_cost_usd": "cache write USD",
    "mean_ttft_ms": "mean first token ms",
    "savings_usd": "saved by caches USD",
    "savings_unknown_requests": "hits without a known saving",
    "aether_savings_usd": "nine times cache read USD",
    "channel_id": "number",
    "client_key_id": "number",
}
QUIET = ("warmups", "cancelled", "resolved", "journal_entries", "journal_bytes", "cache_write_tokens",
         "unclassified_tokens", "estimated_cost_usd", "records_complete_from", "last_failure_at", "last_error",
         "future_record_at", "served_by", "served_since")  # fmt: skip
"""Columns that a table leaves out when they say nothing."""

INCOMPLETE = ("cost_usd", "actual_cost_usd")
"""Columns that leave out the requests a row counts as unpriced."""

LEAST_MISSED = (
    "unclassified_tokens", "warmups", "cancelled", "mean_latency_ms", "cache_write_tokens", "channel_kind",
    "success_rate", "journal_bytes", "records_complete_from", "provider",
)  # fmt: skip
"""Columns that a narrow terminal does without, in this order."""

DECIMALS = {"_rate": 2, "_percent": 1, "_ms": 0, "_minutes": 2, "rpm": 1, "tpm": 1}
"""How many decimals a column shows, by the end of its name; costs show four."""

THOUSAND = 1000
UNITS = ("k", "M", "G", "T")
BAR_WIDTH, BAR_WIDTH_MIN = 20, 6
BAR = " "
"""The name of the column of bars, which have no heading."""


def json_document(value: object) -> None:
    """Print one JSON document; money stays exact, and so do texts: what a terminal would obey is escaped."""
    document = msgspec.json.format(ENCODER.encode(value), indent=2).decode()
    sys.stdout.write(safe_text.json_text(document) + "\n")


def csv_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as CSV with a heading; an empty field is a value that is not there."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: v.isoformat() if isinstance(v, (date, datetime)) else safe_text.csv_field(v) for k, v in row.items()}
        for row in rows
    )
    sys.stdout.write(out.getvalue())


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *notes: str,
    keys: Sequence[str] = (),
    bar: str = "",
    spare: Sequence[str] = (),
) -> None:
    """Print rows as a table: token counts shortened, columns that say nothing or do not fit left out.

    Where there is room, the column `bar` is drawn as well, beside its numbers. Where there is too little, the columns
    `spare` go after those of LEAST_MISSED; `keys`, by which rows are told apart, stay and fold.
    """
    out = console()
    cells = {name: [_brief(name, row) for row in rows] for name in columns}
    shown = [name for name in columns if name not in QUIET or any(row[name] for row in rows)]
    fitting = _fitting(shown, cells, out.width, [name for name in (*LEAST_MISSED, *spare) if name not in keys])
    if len(fitting) < len(shown):
        left_out = ", ".join(heading(name) for name in shown if name not in fitting)
        notes = (*notes, f"a wider terminal also shows: {left_out}")
    if bar in fitting:
        cells[BAR] = _bars([row[bar] for row in rows], out.width - _widths(fitting, cells))
        if any(cells[BAR]):
            fitting.insert(fitting.index(bar) + 1, BAR)
    drawn = Table(
        title=Text(safe_text.sentence(title)), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0), pad_edge=False, show_edge=False,
    )  # fmt: skip
    for name in fitting:
        number = name != BAR and any(_is_number(row[name]) for row in rows)
        drawn.add_column(
            Text(heading(name).replace(" ", "\n") if number else heading(name)),
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number or name == BAR,
            style="cyan" if name == BAR else None,
        )
    for row in zip(*(cells[name] for name in fitting), strict=True):
        drawn.add_row(*map(Text, row))
    out.print(drawn)
    _note(*notes)


def calendar(title: str, values: Mapping[date, int], *notes: str) -> None:
    """Print what was counted on each of some days, as shades of a calendar."""
    out = console()
    lines, shown, weeks = charts.calendar(values, out.width)
    for line in (Text(safe_text.sentence(title), "bold"), *lines, charts.legend()):
        out.print(line)
    if shown < weeks:
        notes = (*notes, f"the last {shown} of {weeks} weeks: a wider terminal shows more")
    _note(*notes)


def _note(*sentences: str) -> None:
    """Print what a reader must know, each in a line that the terminal folds, so that it can be copied."""
    for sentence in sentences:
        console().print(Text(safe_text.sentence(sentence)), style="italic", soft_wrap=True)


def _bars(values: Sequence[Any], room: int) -> list[str]:
    """Return a bar for each value, as long as there is room for; none where there is too little."""
    width = min(room - 2, BAR_WIDTH)
    most = max((float(value or 0) for value in values), default=0)
    return [charts.bar(float(value or 0), most, width) if width >= BAR_WIDTH_MIN else "" for value in values]


def _fitting(columns: Sequence[str], cells: Mapping[str, Sequence[str]], width: int, spare: Sequence[str]) -> list[str]:
    """Return the columns that fit; those of `spare` go, in its order. The first column stays, and may fold."""
    shown = list(columns)
    for name in spare:
        if _widths(shown, cells) <= width:
            break
        if name in shown[1:]:
            shown.remove(name)
    return shown


def _widths(columns: Sequence[str], cells: Mapping[str, Sequence[str]]) -> int:
    return sum(_width(name, cells[name]) + 2 for name in columns)


def _width(name: str, cells: Sequence[str]) -> int:
    return max(cell_len(word) for word in (*heading(name).split(), *cells))


def facts(title: str, values: Mapping[str, Any], *notes: str) -> None:
    """Print names and values, one below the other."""
    drawn = Table(
        title=Text(safe_text.sentence(title)),
        title_justify="left",
        title_style="bold",
        show_header=False,
        box=box.SIMPLE_HEAD,
    )
    for name, value in values.items():
        drawn.add_row(Text(safe_text.name(heading(name))), Text(cell(value, name)))
    console().print(drawn)
    _note(*notes)


def say(*lines: str) -> None:
    """Print sentences, each in a line of its own, whatever foreign words are in them."""
    for line in lines:
        console().print(Text(safe_text.sentence(line)), soft_wrap=True)


def progress(doing: str) -> tuple[Progress, Callable[[int], None]]:
    """Return what shows on a terminal's stderr how far something is, and how it is told the records done."""
    shown = Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(),
        TextColumn("{task.completed:,.0f} records", markup=False), TimeElapsedColumn(),
        console=console(sys.stderr), disable=not sys.stderr.isatty(), transient=True,
    )  # fmt: skip
    task = shown.add_task(safe_text.name(doing), total=None)
    return shown, lambda done: shown.update(task, completed=done)


def console(stream: TextIO | None = None) -> Console:
    """Return the console of a stream, of stdout by default, as it is now: as wide as the terminal, and plain.

    Text on it is text: no markup, no emoji by name, no colours for what looks like a number.
    """
    file = stream or sys.stdout
    width = None if file.isatty() else PIPE_WIDTH
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def heading(name: str) -> str:
    """Return a column's name as a person reads it."""
    return HEADINGS.get(name, name.replace("_", " ").replace(" usd", " USD"))


def cell(value: Any, name: str = "") -> str:
    """Return a column's value as a person reads it; `-` for what is not there."""
    if value is None or value == "":
        return "unpriced" if "cost_usd" in name else "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (Decimal, float)):
        return _number(value, _decimals(name, value))
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(one) for one in cast("Iterable[Any]", value)) or "-"
    return _instant(value, name) if isinstance(value, datetime) else safe_text.name(str(value))


def _number(value: Decimal | float, decimals: int) -> str:
    """Return a number with so many decimals; one that is too small for them does not read as nothing."""
    shown, least = f"{value:,.{decimals}f}", f"{10**-decimals:.{decimals}f}"
    return f"<{least}" if value > 0 and not float(shown.replace(",", "")) else shown


def _instant(value: datetime, name: str) -> str:
    """Return an instant in its own time zone, which its offset tells; an hour without the seconds it has not."""
    shown = value.isoformat(" ", "minutes" if name == "hour" and not value.second else "seconds")
    return shown.replace("+00:00", "Z")


def _decimals(name: str, value: Decimal | float) -> int:
    found = next((decimals for end, decimals in DECIMALS.items() if name.endswith(end)), None)
    return found if found is not None else 4 if isinstance(value, Decimal) else 2


def _brief(name: str, row: Mapping[str, Any]) -> str:
    """Return a row's value in short; a cost that leaves requests out has an asterisk, an estimated one a tilde."""
    value = row[name]
    if name == "estimated_cost_usd" and not value:
        return "-"
    if name in INCOMPLETE and value is not None:
        about = "~" if row.get("estimated_cost_usd") else ""
        return (
            about
            + cell(value, name)
            + ("*" if row.get("unpriced_requests") else " " if "unpriced_requests" in row else "")
        )
    if value is not None and row.get(name.replace("_ms", "_to_ms"), 0) is None:
        return f"> {cell(value, name)}"
    return _short(value) if name.endswith("_tokens") and isinstance(value, int) else cell(value, name)


def _short(count: int) -> str:
    """Return a large count in three digits and a unit, such as 3.05M; beyond thousands of T with all its digits."""
    if abs(count) < THOUSAND:
        return str(count)
    for power, unit in enumerate(UNITS, start=1):
        for decimals in (2, 1, 0):
            shown = round(Fraction(count, THOUSAND**power) * 10**decimals)
            if abs(shown) < THOUSAND:
                return f"{shown / 10**decimals:.{decimals}f}{unit}"
    return f"{round(Fraction(count, THOUSAND ** len(UNITS))):,}{UNITS[-1]}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
