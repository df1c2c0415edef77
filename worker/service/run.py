"""`worker run`: passes on a schedule, housekeeping, probes and metrics, until a signal ends it.

Each proxy has a job of its own and fails alone. SIGTERM and SIGINT stop pulling, let the batch in hand be committed
and end the process with 0; a second one ends it as soon as no answer is on its way, which loses nothing either.
SIGHUP reads the configuration anew; one that does not hold is refused, and the old one goes on.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import FrameType
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.engine import Engine

from worker import doctor, safe_text
from worker.cliproxyapi.tls import trust
from worker.clock import now
from worker.config import NO_UPSTREAM, Config
from worker.corrections import maintain
from worker.db import database, lock, migrations
from worker.errors import BusyError, ConfigError, DatabaseError, DatasetError, WorkerError
from worker.loading.pass_result import PassResult
from worker.loading.prices import sync_prices
from worker.pricing import dataset
from worker.reports import report
from worker.rollups import verify
from worker.service.metrics import Metrics
from worker.service.scheduler import Result, Scheduler
from worker.service.web import Health, Web
from worker.stopping import on_signal
from worker.sync.run import UpstreamSync

log: structlog.stdlib.BoundLogger = structlog.get_logger()

WAKE_S = 1.0
DOCTOR_S = 3600.0
LIVE_S = 300.0
"""A proxy's job that has not got on with anything for this long is stuck; longer where its waits may be longer."""

SCHEDULE_S = 60.0
"""What is due is looked for every few seconds: a schedule that has not looked for this long is stuck."""


