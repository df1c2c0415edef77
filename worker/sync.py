"""The story of one pass. The only room with transactions, loops over batches, and the clock.

    refresh the directory → load what the journal still holds → pull → keep → decode → load → note the pass

A payload off the queue is in the journal before it is read and leaves it after its transaction has committed: so
whatever is killed in between, the next pass loads it, once. When the database is down, pulling goes on into the
journal: the proxy forgets after a minute, the disk does not.
"""

from __future__ import annotations

import gzip
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import structlog
import tenacity
from sqlalchemy.engine import Engine

from worker import database, decode, directory, rollup, store, tokens
from worker.config import Config, Upstream
from worker.directory import Directory
from worker.errors import (
    DatabaseError,
    JournalError,
    PossibleLossError,
    TransientDatabaseError,
    UpstreamAnswerError,
    UpstreamBanned,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnsupported,
    UsageError,
    WorkerError,
)
from worker.journal import Journal, JournalEntry
from worker.resolve import Resolution, resolve
from worker.secret import Keyring, is_account
from worker.source import QUEUE, SNAPSHOT, NotFoundError, Source, management_off

log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")
TRIES = 5
SNAPSHOT_HEAD = re.compile(rb'\s*\{\s*"(?:usage|apis|version|exported_at|failed_requests|meta)"')
GZIP_MAGIC = b"\x1f\x8b"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Progress = Callable[[int], None]


class PassResult(msgspec.Struct, kw_only=True):
    """What a pass came to, counted in records unless said otherwise."""

    upstream: str
    kind: Literal["sync", "import", "retry"] = "sync"
    mode: str | None = None
    pulled: int = 0
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    unknown_channel: int = 0
    possible_loss: int = 0
    """Pops whose answer never arrived whole."""
    replayed: int = 0
    """Journal entries that turned out to be loaded already."""
    statistics_enabled: bool | None = None
    journal_entries: int = 0
    journal_bytes: int = 0
    error: str | None = None
    exit_code: int = 0

    def failed(self, error: WorkerError) -> None:
        """Note an error; the first one decides the exit code."""
        self.error = f"{self.error}; {error}" if self.error else str(error)
        self.exit_code = self.exit_code or error.exit_code


