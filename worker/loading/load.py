"""A batch into the database: names looked up once, rows made, one transaction with rollups and quarantine.

What a record names (channel, client key, combination of dimensions, credential) is entered in short transactions
beforehand; the batch itself is one transaction, and a batch that is loaded again changes nothing.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import structlog
import tenacity
from sqlalchemy.engine import Engine

from worker.channels.resolve import Resolution, resolve
from worker.cliproxyapi import credential_lists, directory
from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.client import ProxyClient
from worker.cliproxyapi.directory import UNKNOWN, Channel, Directory
from worker.config import Config, Prices
from worker.db import database
from worker.db.session import BATCH, SHORT, Deadlines
from worker.errors import (
    BatchRefusedError,
    RefusedError,
    TransientDatabaseError,
    UpstreamBanned,
    UpstreamError,
    UpstreamRefused,
    WorkerError,
)
from worker.loading import probe
from worker.pricing import dataset, price
from worker.rollups import rollup
from worker.secret import Keyring, is_account
from worker.storage import executions, register, roster, store, tariff
from worker.usage import tokens

log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")
TRIES = 5
MISS_PAUSE_S = 60.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ALWAYS = datetime.min.replace(tzinfo=UTC)
NO_OWN_PRICES = Prices()
DAY_NS = 86_400 * 10**9
PARTITION_AHEAD = timedelta(days=3)
"""How long before it begins a month gets its partition."""

ALIKE = 10
"""So many records, and no other, of one batch may be at fault in the same words."""
ALL_REFUSED = (
    "The records stay where they are, and every pass tries again. Look into the server's log and for what was changed "
    "in the schema; if there is nothing, update the worker, or report this as a fault of it."
)
KNOWN_MAX = 1 << 15
NO_DIMENSION = register.Dimension(0, 0, "", "", "", "", "")

Span = tuple[int, int]
"""The first and the last of some times, in nanoseconds since 1970 UTC."""


class PassResult(msgspec.Struct, kw_only=True):
    """What a pass came to, counted in records unless said otherwise."""

    upstream: str
    kind: Literal["sync", "import", "retry"] = "sync"
    mode: str | None = None
    pulled: int = 0
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    too_old: int = 0
    """Not taken: records of their time have been dropped, and these may have been among them."""
    unknown_channel: int = 0
    resolved: int = 0
    """Records of earlier passes whose channel was unknown and is known now."""
    possible_loss: int = 0
    """Pops whose answer never arrived whole."""
    replayed: int = 0
    """Journal entries that turned out to be loaded already."""
    statistics_enabled: bool | None = None
    refused: int = 0
    """Journal entries that PostgreSQL takes nothing of though no record is at fault: they stay."""
    journal_entries: int = 0
    journal_bytes: int = 0
    error: str | None = None
    exit_code: int = 0
    retry_after_s: float = 0.0
    """For how long the proxy is to be left alone, since it refuses the key."""

    def failed(self, error: WorkerError) -> None:
        """Note an error; the first one decides the exit code."""
        self.error = f"{self.error}; {error}" if self.error else str(error)
        self.exit_code = self.exit_code or error.exit_code
        if isinstance(error, (UpstreamRefused, UpstreamBanned)):
            self.retry_after_s = error.retry_after_s


@dataclass(slots=True)
class _Known:
    """What is looked up once for all records with the same labels."""

    origin: register.Origin
    resolution: Resolution
    family: tokens.Family | None
    """The arithmetic of their credential, where it goes before their own."""
    head: str
    tail: str
    """What their identity is made of, before and after their time."""
    dimension_id: int = 0
    origin_id: int = 0
    dimension: register.Dimension = NO_DIMENSION
    tariffs: dict[str, tariff.Tariff] = field(default_factory=dict[str, tariff.Tariff])
    """What they are charged by, for each service tier."""


class Batch(NamedTuple):
    """A batch that is ready to be stored: its records as rows, and what is set aside of it."""

    decoded: decode.Decoded
    rows: list[store.Row]
    asides: list[store.Aside]
    links: int = 0
    """How many links of channels the upstream had seen when its records were given their channels."""
    refused: str = ""
    """Why PostgreSQL refuses a name in it; there are no rows then."""
    ordinals: Mapping[bytes, int] = {}
    """The places of rows among equal ones of their payload, by event key, where they are not the first."""


class _RelinkedError(Exception):
    """A channel was linked since the batch was made ready: its rows may go to the wrong one."""


class Loader:
    """The records of one upstream into the database: names resolved once, one transaction a batch.

    One batch may be made ready while another thread stores the one before.
    """

    def __init__(
        self,
        engine: Engine,
        upstream: str,
        *,
        pepper: str,
        timezone: str,
        match_account: bool = False,
        prices: Prices = NO_OWN_PRICES,
    ) -> None:
        """Read what belongs to the database: its pepper, its zone, the last good directory. Enter new prices.

        Raises:
            ConfigError: pepper or time zone are not the database's.
            DatabaseError: it cannot be reached.
        """
        self.engine = engine
        self.upstream = upstream
        with database.transaction(engine, SHORT) as connection:
            self.keyring = Keyring(database.pepper(connection, pepper))
            self.zone = ZoneInfo(database.rollup_timezone(connection, timezone))
            self.upstream_id = register.upstream_id(connection, upstream)
            self._dropped_before = register.records_dropped_before(connection, self.upstream_id) or ALWAYS
            self.directory = directory.build(*roster.load_credentials(connection, self.upstream_id))
        self.pricer = open_pricer(engine, prices, self.zone)
        self._accounts = self._accounts_of(self.directory)
        self.run_id: int | None = None
        self._match_account = match_account
        self._resolutions: dict[tuple[register.Origin, str, bool], Resolution] = {}
        self._origins: dict[register.Origin, int] = {}
        self._missed: set[register.Origin] = set()
        self._forced_at = -MISS_PAUSE_S
        self._dimensions: dict[register.Dimension, int] = {}
        self._known: dict[decode.Labels, _Known] = {}
        self._months: set[str] = set()
        self._naming = threading.RLock()
        """Held by who looks names up, or changes what they are looked up in."""
        self._all_new = True
        """Whether the last batch was all new, so that the next one is expected to be."""

    def use(self, new: Directory) -> None:
        """Resolve by another directory from now on."""
        with self._naming:
            self.directory = new
            self._accounts = self._accounts_of(new)
            self._resolutions.clear()
            self._known.clear()

    def _accounts_of(self, known: Directory) -> dict[bytes, str]:
        """Return the accounts that are neither address nor file, such as projects, by what records keep of them."""
        return {self.keyring.digest(account): account for account in known.by_account}

    def load(self, entry_id: str, decoded: decode.Decoded, result: PassResult, released: Sequence[int] = ()) -> None:
        """Make a batch ready and store it; see `prepare` and `commit`."""
        self.commit(entry_id, self.prepare(decoded), result, released)

    def prepare(self, decoded: decode.Decoded) -> Batch:
        """Make a batch ready to be stored: enter the names that are new in it, and make its records rows."""
        asides = [self._aside(bad) for bad in decoded.bad]
        with self._naming:
            try:
                links = self._links()  # before the channels are looked up: then it is never too new
                rows = self._rows(decoded.records)
                pairs = zip(decoded.records, rows, strict=True)
                ordinals = {row.event_key: record.ordinal for record, row in pairs if record.ordinal}
                return Batch(decoded, rows, asides, links, ordinals=ordinals)
            except RefusedError as e:
                return Batch(decoded, [], asides, refused=str(e))

    def commit(
        self, entry_id: str, batch: Batch, result: PassResult, released: Sequence[int] = (), possible_loss: int = 0
    ) -> None:
        """Store a batch with its rollups and what is set aside, in one transaction; count it in `result`.

        Args:
            entry_id: a batch that was loaded under this id before changes nothing.
            batch: what `prepare` made ready.
            result: the pass.
            released: records of the quarantine that this batch brings in.
            possible_loss: answers of which something may be lost, counted with it.

        A record that PostgreSQL refuses is set aside with what it says of it; one that was released stays there.

        Raises:
            BatchRefusedError: it refuses a record that holds nothing, too, or each of many in the same words. Nothing
                is set aside then.
        """
        refused = self._refusal(entry_id, batch, result, released, possible_loss)
        if not refused:
            return
        records = len(batch.decoded.records)
        log.warning("record.refused", records=records, reason=refused)
        if anyway := self._refuses_anything(batch.decoded):
            raise BatchRefusedError(f"a record that holds nothing is refused, too: {anyway}. {ALL_REFUSED}")
        if released:
            result.pulled += records
            result.quarantined += records
            return
        alone = self._refused_alone(entry_id, batch.decoded, refused, result)
        if len(alone) == records > ALIKE and len({reason for _, _, reason in alone}) == 1:
            raise BatchRefusedError(
                f"each of {records} records is refused alike, so that none of them is at fault: {refused}. "
                f"{ALL_REFUSED}"
            )
        for name, part, reason in alone:
            bad = [*part.bad, *(decode.refused(record, reason) for record in part.records)]
            aside = self.prepare(decode.Decoded(records=[], bad=bad, marks=part.marks))
            if refused := self._refusal(f"{name}.0", aside, result):
                raise BatchRefusedError(f"what was set aside cannot be kept either: {refused}")

    def _refuses_anything(self, decoded: decode.Decoded) -> str:
        """Return in which words PostgreSQL refuses whatever comes at the time of these records; or nothing."""
        at = _instant(decoded.records[0].occurred_at_ns) if decoded.records else now()
        return probe.refusal(self.engine, probe.Place(self.upstream_id, self.zone, self.keyring), at)

    def _refused_alone(
        self, name: str, decoded: decode.Decoded, reason: str, result: PassResult
    ) -> list[tuple[str, decode.Decoded, str]]:
        """Store what can be stored of a batch that was refused; return the rest record by record, with the reason.

        The names of its parts are always the same ones: what was loaded of it is not loaded again.
        """
        if len(decoded.records) <= 1:
            return [(name, decoded, reason)]
        alone: list[tuple[str, decode.Decoded, str]] = []
        for number, part in enumerate(_halves(decoded)):
            of_part = f"{name}.{number}"
            if refused := self._refusal(of_part, self.prepare(part), result):
                alone += self._refused_alone(of_part, part, refused, result)
        return alone

    def _refusal(
        self, entry_id: str, batch: Batch, result: PassResult, released: Sequence[int] = (), possible_loss: int = 0
    ) -> str:
        """Store a batch; return in which words PostgreSQL refuses a value of it, or nothing where it is stored."""
        while not batch.refused:
            try:
                self._commit(entry_id, batch, result, released, possible_loss)
            except _RelinkedError:
                batch = self.prepare(batch.decoded)
            except RefusedError as e:
                return str(e)
            else:
                return ""
        return batch.refused

    def _commit(
        self, entry_id: str, batch: Batch, result: PassResult, released: Sequence[int], possible_loss: int
    ) -> None:
        decoded, rows, asides, links, _, ordinals = batch
        pulled = len(rows) + len(asides)

        def transaction(connection: database.Connection) -> tuple[list[store.Row], list[store.Row], int] | None:
            rollup.lock_to_change(connection)
            if roster.links(connection, self.upstream_id) != links:
                raise _RelinkedError
            batch_id = store.begin_batch(connection, entry_id, self.upstream_id, self.run_id, now(), pulled)
            if batch_id is None:
                return None
            register.keep_records(connection)
            dropped_before = register.records_dropped_before(connection, self.upstream_id)
            kept = [row for row in rows if row.occurred_at >= dropped_before] if dropped_before else rows
            told = executions.sort_out(connection, self.upstream_id, kept, ordinals)
            executions.give_ids(connection, told.named)
            expected, self._all_new = self._all_new, False  # tried again, it goes the way that finds out
            new = store.insert_records(connection, batch_id, told.store, all_new=expected)
            rollup.apply(connection, rollup.deltas(new, self.zone))
            # Asked after the rollups are locked: a rebuild for another zone may have come between.
            database.rollup_timezone(connection, self.zone.key)
            aside = store.quarantine(connection, self.upstream_id, asides, now())
            if len(kept) == len(rows):  # what is too old stays where it is
                store.drop_quarantined(connection, released)
            newest = store.newest((row.occurred_at for row in new), now())
            register.save_snapshot_marks(connection, self.upstream_id, decoded.marks)
            if possible_loss:
                store.count_possible_loss(connection, self.run_id, possible_loss)
            store.finish_batch(connection, batch_id, self.upstream_id, len(new), aside, *newest)
            return kept, new, aside

        outcome = run(self.engine, transaction)
        if outcome is None:
            result.replayed += 1
            return
        kept, new, aside = outcome
        self._all_new = len(new) == len(kept)
        result.pulled += pulled
        result.inserted += len(new)
        result.duplicates += len(kept) - len(new)
        result.too_old += len(rows) - len(kept)
        result.quarantined += aside + (len(rows) - len(kept) if released else 0)
        result.unknown_channel += sum(row.channel_rule in ("none", "ambiguous") for row in new)

    def _links(self) -> int:
        with database.transaction(self.engine) as connection:
            return roster.links(connection, self.upstream_id)

    def relearn(self) -> bool:
        """Resolve by what the database lists now; return whether that is something else than before."""
        with database.transaction(self.engine, SHORT) as connection:
            listed = directory.build(*roster.load_credentials(connection, self.upstream_id))
        changed = listed != self.directory
        if changed:
            self.use(listed)
        return changed

    def snapshot_marks(self) -> dict[bytes, decode.Mark]:
        """Return how far the lists of the proxy's snapshot have been read and stored."""
        with database.transaction(self.engine, SHORT) as connection:
            return register.snapshot_marks(connection, self.upstream_id)

    def refresh(self, source: ProxyClient, *, keep: bool = True) -> None:
        """Ask the proxy for its credentials and make the answers the directory; without `keep`, in memory only.

        An endpoint that does not answer, or answers something else, keeps what it listed last.

        Raises:
            UpstreamRefused, UpstreamBanned: the key is wrong, or the address banned: nothing more may be asked.
        """
        listed, served = credential_lists.ask(source, self.keyring, self.directory.endpoints)
        if not served:
            return
        found = [credential for credentials in listed.values() for credential in credentials]

        def save(connection: database.Connection) -> Directory:
            if keep:
                roster.save_credentials(connection, self.upstream_id, list(listed), found, now())
                return directory.build(*roster.load_credentials(connection, self.upstream_id))
            configured, past = roster.load_credentials(connection, self.upstream_id)
            current = [*found, *(c for c in configured if c.endpoint not in listed)]
            return directory.build(current, [*past, *configured])

        try:
            self.use(run(self.engine, save))
        except RefusedError as e:  # whatever is in it, it must not keep usage from being pulled
            log.warning("directory.kept", endpoint=", ".join(listed), reason=str(e))

    def refresh_on_miss(self, source: ProxyClient, records: Sequence[decode.Record]) -> None:
        """Ask the proxy once more where records name a credential that was never seen: it may be brand new.

        At most once a minute, and never twice for the same credential: what stays unknown then is unknown.
        """
        known = (self._look_up(labels) for labels in {r.labels for r in records})
        missing = {k.origin for k in known if k.resolution.channel == UNKNOWN} - self._missed
        self._missed |= missing
        if not missing or time.monotonic() - self._forced_at < MISS_PAUSE_S:
            return
        with database.transaction(self.engine, SHORT) as connection:
            seen = register.known_origins(connection, self.upstream_id, missing)
        if missing <= seen:
            return
        self._forced_at = time.monotonic()
        log.info("directory.refreshed_on_miss", credentials=len(missing - seen))
        try:
            self.refresh(source)
        except UpstreamError as e:  # the records are here and must be loaded all the same
            log.warning("directory.kept", endpoint=e.endpoint, reason=str(e))

    def _rows(self, records: Sequence[decode.Record]) -> list[store.Row]:
        """Return the records as rows; what they have in common with others is looked up once."""
        if len(self._known) > KNOWN_MAX:
            self._known.clear()
        times: defaultdict[decode.Labels, list[int]] = defaultdict(list)
        for r in records:
            times[r.labels].append(r.occurred_at_ns)
        self._make_partitions(records)
        self._name({labels: (min(ns), max(ns)) for labels, ns in times.items()})
        return [self._row(r) for r in records]

    def _row(self, r: decode.Record) -> store.Row:
        known = self._known[r.labels]
        at = _instant(r.occurred_at_ns)
        reported, counts = r.reported, r.normalised
        if known.family is not None and not r.classified:
            counts = tokens.normalise(reported, known.family)
        tier = price.charged_tier(r.service_tier, r.response_service_tier)
        charged_by = known.tariffs.get(tier)
        if charged_by is None:
            charged_by = known.tariffs[tier] = self.pricer.tariff(known.dimension, tier)
        charge = charged_by.charge(at, counts, r.cache_write_1h_tokens)
        event_key, base_key = self._keys(r, known)
        return store.Row(
            at, r.latency_ms, r.ttft_ms,
            reported.input, reported.output, reported.reasoning, reported.cached, reported.total, *counts,
            known.dimension_id, known.origin_id, r.status_code,
            event_key, known.resolution.rule, r.request_id,
            r.service_tier, r.response_service_tier, r.reasoning_effort, r.error,
            r.execution_id or None, base_key, r.stream, r.session_id or None, r.parent_session_id or None,
            r.response_model or None, r.cache_write_1h_tokens,
            *charge[:5], estimated=charge.estimated,
        )  # fmt: skip

    def _keys(self, r: decode.Record, known: _Known) -> tuple[bytes, bytes | None]:
        """Return a record's event key, and what it goes by without its execution id and place among equal ones."""
        if not r.execution_id and not r.ordinal:
            return self.keyring.event_key(r.identity(known.head, known.tail)), None
        own = r.execution(self.upstream) if r.execution_id else r.identity(known.head, known.tail)
        return self.keyring.event_key(own), self.keyring.event_key(r.identity(known.head, known.tail, 0))

    def resolve(self, origin: register.Origin, provider: str, *, fresh: bool = True) -> Resolution:
        """Return the channel for what records say of their credential; looked up once per distinct value.

        `fresh` says that the records are of this run of the proxy, whose integer indexes the directory has.
        """
        key = (origin, provider, fresh)
        known = self._resolutions.get(key)
        if known is None:
            known = self._resolutions[key] = resolve(
                self.directory,
                auth_index=origin.auth_index,
                source_digest=origin.source_digest,
                account=origin.source_label
                if is_account(origin.source_label)
                else self._accounts.get(origin.source_digest, ""),
                provider=provider,
                auth_type=origin.auth_type,
                fresh=fresh,
                match_account=self._match_account,
            )
        return known

    def _look_up(self, labels: decode.Labels) -> _Known:
        """Return what is known of the records with these labels; their dimension is entered by `_name`."""
        known = self._known.get(labels)
        if known is None:
            source = labels.source
            shown = source if is_account(source) or not source else self.keyring.label(source)
            origin = register.Origin(labels.auth_index, self.keyring.digest(source), shown, labels.auth_type)
            resolution = self.resolve(origin, labels.provider)
            head, tail = labels.identity(self.upstream, self.keyring)
            known = self._known[labels] = _Known(
                origin, resolution, of_credential(labels.provider, labels.model, resolution), head, tail
            )
        return known

    def _name(self, spans: Mapping[decode.Labels, Span]) -> None:
        """Enter what is new of the channels, keys, dimensions and origins of a batch, and learn their prices.

        In transactions of their own: a name without records harms nobody, and no lock on one outlives its statement
        for as long as a batch takes.
        """
        channels: dict[Channel, Span] = {}
        keys: dict[str, Span] = {}
        for labels, span in spans.items():
            channel, key = self._look_up(labels).resolution.channel, labels.client_key
            channels[channel] = _joined(channels.get(channel, span), span)
            keys[key] = _joined(keys.get(key, span), span)
        seen = {self.keyring.digest(k): register.Seen(self.keyring.label(k), *_instants(s)) for k, s in keys.items()}

        def enter(connection: database.Connection) -> tuple[dict[tuple[str, str], int], dict[bytes, int]]:
            used = {channel: _instants(span) for channel, span in channels.items()}
            return (
                roster.channel_ids(connection, self.upstream_id, used),
                register.client_key_ids(connection, self.upstream_id, seen),
            )

        channel_ids, key_ids = run(self.engine, enter)
        changed: dict[decode.Labels, register.Dimension] = {}
        for labels in spans:
            known = self._known[labels]
            channel = known.resolution.channel
            ids = (channel_ids[channel.kind, channel.identity], key_ids[self.keyring.digest(labels.client_key)])
            if ids != known.dimension[:2]:
                changed[labels] = register.Dimension(
                    *ids, labels.provider, labels.endpoint, labels.model, labels.alias, labels.outcome
                )
        if changed:
            self._number(changed)

    def _number(self, changed: Mapping[decode.Labels, register.Dimension]) -> None:
        """Give dimensions and origins their numbers, entering those that have none, and learn their prices."""
        new_dimensions = set(changed.values()) - self._dimensions.keys()
        new_origins: dict[register.Origin, str] = {}
        for labels in changed:
            origin, candidates = self._known[labels].origin, self._known[labels].resolution.candidates
            if origin not in self._origins or candidates:  # a sibling's provider may have decided for it
                new_origins[origin] = " | ".join(candidates) or new_origins.get(origin, "")

        def enter(connection: database.Connection) -> tuple[Any, Any]:
            found = register.dimension_ids(connection, new_dimensions)
            self.pricer.learn(connection, new_dimensions)
            return found, register.origin_ids(connection, self.upstream_id, new_origins)

        if new_dimensions or new_origins:
            dimensions, origins = run(self.engine, enter)
            self._dimensions |= dimensions
            self._origins |= origins
        for labels, dimension in changed.items():
            known = self._known[labels]
            known.dimension_id, known.origin_id = self._dimensions[dimension], self._origins[known.origin]
            known.dimension, known.tariffs = dimension, {}

    def _make_partitions(self, records: Iterable[decode.Record]) -> None:
        """Make the months of these records, and the one that begins soon: then nobody waits for it at midnight."""
        days = {r.occurred_at_ns // DAY_NS for r in records}
        months = {f"{at:%Y-%m}-01" for day in days if (at := EPOCH + timedelta(days=day)) >= self._dropped_before}
        if days:
            months.add(f"{now() + PARTITION_AHEAD:%Y-%m}-01")
        for month in sorted(months - self._months):
            run(self.engine, partial(store.ensure_partition, month=month))
            self._months.add(month)

    def _aside(self, bad: decode.BadRecord) -> store.Aside:
        payload, retryable = decode.set_aside(bad, self.keyring)
        digest = sha256(
            b"\0".join((bad.client_key.encode("utf-8", "replace"), bad.model.encode("utf-8", "replace"), bad.raw))
        )
        return store.Aside(digest.digest()[:16], decode.clean(bad.reason)[:500], payload, retryable)


def tune_gc() -> None:
    """Let Python's garbage collector look seldom: a batch makes many objects that live as long as it, and no cycles.

    With the collector off, decoding a queue item took 12 µs instead of 20.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def open_loader(config: Config, engine: Engine, upstream: str) -> Loader:
    """Return a loader for the upstream called `upstream`, as the configuration wants it."""
    return Loader(
        engine,
        upstream,
        pepper=config.security.pepper.get_secret_value(),
        timezone=config.rollup.timezone,
        match_account=config.channels.match_account,
        prices=config.prices,
    )


def open_pricer(engine: Engine, prices: Prices, zone: ZoneInfo) -> tariff.Pricer:
    """Return a pricer for the prices in force; enter the configured ones, and the dataset where it is newer."""

    def configured(connection: database.Connection) -> tuple[list[int], bool]:
        numbers = tariff.enter_configured(connection, prices.own, zone, now())
        return numbers, prices.dataset and tariff.behind(connection)

    numbers, behind = run(engine, configured)
    if behind:
        synced = sync_prices(engine, dataset.shipped(), newer_only=True)
        log.info("prices.synced", **synced._asdict())
    return tariff.Pricer(use_dataset=prices.dataset, configured=numbers)


def sync_prices(engine: Engine, lists: dataset.Dataset, *, newer_only: bool = False) -> tariff.Synced:
    """Bring the dataset's prices up to these lists, unless those in the table are newer and `newer_only` is said."""
    return run(engine, lambda connection: tariff.sync(connection, lists, now(), newer_only=newer_only))


def now() -> datetime:
    """Return the time of the clock, in UTC."""
    return datetime.now(UTC)


def run(engine: Engine, work: Callable[[database.Connection], T], deadlines: Deadlines = BATCH) -> T:
    """Do `work` in one transaction; again, a few times, when PostgreSQL gave it up in favour of another.

    Raises:
        TransientDatabaseError: that it did each time; with `BATCH` each takes at most some seconds of waiting.
    """
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientDatabaseError),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_exponential_jitter(multiplier=0.05, max=2.0, jitter=0.1),
        reraise=True,
    )
    for attempt in attempts:
        with attempt, database.transaction(engine, deadlines) as connection:
            return work(connection)
    raise AssertionError("tenacity gives up by raising")


def of_credential(provider: str, model: str, resolution: Resolution) -> tokens.Family | None:
    """Return the arithmetic of a record's credential where its provider id tells none; None where the record's holds.

    A snapshot names no provider. Before v7.2.21 an OpenAI-compatible one went by its configured name alone, which may
    be that of another family.
    """
    ids = resolution.providers.split("\n")
    named = ids[0] == directory.COMPATIBILITY and provider.lower() in ids
    if ids == [""] or (provider and not named):
        return None
    return tokens.family(resolution.providers, "", model)


def _halves(decoded: decode.Decoded) -> tuple[decode.Decoded, decode.Decoded]:
    records, half = decoded.records, len(decoded.records) // 2
    return (
        decode.Decoded(records=records[:half], bad=[]),
        decode.Decoded(records=records[half:], bad=decoded.bad, marks=decoded.marks),
    )


def _instant(ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=ns // 1000)


def _instants(span: Span) -> tuple[datetime, datetime]:
    return _instant(span[0]), _instant(span[1])


def _joined(one: Span, other: Span) -> Span:
    return min(one[0], other[0]), max(one[1], other[1])
