"""Records that are told with an execution id, and the same ones told without: each is stored once.

v8 gives each attempt an execution id, by which it is itself however often it is told, and two that are equal in all
else are two. An export or a fork may tell the same attempts without it: then they go by what else they say, and by
their place among equal ones of one payload. Of attempts that are equal in all of that, as many are stored as either
way has told of at once: one that comes with its id takes the place of one that came without, and one without is new
only where more have been told than are stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from worker.db.database import Connection
from worker.storage.rows import Row

Key = tuple[datetime, bytes]

LOCK_UPSTREAM = """
SELECT without_execution_until, with_execution_from FROM usage.upstream WHERE upstream_id = %s FOR NO KEY UPDATE
"""
SELECT_AT = """
SELECT occurred_at, event_key, base_key, execution_id IS NOT NULL
FROM usage.record
WHERE occurred_at = ANY(%(times)s) AND occurred_at >= %(first)s AND occurred_at <= %(last)s
"""
GIVE_ID = """
UPDATE usage.record SET
    event_key = %(event_key)s, base_key = %(base_key)s, execution_id = %(execution_id)s, stream = %(stream)s,
    session_id = %(session_id)s, parent_session_id = %(parent_session_id)s, response_model = %(response_model)s,
    cache_write_1h_tokens = coalesce(cache_write_1h_tokens, %(cache_write_1h_tokens)s)
WHERE occurred_at = %(occurred_at)s AND event_key = %(told_before)s
"""
NOTE_TIMES = """
UPDATE usage.upstream SET
    without_execution_until = greatest(without_execution_until, %(without_until)s::timestamptz),
    with_execution_from = least(with_execution_from, %(with_from)s::timestamptz)
WHERE upstream_id = %(upstream_id)s
"""


class Sorted(NamedTuple):
    """A batch's rows, after those that are stored already in the other way."""

    store: list[Row]
    """What is to be stored; rows whose event key is there already are among them."""
    named: list[tuple[Row, bytes]]
    """Rows that give a stored record its execution id, and that record's event key until now."""


def sort_out(connection: Connection, upstream: int, rows: Sequence[Row], ordinals: Mapping[bytes, int]) -> Sorted:
    """Find rows that are stored already in the other way; other batches of this upstream wait until this one is done.

    Args:
        connection: the batch's transaction.
        upstream: whose records these are.
        rows: the batch.
        ordinals: the place among equal ones of rows without an execution id, by event key; 0 for those not in it.
    """
    row = connection.execute(LOCK_UPSTREAM, [upstream]).fetchone()
    without_until, with_from = row if row is not None else (None, None)
    ours = [row for row in rows if row.details.execution_id]
    others = [row for row in rows if not row.details.execution_id]
    note = {
        "upstream_id": upstream,
        "without_until": max((row.occurred_at for row in others), default=None),
        "with_from": min((row.occurred_at for row in ours), default=None),
    }
    if (note["without_until"] or without_until) != without_until or (note["with_from"] or with_from) != with_from:
        connection.execute(NOTE_TIMES, note)
    mixed = ours and (others or (without_until is not None and note["with_from"] <= without_until))
    if not mixed and not (others and with_from is not None and note["without_until"] >= with_from):
        return Sorted(list(rows), [])
    found = _Found(connection, rows)
    for one in ours:
        found.take_with_id(one)
    for one in others:
        found.take_without(one, ordinals.get(one.event_key, 0))
    return Sorted(found.store, found.named)


def give_ids(connection: Connection, named: Iterable[tuple[Row, bytes]]) -> None:
    """Let stored records that came without an execution id be the attempts that have come with one."""
    arguments = [{**row._asdict(), **row.details._asdict(), "told_before": key} for row, key in named]
    if arguments:
        with connection.cursor() as cursor:
            cursor.executemany(GIVE_ID, arguments)


class _Found:
    """What is stored of the times of a batch, and what becomes of its rows."""

    def __init__(self, connection: Connection, rows: Sequence[Row]) -> None:
        times = sorted({row.occurred_at for row in rows})
        self._stored: set[Key] = set()
        self._told: Counter[Key] = Counter()
        """How many are stored that are equal but for their id and place."""
        self._without: dict[Key, list[bytes]] = {}
        """The event keys of those of them that have no id."""
        self.store: list[Row] = []
        self.named: list[tuple[Row, bytes]] = []
        arguments = {"times": times, "first": times[0], "last": times[-1]}
        for at, key, base, with_id in connection.execute(SELECT_AT, arguments):
            self._note(at, bytes(key), bytes(base) if base is not None else bytes(key), with_id=with_id)

    def _note(self, at: datetime, key: bytes, base: bytes, *, with_id: bool) -> None:
        self._stored.add((at, key))
        self._told[at, base] += 1
        if not with_id:
            self._without.setdefault((at, base), []).append(key)

    def take_with_id(self, row: Row) -> None:
        at, base = row.occurred_at, row.base_key or row.event_key
        if (at, row.event_key) in self._stored:
            self.store.append(row)
        elif waiting := self._without.get((at, base)):
            told_before = waiting.pop(0)
            self.named.append((row, told_before))
            self._stored.discard((at, told_before))
            self._stored.add((at, row.event_key))
        else:
            self.store.append(row)
            self._note(at, row.event_key, base, with_id=True)

    def take_without(self, row: Row, ordinal: int) -> None:
        at, base = row.occurred_at, row.base_key or row.event_key
        if (at, row.event_key) in self._stored:
            self.store.append(row)
        elif ordinal >= self._told[at, base]:
            self.store.append(row)
            self._note(at, row.event_key, base, with_id=False)
