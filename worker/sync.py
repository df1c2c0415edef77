"""The story of one pass over one proxy.

    refresh the directory → load what the journal still holds → pull → keep → decode → load → note the pass

A payload off the queue is in the journal before it is read and leaves it after its transaction has committed: so
whatever is killed in between, the next pass loads it, once. When the database is down, pulling goes on into the
journal: the proxy forgets after a minute, the disk does not.
"""

from __future__ import annotations

import gc
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import msgspec
import structlog
from sqlalchemy.engine import Engine

from worker import database, decode, repair, store
from worker.config import Config, Upstream
from worker.errors import (
    BusyError,
    ConfigError,
    DatabaseError,
    JournalError,
    PossibleLossError,
    UpstreamAnswerError,
    UpstreamBanned,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnsupported,
    WorkerError,
)
from worker.journal import Journal, JournalEntry
from worker.load import Batch, Loader, PassResult, now, open_loader, run
from worker.overlap import Overlap
from worker.refusal import Refusals
from worker.source import QUEUE, SNAPSHOT, NotFoundError, Source, management_off
from worker.trust import trust

log: structlog.stdlib.BoundLogger = structlog.get_logger()


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
    station = Station(config, engine, upstream, stopping)
    try:
        return station.visit()
    finally:
        station.close()


class Station:
    """One worker's post at one proxy: it is the proxy's only consumer from its first pass until it is closed.

    What it learns of names, prices and the directory it keeps for `schedule.directory_s`.
    """

    def __init__(
        self, config: Config, engine: Engine, upstream: Upstream, stopping: threading.Event | None = None
    ) -> None:
        """Take up the post; nothing is asked yet. Once `stopping` is set, a pass ends after the batch in hand.

        Raises:
            ConfigError: a file with certificates is missing or cannot be read.
        """
        self.upstream = upstream
        self._config = config
        self._engine = engine
        self._stopping = stopping or threading.Event()
        self._consumer = database.Lock(engine, database.consumer(upstream.name))
        self._loader: Loader | None = None
        self._learned_at = 0.0
        self._trust = trust(upstream)
        self._trusted_at = time.monotonic()
        self.retention_s: int | None = None
        """For how long the proxy keeps what nobody has fetched; None where it does not say."""
        self.beat_at = time.monotonic()
        """When it last got on with something."""

    def visit(self) -> PassResult:
        """Do one pass; see `sync_once`."""
        self.beat()
        result = PassResult(upstream=self.upstream.name)
        journal = Journal(self._config.data_dir, self.upstream.name, self._config.journal.max_bytes)
        refusals = Refusals(self._config.data_dir, self.upstream)
        with Source(self.upstream, stopping=self._stopping, trusting=self._trusting()) as source:
            visit = Visit(self.upstream, source, journal, refusals, result, self._stopping, self.beat)
            try:
                if not self._consumer.acquire():
                    raise BusyError(f"another worker holds the upstream {self.upstream.name!r}; this one stands by")
                with database.upstream_lock(self._engine, self.upstream.name):
                    self._pass(visit)
            except DatabaseError as e:
                result.failed(e)
                self._loader = None
                _pull_into_journal(visit)
        result.journal_entries, result.journal_bytes = journal.backlog()
        return concluded(result)

    def close(self) -> None:
        """Leave the proxy to others."""
        self._consumer.release()

    def _pass(self, visit: Visit) -> None:
        if self._loader is None or time.monotonic() - self._learned_at > self._config.schedule.directory_s:
            self._loader = None  # even when the next line fails: what is old is not gone on with
            gc.collect()  # which otherwise comes seldom, while what is old grows
            database.upgrade(self._engine)
            loader = open_loader(self._config, self._engine, self.upstream.name)
            noted(loader, visit.journal, visit.result, lambda: _pull_and_load(loader, visit, learn=True))
            with suppress(UpstreamError):  # it is only told, and nothing hangs on it
                self.retention_s = visit.source.retention_s() if visit.result.error is None else None
            self._loader, self._learned_at = loader, time.monotonic()
        else:
            loader = self._loader
            noted(loader, visit.journal, visit.result, lambda: _pull_and_load(loader, visit, learn=False))

    def _trusting(self) -> ssl.SSLContext:
        """Return what certificates are believed by, read anew now and then: they are replaced before they expire."""
        if time.monotonic() - self._trusted_at > self._config.schedule.directory_s:
            self._trusted_at = time.monotonic()
            try:
                self._trust = trust(self.upstream)
            except ConfigError as e:  # perhaps they are just being replaced
                log.warning("certificates.kept", reason=str(e))
        return self._trust

    def beat(self) -> None:
        """Note that it gets on."""
        self.beat_at = time.monotonic()


