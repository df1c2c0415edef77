"""Every statement on records: rows, COPY, and what is corrected of them.

Statements are whole, each above the function that runs it. No transaction begins or ends here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from worker.db.copy import COMMA, StagingTable, column_list, copy_binary, numeric
from worker.db.database import Connection
from worker.pricing.price import Charge
from worker.storage.rows import Details, Origin, Row, Stored
from worker.usage import money
from worker.usage.measures import EXCLUSIVE_TOKENS, REPORTED_TOKENS
from worker.usage.tokens import Normalised, ReportedCounts

ENSURE_PARTITION = "SELECT usage.ensure_record_partition(%s::date)"


def ensure_partition(connection: Connection, month: str) -> None:
    """Make the partition of the month that holds the day `month` (YYYY-MM-DD) where it is missing."""
    connection.execute(ENSURE_PARTITION, [month])


OWN_COLUMNS = {
    "occurred_at": "timestamptz", "event_key": "bytea", "base_key": "bytea", "dimension_id": "int4",
    "origin_id": "int4", "channel_rule": "text", "latency_ms": "int8", "ttft_ms": "int8",
}  # fmt: skip
DETAIL_COLUMNS = {
    **dict.fromkeys(Details._fields, "text"),
    "status_code": "int4", "stream": "bool", "cache_write_1h_tokens": "int8",
}  # fmt: skip
CHARGE_COLUMNS = {
    "cost_usd": "numeric", "actual_cost_usd": "numeric", "cache_read_cost_usd": "numeric",
    "cache_write_cost_usd": "numeric", "price_id": "int4", "cost_estimated": "bool",
}  # fmt: skip
RECORD_COLUMNS = {
    **OWN_COLUMNS,
    **dict.fromkeys((*REPORTED_TOKENS, *EXCLUSIVE_TOKENS), "int8"),
    **DETAIL_COLUMNS,
    **CHARGE_COLUMNS,
    "batch_id": "int8",
}
"""The columns of a record in the order of a flattened Row, and the batch that it was loaded with."""

COPY_RECORDS = SQL("COPY usage.record ({}) FROM STDIN (FORMAT BINARY)").format(column_list(RECORD_COLUMNS))
STAGE = StagingTable("record_stage", RECORD_COLUMNS)
INSERT_NEW = SQL("""
INSERT INTO usage.record ({columns})
SELECT {columns}
FROM {stage} AS s
WHERE NOT EXISTS (SELECT FROM usage.record AS r
                  WHERE r.occurred_at = s.occurred_at AND r.event_key = s.event_key
                    AND r.occurred_at >= %(first_at)s AND r.occurred_at <= %(last_at)s)
ORDER BY occurred_at, event_key
ON CONFLICT (occurred_at, event_key) DO NOTHING
RETURNING event_key
""").format(columns=column_list(RECORD_COLUMNS), stage=STAGE.name)


def insert_records(connection: Connection, batch_id: int, rows: Sequence[Row], *, all_new: bool) -> list[Row]:
    """Store what is new of `rows` and return exactly those: a record that is there already changes nothing.

    `all_new` says that no other are expected: then they are copied straight to where they belong, and only when one
    turns out to be there is all of it undone and done the longer way, which finds out which.
    """
    if not rows:
        return []
    if all_new and _copied(connection, rows, batch_id):
        return list(rows)
    with connection.cursor(binary=True) as cursor:
        new = {key for (key,) in cursor.execute(INSERT_NEW, _staged(connection, rows, batch_id))}
    if len(new) == len(rows):
        return list(rows)
    return [row for row in rows if _taken(new, row.event_key)]


def _copied(connection: Connection, rows: Sequence[Row], batch_id: int) -> bool:
    """Copy rows into the table of records; False, and nothing done, when one of them is there already."""
    try:
        with connection.transaction():
            # Calls come in the order in which they end. In the order of their begin, the index fills its pages.
            _copy(connection, COPY_RECORDS, sorted(rows, key=itemgetter(0)), batch_id)
    except psycopg.errors.UniqueViolation:
        return False
    return True


def _staged(connection: Connection, rows: Sequence[Row], batch_id: int) -> dict[str, Any]:
    """Copy rows into the staging table and return the bounds of their time, by which partitions are left out."""
    connection.execute(STAGE.create)
    _copy(connection, STAGE.copy, rows, batch_id)
    return {"first_at": min(row.occurred_at for row in rows), "last_at": max(row.occurred_at for row in rows)}


def _copy(connection: Connection, query: Composed, rows: Iterable[Row], batch_id: int) -> None:
    copy_binary(connection, query, STAGE.types, _written(rows, batch_id))


def _written(rows: Iterable[Row], batch_id: int) -> Iterator[tuple[Any, ...]]:
    """Flatten rows for COPY."""
    for *own, reported, counts, details, charge in rows:
        cost, actual, read, write, price_id, estimated = charge
        cost_usd = numeric(cost)
        actual_usd = cost_usd if actual == cost else numeric(actual)
        yield (
            *own, *reported, *counts, *details,
            cost_usd, actual_usd, numeric(read), numeric(write), price_id, estimated, batch_id,
        )  # fmt: skip


def _taken(keys: set[Any], key: bytes) -> bool:
    """Say whether `key` is among `keys`, and take it out: a key that came twice was stored once."""
    if key not in keys:
        return False
    keys.remove(key)
    return True


# -- moves ------------------------------------------------------------------------------------------------------


SELECT_STORED = SQL("""
SELECT
    {columns},
    o.auth_index, o.source_digest, o.source_label, o.auth_type
