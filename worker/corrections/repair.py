"""History put right: records that find their channel late, channels that are one, rollups summed anew.

Every repair moves the rollups with the records, by signed deltas and in the same transaction.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from worker.channels.resolve import Resolution
from worker.cliproxyapi.directory import UNKNOWN
from worker.db import database
from worker.db.session import LONG
from worker.errors import UsageError
from worker.loading.load import Loader, of_credential, run
from worker.pricing import price
from worker.rollups import rollup
from worker.storage import register, roster, store
from worker.storage.register import Dimension
from worker.storage.tariff import Pricer
from worker.usage import measures, tokens
from worker.usage.tokens import Normalised, Reported

BATCH_RECORDS = 5000
NOT_THERE_YET = 0
"""Stands in a dry run for a channel that the proxy lists and no pass has entered yet."""

BEGINNING, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class Move(NamedTuple):
    """From which channel to which, found how."""

    from_channel: str
    to_channel: str
    rule: str


class Resolved(NamedTuple):
    """What looking again came to: how many records were looked at, and how many moved by each move."""

    upstream: str
    looked_at: int
    moves: Mapping[Move, int]


Key = tuple[datetime, bytes]
"""What records are walked by: when one occurred, and its event key."""

Done = TypeVar("Done")


def _walk(engine: Engine, step: Callable[[database.Connection, Key], tuple[Done, Key | None]]) -> Iterator[Done]:
    """Go through records in batches of a transaction each, and yield what each came to.

    When it is interrupted, what is done is done, and walking again does the rest. A step returns the key to go on
    behind; None when there are no more. It looks at one day at most, and at none without records that it wants: what
    it costs is told by them, not by all of history.
    """
    after: Key | None = (BEGINNING, b"")
    while after is not None:

        def work(connection: database.Connection, after: Key = after) -> tuple[Done, Key | None]:
            return step(connection, after)

        done, after = run(engine, work)
        yield done


def _next(found: Sequence[store.Stored], day: tuple[datetime, datetime]) -> Key:
    """Return where to go on: behind the last record, or behind the day when it has no more."""
    return (found[-1].row.occurred_at, found[-1].row.event_key) if len(found) == BATCH_RECORDS else (day[1], b"")


def _change(connection: database.Connection, changed: Sequence[tuple[store.Row, store.Row]], zone: ZoneInfo) -> None:
    """Make stored records what they are to be, and the rollups with them, from (before, after)."""
    store.move(connection, [after for _, after in changed])
    was = rollup.deltas((before for before, _ in changed), zone)
    becomes = rollup.deltas((after for _, after in changed), zone)
    rollup.apply(connection, rollup.difference(becomes, was))
    database.rollup_timezone(connection, zone.key)


# -- late channels ----------------------------------------------------------------------------------------------


def resolve_again(
    loader: Loader, *, everything: bool = False, dry_run: bool = False, stopping: threading.Event | None = None
) -> Resolved:
    """Look again at the records whose channel is unknown, and correct them and their rollups.

    In batches of a transaction each: when it is interrupted, what is done is done, and the next run does the rest.

    Args:
        loader: the upstream, with the directory to resolve by.
        everything: look at every record. One that has a channel never becomes unknown by it.
        dry_run: only say what would move.
        stopping: ends it after the batch in hand, once it is set.
    """
    moves: Counter[Move] = Counter()
    looked_at = 0

    def step(connection: database.Connection, after: Key) -> tuple[tuple[int, Counter[Move]], Key | None]:
        return _resolve_step(connection, loader, after, everything=everything, dry_run=dry_run)

    for records, moved in _walk(loader.engine, step):
        moves += moved
        looked_at += records
        if stopping is not None and stopping.is_set():
            break
    return Resolved(loader.upstream, looked_at, moves)


def resolve_pending(loader: Loader, stopping: threading.Event) -> Resolved | None:
    """Look again at unknown records if the directory learned something since; None when it did not.

    Once `stopping` is set, it ends early, and stays to be done.
    """
    with database.transaction(loader.engine) as connection:
        if not roster.resolve_pending(connection, loader.upstream_id):
            return None
    done = resolve_again(loader, stopping=stopping)
    if stopping.is_set():
        return done
    with database.transaction(loader.engine) as connection:  # only now: a pass that dies on the way is made up for
        roster.set_resolve_pending(connection, loader.upstream_id, pending=False)
    return done


def _resolve_step(
    connection: database.Connection, loader: Loader, after: Key, *, everything: bool, dry_run: bool
) -> tuple[tuple[int, Counter[Move]], Key | None]:
    if not dry_run:
        rollup.lock_to_change(connection)
    channel_ids = roster.ids_of_kind(connection, loader.upstream_id, None if everything else "unknown")
    dimensions = register.dimensions_of(connection, channel_ids)
    day = rollup.next_day(connection, list(dimensions), loader.zone, after[0])
    if day is None:
        return (0, Counter()), None
    found = store.stored(connection, list(dimensions), day, after, BATCH_RECORDS)
    pending, moves = _changed(connection, loader, found, dimensions, dry_run=dry_run)
    if not dry_run:
        _change(connection, _booked(connection, loader, pending), loader.zone)
    return (len(found), moves), _next(found, day)


def _booked(
    connection: database.Connection, loader: Loader, pending: Sequence[tuple[store.Row, store.Row, Dimension]]
) -> list[tuple[store.Row, store.Row]]:
    """Return (before, after) of records that go to other dimensions, charged as there."""
    new_ids = register.dimension_ids(connection, {new for _, _, new in pending})
    loader.pricer.learn(connection, new_ids, {row.price_id for row, _, _ in pending if row.price_id is not None})
    changed: list[tuple[store.Row, store.Row]] = []
    for row, after, new in pending:
        counts = Normalised(*after[8:13])
        tier = price.charged_tier(row.service_tier, row.response_service_tier)
        charge = loader.pricer.recharge(new, tier, row.occurred_at, counts, row.price_id, row.cache_write_1h_tokens)
        changed.append((row, after._replace(dimension_id=new_ids[new], **charge._asdict())))
    return changed


def _changed(
    connection: database.Connection,
    loader: Loader,
    found: Sequence[store.Stored],
    dimensions: Mapping[int, Dimension],
    *,
    dry_run: bool,
) -> tuple[list[tuple[store.Row, store.Row, Dimension]], Counter[Move]]:
    """Return (before, after, its dimension) of the records that another channel or other counts belong to now."""
    names = {c.channel_id: c.channel for c in roster.listed(connection, upstream=loader.upstream)}
    seen = {(s.origin, dimensions[s.row.dimension_id].provider) for s in found}
    resolved = {pair: loader.resolve(*pair, fresh=False) for pair in seen}
    channels = {r.channel for r in resolved.values() if r.channel != UNKNOWN}
    if dry_run:
        ids = roster.booked_ids(connection, loader.upstream_id, channels)
    else:
        ids = roster.channel_ids(connection, loader.upstream_id, dict.fromkeys(channels, (END, BEGINNING)))
    pending: list[tuple[store.Row, store.Row, Dimension]] = []
    moves: Counter[Move] = Counter()
    for row, origin in found:
        old = dimensions[row.dimension_id]
        resolution = resolved[origin, old.provider]
        if resolution.channel == UNKNOWN:
            continue
        channel = resolution.channel
        new = old._replace(channel_id=ids.get((channel.kind, channel.identity), NOT_THERE_YET))
        counts = _counts(row, old, resolution)
        if new != old or counts != row[8:13]:
            pending.append((row, _with(row, resolution.rule, counts), new))
            to = names.get(new.channel_id, channel.name)
            moves[Move(names[old.channel_id], to, resolution.rule)] += 1
    return pending, moves


def _counts(row: store.Row, dimension: Dimension, resolution: Resolution) -> Normalised:
    """Return a record's exclusive counts, now that its credential is known.

    They stay where they came from more than the five reported counts, of which alone the credential could judge.
    """
    reported, own = Reported(*row[3:8], None, None), Normalised(*row[8:13])
    of = of_credential(dimension.provider, dimension.model, resolution)
    guessed = tokens.normalise(reported, tokens.family(dimension.provider, "", dimension.model))
    return own if of is None or own != guessed else tokens.normalise(reported, of)


def _with(row: store.Row, rule: str, counts: Normalised) -> store.Row:
    return row._replace(
        channel_rule=rule,
        uncached_input_tokens=counts.uncached_input,
        cache_read_tokens=counts.cache_read,
        cache_write_tokens=counts.cache_write,
        billed_output_tokens=counts.billed_output,
        unclassified_tokens=counts.unclassified,
    )


# -- costs ------------------------------------------------------------------------------------------------------


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

    def count(self, row: store.Row) -> None:
        """Add one record."""
        self.cost += row.cost_pico_usd or 0
        self.actual += row.actual_cost_pico_usd or 0
        self.priced += measures.uses_something(row.cost_pico_usd, Normalised(*row[8:13]))
        self.unpriced += row.cost_pico_usd is None

    def usd(self, pico: int) -> Decimal | None:
        """Return a sum of costs in US dollars, where it is one."""
        return measures.cost_of(price.usd(pico), priced=self.priced, unpriced=self.unpriced)


class _Repricing:
    """Counts what repricing comes to for one model."""

    def __init__(self) -> None:
        self.records = self.changed = 0
        self.before, self.after = _Costs(), _Costs()

    def count(self, before: store.Row, after: store.Row) -> None:
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
        zone = ZoneInfo(database.setting(connection, "timezone") or "UTC")
    found: defaultdict[str, _Repricing] = defaultdict(_Repricing)
    looked_at = 0

    def step(connection: database.Connection, after: Key) -> tuple[list[tuple[str, store.Row, store.Row]], Key | None]:
        return _reprice_step(connection, pricer, selection, zone, after, dry_run=dry_run)

    for records in _walk(engine, step):
        for model, before, becomes in records:
            found[model].count(before, becomes)
        looked_at += len(records)
        progress(looked_at)
    return [found[model].repriced(model) for model in sorted(found)]


def _reprice_step(
    connection: database.Connection, pricer: Pricer, selection: Selection, zone: ZoneInfo, after: Key, *, dry_run: bool
) -> tuple[list[tuple[str, store.Row, store.Row]], Key | None]:
    if not dry_run:
        rollup.lock_to_change(connection)
    channel_ids = [c.channel_id for c in roster.listed(connection, upstream=selection.upstream)]
    dimensions = register.dimensions_of(connection, channel_ids)
    if selection.model is not None:
        dimensions = {i: d for i, d in dimensions.items() if price.named(selection.model, d.model)}
    begin = rollup.day_bounds(selection.since, zone)[0] if selection.since else BEGINNING
    end = rollup.day_bounds(selection.until, zone)[0] if selection.until else END
    day = rollup.next_day(connection, list(dimensions), zone, max(begin, after[0]))
    if day is None or day[0] >= end:
        return [], None
    within = (max(begin, day[0]), min(end, day[1]))
    found = store.stored(connection, list(dimensions), within, after, BATCH_RECORDS, unpriced=selection.unpriced)
    pricer.learn(connection, {dimensions[s.row.dimension_id] for s in found})
    records: list[tuple[str, store.Row, store.Row]] = []
    for row, _ in found:
        d = dimensions[row.dimension_id]
        tier = price.charged_tier(row.service_tier, row.response_service_tier)
        charge = pricer.tariff(d, tier).charge(row.occurred_at, Normalised(*row[8:13]), row.cache_write_1h_tokens)
        records.append((d.model, row, row._replace(**charge._asdict())))
    changed = [(before, becomes) for _, before, becomes in records if before != becomes]
    if changed and not dry_run:
        _change(connection, changed, zone)
    return records, _next(found, day)


# -- linked channels --------------------------------------------------------------------------------------------


def link(engine: Engine, upstream: str, channel_id: int, to: int) -> int:
    """Book a channel on another one, for the past and from now on, in one transaction; return the records moved.

    Passes and imports may go on: a batch that was made ready before is made ready anew when it is stored after it.

    Raises:
        UsageError: a channel is linked to itself, or the other one is linked to it.
    """

    def work(connection: database.Connection) -> int:
        rollup.lock(connection)  # after the batches that are just stored, and before those that wait
        listed = {c.channel_id: c for c in roster.listed(connection, upstream=upstream)}
        if "unknown" in (listed[channel_id].kind, listed[to].kind):
            raise UsageError("what is unknown is no channel to link: `worker resolve` looks at its records again")
        target = listed[to].linked_to or to
        if target == channel_id:
            raise UsageError(f"channel {channel_id} cannot be linked to itself")
        old = register.dimensions_of(connection, [channel_id])
        becomes = {i: d._replace(channel_id=target) for i, d in old.items()}
        new_ids = register.dimension_ids(connection, set(becomes.values()))
        moved = _book(connection, {i: new_ids[d] for i, d in becomes.items()})
        roster.link(connection, channel_id, target)
        return moved

    return run(engine, work, LONG)


def _book(connection: database.Connection, new_ids: Mapping[int, int]) -> int:
    """Move everything that stands under some dimensions to others."""
    span = rollup.span_of(connection, list(new_ids)) if new_ids else None
    if span is None:
        return 0
    was = rollup.of_dimensions(connection, list(new_ids))
    becomes = rollup.Deltas(
        {(hour, new_ids[i]): measures for (hour, i), measures in was.hourly.items()},
        {(day, new_ids[i]): measures for (day, i), measures in was.daily.items()},
    )
    moved = store.move_dimensions(connection, new_ids, span)
    rollup.apply(connection, rollup.difference(becomes, was))
    return moved


# -- rollups ----------------------------------------------------------------------------------------------------


class Rebuilt(NamedTuple):
    """What a rebuild did: the days it summed, and the sums that were different before."""

    days: list[date]
    skipped: list[date]
    """Days that were left alone, since some of their records are no longer here."""
    timezone: str
    differences: list[rollup.Difference]


def rebuild(
    engine: Engine,
    *,
    since: date | None = None,
    until: date | None = None,
    timezone: str | None = None,
    dry_run: bool = False,
) -> Rebuilt:
    """Sum the rollups of the days `[since, until)` anew from their records.

    Args:
        engine: the database.
        since: the first day; from the beginning when None.
        until: the day after the last; to the end when None.
        timezone: cut all days by this zone from now on; only for all of history at once.
        dry_run: only say what would change.

    Raises:
        UsageError: another time zone is asked for while records of some days are gone, or for a part of history.
    """
    if timezone is not None and (since or until):
        raise UsageError("--timezone cuts every day anew: leave out --since and --until")
    database.schema_version(engine)  # refuses one that is newer than this program

    def work(connection: database.Connection) -> Rebuilt:
        rollup.lock(connection)
        zone = ZoneInfo(timezone or database.setting(connection, "timezone") or "UTC")
        complete_from = register.records_complete_from(connection)
        if timezone is not None and complete_from is not None:
            raise UsageError(f"records before {complete_from} are gone: their days cannot be cut by another time zone")
        days = rollup.covered_days(connection, zone, since, until)
        whole = [day for day in days if complete_from is None or day >= complete_from]
        found = list(rollup.differences(connection, zone, days[0], until)) if days else []
        if not dry_run:
            _replace(connection, zone, days, whole, everything=timezone is not None)
        return Rebuilt(whole, [day for day in days if day not in whole], zone.key, found)

    return run(engine, work, LONG)


def _replace(
    connection: database.Connection, zone: ZoneInfo, days: list[date], whole: list[date], *, everything: bool
) -> None:
    if everything:
        database.change_setting(connection, "timezone", zone.key)
    rollup.rebuild(connection, zone, days, whole)
