"""What a check comes to, and how it is said."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from worker.errors import WorkerError

SKEW_MAX_S = 5.0
LATE_INTERVALS, LATE_MIN_S = 5, 300.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check came to: a sentence that says what was found, and one that says what to do.

    `upstream` is empty where it concerns no single proxy, `remedy` where all is well. `exit_code` is that of an error.
    """

    check: str
    level: Literal["ok", "warning", "error"]
    upstream: str = ""
    what: str
    remedy: str = ""
    exit_code: int = 0


def ok(check: str, what: str, upstream: str = "") -> Finding:
    """Return a finding that all is well."""
    return Finding(check=check, level="ok", upstream=upstream, what=_line(what))


def warning(check: str, what: str, remedy: str, upstream: str = "") -> Finding:
    """Return a finding that something is or may soon be amiss."""
    return Finding(check=check, level="warning", upstream=upstream, what=_line(what), remedy=_line(remedy))


def error(check: str, kind: type[WorkerError], what: str, remedy: str, upstream: str = "") -> Finding:
    """Return a finding that usage does not arrive, or will not; `kind` of error decides the exit code."""
    code, what, remedy = kind.exit_code, _line(what), _line(remedy)
    return Finding(check=check, level="error", upstream=upstream, what=what, remedy=remedy, exit_code=code)


def late_s(interval_s: float) -> float:
    """Return after how many seconds without a pass the schedule has stopped."""
    return max(LATE_INTERVALS * interval_s, LATE_MIN_S)


def clock(
    check: str, told: datetime, asked: tuple[datetime, datetime], spread: timedelta, whose: str, upstream: str = ""
) -> Finding:
    """Compare a clock that said between `told` and `spread` later with ours before and after it was asked."""
    ahead_s, behind_s = (told - asked[1]).total_seconds(), (asked[0] - told - spread).total_seconds()
    if max(ahead_s, behind_s) <= SKEW_MAX_S:
        return ok(check, f"{whose} and this machine agree on the time", upstream)
    which, by_s = ("ahead of", ahead_s) if ahead_s > behind_s else ("behind", behind_s)
    what = f"the clock of {whose} is {by_s:.0f} s {which} that of this machine"
    return warning(check, what, "Let both set their clocks by NTP: records carry the time of the proxy.", upstream)


def _line(text: str) -> str:
    return " ".join(text.split())  # PostgreSQL says several
