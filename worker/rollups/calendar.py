"""Days of a time zone and hours of UTC: where they begin and end (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TypedDict
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)
LAST_DAY = date.max - 2 * ONE_DAY

DAYS_AT_ONCE = 7
"""How many days are compared with their records in one statement."""


class Span(TypedDict):
    """Days in their order as statements take them: each with its bounds, and the hours that they touch."""

    days: list[date]
    begins: list[datetime]
    ends: list[datetime]
    first: date
    end: date
    since: datetime
    until: datetime


def hour_of(at: datetime) -> datetime:
    """Return the instant at which the hour began that `at` lies in, on the clock of its zone."""
    return at.replace(minute=0, second=0, microsecond=0)


def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the instants at which a day of `zone` begins and ends; 23, 24 or 25 hours apart."""
    following = day + ONE_DAY
    begins = datetime(day.year, day.month, day.day, tzinfo=zone)
    ends = datetime(following.year, following.month, following.day, tzinfo=zone)
    return begins.astimezone(UTC), ends.astimezone(UTC)


def span(days: Sequence[date], zone: ZoneInfo) -> Span:
    """Return some days, which are in their order, as statements take them."""
    bounds = [day_bounds(day, zone) for day in days]
    begins, ends = [begin for begin, _ in bounds], [end for _, end in bounds]
    since, until = hour_of(begins[0]), hour_of(ends[-1] + timedelta(minutes=59))
    return Span(
        days=list(days), begins=begins, ends=ends, first=days[0], end=days[-1] + ONE_DAY, since=since, until=until
    )


def spans(days: Sequence[date], zone: ZoneInfo) -> Iterator[Span]:
    """Yield days in parts that fit into memory, however long history is. No hour is in two of them."""
    reached = datetime.min.replace(tzinfo=UTC)
    for n in range(0, len(days), DAYS_AT_ONCE):
        part = span(days[n : n + DAYS_AT_ONCE], zone)
        part["since"] = max(part["since"], reached)
        reached = part["until"]
        yield part