def resolve_once(
    config: Config, engine: Engine, upstream: Upstream, *, everything: bool, dry_run: bool
) -> repair.Resolved:
    """Ask the proxy for its credentials, then look again at records whose channel is unknown. Pops nothing.

    A proxy that does not answer leaves the last good directory and the history to resolve by.
    """
    database.upgrade(engine)
    loader = open_loader(config, engine, upstream.name)
    with Source(upstream) as source:
        try:
            _greet(source, Refusals(config.data_dir, upstream))
            loader.refresh(source, keep=not dry_run)
        except UpstreamError as e:
            log.warning("directory.kept", endpoint=e.endpoint, reason=str(e))
    return repair.resolve_again(loader, everything=everything, dry_run=dry_run)


class Visit(NamedTuple):
    """One pass at one proxy: whom it asks, where payloads are kept, what came of it."""

    upstream: Upstream
    source: Source
    journal: Journal
    refusals: Refusals
    result: PassResult
    stopping: threading.Event
    beat: Callable[[], None]


def _greet(source: Source, refusals: Refusals) -> bool | None:
    """Ask the one question that is safe: whether the proxy is there, takes the key, and records usage.

    Raises:
        UpstreamError: it is not there, or the key is refused, now or not long ago.
    """
    refusals.check(now())
    try:
        enabled = source.statistics_enabled()
    except (UpstreamRefused, UpstreamBanned) as e:
        refusals.remember(e, now())
        raise
    refusals.forget()
    return enabled


def _pull_and_load(loader: Loader, visit: Visit, *, learn: bool) -> None:
    """Pull everything there is; what the journal still holds comes first, even if the proxy does not answer.

    `learn` says whether to ask for the directory, too.
    """
    failed: WorkerError | None = None
    try:
        visit.result.statistics_enabled = _greet(visit.source, visit.refusals)
        if learn:
            loader.refresh(visit.source)
    except UpstreamError as e:
        failed = e
    if visit.result.statistics_enabled is False:
        remedy = "set usage-statistics-enabled: true in the proxy's configuration"
        log.warning("upstream.statistics_off", remedy=remedy)
    _load_journal(loader, visit)
    if failed is None:
        try:
            _pull(loader, visit)
        except (UpstreamError, JournalError) as e:
            failed = e
    # After the pull: the proxy forgets sooner than the database does.
    again = None if visit.stopping.is_set() else repair.resolve_pending(loader, visit.stopping)
    if again is not None:
        visit.result.resolved = sum(again.moves.values())
    if failed is not None:
        raise failed


def _pull(loader: Loader, visit: Visit) -> None:
    """Read the queue, or the snapshot where there is no queue; the first pop already counts."""
    if visit.upstream.mode in ("auto", "queue"):
        try:
            QueueReader(visit, loader).drain()
        except NotFoundError as e:
            if visit.upstream.mode == "queue":
                raise _not_offered(visit, e) from e
        else:
            return
    try:
        load_snapshot(loader, visit)
    except NotFoundError as e:
        raise _not_offered(visit, e) from e


class QueueReader:
    """Pops until the queue is empty; each payload durable before it is read, stored while the next is made ready."""

    def __init__(self, visit: Visit, loader: Loader | None) -> None:
        self._visit = visit
        self._journal = visit.journal
        self._result = visit.result
        self._loader = loader
        self._loading = Overlap()

    def drain(self) -> None:
        """Pop until an answer is short of what was asked for, or the worker is to stop.

        Raises:
            UpstreamError: a pop failed; what it delivered all the same has been kept.
            JournalError: the journal is full, or its disk refuses.
        """
        source = self._visit.source
        items = source.count
        with self._loading:
            while items >= source.count and not self._visit.stopping.is_set():
                self._journal.require_room()
                items = self._popped(source)

    def _popped(self, source: Source) -> int:
        """Pop once, and see to what came; return how many elements there were."""
        lost: PossibleLossError | None = None
        try:
            payload = source.pop()
        except PossibleLossError as e:
            self._result.possible_loss += 1
            payload, lost = e.body, e
        self._result.mode = "queue"
        entry, decoded = self._kept(payload)
        del payload  # it is on disk, and the next one will be as large
        self._visit.beat()
        if entry is not None and self._loader is not None:
            batch = _ready(self._loader, self._visit, decoded)
            self._loading.begin(partial(_commit_entry, self._loader, self._visit, entry, batch))
        if lost is not None:
            raise lost
        if not decoded.complete:
            raise UpstreamAnswerError("the answer is not a JSON array of records; it is in quarantine", endpoint=QUEUE)
        return decoded.elements

    def _kept(self, payload: bytes) -> tuple[JournalEntry | None, decode.Decoded]:
        """Make a payload durable, then read it; return its place in the journal and what is in it."""
        if payload.strip() in (b"", b"[]", b"null"):
            return None, decode.Decoded(records=[], bad=[])
        try:
            entry = self._journal.keep(payload).bare()
        except JournalError:
            if self._loader is not None:  # these bytes exist nowhere else: the database at least may have them
                try:
                    self._loading.settle()
                finally:
                    self._loader.load(uuid.uuid4().hex, decode.decode_queue(payload), self._result)
            raise
        return entry, decode.decode_queue(payload)


