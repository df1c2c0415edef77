"""Options that several commands have, and how their values are read."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

import typer

from worker.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Since = Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="First day, in the rollup time zone.")]
Until = Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="Day after the last.")]
UpstreamName = Annotated[str | None, typer.Option("--upstream", metavar="NAME", help="Only this proxy.")]

RATE_OPTIONS = {
    "input_usd_per_mtok": "--input",
    "cache_read_usd_per_mtok": "--cache-read",
    "cache_write_usd_per_mtok": "--cache-write",
    "output_usd_per_mtok": "--output",
    "request_usd": "--request",
    "cache_write_1h_usd_per_mtok": "--cache-write-1h",
}
RATES = tuple(RATE_OPTIONS)
OPTIONS = {**RATE_OPTIONS, "above_input_tokens": "--above", "valid_from": "--since", "valid_to": "--until"}


class Format(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def day(option: str, value: str | None) -> date | None:
    """Return the day that an option names; None when it was not given.

    Raises:
        UsageError: it is no day.
    """
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise UsageError(f"{option} {value!r} is not a day such as 2026-11-21") from None
