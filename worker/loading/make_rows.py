"""Records into rows: what they name by its number, their exclusive counts, their cost, their event key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from worker.cliproxyapi.payload import Labels, Record
from worker.clock import now
from worker.db import database
from worker.db.retry import run_transaction
from worker.db.session import SHORT
from worker.loading.names import EPOCH, Known, Names, instant
from worker.loading.target import Target
from worker.pricing import price
from worker.storage import records, upstreams
from worker.storage.pricer import Pricer
from worker.storage.rows import Details, Row
from worker.usage import tokens

ALWAYS = datetime.min.replace(tzinfo=UTC)
DAY_NS = 86_400 * 10**9
PARTITION_AHEAD = timedelta(days=3)
"""How long before it begins a month gets its partition."""


class RowMaker:
    """Makes rows of one upstream's records, and the partitions that they go to."""

    def __init__(self, target: Target, names: Names, pricer: Pricer) -> None:
        """Look names up in `names`, and charge by `pricer`."""
        self._target, self._names, self._pricer = target, names, pricer
        self._months: set[str] = set()
        with database.transaction(target.engine, SHORT) as connection:
            self._dropped_before = upstreams.records_dropped_before(connection, target.upstream_id) or ALWAYS

    def make_rows(self, found: Sequence[Record]) -> list[Row]:
        """Return the records as rows; what is new of their names and months is entered."""
        times: defaultdict[Labels, list[int]] = defaultdict(list)
        for r in found:
            times[r.labels].append(r.occurred_at_ns)
        self._make_partitions(found)
        self._names.enter({labels: (min(ns), max(ns)) for labels, ns in times.items()})
        known = {labels: self._names.look_up(labels) for labels in times}
        return [self._row(r, known[r.labels]) for r in found]

    def _row(self, r: Record, known: Known) -> Row:
        at, counts = instant(r.occurred_at_ns), r.normalised
        if known.convention is not None and not r.classified:
            counts = tokens.normalise(r.reported, known.convention)
        tier = price.charged_tier(r.service_tier, r.response_service_tier)
        charged_by = known.tariffs.get(tier)
        if charged_by is None:
            charged_by = known.tariffs[tier] = self._pricer.tariff(known.dimension, tier)
        charge = charged_by.charge(at, counts, r.cache_write_1h_tokens)
        event_key, base_key = self._keys(r, known)
        details = Details(
            r.status_code, r.request_id, r.service_tier, r.response_service_tier, r.reasoning_effort, r.error,
            r.execution_id or None, r.stream, r.session_id or None, r.parent_session_id or None,
            r.response_model or None, r.cache_write_1h_tokens,
        )  # fmt: skip
        return Row(
            at, event_key, base_key, known.dimension_id, known.origin_id, known.resolution.rule,
            r.latency_ms, r.ttft_ms, r.reported.counts, counts, details, charge,
        )  # fmt: skip

    def _keys(self, r: Record, known: Known) -> tuple[bytes, bytes | None]:
        """Return a record's event key, and what it goes by without its execution id and place among equal ones."""
        event_key = self._target.keyring.event_key
        if not r.execution_id and not r.ordinal:
            return event_key(r.identity(known.head, known.tail)), None
        own = r.execution(self._target.upstream) if r.execution_id else r.identity(known.head, known.tail)
        return event_key(own), event_key(r.identity(known.head, known.tail, 0))

    def _make_partitions(self, found: Iterable[Record]) -> None:
        """Make the months of these records, and the one that begins soon: then nobody waits for it at midnight."""
        days = {r.occurred_at_ns // DAY_NS for r in found}
        months = {f"{at:%Y-%m}-01" for day in days if (at := EPOCH + timedelta(days=day)) >= self._dropped_before}
        if days:
            months.add(f"{now() + PARTITION_AHEAD:%Y-%m}-01")
        for month in sorted(months - self._months):
            run_transaction(self._target.engine, partial(records.ensure_partition, month=month))
            self._months.add(month)