def _ready(loader: Loader, visit: Visit, decoded: decode.Decoded) -> Batch:
    loader.refresh_on_miss(visit.source, decoded.records)
    return loader.prepare(decoded)


def _commit_entry(loader: Loader, visit: Visit, entry: JournalEntry, batch: Batch) -> None:
    loader.commit(entry.entry_id, batch, visit.result)
    visit.journal.drop(entry)


def _load_journal(loader: Loader, visit: Visit) -> None:
    """Load what a crash or an outage left behind, oldest first."""
    with Overlap() as loading:
        for entry in visit.journal.entries():
            if visit.stopping.is_set():
                return
            decoded, size = decode.decode_queue(entry.payload), len(entry.payload)
            loading.begin(partial(_commit_kept, loader, visit, entry.bare(), loader.prepare(decoded), size))
            visit.beat()
    for path in visit.journal.damaged():
        remedy = "its content is not what was written; try `worker import` on it, then remove it"
        log.error("journal.damaged", file=str(path), remedy=remedy)


def _commit_kept(loader: Loader, visit: Visit, entry: JournalEntry, batch: Batch, size: int) -> None:
    _commit_entry(loader, visit, entry, batch)
    log.info("journal.loaded", entry=entry.entry_id, bytes=size)


def load_snapshot(loader: Loader, visit: Visit) -> None:
    """Load what the history has more than last time, or as much as there is time for: it can be asked for again."""
    marks = loader.snapshot_marks()
    body = visit.source.snapshot()
    visit.result.mode = "snapshot"
    try:
        with Overlap() as loading:
            for decoded in decode.decode_snapshot(body, loader.keyring, marks):
                if visit.stopping.is_set():
                    return
                batch = _ready(loader, visit, decoded)
                loading.begin(partial(loader.commit, uuid.uuid4().hex, batch, visit.result))
                visit.beat()
    except decode.BadValueError as e:
        raise UpstreamAnswerError(str(e), endpoint=SNAPSHOT, status=200) from e


def _pull_into_journal(visit: Visit) -> None:
    """Save the queue to disk while the database is away. A snapshot can wait: it can be asked for again."""
    if visit.upstream.mode == "snapshot":
        return
    try:
        visit.result.statistics_enabled = _greet(visit.source, visit.refusals)
        QueueReader(visit, None).drain()
    except NotFoundError:
        return
    except WorkerError as e:
        visit.result.failed(e)
    entries, size = visit.journal.backlog()
    log.warning("journal.waiting", entries=entries, bytes=size, remedy="bring the database back; a pass loads them")


def _not_offered(visit: Visit, error: NotFoundError) -> UpstreamError:
    if visit.result.statistics_enabled is None:
        return management_off()
    version = f" (it says {visit.source.version})" if visit.source.version else ""
    return UpstreamUnsupported(
        f"this proxy{version} does not offer it. Usage is read over the queue from v6.10.8 on and as a snapshot up to "
        "v6.9.49; v6.10.0 to v6.10.7 offer neither over HTTP: update the proxy.",
        endpoint=error.endpoint,
        status=404,
    )


def noted(loader: Loader, journal: Journal | None, result: PassResult, work: Callable[[], None]) -> None:
    """Do the work of a pass between the entry of its sync_run row and that row's last words.

    A DatabaseError passes through, since then nothing can be noted; the row stays open.
    """
    started_at = now()
    loader.run_id = run(loader.engine, lambda c: store.begin_run(c, loader.upstream_id, result.kind, started_at))
    with structlog.contextvars.bound_contextvars(run_id=loader.run_id, upstream=result.upstream):
        try:
            work()
        except DatabaseError:
            raise
        except WorkerError as e:
            result.failed(e)
            log.warning("pass.failed", reason=str(e))
        if journal is not None:
            result.journal_entries, result.journal_bytes = journal.backlog()
        figures = {**msgspec.structs.asdict(result), "run_id": loader.run_id, "finished_at": now()}
        run(loader.engine, lambda c: store.finish_run(c, figures))
        log.info("pass.done", **{k: v for k, v in msgspec.structs.asdict(result).items() if k != "upstream"})


def concluded(result: PassResult) -> PassResult:
    """Give a pass that set records aside its exit code."""
    if result.exit_code == 0 and result.quarantined:
        result.exit_code = 6
    return result
