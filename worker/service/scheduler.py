"""Scheduler on a schedule: the one room that speaks to APScheduler, which tells no types.

APScheduler decides by the wall clock when a job is due: set back, it begins nothing for as long; set ahead, it counts
up every run in between. So what is due is decided here, by the monotonic clock (times of day excepted), and handed to
APScheduler as due since ever: it has the threads, keeps a job from running beside itself, and tells how runs ended.

Nothing is skipped in silence: a job that is late runs late, and one that would overlap with itself is told of.
"""
# pyright: basic

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

from apscheduler import events  # type: ignore[import-untyped]  # it has no types
from apscheduler.executors.pool import ThreadPoolExecutor  # type: ignore[import-untyped]  # as above
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]  # as above
from apscheduler.triggers.date import DateTrigger  # type: ignore[import-untyped]  # as above

from worker.reports import daily

Result = Literal["ok", "error", "missed", "overrun"]

RESULTS: dict[int, Result] = {
    events.EVENT_JOB_EXECUTED: "ok",
    events.EVENT_JOB_ERROR: "error",
    events.EVENT_JOB_MISSED: "missed",
    events.EVENT_JOB_MAX_INSTANCES: "overrun",
}

SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_S = 5.0
"""How often the wall clock is looked at: it may have been set."""


class _Job(Protocol):
    """What decides when a job is due."""

    def wait_s(self) -> float:
        """Return for how long it is not due yet; 0 or less when it is."""
        ...

    def begun(self) -> None:
        """Note that it has been begun."""
        ...


class Scheduler:
    """Scheduler by name, each never beside itself, on as many threads as may be busy at once."""

    def __init__(self, threads: int, told: Callable[[str, Result], None]) -> None:
        """Prepare; `told` hears the name of a job and how a run of it ended, on the thread that ran it."""
        self._scheduler: Any = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(threads)},
            job_defaults={"max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(lambda event: told(event.job_id, RESULTS[event.code]), sum(RESULTS))
        self._jobs: dict[str, tuple[_Job, Callable[[], None]]] = {}
        self._stopping = threading.Event()
        self._clock = threading.Thread(target=self._keep_time, name="jobs", daemon=True)
        self._looked_at = time.monotonic()

    def every(self, name: str, work: Callable[[], None], seconds: float, *, jitter_s: float = 0.0) -> None:
        """Run `work` at once, and then every so many seconds, or up to `jitter_s` later."""
        self._jobs[name] = _Every(seconds, jitter_s), work

    def daily(self, name: str, work: Callable[[], None], at: str, zone: ZoneInfo) -> None:
        """Run `work` each day at `at` (HH:MM) of a time zone."""
        self._jobs[name] = _Daily(time_of_day.fromisoformat(at), zone), work

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()
        self._looked_at = time.monotonic()
        self._clock.start()

    def stop(self) -> None:
        """Begin nothing more, and wait for what runs."""
        self._stopping.set()
        self._clock.join()
        self._scheduler.remove_all_jobs()
        self._scheduler.shutdown(wait=True)

    def idle_s(self) -> float:
        """Return the seconds since it was last looked what is due: never more than a few, unless something is stuck."""
        return time.monotonic() - self._looked_at

    def _keep_time(self) -> None:
        while not self._stopping.wait(self._begin_due()):
            pass

    def _begin_due(self) -> float:
        """Begin what is due; return in how many seconds to look again."""
        self._looked_at = time.monotonic()
        for name, (job, work) in self._jobs.items():
            if job.wait_s() <= 0:
                job.begun()
                trigger = DateTrigger(SINCE_EVER)
                self._scheduler.add_job(work, trigger, id=name, name=name, replace_existing=True)
        return max(0.0, min([LOOK_S, *(job.wait_s() for job, _ in self._jobs.values())]))


class _Every:
    """Due at once, and then after each interval of the monotonic clock."""

    def __init__(self, seconds: float, jitter_s: float) -> None:
        self._seconds = seconds
        self._jitter_s = jitter_s
        self._due_at = time.monotonic()

    def wait_s(self) -> float:
        return self._due_at - time.monotonic()

    def begun(self) -> None:
        jitter_s = random.uniform(0, self._jitter_s)  # noqa: S311  # no secret hangs on it
        at = time.monotonic()
        on_time = self._due_at + self._seconds
        self._due_at = (on_time if on_time > at else at + self._seconds) + jitter_s


class _Daily:
    """Due at a time of day by the wall clock of a zone; a time that has come already today waits for tomorrow's."""

    def __init__(self, at: time_of_day, zone: ZoneInfo) -> None:
        self._at = at
        self._zone = zone
        self._done: date = daily.latest(_now(), at, zone)

    def wait_s(self) -> float:
        now = _now()
        self._done = daily.last_done(self._done, now, self._at, self._zone)
        return (daily.next_run(self._done, now, self._at, self._zone) - now).total_seconds()

    def begun(self) -> None:
        self._done = daily.latest(_now(), self._at, self._zone)


def _now() -> datetime:
    return datetime.now(UTC)
