"""A batch that PostgreSQL refuses: which of its records are at fault, and whether any is.

A plain record is tried in their place, and taken back at once. Where that is refused, too, a record holds nothing that
could be wrong: the fault is one of the program or the server.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NoReturn

from worker.cliproxyapi.directory import UNKNOWN
from worker.cliproxyapi.payload import Decoded
from worker.clock import now
from worker.db import database
from worker.db.session import BATCH
from worker.errors import BatchRefusedError, RefusedError
from worker.loading.names import instant
from worker.loading.target import Target
from worker.rollups import apply as rollups
from worker.rollups.deltas import deltas
from worker.storage import batches, channels, client_keys, dimensions, quarantine, records, rows
from worker.storage.rows import empty_row

ALIKE = 10
"""So many records, and no other, of one batch may be at fault in the same words."""
ALL_REFUSED = (
    "The records stay where they are, and every pass tries again. Look into the server's log and for what was changed "
    "in the schema; if there is nothing, update the worker, or report this as a fault of it."
)

Part = tuple[str, Decoded, str]
"""A part of a batch that is refused: its name, its one record or what was bad before, and why."""


def apart(name: str, decoded: Decoded, reason: str, store: Callable[[str, Decoded], str]) -> list[Part]:
    """Store what can be stored of a batch that was refused; return the rest record by record, with the reason.

    The names of its parts are always the same ones: what was loaded of it is not loaded again.

    Args:
        name: the batch's.
        decoded: what is in it.
        reason: in which words it was refused.
        store: stores a part under a name and returns in which words it was refused, or nothing.
    """
    if len(decoded.records) <= 1:
        return [(name, decoded, reason)]
    alone: list[Part] = []
    for number, part in enumerate(_halves(decoded)):
        of_part = f"{name}.{number}"
        if said := store(of_part, part):
            alone += apart(of_part, part, said, store)
    return alone


def _halves(decoded: Decoded) -> tuple[Decoded, Decoded]:
    found, half = decoded.records, len(decoded.records) // 2
    return (
        Decoded(records=found[:half], bad=[]),
        Decoded(records=found[half:], bad=decoded.bad, cursors=decoded.cursors),
    )


def require_not_alike(alone: Sequence[Part], found: int) -> None:
    """Make sure that of `found` records not each of many is refused in the same words.

    Raises:
        BatchRefusedError: it is, so that none of them is at fault.
    """
    if len(alone) == found > ALIKE and len({reason for _, _, reason in alone}) == 1:
        raise BatchRefusedError(
            f"each of {found} records is refused alike, so that none of them is at fault: {alone[0][2]}. {ALL_REFUSED}"
        )


def require_takes_anything(target: Target, decoded: Decoded) -> None:
    """Make sure that PostgreSQL takes a record that holds nothing but the time of these.

    The database is left as it was, but for numbers of its sequences.

    Raises:
        BatchRefusedError: it does not.
        DatabaseError: the database does not work.
    """
    # What is wrong with a partition or a day concerns those of that time alone.
    at = instant(decoded.records[0].occurred_at_ns) if decoded.records else now()
    if said := _refusal(target, at):
        raise BatchRefusedError(f"a record that holds nothing is refused, too: {said}. {ALL_REFUSED}")


class _TakenError(Exception):
    """The plain record was taken: by this it is taken back."""


def _refusal(target: Target, at: datetime) -> str:
    try:
        with database.transaction(target.engine, BATCH) as connection:
            _try(connection, target, at)
    except _TakenError:
        return ""
    except RefusedError as e:
        return str(e)
    raise AssertionError("what was tried has not been taken back")


def _try(connection: database.Connection, target: Target, at: datetime) -> NoReturn:
    """Do all that storing a batch of one record does, and raise _TakenError."""
    upstream_id, digest = target.upstream_id, target.keyring.digest
    rollups.lock_to_change(connection)
    name = uuid.uuid4().hex
    batch_id = batches.begin_batch(connection, name, upstream_id, None, at, 1)
    if batch_id is None:
        raise LookupError("a name that was just made up is there already")
    records.ensure_partition(connection, f"{at:%Y-%m}-01")
    channel_ids = channels.channel_ids(connection, upstream_id, {UNKNOWN: (at, at)})
    keys = client_keys.client_key_ids(connection, upstream_id, {digest(""): client_keys.Seen("", at, at)})
    channel_id = channel_ids[UNKNOWN.kind, UNKNOWN.identity]
    dimension = rows.Dimension(channel_id, keys[digest("")], "", "", "", "", "success")
    dimension_ids = dimensions.dimension_ids(connection, [dimension])
    origin = rows.Origin("", digest(name), "", "")
    origins = dimensions.origin_ids(connection, upstream_id, {origin: ""})
    row = empty_row(at, dimension_ids[dimension], origins[origin], secrets.token_bytes(16))
    new = records.insert_records(connection, batch_id, [row], all_new=False)
    rollups.apply(connection, deltas(new, target.zone))
    bad = quarantine.QuarantinedRecord(secrets.token_bytes(16), "a record to try", "{}", retryable=False)
    quarantine.quarantine(connection, upstream_id, [bad], at)
    batches.finish_batch(connection, batch_id, upstream_id, len(new), 1, at, None)
    raise _TakenError
