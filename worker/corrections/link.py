"""Channels that are one: the usage of one is booked on the other, for the past and from now on."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.engine import Engine

from worker.db import database
from worker.db.retry import run_transaction
from worker.db.session import LONG
from worker.errors import UsageError
from worker.rollups import apply as rollups
from worker.rollups.deltas import Deltas, difference
from worker.storage import channels as stored_channels
from worker.storage import dimensions as stored_dimensions
from worker.storage import records as stored_records


def link(engine: Engine, upstream: str, channel_id: int, to: int) -> int:
    """Book a channel on another one, for the past and from now on, in one transaction; return the records moved.

    Passes and imports may go on: a batch that was made ready before is made ready anew when it is stored after it.

    Raises:
        UsageError: a channel is linked to itself, or the other one is linked to it.
    """

    def work(connection: database.Connection) -> int:
        rollups.lock(connection)  # after the batches that are just stored, and before those that wait
        listed = {c.channel_id: c for c in stored_channels.listed(connection, upstream=upstream)}
        if "unknown" in (listed[channel_id].kind, listed[to].kind):
            raise UsageError("what is unknown is no channel to link: `worker resolve` looks at its records again")
        target = listed[to].linked_to or to
        if target == channel_id:
            raise UsageError(f"channel {channel_id} cannot be linked to itself")
        old = stored_dimensions.dimensions_of(connection, [channel_id])
        becomes = {i: d._replace(channel_id=target) for i, d in old.items()}
        new_ids = stored_dimensions.dimension_ids(connection, set(becomes.values()))
        moved = _book(connection, {i: new_ids[d] for i, d in becomes.items()})
        stored_channels.link(connection, channel_id, target)
        return moved

    return run_transaction(engine, work, LONG)


def _book(connection: database.Connection, new_ids: Mapping[int, int]) -> int:
    """Move everything that stands under some dimensions to others."""
    span = rollups.span_of(connection, list(new_ids)) if new_ids else None
    if span is None:
        return 0
    was = rollups.of_dimensions(connection, list(new_ids))
    becomes = Deltas(
        {(hour, new_ids[i]): measures for (hour, i), measures in was.hourly.items()},
        {(day, new_ids[i]): measures for (day, i), measures in was.daily.items()},
    )
    moved = stored_records.move_dimensions(connection, new_ids, span)
    rollups.apply(connection, difference(becomes, was))
    return moved
