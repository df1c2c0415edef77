"""Jobs on a schedule: the one room that speaks to APScheduler, which tells no types.

Nothing is skipped in silence: a job that is late runs late, and one that would overlap with itself is told of.
"""
# pyright: basic

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from apscheduler import events  # type: ignore[import-untyped]  # it has no types
from apscheduler.executors.pool import ThreadPoolExecutor  # type: ignore[import-untyped]  # as above
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]  # as above
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]  # as above
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]  # as above

Result = Literal["ok", "error", "missed", "overrun"]

RESULTS: dict[int, Result] = {
    events.EVENT_JOB_EXECUTED: "ok",
    events.EVENT_JOB_ERROR: "error",
    events.EVENT_JOB_MISSED: "missed",
    events.EVENT_JOB_MAX_INSTANCES: "overrun",
}


class Jobs:
    """Jobs by name, each never beside itself, on as many threads as may be busy at once."""

    def __init__(self, threads: int, told: Callable[[str, Result], None]) -> None:
        """Prepare; `told` hears the name of a job and how a run of it ended, on the thread that ran it."""
        self._scheduler: Any = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(threads)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(lambda event: told(event.job_id, RESULTS[event.code]), sum(RESULTS))

    def every(self, name: str, work: Callable[[], None], seconds: float, *, jitter_s: float = 0.0) -> None:
        """Run `work` at once, and then every so many seconds, more or less by up to `jitter_s`."""
        period: Any = {"seconds": seconds, "jitter": jitter_s or None}  # fractions are fine, whatever its hints say
        trigger = IntervalTrigger(**period, timezone=UTC)
        self._scheduler.add_job(work, trigger, id=name, name=name, next_run_time=datetime.now(UTC))

    def daily(self, name: str, work: Callable[[], None], at: str, zone: ZoneInfo) -> None:
        """Run `work` each day at `at` (HH:MM) of a time zone."""
        hour, minute = at.split(":")
        self._scheduler.add_job(work, CronTrigger(hour=hour, minute=minute, timezone=zone), id=name, name=name)

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def stop(self) -> None:
        """Begin nothing more, and wait for what runs."""
        self._scheduler.remove_all_jobs()
        self._scheduler.shutdown(wait=True)
