"""Records that find their channel late: those that are unknown are looked at again by what is listed now."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from worker.channels.resolve import Resolution
from worker.cliproxyapi.directory import UNKNOWN
from worker.corrections.walk import BEGINNING, END, Key, change, next_batch, next_key, walk
from worker.db import database
from worker.loading.load import Loader
from worker.loading.names import of_credential
from worker.pricing import price
from worker.rollups import apply as rollups
from worker.storage import channels as stored_channels
from worker.storage import credentials
from worker.storage import dimensions as stored_dimensions
from worker.storage.rows import Dimension, Row, Stored
from worker.usage import tokens
from worker.usage.tokens import Normalised, Reported

NOT_THERE_YET = 0
"""Stands in a dry run for a channel that the proxy lists and no pass has entered yet."""


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

    for records, moved in walk(loader.target.engine, step):
        moves += moved
        looked_at += records
        if stopping is not None and stopping.is_set():
            break
    return Resolved(loader.target.upstream, looked_at, moves)


def resolve_pending(loader: Loader, stopping: threading.Event) -> Resolved | None:
    """Look again at unknown records if the directory learned something since; None when it did not.

    Once `stopping` is set, it ends early, and stays to be done.
    """
    with database.transaction(loader.target.engine) as connection:
        if not credentials.resolve_pending(connection, loader.target.upstream_id):
            return None
    done = resolve_again(loader, stopping=stopping)
    if stopping.is_set():
        return done
    # Only now: a pass that dies on the way is made up for.
    with database.transaction(loader.target.engine) as connection:
        credentials.set_resolve_pending(connection, loader.target.upstream_id, pending=False)
    return done


def _resolve_step(
    connection: database.Connection, loader: Loader, after: Key, *, everything: bool, dry_run: bool
) -> tuple[tuple[int, Counter[Move]], Key | None]:
    if not dry_run:
        rollups.lock_to_change(connection)
    channel_ids = stored_channels.ids_of_kind(connection, loader.target.upstream_id, None if everything else "unknown")
    dimensions = stored_dimensions.dimensions_of(connection, channel_ids)
    day = rollups.next_day(connection, list(dimensions), loader.target.zone, after[0])
    if day is None:
        return (0, Counter()), None
    found = next_batch(connection, list(dimensions), day, after)
    pending, moves = _changed(connection, loader, found, dimensions, dry_run=dry_run)
    if not dry_run:
        change(connection, _booked(connection, loader, pending), loader.target.zone)
    return (len(found), moves), next_key(found, day)


def _booked(
    connection: database.Connection,
    loader: Loader,
    pending: Sequence[tuple[Row, Row, Dimension]],
) -> list[tuple[Row, Row]]:
    """Return (before, after) of records that go to other dimensions, charged as there."""
    new_ids = stored_dimensions.dimension_ids(connection, {new for _, _, new in pending})
    loader.pricer.learn(
        connection, new_ids, {row.charge.price_id for row, _, _ in pending if row.charge.price_id is not None}
    )
    changed: list[tuple[Row, Row]] = []
    for row, after, new in pending:
        tier = price.charged_tier(row.details.service_tier, row.details.response_service_tier)
        charge = loader.pricer.recharge(
            new, tier, row.occurred_at, after.counts, row.charge.price_id, row.details.cache_write_1h_tokens
        )
        changed.append((row, after._replace(dimension_id=new_ids[new], charge=charge)))
    return changed


def _changed(
    connection: database.Connection,
    loader: Loader,
    found: Sequence[Stored],
    dimensions: Mapping[int, Dimension],
    *,
    dry_run: bool,
) -> tuple[list[tuple[Row, Row, Dimension]], Counter[Move]]:
    """Return (before, after, its dimension) of the records that another channel or other counts belong to now."""
    names = {c.channel_id: c.channel for c in stored_channels.listed(connection, upstream=loader.target.upstream)}
    seen = {(s.origin, dimensions[s.row.dimension_id].provider) for s in found}
    resolved = {pair: loader.names.resolve(*pair, fresh=False) for pair in seen}
    channels = {r.channel for r in resolved.values() if r.channel != UNKNOWN}
    if dry_run:
        ids = stored_channels.booked_ids(connection, loader.target.upstream_id, channels)
    else:
        ids = stored_channels.channel_ids(
            connection, loader.target.upstream_id, dict.fromkeys(channels, (END, BEGINNING))
        )
    pending: list[tuple[Row, Row, Dimension]] = []
    moves: Counter[Move] = Counter()
    for row, origin in found:
        old = dimensions[row.dimension_id]
        resolution = resolved[origin, old.provider]
        if resolution.channel == UNKNOWN:
            continue
        channel = resolution.channel
        new = old._replace(channel_id=ids.get((channel.kind, channel.identity), NOT_THERE_YET))
        counts = _counts(row, old, resolution)
        if new != old or counts != row.counts:
            pending.append((row, row._replace(channel_rule=resolution.rule, counts=counts), new))
            to = names.get(new.channel_id, channel.name)
            moves[Move(names[old.channel_id], to, resolution.rule)] += 1
    return pending, moves


def _counts(row: Row, dimension: Dimension, resolution: Resolution) -> Normalised:
    """Return a record's exclusive counts, now that its credential is known.

    They stay where they came from more than the five reported counts, of which alone the credential could judge.
    """
    reported, own = Reported(*row.reported, cache_read=None, cache_write=None), row.counts
    of = of_credential(dimension.provider, dimension.model, resolution)
    guessed = tokens.normalise(reported, tokens.convention(dimension.provider, "", dimension.model))
    return own if of is None or own != guessed else tokens.normalise(reported, of)
