"""A batch into the database: made ready, then stored in one transaction with its rollups and its quarantine.

A batch that is loaded again changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import NamedTuple

import structlog
from sqlalchemy.engine import Engine

from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.directory import Directory
from worker.clock import now
from worker.config import Config, Prices
from worker.db import database, settings
from worker.db.retry import run_transaction
from worker.errors import BatchRefusedError, RefusedError
from worker.loading import refused
from worker.loading.make_rows import RowMaker
from worker.loading.names import Names
from worker.loading.pass_result import PassResult
from worker.loading.prices import open_pricer
from worker.loading.target import open_target
from worker.rollups import apply as rollups
from worker.rollups.deltas import deltas
from worker.storage import batches, channels, executions, quarantine, records, runs, upstreams
from worker.storage.quarantine import QuarantinedRecord
from worker.storage.rows import Row

log: structlog.stdlib.BoundLogger = structlog.get_logger()
NO_OWN_PRICES = Prices()


class Batch(NamedTuple):
    """A batch that is ready to be stored: its records as rows, and what is quarantined of it."""

    decoded: decode.Decoded
    rows: list[Row]
    bad: list[QuarantinedRecord]
    links: int = 0
    """How many links of channels the upstream had seen when its records were given their channels."""
    refused: str = ""
    """Why PostgreSQL refuses a name in it; there are no rows then."""
    ordinals: Mapping[bytes, int] = {}
    """The places of rows among equal ones of their payload, by event key, where they are not the first."""


class Arrival(NamedTuple):
    """As what a batch is stored."""

    entry_id: str
    """A batch that was loaded under this id before changes nothing."""
    released: Sequence[int] = ()
    """Records of the quarantine that it brings in."""
    possible_loss: int = 0
    """Answers of which something may be lost, counted with it."""


class _Outcome(NamedTuple):
    """What storing a batch came to."""

    kept: list[Row]
    """What is not too old."""
    new: list[Row]
    quarantined: int


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
        """Read what belongs to the database and the last good directory; enter new prices.

        Raises:
            ConfigError: pepper or time zone are not the database's.
            DatabaseError: it cannot be reached.
        """
        self.target = open_target(engine, upstream, pepper=pepper, timezone=timezone)
        self.pricer = open_pricer(engine, prices, self.target.zone)
        self.names = Names(self.target, self.pricer, match_account=match_account)
        self._rows = RowMaker(self.target, self.names, self.pricer)
        self.run_id: int | None = None
        """The pass that batches are counted with."""
        self._naming = threading.RLock()
        """Held by who looks names up, or changes what they are looked up in."""
        self._all_new = True
        """Whether the last batch was all new, so that the next one is expected to be."""

    def use(self, new: Directory) -> None:
        """Resolve by another directory from now on."""
        with self._naming:
            self.names.use(new)

    def load(self, entry_id: str, decoded: decode.Decoded, result: PassResult, released: Sequence[int] = ()) -> None:
        """Make a batch ready and store it; see `prepare` and `commit`."""
        self.commit(Arrival(entry_id, released), self.prepare(decoded), result)

    def prepare(self, decoded: decode.Decoded) -> Batch:
        """Make a batch ready to be stored: enter the names that are new in it, and make its records rows."""
        bad = [self._quarantined(one) for one in decoded.bad]
        with self._naming:
            try:
                links = self._links()  # before the channels are looked up: then it is never too new
                rows = self._rows.make_rows(decoded.records)
                pairs = zip(decoded.records, rows, strict=True)
                ordinals = {row.event_key: record.ordinal for record, row in pairs if record.ordinal}
                return Batch(decoded, rows, bad, links, ordinals=ordinals)
            except RefusedError as e:
                return Batch(decoded, [], bad, refused=str(e))

    def commit(self, arrival: Arrival, batch: Batch, result: PassResult) -> None:
        """Store a batch with its rollups and what is quarantined of it, in one transaction; count it in `result`.

        A record that PostgreSQL refuses is quarantined with what it says of it; one that was released stays there.

        Raises:
            BatchRefusedError: it refuses a record that holds nothing, too, or each of many in the same words. Nothing
                is quarantined then.
        """
        reason = self._store(arrival, batch, result)
        if not reason:
            return
        found = len(batch.decoded.records)
        log.warning("record.refused", records=found, reason=reason)
        refused.require_takes_anything(self.target, batch.decoded)
        if arrival.released:
            result.pulled += found
            result.quarantined += found
            return
        alone = refused.apart(arrival.entry_id, batch.decoded, reason, partial(self._store_part, result))
        refused.require_not_alike(alone, found)
        for name, part, said in alone:
            bad = [*part.bad, *(decode.refused(record, said) for record in part.records)]
            rest = self.prepare(decode.Decoded(records=[], bad=bad, cursors=part.cursors))
            if again := self._store(Arrival(f"{name}.0"), rest, result):
                raise BatchRefusedError(f"what was quarantined cannot be kept either: {again}")

    def _store_part(self, result: PassResult, name: str, part: decode.Decoded) -> str:
        return self._store(Arrival(name), self.prepare(part), result)

    def _store(self, arrival: Arrival, batch: Batch, result: PassResult) -> str:
        """Store a batch; return in which words PostgreSQL refuses a value of it, or nothing where it is stored."""
        while not batch.refused:
            try:
                work = partial(self._transaction, arrival=arrival, batch=batch)
                outcome = run_transaction(self.target.engine, work)
            except _RelinkedError:
                batch = self.prepare(batch.decoded)
            except RefusedError as e:
                return str(e)
            else:
                self._count(arrival, batch, outcome, result)
                return ""
        return batch.refused

    def _transaction(self, connection: database.Connection, arrival: Arrival, batch: Batch) -> _Outcome | None:
        """Store a batch; None where it was loaded before."""
        target = self.target
        rollups.lock_to_change(connection)
        if channels.links(connection, target.upstream_id) != batch.links:
            raise _RelinkedError
        pulled = len(batch.rows) + len(batch.bad)
        batch_id = batches.begin_batch(connection, arrival.entry_id, target.upstream_id, self.run_id, now(), pulled)
        if batch_id is None:
            return None
        upstreams.keep_records(connection)
        dropped_before = upstreams.records_dropped_before(connection, target.upstream_id)
        kept = [row for row in batch.rows if row.occurred_at >= dropped_before] if dropped_before else batch.rows
        told = executions.sort_out(connection, target.upstream_id, kept, batch.ordinals)
        executions.give_ids(connection, told.named)
        expected, self._all_new = self._all_new, False  # tried again, it goes the way that finds out
        new = records.insert_records(connection, batch_id, told.store, all_new=expected)
        rollups.apply(connection, deltas(new, target.zone))
        # ReportFilter after the rollups are locked: a rebuild for another zone may have come between.
        settings.rollup_timezone(connection, target.zone.key)
        quarantined = quarantine.quarantine(connection, target.upstream_id, batch.bad, now())
        if len(kept) == len(batch.rows):  # what is too old stays where it is
            quarantine.drop_quarantined(connection, arrival.released)
        upstreams.save_snapshot_cursors(connection, target.upstream_id, batch.decoded.cursors)
        if arrival.possible_loss:
            runs.count_possible_loss(connection, self.run_id, arrival.possible_loss)
        newest = batches.newest((row.occurred_at for row in new), now())
        batches.finish_batch(connection, batch_id, target.upstream_id, len(new), quarantined, *newest)
        return _Outcome(kept, new, quarantined)

    def _count(self, arrival: Arrival, batch: Batch, outcome: _Outcome | None, result: PassResult) -> None:
        if outcome is None:
            result.replayed += 1
            return
        kept, new, quarantined = outcome
        too_old = len(batch.rows) - len(kept)
        self._all_new = len(new) == len(kept)
        result.pulled += len(batch.rows) + len(batch.bad)
        result.inserted += len(new)
        result.duplicates += len(kept) - len(new)
        result.too_old += too_old
        result.quarantined += quarantined + (too_old if arrival.released else 0)
        result.unknown_channel += sum(row.channel_rule in ("none", "ambiguous") for row in new)

    def _links(self) -> int:
        with database.transaction(self.target.engine) as connection:
            return channels.links(connection, self.target.upstream_id)

    def _quarantined(self, bad: decode.BadRecord) -> QuarantinedRecord:
        payload, retryable = decode.quarantine(bad, self.target.keyring)
        digest = sha256(
            b"\0".join((bad.client_key.encode("utf-8", "replace"), bad.model.encode("utf-8", "replace"), bad.raw))
        )
        return QuarantinedRecord(digest.digest()[:16], decode.clean(bad.reason)[:500], payload, retryable)


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
