"""History put right: records that find their channel late, channels that are one, rollups summed anew.

Every repair moves the rollups with the records, by signed deltas and in the same transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from worker import database, register, rollup, roster, store, tokens
from worker.directory import UNKNOWN
from worker.errors import UsageError
from worker.load import Loader, normalised, run
from worker.register import Dimension
from worker.resolve import Resolution
from worker.tokens import Normalised, Reported

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


# -- late channels ----------------------------------------------------------------------------------------------


def resolve_again(loader: Loader, *, everything: bool = False, dry_run: bool = False) -> Resolved:
    """Look again at the records whose channel is unknown, and correct them and their rollups.

    In batches of a transaction each: when it is interrupted, what is done is done, and the next run does the rest.

    Args:
        loader: the upstream, with the directory to resolve by.
        everything: look at every record. One that has a channel never becomes unknown by it.
        dry_run: only say what would move.
    """
    moves: Counter[Move] = Counter()
    looked_at = 0
    after = (BEGINNING, b"")
    while True:

        def work(connection: database.Connection, after: tuple[datetime, bytes] = after) -> _Step:
            return _step(connection, loader, after, everything=everything, dry_run=dry_run)

        step = run(loader.engine, work)
        moves += step.moves
        looked_at += step.looked_at
        if step.last is None:
            return Resolved(loader.upstream, looked_at, moves)
        after = step.last


def resolve_pending(loader: Loader) -> Resolved | None:
    """Look again at unknown records if the directory learned something since; None when it did not."""
    with database.transaction(loader.engine) as connection:
        if not roster.resolve_pending(connection, loader.upstream_id):
            return None
    done = resolve_again(loader)
    with database.transaction(loader.engine) as connection:  # only now: a pass that dies on the way is made up for
        roster.set_resolve_pending(connection, loader.upstream_id, pending=False)
    return done


class _Step(NamedTuple):
    looked_at: int
    moves: Counter[Move]
    last: tuple[datetime, bytes] | None
    """The key of the last record of a full batch; None when there are no more."""


def _step(
    connection: database.Connection,
    loader: Loader,
    after: tuple[datetime, bytes],
    *,
    everything: bool,
    dry_run: bool,
) -> _Step:
    channel_ids = roster.ids_of_kind(connection, loader.upstream_id, None if everything else "unknown")
    dimensions = register.dimensions_of(connection, channel_ids)
    span = rollup.span_of(connection, list(dimensions)) if dimensions else None
    if span is None:
        return _Step(0, Counter(), None)
    found = store.stored(connection, list(dimensions), span, after, BATCH_RECORDS)
    pending, moves = _changed(connection, loader, found, dimensions, dry_run=dry_run)
    if not dry_run:
        new_ids = register.dimension_ids(connection, {new for _, _, new in pending})
        changed = [(row, after._replace(dimension_id=new_ids[new])) for row, after, new in pending]
        store.move(connection, [new for _, new in changed])
        was = rollup.deltas((old for old, _ in changed), loader.zone)
        becomes = rollup.deltas((new for _, new in changed), loader.zone)
        rollup.apply(connection, rollup.difference(becomes, was))
        database.rollup_timezone(connection, loader.zone.key)
    last = found[-1].row if len(found) == BATCH_RECORDS else None
    return _Step(len(found), moves, (last.occurred_at, last.event_key) if last else None)


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
    guessed = tokens.normalise(reported, tokens.family(dimension.provider, "", dimension.model))
    return normalised(reported, own, dimension.provider, dimension.model, resolution) if own == guessed else own


def _with(row: store.Row, rule: str, counts: Normalised) -> store.Row:
    return row._replace(
        channel_rule=rule,
        uncached_input_tokens=counts.uncached_input,
        cache_read_tokens=counts.cache_read,
        cache_write_tokens=counts.cache_write,
        billed_output_tokens=counts.billed_output,
        unclassified_tokens=counts.unclassified,
    )


# -- linked channels --------------------------------------------------------------------------------------------


def link(engine: Engine, upstream: str, channel_id: int, to: int) -> int:
    """Book a channel on another one, for the past and from now on, in one transaction; return the records moved.

    Raises:
        BusyError: a worker is at this upstream; its batch in hand would still go to the old channel.
        UsageError: a channel is linked to itself, or the other one is linked to it.
    """

    def work(connection: database.Connection) -> int:
        rollup.lock(connection)  # what an import commits meanwhile is summed where it stands, after this
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

    with database.upstream_lock(engine, upstream):
        return run(engine, work)


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
        found = list(rollup.differences(connection, zone, whole[0], until)) if whole else []
        if not dry_run:
            _replace(connection, zone, whole, everything=timezone is not None)
        return Rebuilt(whole, [day for day in days if day not in whole], zone.key, found)

    return run(engine, work)


def _replace(connection: database.Connection, zone: ZoneInfo, days: list[date], *, everything: bool) -> None:
    if everything:
        database.change_setting(connection, "timezone", zone.key)
    rollup.rebuild(connection, zone, days)
