"""Records charged anew by the prices in force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from worker.corrections.walk import BEGINNING, END, Key, change, next_batch, next_key, walk
from worker.db import database, settings
from worker.pricing import price
from worker.rollups import apply as rollups
from worker.rollups.calendar import day_bounds
from worker.storage import channels as stored_channels
from worker.storage import dimensions as stored_dimensions
from worker.storage.pricer import Pricer
from worker.storage.rows import Row
from worker.usage import measures, money


@dataclass
class Repriced:
    """What computing costs anew came to for one model."""

    model: str
    records: int = 0
    changed: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0
    cost_usd_before: Decimal | None = Decimal(0)
    """None, as the others, when something was used and nothing of it has a price."""
    cost_usd_after: Decimal | None = Decimal(0)
    actual_cost_usd_before: Decimal | None = Decimal(0)
    actual_cost_usd_after: Decimal | None = Decimal(0)


@dataclass
class _Costs:
    """Costs of records on one side, in units of 1e-12 US dollars."""

    cost: int = 0
    actual: int = 0
    priced: int = 0
    unpriced: int = 0

    def count(self, row: Row) -> None:
        """Add one record."""
        self.cost += row.charge.cost_pico_usd or 0
        self.actual += row.charge.actual_cost_pico_usd or 0
        self.priced += measures.uses_something(row.charge.cost_pico_usd, row.counts)
        self.unpriced += row.charge.cost_pico_usd is None

    def usd(self, pico: int) -> Decimal | None:
        """Return a sum of costs in US dollars, where it is one."""
        return measures.cost_of(money.usd(pico), priced=self.priced, unpriced=self.unpriced)


class _Repricing:
    """Counts what repricing comes to for one model."""

    def __init__(self) -> None:
        self.records = self.changed = 0
        self.before, self.after = _Costs(), _Costs()

    def count(self, before: Row, after: Row) -> None:
        """Add one record."""
        self.records += 1
        self.changed += before != after
        self.before.count(before)
        self.after.count(after)

    def repriced(self, model: str) -> Repriced:
        """Return what it came to."""
        before, after = self.before, self.after
        return Repriced(
            model, self.records, self.changed, before.unpriced, after.unpriced, before.usd(before.cost),
            after.usd(after.cost), before.usd(before.actual), after.usd(after.actual),
        )  # fmt: skip


class Selection(NamedTuple):
    """Which records are to be charged anew: those of the days `[since, until)`, of models, of one proxy."""

    since: date | None = None
    until: date | None = None
    model: str | None = None
    """A model's name; `*` stands for any characters."""
    upstream: str | None = None
    unpriced: bool = False
    """Only records without a cost: those that have one keep it."""


def reprice(
    engine: Engine,
    pricer: Pricer,
    selection: Selection,
    *,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Repriced]:
    """Charge records anew by the prices in force, and correct the rollups with them; return what came of it by model.

    Each record is charged by the price that holds for the time at which it began. In batches of a transaction each:
    when it is interrupted, what is done is done, and the next run does the rest.
    """
    with database.transaction(engine) as connection:
        zone = ZoneInfo(settings.setting(connection, "timezone") or "UTC")
    found: defaultdict[str, _Repricing] = defaultdict(_Repricing)
    looked_at = 0

    def step(connection: database.Connection, after: Key) -> tuple[list[tuple[str, Row, Row]], Key | None]:
        return _reprice_step(connection, pricer, selection, zone, after, dry_run=dry_run)

    for records in walk(engine, step):
        for model, before, becomes in records:
            found[model].count(before, becomes)
        looked_at += len(records)
        progress(looked_at)
    return [found[model].repriced(model) for model in sorted(found)]


def _reprice_step(
    connection: database.Connection, pricer: Pricer, selection: Selection, zone: ZoneInfo, after: Key, *, dry_run: bool
) -> tuple[list[tuple[str, Row, Row]], Key | None]:
    if not dry_run:
        rollups.lock_to_change(connection)
    channel_ids = [c.channel_id for c in stored_channels.listed(connection, upstream=selection.upstream)]
    dimensions = stored_dimensions.dimensions_of(connection, channel_ids)
    if selection.model is not None:
        dimensions = {i: d for i, d in dimensions.items() if price.named(selection.model, d.model)}
    begin = day_bounds(selection.since, zone)[0] if selection.since else BEGINNING
    end = day_bounds(selection.until, zone)[0] if selection.until else END
    day = rollups.next_day(connection, list(dimensions), zone, max(begin, after[0]))
    if day is None or day[0] >= end:
        return [], None
    within = (max(begin, day[0]), min(end, day[1]))
    found = next_batch(connection, list(dimensions), within, after, unpriced=selection.unpriced)
    pricer.learn(connection, {dimensions[s.row.dimension_id] for s in found})
    records: list[tuple[str, Row, Row]] = []
    for row, _ in found:
        d = dimensions[row.dimension_id]
        tier = price.charged_tier(row.details.service_tier, row.details.response_service_tier)
        charge = pricer.tariff(d, tier).charge(row.occurred_at, row.counts, row.details.cache_write_1h_tokens)
        records.append((d.model, row, row._replace(charge=charge)))
    changed = [(before, becomes) for _, before, becomes in records if before != becomes]
    if changed and not dry_run:
        change(connection, changed, zone)
    return records, next_key(found, day)
