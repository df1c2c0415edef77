"""The story of one pass over one proxy: two sides, which meet in the journal.

    fetching:  preflight → drain the queue into the journal, again and again for as long as loading takes
    loading:   load the journal → look again at unknown channels → note the pass

An answer of the queue is in the journal before it is read and leaves it after its records have been committed: so
whatever is killed in between, the next pass loads it, once. Whatever the database does, away, read-only, locked,
full, or silent, fetching goes on: the proxy forgets after a minute, the disk does not.
"""

from __future__ import annotations

import gc
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context

import msgspec
import structlog
from sqlalchemy.engine import Engine

from worker.cliproxyapi.answer_errors import NotFoundError
from worker.cliproxyapi.client import ProxyClient
from worker.cliproxyapi.generations import Generation
from worker.cliproxyapi.lockout import Refusals
from worker.cliproxyapi.proxy_settings import STATISTICS_ON
from worker.cliproxyapi.tls import trust
from worker.clock import now
from worker.config import Config, Upstream
from worker.corrections import resolve_again
from worker.db import lock, migrations
from worker.db.retry import run_transaction
from worker.db.session import SHORT
from worker.errors import (
    BusyError,
    ConfigError,
    DatabaseAwayError,
    DatabaseError,
    InternalError,
    UpstreamError,
    WorkerError,
)
from worker.loading.load import Loader, open_loader
from worker.loading.pass_result import PassResult
from worker.storage import runs
from worker.sync.credentials import MissingCredentials, refresh
from worker.sync.history import load_history, not_offered
from worker.sync.journal import Journal
from worker.sync.journal_load import JournalLoader
from worker.sync.pass_state import PassState
from worker.sync.queue import PassContext, QueueFetcher, preflight

log: structlog.stdlib.BoundLogger = structlog.get_logger()

CONSUMER_WAIT_S = 5.0
"""How long the database may take to say whether the proxy is ours to read; then it is read all the same."""


def sync_once(
    config: Config, engine: Engine, upstream: Upstream, stopping: threading.Event | None = None
) -> PassResult:
    """Do one pass over one proxy: pull what there is, load it, note what came of it.

    Once `stopping` is set, it ends after the batch in hand.

    Returns:
        The pass; an error of the proxy, the database or the disk stands in it with its exit code.

    Raises:
        BusyError: another worker holds this upstream.
        ConfigError: the database goes with another time zone or pepper.
    """
    upstream_sync = UpstreamSync(config, engine, upstream, stopping)
    try:
        return upstream_sync.run_pass()
    finally:
        upstream_sync.close()


