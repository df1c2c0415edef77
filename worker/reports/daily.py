"""When a job at a time of day is due: once for each day of its zone, whatever the wall clock does."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)


def moment(day: date, at: time, zone: ZoneInfo) -> datetime:
    """Return the one instant of a day at which a job for `at` is due.

    A time that comes twice, as in autumn, is the first of the two; one that is skipped, as in spring, is as long after
    midnight as if nothing had been skipped.
    """
    return datetime.combine(day, at, zone).astimezone(UTC)


def latest(now: datetime, at: time, zone: ZoneInfo) -> date:
    """Return the last day whose moment has come."""
    day = now.astimezone(zone).date()
    while moment(day, at, zone) > now:
        day -= ONE_DAY
    while moment(day + ONE_DAY, at, zone) <= now:
        day += ONE_DAY
    return day


def last_done(done: date, now: datetime, at: time, zone: ZoneInfo) -> date:
    """Return the last day that counts as done, given the one for which the job was last run.

    A day that comes again, since the clock was set back a little, stays done. Where the clock was set back by more
    than a day, the job would wait as long: what has come by now counts as done instead.
    """
    come = latest(now, at, zone)
    return come if done > come + ONE_DAY else done


def next_run(done: date, now: datetime, at: time, zone: ZoneInfo) -> datetime:
    """Return when the job is to run next; what is not later than `now` is due.

    Args:
        done: the last day for which it ran.
        now: the time by the wall clock.
        at: the time of day.
        zone: whose days they are.
    """
    done = last_done(done, now, at, zone)
    return moment(max(done + ONE_DAY, latest(now, at, zone)), at, zone)
