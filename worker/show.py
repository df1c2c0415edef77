"""How results look: tables for a terminal, JSON and CSV for programs. Knows no database and no proxy."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

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
    "cost_usd_before": "cost USD before",
    "cost_usd_after": "cost USD after",
    "actual_cost_usd_before": "actual USD before",
    "actual_cost_usd_after": "actual USD after",
    "input_usd_per_mtok": "input",
    "cache_read_usd_per_mtok": "cache read",
    "cache_write_usd_per_mtok": "cache write",
    "output_usd_per_mtok": "output",
    "request_usd": "per request",
    "unpriced_requests": "unpriced",
    "mean_latency_ms": "mean ms",
    "channel_id": "number",
    "client_key_id": "number",
}
QUIET = ("warmups", "resolved", "journal_entries", "cache_write_tokens", "unclassified_tokens")
"""Columns that a table leaves out when they say nothing."""

INCOMPLETE = ("cost_usd", "actual_cost_usd")
"""Columns that leave out the requests a row counts as unpriced."""

LEAST_MISSED = (
    "unclassified_tokens", "warmups", "mean_latency_ms", "cache_write_tokens", "channel_kind", "success_rate",
    "journal_bytes", "records_complete_from", "provider",
)  # fmt: skip
"""Columns that a narrow terminal does without, in this order."""

THOUSAND = 1000


def json_document(value: object) -> None:
    """Print one JSON document; money stays exact."""
    sys.stdout.write(msgspec.json.format(ENCODER.encode(value), indent=2).decode() + "\n")


def csv_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as CSV with a heading; an empty field is a value that is not there."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: v.isoformat() if isinstance(v, (date, datetime)) else v for k, v in row.items()} for row in rows
    )
    sys.stdout.write(out.getvalue())


def table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], note: str = "") -> None:
    """Print rows as a table: token counts shortened, columns that say nothing or do not fit left out."""
    out = console()
    cells = {name: [_brief(name, row) for row in rows] for name in columns}
    shown = [name for name in columns if name not in QUIET or any(row[name] for row in rows)]
    fitting = _fitting(shown, cells, out.width)
    if len(fitting) < len(shown):
        left_out = ", ".join(heading(name) for name in shown if name not in fitting)
        note = "; ".join(filter(None, (note, f"a wider terminal also shows: {left_out}")))
    drawn = Table(
        title=title, title_justify="left", title_style="bold", caption=note or None, caption_justify="left",
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False,
    )  # fmt: skip
    for name in fitting:
        number = any(_is_number(row[name]) for row in rows)
        drawn.add_column(
            heading(name).replace(" ", "\n") if number else heading(name),
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number,
        )
    for row in zip(*(cells[name] for name in fitting), strict=True):
        drawn.add_row(*row)
    out.print(drawn)


def _fitting(columns: Sequence[str], cells: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """Return the columns that fit; those that are missed least go first. The first column may fold."""
    shown = list(columns)
    for name in LEAST_MISSED:
        if sum(_width(other, cells[other]) + 2 for other in shown) <= width:
            break
        if name in shown:
            shown.remove(name)
    return shown


def _width(name: str, cells: Sequence[str]) -> int:
    return max(cell_len(word) for word in (*heading(name).split(), *cells))


def facts(title: str, values: Mapping[str, Any]) -> None:
    """Print names and values, one below the other."""
    drawn = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=box.SIMPLE_HEAD)
    for name, value in values.items():
        drawn.add_row(heading(name), cell(value))
    console().print(drawn)


def say(text: str) -> None:
    """Print a sentence."""
    console().print(text, highlight=False, markup=False, soft_wrap=True)


def console() -> Console:
    """Return the console of stdout as it is now: as wide as the terminal, without colour where there is none."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def heading(name: str) -> str:
    """Return a column's name as a person reads it."""
    return HEADINGS.get(name, name.replace("_", " "))


def cell(value: Any) -> str:
    """Return a value as a person reads it; `-` for what is not there."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4f}" if isinstance(value, Decimal) else f"{value:.2f}" if isinstance(value, float) else str(value)


def _brief(name: str, row: Mapping[str, Any]) -> str:
    """Return a row's value in short; a cost that leaves requests out carries an asterisk."""
    value = row[name]
    if name in INCOMPLETE:
        mark = "*" if row.get("unpriced_requests") else " " if "unpriced_requests" in row else ""
        return (cell(value) if value is not None or not mark.strip() else "") + mark
    return _short(value) if name.endswith("_tokens") and isinstance(value, int) else cell(value)


def _short(count: int) -> str:
    """Return a large count in three digits and a unit, such as 3.05M."""
    scaled, units = float(count), iter(("", "k", "M", "G", "T"))
    unit = next(units)
    while scaled >= THOUSAND and unit != "T":
        scaled, unit = scaled / THOUSAND, next(units)
    return f"{scaled:.3g}{unit}" if unit else str(count)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