class Service:
    """The process: its signals, and one set of jobs after the other, each under one configuration."""

    def __init__(self, read: Callable[[], Config]) -> None:
        """Take what reads the configuration; it is asked again on SIGHUP."""
        self._read = read
        self._metrics = Metrics()
        self._wake = threading.Event()
        self._ending = False
        self._reloading = False

    def run(self) -> None:
        """Work until a signal ends it.

        Raises:
            ConfigError: there is nothing to do, or a port cannot be had.
            DatabaseError: the embedded PostgreSQL does not start.
        """
        config: Config | None = _with_upstreams(self._read())
        with on_signal(self._end), self._on_hang_up():
            while config is not None:
                config = self._run_jobs(config)
        log.info("service.stopped")

    def _run_jobs(self, config: Config) -> Config | None:
        """Work under one configuration; return the next one, None to end."""
        with ExitStack() as stack:
            engine = stack.enter_context(database.open_engine(config, make=True))
            job_set = JobSet(config, engine, self._metrics)
            if config.http.port:
                web = Web(
                    config.http.host, config.http.port,
                    live=job_set.live, ready=job_set.ready, metrics=self._metrics.registry,
                )  # fmt: skip
                stack.enter_context(web)
            stack.callback(job_set.end)
            job_set.begin()
            return self._next(config)

    def _next(self, config: Config) -> Config | None:
        """Wait for a signal that ends the jobs."""
        while True:
            while not self._wake.wait(WAKE_S):
                pass  # a SIGHUP just before the wait wakes nobody
            self._wake.clear()
            if self._ending:
                log.info("service.stopping")
                return None
            if self._reloading:
                self._reloading = False
                try:
                    found = _with_upstreams(self._read())
                except ConfigError as e:
                    log.error("service.config_refused", reason=str(e))  # noqa: TRY400  # the sentence says it all
                    continue
                log.info("service.config_reloaded", changed=found != config)
                if found != config:
                    return found

    @contextmanager
    def _on_hang_up(self) -> Generator[None]:
        before = signal.signal(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def _end(self) -> None:
        self._ending = True
        self._wake.set()

    def _reload(self, _number: int, _: FrameType | None) -> None:
        self._reloading = True
        self._wake.set()


def _with_upstreams(config: Config) -> Config:
    """Return a configuration that gives the service something to do, and whose certificates can be read."""
    if not config.upstream:
        raise ConfigError(NO_UPSTREAM)
    for upstream in config.upstream:
        trust(upstream)
    return config


class JobSet:
    """The jobs under one configuration."""

    def __init__(self, config: Config, engine: Engine, metrics: Metrics) -> None:
        """Prepare the jobs; none runs yet."""
        self._config = config
        self._engine = engine
        self._metrics = metrics
        self._stopping = threading.Event()
        self._upstreams = [UpstreamSync(config, engine, upstream, self._stopping) for upstream in config.upstream]
        self._backoffs = {upstream_sync.upstream.name: _Backoff(config) for upstream_sync in self._upstreams}
        self._housekeeping = lock.Lock(engine, "housekeeping")
        self._taking = threading.Lock()
        self._jobs = Scheduler(len(self._upstreams) + 4, self._told)
        self._verifying: database.Connection | None = None
        self._skipped: set[str] = set()
        self._amiss: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """Start every job; the passes at once."""
        schedule, zone = self._config.schedule, ZoneInfo(self._config.rollup.timezone)
        for upstream_sync in self._upstreams:
            upstream_sync.heartbeat()
            name = upstream_sync.upstream.name
            self._metrics.journal_limit.labels(name).set(self._config.journal.max_bytes)
            work = partial(self._sync, upstream_sync)
            self._jobs.every(f"sync:{name}", work, schedule.interval_s, jitter_s=schedule.jitter_s)
        if schedule.verify_at:
            self._jobs.daily("verify", self._kept(self._verify), schedule.verify_at, zone)
        self._jobs.every("maintain", self._kept(self._maintain), schedule.maintain_s)
        if self._config.prices.dataset and self._config.prices.download_s:
            self._jobs.every("prices", self._kept(self._download_prices), self._config.prices.download_s)
        self._jobs.every("doctor", self._examine, DOCTOR_S)
        self._jobs.start()
        log.info("service.started", upstreams=[upstream_sync.upstream.name for upstream_sync in self._upstreams])

    def end(self) -> None:
        """Stop pulling, wait until what is in hand is committed, and leave the proxies to others."""
        self._stopping.set()
        if self._verifying is not None:  # it may take minutes, and can be done again
            self._verifying.cancel()
        self._jobs.stop()
        for upstream_sync in self._upstreams:
            upstream_sync.close()
        self._housekeeping.release()

    # Probes.

    def live(self) -> Health:
        """Say whether the schedule and every proxy's job get on, by the monotonic clock.

        That a proxy or the database is away is no reason to restart.
        """
        idle_s = self._jobs.idle_s()
        stuck = [f"the schedule: nothing for {idle_s:.0f} s"] if idle_s > SCHEDULE_S else []
        stuck += [
            f"{upstream_sync.upstream.name}: nothing for {age_s:.0f} s"
            for upstream_sync in self._upstreams
            if (age_s := time.monotonic() - upstream_sync.heartbeat_at) > self._patience_s(upstream_sync)
        ]
        return Health(not stuck, "\n".join(stuck) or "ok")

    def _patience_s(self, upstream_sync: UpstreamSync) -> float:
        # A pop may wait four times for its answer, and the schedule for its turn.
        return max(LIVE_S, 10 * self._config.schedule.interval_s, 6 * upstream_sync.upstream.timeout_s)

    def ready(self) -> Health:
        """Say whether the database is there, at this program's schema, and takes writes."""
        try:
            migrations.check_writable(self._engine)
        except DatabaseError as e:
            return Health(well=False, text=safe_text.sentence(str(e)))
        return Health(well=True, text="ok")

    # Jobs.

    def _sync(self, upstream_sync: UpstreamSync) -> None:
        """Do one pass, unless its proxy is to be left alone for a while."""
        name = upstream_sync.upstream.name
        backoff = self._backoffs[name]
        if backoff.lasts() or self._stopping.is_set():
            upstream_sync.heartbeat()
            return
        started = time.monotonic()
        try:
            result = upstream_sync.run_pass()
        except BusyError as e:
            if not backoff.standing_by:
                log.info("pass.standby", upstream=name, reason=str(e))
            backoff.stand_by()
            result = PassResult(upstream=name)
            result.failed(e)
        except WorkerError as e:
            log.error("pass.refused", upstream=name, reason=str(e))  # noqa: TRY400  # the sentence says it all
            result = PassResult(upstream=name)
            result.failed(e)
        else:
            backoff.standing_by = False
        backoff.after(result)
        self._metrics.standby.labels(name).set(backoff.standing_by)
        self._metrics.passed(result, time.monotonic() - started)
        self._note_success(upstream_sync, result, backoff)

    def _note_success(self, upstream_sync: UpstreamSync, result: PassResult, backoff: _Backoff) -> None:
        if upstream_sync.retention_s is not None:
            self._metrics.retention.labels(result.upstream).set(upstream_sync.retention_s)
        if result.mode is not None:
            self._metrics.poll_gap.labels(result.upstream).set(backoff.gap_s())
        if result.error is None:
            self._metrics.last_success.labels(result.upstream).set(now().timestamp())
        if result.inserted or result.error is None:
            with suppress(DatabaseError):  # away since the pass: the next one tells it
                self._note_newest(result.upstream)

    def _note_newest(self, upstream: str) -> None:
        for row in report.freshness(self._engine):
            if row["upstream"] != upstream:
                continue
            newest, future = row["newest_record_at"], row["future_record_at"]
            if newest is not None:
                self._metrics.newest_record.labels(upstream).set(newest.timestamp())
            self._metrics.future_record.labels(upstream).set(future.timestamp() if future is not None else 0)

    def _kept(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return housekeeping that one worker of a database does, and the others leave to it.

        While the database is away, its next turn does.
        """

        def job() -> None:
            try:
                with self._taking:  # several jobs share it
                    ours = self._housekeeping.acquire()
                if ours:
                    work()
            except DatabaseError as e:
                if not self._stopping.is_set():
                    log.warning("housekeeping.put_off", reason=str(e))

        return job

    def _verify(self) -> None:
        """Compare the sums with their records; given up when the jobs end."""
        zone = ZoneInfo(report.timezone(self._engine))
        try:
            with database.transaction(self._engine) as connection:
                self._verifying = connection
                found = sum(1 for _ in verify.differences(connection, zone, None, None))
        finally:
            self._verifying = None
        self._metrics.verify_differences.set(found)
        if found:
            log.error("verify.differences", sums=found, remedy="worker verify --json, then worker rebuild")
        else:
            log.info("verify.done")

    def _maintain(self) -> None:
        """Make partitions ahead and drop what is old."""
        for kind, left in maintain.maintain(self._engine, self._config.retention).left.items():
            self._metrics.maintain_left.labels(kind).set(left)

    def _download_prices(self) -> None:
        """Fetch today's price lists; where that fails, those in force stay."""
        try:
            lists = dataset.downloaded(self._config.prices.download_url, now())
        except DatasetError as e:
            log.warning("prices.not_downloaded", reason=str(e))
            return
        migrations.upgrade(self._engine)
        log.info("prices.synced", **sync_prices(self._engine, lists)._asdict())

    def _examine(self) -> None:
        """Say what the doctor finds amiss, once for as long as it stays so."""
        found = doctor.examine(self._config, interval_s=self._config.schedule.interval_s, stopping=self._stopping)
        amiss = {(f.check, f.upstream): f for f in found if f.level != "ok"}
        for key, finding in amiss.items():
            if key not in self._amiss:
                told = {"check": finding.check, "upstream": finding.upstream, "reason": finding.what}
                log.warning("doctor.finding", **told, remedy=finding.remedy)
        self._amiss = set(amiss)

    def _told(self, job: str, result: Result) -> None:
        """Count how a run of a job ended; one that was skipped is said, once in a row."""
        self._metrics.jobs.labels(job, result).inc()
        if result in ("ok", "error"):
            self._skipped.discard(job)
        elif job not in self._skipped:
            self._skipped.add(job)
            log.warning("job.skipped", job=job, reason=result)


class _Backoff:
    """When a proxy is to be asked again: later after each failure, at once after a success."""

    def __init__(self, config: Config) -> None:
        self._interval_s = config.schedule.interval_s
        self._longest_s = config.schedule.backoff_max_s
        self._failures = 0
        self._until = 0.0
        self._emptied_at: float | None = None
        self.standing_by = False

    def lasts(self) -> bool:
        """Say whether it is not time yet."""
        return time.monotonic() < self._until

    def after(self, result: PassResult) -> None:
        """Take note of a pass. Only the proxy's own failures count: while the database is away, pulling goes on."""
        if result.exit_code != 4:  # noqa: PLR2004  # the proxy's exit code
            self._failures, self._until = 0, 0.0
            return
        self._failures += 1
        pause_s = min(self._interval_s * 2 ** min(self._failures - 1, 10), self._longest_s)
        pause_s = max(pause_s * random.uniform(0.5, 1.0), result.retry_after_s)  # noqa: S311  # no secret hangs on it
        self._until = time.monotonic() + pause_s

    def stand_by(self) -> None:
        """Leave the proxy to another worker: what it does with it meanwhile is no gap of ours."""
        self.standing_by = True
        self._emptied_at = None

    def gap_s(self) -> float:
        """Return the seconds since the proxy was last emptied before now."""
        at = time.monotonic()
        gap_s = at - self._emptied_at if self._emptied_at is not None else 0.0
        self._emptied_at = at
        return gap_s