class UpstreamSync:
    """Passes of one worker over one proxy, whose only consumer it is from its first pass until it is closed.

    What it learns of names, prices and the directory it keeps for `schedule.directory_s`.
    """

    def __init__(
        self, config: Config, engine: Engine, upstream: Upstream, stopping: threading.Event | None = None
    ) -> None:
        """Prepare; nothing is asked yet. Once `stopping` is set, a pass ends after the batch in hand.

        Raises:
            ConfigError: a file with certificates is missing or cannot be read.
        """
        self.upstream = upstream
        self._config = config
        self._engine = engine
        self._stopping = stopping or threading.Event()
        self._consumer = lock.Lock(engine, lock.consumer(upstream.name))
        self._journal: Journal | None = None
        self._loader: tuple[Loader, MissingCredentials] | None = None
        self._learned_at = 0.0
        self._generation: Generation | None = None
        self._unread_tried = False
        self._trust = trust(upstream)
        self._trusted_at = time.monotonic()
        self.retention_s: int | None = None
        """For how long the proxy keeps what nobody has fetched; None where it does not say."""
        self.heartbeat_at = time.monotonic()
        """When it last got on with something."""

    def run_pass(self) -> PassResult:
        """Do one pass; see `sync_once`."""
        self.heartbeat()
        result = PassResult(upstream=self.upstream.name)
        if self._journal is None:
            self._journal = Journal(self._config.data_dir, self.upstream.name, self._config.journal.max_bytes)
        refusals = Refusals(self._config.data_dir, self.upstream)
        with ProxyClient(
            self.upstream, stopping=self._stopping, trusting=self._trusting(), generation=self._generation
        ) as source:
            context = PassContext(
                self.upstream, source, self._journal, refusals, result, self._stopping, self.heartbeat
            )
            state = PassState()
            loading = threading.Thread(
                target=copy_context().run, args=(self._load, context, state), name=f"load:{self.upstream.name}"
            )
            loading.start()
            ours = True
            try:
                ours = _fetch(context, state, self._config.schedule.interval_s)
            except Exception as e:  # noqa: BLE001  # what has been loaded by then is to be told all the same
                state.note(_unexpected(e))
            finally:
                state.end_first_fetch()
                while loading.is_alive():
                    loading.join(timeout=1.0)
                self._generation = source.generation
        if state.refused is not None:
            raise state.refused
        for error in filter(None, (state.not_loaded, *state.take_errors())):
            result.failed(error)
        result.journal_entries, result.journal_bytes = self._journal.backlog()
        if state.not_loaded is not None and result.journal_entries:
            remedy = "bring the database back; a pass loads them"
            log.warning("journal.waiting", entries=result.journal_entries, bytes=result.journal_bytes, remedy=remedy)
        if state.not_loaded is not None:  # a pass that could be noted has been logged then
            _log_pass(result)
        if not ours:
            raise BusyError(f"another worker holds the upstream {self.upstream.name!r}; this one stands by")
        return finalize(result)

    def close(self) -> None:
        """Leave the proxy to others."""
        if self._journal is not None:
            self._journal.close()
        self._consumer.release()

    def heartbeat(self) -> None:
        """Note that it gets on."""
        self.heartbeat_at = time.monotonic()

    def _load(self, context: PassContext, state: PassState) -> None:
        """Do the loading side of a pass; whatever ends it, the other side is told."""
        try:
            ours = self._consumer.acquire()
            state.consumer.set_result(ours)
            self._load_pass(context, state, ours=ours)
        except ConfigError as e:
            state.refused = e
        except WorkerError as e:
            state.not_loaded = e
        except Exception as e:  # noqa: BLE001  # whatever it is, fetching goes on
            state.not_loaded = _unexpected(e)
        finally:
            if state.refused or state.not_loaded:
                self._loader = None
            if not state.consumer.done():
                state.consumer.set_result(None)
            state.loaded.set()

    def _load_pass(self, context: PassContext, state: PassState, *, ours: bool) -> None:
        """Load what the journal holds, whoever reads the proxy; and the rest of a pass where it is ours."""
        if not ours:
            state.drained.wait()
            if not context.journal.backlog()[0]:
                return
        loader, missing, learn = self._opened()
        track_run(
            loader,
            context.journal,
            context.result,
            lambda: self._load_all(loader, missing, context, state, ours=ours, learn=learn),
        )
        if learn and ours:
            with suppress(UpstreamError):  # it is only told, and nothing hangs on it
                self.retention_s = context.source.retention_s() if context.result.error is None else None
        self._loader = (loader, missing)
        self._learned_at = self._learned_at if not learn else time.monotonic()

    def _opened(self) -> tuple[Loader, MissingCredentials, bool]:
        """Return a loader, and whether it is a new one, which has not asked the proxy for its directory yet."""
        if self._loader is not None and time.monotonic() - self._learned_at <= self._config.schedule.directory_s:
            return *self._loader, False
        self._loader = None  # even when the next line fails: what is old is not gone on with
        gc.collect()  # which otherwise comes seldom, while what is old grows
        migrations.upgrade(self._engine)
        loader = open_loader(self._config, self._engine, self.upstream.name)
        return loader, MissingCredentials(loader), True

    def _load_all(
        self,
        loader: Loader,
        missing: MissingCredentials,
        context: PassContext,
        state: PassState,
        *,
        ours: bool,
        learn: bool,
    ) -> None:
        asking = ours and state.preflight.result()
        if asking and learn:
            state.noting(lambda: refresh(loader, context.source))
        entries = JournalLoader(loader, context, missing=missing if asking else None, loaded=state.progress.set)
        if not self._unread_tried:
            self._unread_tried = True
            entries.load_unread()
        load_arriving(entries, state)
        if asking and state.wants_history:
            state.noting(lambda: load_history(loader, missing, context, everything=learn))
        # After the pull: the proxy forgets sooner than the database does.
        if ours and not context.stopping.is_set():
            again = resolve_again.resolve_pending(loader, context.stopping)
            context.result.resolved = sum(again.moves.values()) if again is not None else 0
        with state.fetching:
            state.closed = True
        entries.load()
        entries.report()
        for error in state.take_errors():
            context.result.failed(error)

    def _trusting(self) -> ssl.SSLContext:
        """Return what certificates are believed by, read anew now and then: they are replaced before they expire."""
        if time.monotonic() - self._trusted_at > self._config.schedule.directory_s:
            self._trusted_at = time.monotonic()
            try:
                self._trust = trust(self.upstream)
            except ConfigError as e:  # perhaps they are just being replaced
                log.warning("certificates.kept", reason=str(e))
        return self._trust


