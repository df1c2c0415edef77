"""Passes as a person and a program see them, and the exit code that they come to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import typer

from worker.cli import show
from worker.cli.complaint import complain
from worker.cliproxyapi.proxy_settings import STATISTICS_ON
from worker.errors import BusyError
from worker.loading.pass_result import PassResult


def print_passes(results: Sequence[PassResult], *, as_json: bool = False) -> None:
    """Print what passes came to, and what in it wants to be known."""
    if as_json:
        show.json_document(results)
        return
    names = (
        "upstream", "mode", "pulled", "inserted", "duplicates", "quarantined", "unknown_channel", "possible_loss",
        "resolved", "journal_entries",
    )  # fmt: skip
    rows = [{name: getattr(r, name) for name in names} for r in results]
    if rows:
        show.table("Passes", names, rows)
    for result in results:
        if result.statistics_enabled is False:
            show.say(
                f"{result.upstream}: usage statistics are switched off in the proxy, so it records nothing: "
                f"set {STATISTICS_ON}"
            )
        if result.too_old:
            show.say(
                f"{result.upstream}: {result.too_old} records were not taken: those of their time have been dropped "
                "(retention.records_days), so these may have been counted before"
            )
        if result.error:
            complain(f"{result.upstream}: {result.error}")


def exit_with(results: Iterable[PassResult]) -> None:
    """Leave with the first exit code that is an error; quarantined records count last."""
    codes = [r.exit_code for r in results if r.exit_code]
    errors = [code for code in codes if code != 6]  # noqa: PLR2004  # done, but with quarantined records
    if codes:
        raise typer.Exit((errors or codes)[0])


def busy(upstream: str, error: BusyError) -> PassResult:
    """Return the pass of an upstream that another worker holds."""
    result = PassResult(upstream=upstream)
    result.failed(error)
    return result