FROM usage.record AS r
JOIN usage.origin AS o USING (origin_id)
WHERE r.occurred_at >= %(since)s AND r.occurred_at < %(until)s
  AND (r.occurred_at, r.event_key) > (%(after_at)s, %(after_key)s)
  AND r.dimension_id = ANY(%(dimensions)s)
  AND (r.cost_usd IS NULL OR NOT %(unpriced)s)
ORDER BY r.occurred_at, r.event_key
LIMIT %(limit)s
FOR NO KEY UPDATE OF r
""").format(columns=COMMA.join(Identifier("r", name) for name in RECORD_COLUMNS if name != "batch_id"))


def stored(
    connection: Connection,
    dimension_ids: Sequence[int],
    span: tuple[datetime, datetime],
    after: tuple[datetime, bytes],
    limit: int,
    *,
    unpriced: bool = False,
) -> list[Stored]:
    """Return and lock the next `limit` records of these dimensions, in the order of their key.

    `unpriced` leaves out those that have a cost.
    """
    arguments = {
        "since": max(span[0], after[0]),
        "until": span[1],
        "after_at": after[0],
        "after_key": after[1],
        "dimensions": list(dimension_ids),
        "unpriced": unpriced,
        "limit": limit,
    }
    with connection.cursor(binary=True) as cursor:
        return [_stored(row) for row in cursor.execute(SELECT_STORED, arguments)]


def _stored(row: Sequence[Any]) -> Stored:
    """Nest the columns of a stored record again."""
    columns = iter(row)
    own = list(islice(columns, len(OWN_COLUMNS)))
    reported = ReportedCounts._make(islice(columns, len(REPORTED_TOKENS)))
    counts = Normalised._make(islice(columns, len(EXCLUSIVE_TOKENS)))
    details = Details._make(islice(columns, len(DETAIL_COLUMNS)))
    *costs, price_id, estimated = islice(columns, len(CHARGE_COLUMNS))
    charge = Charge._make((*(None if usd is None else money.pico(usd) for usd in costs), price_id, estimated))
    auth_index, source_digest, source_label, auth_type = columns
    origin = Origin(auth_index, bytes(source_digest), source_label, auth_type)
    return Stored(Row._make((*own, reported, counts, details, charge)), origin)


CORRECTED = ("dimension_id", "channel_rule", *EXCLUSIVE_TOKENS, *CHARGE_COLUMNS)
MOVE = SQL("""
UPDATE usage.record AS r SET {corrected}
FROM {stage} AS m
WHERE r.occurred_at = m.occurred_at AND r.event_key = m.event_key
  AND r.occurred_at >= %(first_at)s AND r.occurred_at <= %(last_at)s
""").format(
    stage=STAGE.name,
    corrected=COMMA.join(SQL("{0} = m.{0}").format(Identifier(name)) for name in CORRECTED),
)


def move(connection: Connection, rows: Sequence[Row]) -> None:
    """Give stored records the dimension, the rule, the exclusive counts and the costs that `rows` have."""
    if rows:
        connection.execute(MOVE, _staged(connection, rows, 0))


MOVE_DIMENSIONS = """
UPDATE usage.record AS r SET dimension_id = m.new_id
FROM unnest(%(old)s::int[], %(new)s::int[]) AS m (old_id, new_id)
WHERE r.dimension_id = m.old_id AND r.occurred_at >= %(since)s AND r.occurred_at < %(until)s
"""


def move_dimensions(connection: Connection, new_ids: Mapping[int, int], span: tuple[datetime, datetime]) -> int:
    """Give all records of some dimensions others; return how many there were."""
    arguments = {"old": list(new_ids), "new": list(new_ids.values()), "since": span[0], "until": span[1]}
    return connection.execute(MOVE_DIMENSIONS, arguments).rowcount