class Loader:
    """The records of one upstream into the database: names resolved once, one transaction a batch."""

    def __init__(self, engine: Engine, upstream: str, *, pepper: str, timezone: str) -> None:
        """Read what belongs to the database: its pepper, its zone, the last good directory.

        Raises:
            ConfigError: pepper or time zone are not the database's.
            DatabaseError: it cannot be reached.
        """
        self.engine = engine
        self.upstream = upstream
        with database.transaction(engine) as connection:
            self.keyring = Keyring(database.pepper(connection, pepper))
            self.zone = ZoneInfo(database.rollup_timezone(connection, timezone))
            self.upstream_id = store.upstream_id(connection, upstream)
            self.directory = directory.build(*store.load_credentials(connection, self.upstream_id))
        self.run_id: int | None = None
        self._resolutions: dict[tuple[str, str, str, str], Resolution] = {}
        self._origins: dict[store.Origin, int] = {}
        self._dimensions: dict[store.Dimension, int] = {}
        self._months: set[str] = set()

    def use(self, new: Directory) -> None:
        """Resolve by another directory from now on."""
        self.directory = new
        self._resolutions.clear()

    def load(self, entry_id: str, decoded: decode.Decoded, result: PassResult, released: Sequence[int] = ()) -> None:
        """Store a batch with its rollups and its bad records, in one transaction; count it in `result`.

        Args:
            entry_id: a batch that was loaded under this id before changes nothing.
            decoded: the records and what could not be read between them.
            result: the pass.
            released: records of the quarantine that this batch brings in.
        """
        rows = self._rows(decoded.records)
        asides = [self._aside(bad) for bad in decoded.bad]
        pulled = len(rows) + len(asides)

        def transaction(connection: database.Connection) -> tuple[list[store.Row], int] | None:
            batch_id = store.begin_batch(connection, entry_id, self.upstream_id, self.run_id, now(), pulled)
            if batch_id is None:
                return None
            new = store.insert_records(connection, batch_id, rows)
            rollup.apply(connection, rollup.deltas(new, self.zone))
            aside = store.quarantine(connection, self.upstream_id, asides, now())
            if released:
                store.drop_quarantined(connection, released)
            newest = max((row.occurred_at for row in new), default=None)
            store.finish_batch(connection, batch_id, self.upstream_id, len(new), aside, newest)
            return new, aside

        outcome = run(self.engine, transaction)
        if outcome is None:
            result.replayed += 1
            return
        new, aside = outcome
        result.pulled += pulled
        result.inserted += len(new)
        result.duplicates += len(rows) - len(new)
        result.quarantined += aside
        result.unknown_channel += sum(row.channel_rule in ("none", "ambiguous") for row in new)

    def refresh(self, source: Source) -> None:
        """Ask the proxy for its credentials and make the answers the directory.

        An endpoint that does not answer, or answers something else, keeps what it listed last.

        Raises:
            UpstreamRefused, UpstreamBanned: the key is wrong, or the address banned: nothing more may be asked.
        """
        answered: list[str] = []
        found: list[directory.Credential] = []
        for endpoint in directory.ENDPOINTS:
            try:
                body = source.mapping(endpoint)
                credentials, skipped = directory.parse(endpoint, body, self.keyring) if body is not None else ([], 0)
            except (UpstreamRefused, UpstreamBanned):
                raise
            except (UpstreamError, directory.BadMappingError) as e:
                log.warning("directory.kept", endpoint=endpoint, reason=str(e))
                continue
            if skipped:
                log.warning("directory.entries_skipped", endpoint=endpoint, entries=skipped)
            answered.append(endpoint)
            found += credentials

        def save(connection: database.Connection) -> Directory:
            store.save_credentials(connection, self.upstream_id, answered, found, now())
            return directory.build(*store.load_credentials(connection, self.upstream_id))

        self.use(run(self.engine, save))

    def _rows(self, records: Sequence[decode.Record]) -> list[store.Row]:
        """Return the records as rows: channel, key and dimension looked up once per distinct value."""
        if not records:
            return []
        resolved = [self._resolve(r) for r in records]
        times = [EPOCH + timedelta(microseconds=r.occurred_at_ns // 1000) for r in records]
        self._make_partitions(times)
        origins = [self._origin(r) for r in records]
        dimension_ids, origin_ids = self._names(records, resolved, times, origins)
        keyring, upstream = self.keyring, self.upstream
        return [
            store.Row(
                at, r.latency_ms, r.ttft_ms, *r.reported[:5], *_normalised(r, resolution), dimension_id,
                origin_ids[origin],
                r.status_code, keyring.event_key(r.identity(upstream, keyring)), resolution.rule, r.request_id,
                r.service_tier, r.reasoning_effort, r.error, None, None, None, None,
            )
            for r, at, resolution, origin, dimension_id in zip(
                records, times, resolved, origins, dimension_ids, strict=True
            )
        ]  # fmt: skip

    def _resolve(self, r: decode.Record) -> Resolution:
        key = (r.auth_index, r.source, r.provider, r.auth_type)
        known = self._resolutions.get(key)
        if known is None:
            known = self._resolutions[key] = resolve(
                self.directory,
                auth_index=r.auth_index,
                source_digest=self.keyring.digest(r.source),
                provider=r.provider,
                auth_type=r.auth_type,
            )
        return known

    def _origin(self, r: decode.Record) -> store.Origin:
        shown = r.source if is_account(r.source) or not r.source else self.keyring.label(r.source)
        return store.Origin(r.auth_index, self.keyring.digest(r.source), shown, r.auth_type)

    def _names(
        self,
        records: Sequence[decode.Record],
        resolved: Sequence[Resolution],
        times: Sequence[datetime],
        origins: Sequence[store.Origin],
    ) -> tuple[list[int], dict[store.Origin, int]]:
        """Return each record's dimension id, and the ids of the origins; enter what is new.

        In transactions of their own: a name without records harms nobody, and no lock on one outlives its statement
        for as long as a batch takes.
        """
        channels = _spans((resolution.channel for resolution in resolved), times)
        digests = [self.keyring.digest(r.client_key) for r in records]
        labels = {self.keyring.digest(r.client_key): self.keyring.label(r.client_key) for r in records}
        keys = {d: store.Seen(labels[d], *span) for d, span in _spans(digests, times).items()}

        def enter(connection: database.Connection) -> tuple[dict[tuple[str, str], int], dict[bytes, int]]:
            return (
                store.channel_ids(connection, self.upstream_id, channels),
                store.client_key_ids(connection, self.upstream_id, keys),
            )

        channel_ids, key_ids = run(self.engine, enter)
        dimensions = [
            store.Dimension(
                channel_ids[resolution.channel.kind, resolution.channel.name], key_ids[digest], r.provider, r.endpoint,
                r.model, r.alias, r.outcome,
            )
            for r, resolution, digest in zip(records, resolved, digests, strict=True)
        ]  # fmt: skip
        new_dimensions = {d for d in dimensions if d not in self._dimensions}
        new_origins = {o for o in origins if o not in self._origins}
        if new_dimensions or new_origins:

            def enter_new(connection: database.Connection) -> tuple[Any, Any]:
                found = store.dimension_ids(connection, new_dimensions)
                return found, store.origin_ids(connection, self.upstream_id, new_origins)

            entered, entered_origins = run(self.engine, enter_new)
            self._dimensions |= entered
            self._origins |= entered_origins
        return [self._dimensions[d] for d in dimensions], self._origins

    def _make_partitions(self, times: Iterable[datetime]) -> None:
        for month in sorted({f"{at:%Y-%m}-01" for at in times} - self._months):
            run(self.engine, partial(store.ensure_partition, month=month))
            self._months.add(month)

    def _aside(self, bad: decode.BadRecord) -> store.Aside:
        payload, retryable = decode.set_aside(bad, self.keyring)
        digest = sha256(
            b"\0".join((bad.client_key.encode("utf-8", "replace"), bad.model.encode("utf-8", "replace"), bad.raw))
        )
        return store.Aside(digest.digest()[:16], decode.clean(bad.reason)[:500], payload, retryable)


# -- one pass over a proxy --------------------------------------------------------------------------------------


def sync_once(config: Config, engine: Engine, upstream: Upstream) -> PassResult:
    """Do one pass over one proxy: pull what there is, load it, note what came of it.

    Returns:
        The pass; an error of the proxy, the database or the disk stands in it with its exit code.

    Raises:
        BusyError: another worker holds this upstream.
        ConfigError: the database goes with another time zone or pepper.
    """
    result = PassResult(upstream=upstream.name)
    journal = Journal(config.data_dir, upstream.name, config.journal.max_bytes)
    with Source(upstream) as source:
        try:
            with database.upstream_lock(engine, upstream.name):
                database.upgrade(engine)
                loader = _loader(config, engine, upstream.name)
                _noted(loader, journal, result, lambda: _pull_and_load(loader, upstream, source, journal, result))
        except DatabaseError as e:
            result.failed(e)
            _pull_into_journal(upstream, source, journal, result)
    result.journal_entries, result.journal_bytes = journal.backlog()
    return _concluded(result)


def _pull_and_load(loader: Loader, upstream: Upstream, source: Source, journal: Journal, result: PassResult) -> None:
    """Pull everything there is; what the journal still holds comes first, even if the proxy does not answer."""
    refused: UpstreamError | None = None
    try:
        result.statistics_enabled = source.statistics_enabled()
        loader.refresh(source)
    except UpstreamError as e:
        refused = e
    if result.statistics_enabled is False:
        log.warning(
            "upstream.statistics_off",
            remedy="set usage-statistics-enabled: true in the proxy's configuration",
        )
    _load_journal(loader, journal, result)
    if refused is not None:
        raise refused
    _pull(upstream, source, result, _QueueReader(journal, result, loader), loader)


def _pull(upstream: Upstream, source: Source, result: PassResult, reader: _QueueReader, loader: Loader) -> None:
    """Read the queue, or the snapshot where there is no queue; the first pop already counts."""
    if upstream.mode in ("auto", "queue"):
        try:
            reader.drain(source)
        except NotFoundError as e:
            if upstream.mode == "queue":
                raise _not_offered(source, result, e) from e
        else:
            return
    try:
        _load_snapshot(loader, source, result)
    except NotFoundError as e:
        raise _not_offered(source, result, e) from e


class _QueueReader:
    """Pops until the queue is empty; each payload durable before it is read."""

    def __init__(self, journal: Journal, result: PassResult, loader: Loader | None) -> None:
        self._journal = journal
        self._result = result
        self._loader = loader

    def drain(self, source: Source) -> None:
        """Pop until an answer is short of what was asked for.

        Raises:
            UpstreamError: a pop failed; what it delivered all the same has been kept.
            JournalError: the journal is full, or its disk refuses.
        """
        items = source.count
        while items >= source.count:
            self._journal.require_room()
            lost: PossibleLossError | None = None
            try:
                payload = source.pop()
            except PossibleLossError as e:
                self._result.possible_loss += 1
                payload, lost = e.body, e
            self._result.mode = "queue"
            decoded = self._kept(payload)
            items = len(decoded.records) + len(decoded.bad)
            if lost is not None:
                raise lost
            if not decoded.complete:
                raise UpstreamAnswerError(
                    "the answer is not a JSON array of records; it is in quarantine", endpoint=QUEUE
                )

    def _kept(self, payload: bytes) -> decode.Decoded:
        """Make a payload durable, then read it and load it."""
        if payload.strip() in (b"", b"[]", b"null"):
            return decode.Decoded(records=[], bad=[])
        try:
            entry = self._journal.keep(payload)
        except JournalError:
            if self._loader is not None:  # these bytes exist nowhere else: the database at least may have them
                self._loader.load(uuid.uuid4().hex, decode.decode_queue(payload), self._result)
            raise
        decoded = decode.decode_queue(payload)
        if self._loader is not None:
            self._loader.load(entry.entry_id, decoded, self._result)
            self._journal.drop(entry)
        return decoded


def _load_journal(loader: Loader, journal: Journal, result: PassResult) -> None:
    """Load what a crash or an outage left behind, oldest first."""
    for entry in journal.entries():
        _load_entry(loader, entry, result)
        journal.drop(entry)
        log.info("journal.loaded", entry=entry.entry_id, bytes=len(entry.payload))
    for path in journal.damaged():
        log.error("journal.damaged", file=str(path), remedy="it was not written whole; look at it and remove it")


def _load_entry(loader: Loader, entry: JournalEntry, result: PassResult) -> None:
    loader.load(entry.entry_id, decode.decode_queue(entry.payload), result)


def _load_snapshot(loader: Loader, source: Source, result: PassResult) -> None:
    body = source.snapshot()
    result.mode = "snapshot"
    try:
        for decoded in decode.decode_snapshot(body):
            loader.load(uuid.uuid4().hex, decoded, result)
    except decode.BadValueError as e:
        raise UpstreamAnswerError(str(e), endpoint=SNAPSHOT, status=200) from e


def _pull_into_journal(upstream: Upstream, source: Source, journal: Journal, result: PassResult) -> None:
    """Save the queue to disk while the database is away. A snapshot can wait: it can be asked for again."""
    if upstream.mode == "snapshot":
        return
    try:
        _QueueReader(journal, result, None).drain(source)
    except NotFoundError:
        return
    except WorkerError as e:
        result.failed(e)


def _not_offered(source: Source, result: PassResult, error: NotFoundError) -> UpstreamError:
    if result.statistics_enabled is None:
        return management_off()
    version = f" (it says {source.version})" if source.version else ""
    return UpstreamUnsupported(
        f"this proxy{version} does not offer it. Usage is read over the queue from v6.10.8 on and as a snapshot up to "
        "v6.9.49; v6.10.0 to v6.10.7 offer neither over HTTP: update the proxy.",
        endpoint=error.endpoint,
        status=404,
    )


# -- files and quarantine ---------------------------------------------------------------------------------------


def import_files(
    config: Config, engine: Engine, upstream: str, files: Sequence[Path], progress: Progress | None = None
) -> PassResult:
    """Load snapshots, export files, queue arrays or JSON lines from disk, plain or gzipped.

    Args:
        config: for time zone and pepper.
        engine: the database.
        upstream: the proxy the files come from: the same name as for its passes, or records count twice.
        files: what to load.
        progress: is told the number of records after each batch.

    Raises:
        UsageError: a file cannot be read, or holds no usage. Files before it are loaded.
    """
    result = PassResult(upstream=upstream, kind="import", mode="file")
    database.upgrade(engine)
    loader = _loader(config, engine, upstream)

    def work() -> None:
        for path in files:
            try:
                for decoded in _read_file(path):
                    loader.load(uuid.uuid4().hex, decoded, result)
                    if progress is not None:
                        progress(result.pulled)
            except (OSError, EOFError, decode.BadValueError) as e:
                raise UsageError(f"{path}: {e}") from e

    _noted(loader, None, result, work)
    return _concluded(result)


def retry_quarantined(config: Config, engine: Engine, ids: Sequence[int]) -> list[PassResult]:
    """Read records in quarantine again, with what this version knows, and load those that can be read now.

    Args:
        config: for time zone and pepper.
        engine: the database.
        ids: which ones; all when empty.
    """
    results: dict[str, PassResult] = {}
    loaders: dict[str, Loader] = {}
    after, page = 0, 500
    while True:
        with database.transaction(engine) as connection:
            found = store.quarantined(connection, limit=page, after=after)
        for kept in found:
            if not ids or kept.quarantine_id in ids:
                name = kept.upstream
                result = results.setdefault(name, PassResult(upstream=name, kind="retry"))
                loader = loaders[name] if name in loaders else loaders.setdefault(name, _loader(config, engine, name))
                _retry(loader, kept, result)
        if len(found) < page:
            return [_concluded(result) for result in results.values()]
        after = found[-1].quarantine_id


def _retry(loader: Loader, kept: store.Quarantined, result: PassResult) -> None:
    record = decode.decode_quarantined(kept.payload) if kept.retryable else None
    if record is None:
        result.pulled += 1
        result.quarantined += 1
        return
    batch = decode.Decoded(records=[record], bad=[])
    loader.load(uuid.uuid4().hex, batch, result, released=[kept.quarantine_id])


def _read_file(path: Path) -> Iterator[decode.Decoded]:
    with path.open("rb") as raw:
        zipped = raw.read(2) == GZIP_MAGIC
    with gzip.open(path, "rb") if zipped else path.open("rb") as file:
        head = file.read(4096)
        file.seek(0)
        if SNAPSHOT_HEAD.match(head):
            yield from decode.decode_snapshot(file.read())
        elif head.lstrip().startswith(b"{"):
            yield from decode.decode_lines(iter(file))
        elif head.lstrip().startswith(b"["):
            yield from _read_array(file.read())
        else:
            raise decode.BadValueError("neither a usage snapshot, nor an array of records, nor JSON lines")


def _read_array(content: bytes) -> Iterator[decode.Decoded]:
    """Read an array of records, or lines that are each an array."""
    whole = decode.decode_queue(content)
    if not whole.complete and b"\n" in content.strip():
        yield from decode.decode_lines(iter(content.splitlines()))
        return
    records, bad = iter(whole.records), whole.bad
    while some := list(islice(records, decode.CHUNK_RECORDS)):
        yield decode.Decoded(records=some, bad=bad)
        bad = []
    if bad:
        yield decode.Decoded(records=[], bad=bad)


# -- shared -----------------------------------------------------------------------------------------------------


def now() -> datetime:
    """Return the time of the clock, in UTC."""
    return datetime.now(UTC)


def run(engine: Engine, work: Callable[[database.Connection], T]) -> T:
    """Do `work` in one transaction; again when PostgreSQL gave it up in favour of another."""
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientDatabaseError),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_exponential_jitter(initial=0.05, max=2.0),
        reraise=True,
    )
    for attempt in attempts:
        with attempt, database.transaction(engine) as connection:
            return work(connection)
    raise AssertionError("tenacity gives up by raising")


def _loader(config: Config, engine: Engine, upstream: str) -> Loader:
    return Loader(engine, upstream, pepper=config.security.pepper.get_secret_value(), timezone=config.rollup.timezone)


def _noted(loader: Loader, journal: Journal | None, result: PassResult, work: Callable[[], None]) -> None:
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


def _concluded(result: PassResult) -> PassResult:
    """Give a pass that set records aside its exit code."""
    if result.exit_code == 0 and result.quarantined:
        result.exit_code = 6
    return result


def _normalised(r: decode.Record, resolution: Resolution) -> tokens.Normalised:
    """Return a record's exclusive counts; where it names no provider (a snapshot), the credential's arithmetic."""
    if r.provider or not resolution.providers:
        return r.normalised
    return tokens.normalise(r.reported, tokens.family(resolution.providers, "", r.model))


def _spans(values: Iterable[Any], times: Iterable[datetime]) -> dict[Any, tuple[datetime, datetime]]:
    """Return the first and the last time of each distinct value."""
    spans: dict[Any, tuple[datetime, datetime]] = {}
    for value, at in zip(values, times, strict=True):
        first, last = spans.get(value, (at, at))
        spans[value] = (min(first, at), max(last, at))
    return spans