def _fetch(context: PassContext, state: PassState, interval_s: float) -> bool:
    """Do the fetching side of a pass; return whether the proxy is ours to read."""
    try:
        ours = state.consumer.result(timeout=CONSUMER_WAIT_S)
    except TimeoutError:
        log.warning("database.silent", remedy="the queue is fetched into the journal meanwhile")
        ours = None
    if ours is False:
        return False
    fetcher = QueueFetcher(context, arrived=state.arrived.set, more_room=state.await_room)
    try:
        asking = state.noting(lambda: _ask_first(context))
        state.preflight.set_result(asking)
        served = asking and _pull(context, state, fetcher)
    finally:
        state.end_first_fetch()
    while served and not state.loaded.wait(interval_s) and not context.stopping.is_set():
        with state.fetching:
            if state.closed:
                break
            if state.noting(lambda: _ask_first(context)):
                state.noting(fetcher.drain)
    return True


def _ask_first(context: PassContext) -> None:
    context.result.statistics_enabled = preflight(context.source, context.refusals)
    if context.result.statistics_enabled is False:
        remedy = f"set {STATISTICS_ON} in the proxy's configuration"
        log.warning("upstream.statistics_off", remedy=remedy)


def _pull(context: PassContext, state: PassState, fetcher: QueueFetcher) -> bool:
    """Empty the queue, or have the history read where there is no queue; return whether there is one."""
    if context.upstream.mode in ("snapshot", "home"):
        state.wants_history = True
        return False
    try:
        fetcher.drain()
    except NotFoundError as e:
        state.wants_history = context.upstream.mode == "auto"
        if not state.wants_history:
            state.note(not_offered(context, e))
        return False
    except WorkerError as e:
        state.note(e)
    return True


def load_arriving(entries: JournalLoader, state: PassState) -> None:
    """Load what the journal holds until the queue has been emptied, and all of it is loaded."""
    while True:
        drained = state.drained.is_set()
        state.arrived.clear()
        if entries.load():
            state.idle = False
        elif drained:
            return
        else:
            state.idle = True
            state.arrived.wait(timeout=1.0)


def resolve_once(
    config: Config, engine: Engine, upstream: Upstream, *, everything: bool, dry_run: bool
) -> resolve_again.Resolved:
    """Ask the proxy for its credentials, then look again at records whose channel is unknown. Pops nothing.

    A proxy that does not answer leaves the last good directory and the history to resolve by.
    """
    migrations.upgrade(engine)
    loader = open_loader(config, engine, upstream.name)
    with ProxyClient(upstream) as source:
        try:
            preflight(source, Refusals(config.data_dir, upstream))
            refresh(loader, source, keep=not dry_run)
        except UpstreamError as e:
            log.warning("directory.kept", endpoint=e.endpoint, reason=str(e))
    return resolve_again.resolve_again(loader, everything=everything, dry_run=dry_run)


def _unexpected(error: Exception) -> InternalError:
    """Log an error that nobody foresaw, with its traceback; return it as one of the taxonomy."""
    log.error("pass.unexpected", exc_info=error)
    return InternalError(f"unexpected: {type(error).__name__}: {error}; the log has its traceback")


def track_run(loader: Loader, journal: Journal | None, result: PassResult, work: Callable[[], None]) -> None:
    """Do the work of a pass between the entry of its sync_run row and that row's last words.

    A DatabaseError passes through. It is noted where the database is well enough for that; otherwise the row stays
    open.
    """
    started_at = now()
    loader.run_id = run_transaction(
        loader.target.engine, lambda c: runs.begin_run(c, loader.target.upstream_id, result.kind, started_at)
    )
    with structlog.contextvars.bound_contextvars(run_id=loader.run_id, upstream=result.upstream):
        try:
            work()
        except DatabaseAwayError:
            raise
        except DatabaseError as e:
            with suppress(DatabaseError):
                _finish(loader, journal, result, str(e))
            raise
        except WorkerError as e:
            result.failed(e)
        _finish(loader, journal, result, "")
        _log_pass(result)


def _finish(loader: Loader, journal: Journal | None, result: PassResult, more: str) -> None:
    """Note what a pass came to, and `more` that went wrong."""
    if journal is not None:
        result.journal_entries, result.journal_bytes = journal.backlog()
    error = "; ".join(filter(None, (result.error, more))) or None
    figures = {**msgspec.structs.asdict(result), "error": error, "run_id": loader.run_id, "finished_at": now()}
    run_transaction(loader.target.engine, lambda c: runs.finish_run(c, figures), SHORT)


def _log_pass(result: PassResult) -> None:
    """Say what a pass came to: loudly where it failed, and hardly where there was nothing to do."""
    figures = {k: v for k, v in msgspec.structs.asdict(result).items() if k != "upstream"}
    if result.error is not None:
        log.error("pass.failed", **figures)
    elif result.pulled or result.possible_loss or result.resolved:
        log.info("pass.done", **figures)
    else:
        log.debug("pass.done", **figures)


def finalize(result: PassResult) -> PassResult:
    """Give a pass that set records aside its exit code."""
    if result.exit_code == 0 and result.quarantined:
        result.exit_code = 6
    return result
