"""Every statement on records: batches and COPY, quarantine, passes. What records refer to is in `register`.

Statements are whole and literal, each above the function that runs it. No transaction begins or ends here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Composed, Identifier
from psycopg.types.string import BytesBinaryDumper

from worker.db.database import Connection
from worker.pricing import price
from worker.storage.register import Origin, one
from worker.storage.staging import COMMA, StagingTable, column_list


class Row(NamedTuple):
    """One record as it is stored, in the order of RECORD_COLUMNS; costs in units of 1e-12 US dollars."""

    occurred_at: datetime
    latency_ms: int | None
    ttft_ms: int | None
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    total_tokens: int
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    billed_output_tokens: int
    unclassified_tokens: int
    dimension_id: int
    origin_id: int
    status_code: int | None
    event_key: bytes
    channel_rule: str
    request_id: str
    service_tier: str
    response_service_tier: str
    reasoning_effort: str
    error: str | None
    execution_id: str | None
    base_key: bytes | None
    """What the event key would be without an execution id and an ordinal, where that is another one."""
    stream: bool | None
    session_id: str | None
    parent_session_id: str | None
    response_model: str | None
    cache_write_1h_tokens: int | None
    cost_pico_usd: int | None
    actual_cost_pico_usd: int | None
    cache_read_cost_pico_usd: int | None
    cache_write_cost_pico_usd: int | None
    price_id: int | None
    estimated: bool
    """Whether the costs are an estimate."""


FIRST_COST = Row._fields.index("cost_pico_usd")
"""Where the four costs of a row begin, and behind them what they come from."""


def plain(at: datetime, dimension_id: int, origin_id: int, event_key: bytes) -> Row:
    """Return a record that holds nothing which PostgreSQL could refuse."""
    return Row(
        at, None, None, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, dimension_id, origin_id, None, event_key, "none",
        "", "", "", "", None, None, None, None, None, None, None, None, None, None, None, None, None, estimated=False,
    )  # fmt: skip


class Aside(NamedTuple):
    """A record that is set aside: `payload` no longer holds a secret."""

    digest: bytes
    reason: str
    payload: str
    retryable: bool


# -- batches ----------------------------------------------------------------------------------------------------

# Its journal entry is dropped once it is committed: that must not mean "in a moment", whatever the server's default.
REALLY_COMMIT = """
SELECT set_config('synchronous_commit', 'local', true) WHERE current_setting('synchronous_commit') = 'off'
"""
INSERT_BATCH = """
INSERT INTO usage.batch (entry_id, upstream_id, run_id, loaded_at, pulled)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (entry_id) DO NOTHING
RETURNING batch_id
"""


def begin_batch(
    connection: Connection, entry_id: str, upstream: int, run_id: int | None, loaded_at: datetime, pulled: int
) -> int | None:
    """Enter a batch and return its id; None when it has been loaded before."""
    connection.execute(REALLY_COMMIT)
    row = connection.execute(INSERT_BATCH, [entry_id, upstream, run_id, loaded_at, pulled]).fetchone()
    return row[0] if row else None


FINISH_BATCH = "UPDATE usage.batch SET inserted = %s, quarantined = %s WHERE batch_id = %s"
TOUCH_UPSTREAM = """
UPDATE usage.upstream SET
    newest_record_at = greatest(newest_record_at, %(newest_at)s::timestamptz),
    future_record_at = greatest(future_record_at, %(future_at)s::timestamptz)
WHERE upstream_id = %(upstream_id)s
  AND (newest_record_at IS DISTINCT FROM greatest(newest_record_at, %(newest_at)s::timestamptz)
       OR future_record_at IS DISTINCT FROM greatest(future_record_at, %(future_at)s::timestamptz))
"""
FUTURE = timedelta(minutes=15)
"""A record from further ahead than a proxy's clock may be is from the future: freshness does not go by it."""


def newest(occurred_at: Iterable[datetime], at: datetime) -> tuple[datetime | None, datetime | None]:
    """Return the newest of some times that is not from the future, seen from `at`, and the newest that is."""
    past: datetime | None = None
    future: datetime | None = None
    for time in occurred_at:
        if time <= at + FUTURE:
            past = time if past is None else max(past, time)
        else:
            future = time if future is None else max(future, time)
    return past, future


def finish_batch(
    connection: Connection,
    batch_id: int,
    upstream: int,
    inserted: int,
    quarantined: int,
    newest_at: datetime | None,
    future_at: datetime | None,
) -> None:
    """Note what a batch came to."""
    connection.execute(FINISH_BATCH, [inserted, quarantined, batch_id])
    if newest_at is not None or future_at is not None:
        touched = {"upstream_id": upstream, "newest_at": newest_at, "future_at": future_at}
        connection.execute(TOUCH_UPSTREAM, touched)


ENSURE_PARTITION = "SELECT usage.ensure_record_partition(%s::date)"


def ensure_partition(connection: Connection, month: str) -> None:
    """Make the partition of the month that holds the day `month` (YYYY-MM-DD) where it is missing."""
    connection.execute(ENSURE_PARTITION, [month])


# The columns of a record, in the order of Row, and what it was loaded with.
RECORD_COLUMNS = {
    "occurred_at": "timestamptz", "latency_ms": "int8", "ttft_ms": "int8",
    "input_tokens": "int8", "output_tokens": "int8", "reasoning_tokens": "int8", "cached_tokens": "int8",
    "total_tokens": "int8",
    "uncached_input_tokens": "int8", "cache_read_tokens": "int8", "cache_write_tokens": "int8",
    "billed_output_tokens": "int8", "unclassified_tokens": "int8",
    "dimension_id": "int4", "origin_id": "int4", "status_code": "int4", "event_key": "bytea",
    "channel_rule": "text", "request_id": "text", "service_tier": "text", "response_service_tier": "text",
    "reasoning_effort": "text", "error": "text",
    "execution_id": "text", "base_key": "bytea", "stream": "bool", "session_id": "text", "parent_session_id": "text",
    "response_model": "text", "cache_write_1h_tokens": "int8",
    "cost_usd": "numeric", "actual_cost_usd": "numeric", "cache_read_cost_usd": "numeric",
    "cache_write_cost_usd": "numeric", "price_id": "int4", "cost_estimated": "bool",
    "batch_id": "int8",
}  # fmt: skip
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
    for row in rows:
        own = numeric(row.cost_pico_usd)
        real = own if row.actual_cost_pico_usd == row.cost_pico_usd else numeric(row.actual_cost_pico_usd)
        yield (
            *row[:FIRST_COST], own, real, numeric(row.cache_read_cost_pico_usd),
            numeric(row.cache_write_cost_pico_usd), row.price_id, row.estimated, batch_id,
        )  # fmt: skip


def copy_binary(connection: Connection, query: Composed, types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Copy rows of these types in; a numeric is given as `numeric` makes it, and its type as that of bytes."""
    with connection.cursor() as cursor:
        cursor.adapters.register_dumper(bytes, BytesBinaryDumper)  # the default one for bytea is written in Python
        with cursor.copy(query) as copy:
            copy.set_types(types)
            write = copy.write_row
            for row in rows:
                write(row)


NUMERIC = struct.Struct(">hhHh5h")
POSITIVE, NEGATIVE = 0x0000, 0x4000
NO_USD = NUMERIC.pack(5, 1, POSITIVE, 12, 0, 0, 0, 0, 0)


def numeric(pico_usd: int | None) -> bytes | None:
    """Return units of 1e-12 US dollars as the wire format of a numeric with twelve decimals.

    Digits to the base 10,000, three of them after the point; PostgreSQL leaves out zeros in front by itself.
    """
    if not pico_usd:
        return NO_USD if pico_usd == 0 else None
    sign = POSITIVE if pico_usd > 0 else NEGATIVE
    rest, third = divmod(abs(pico_usd), 10_000)
    rest, second = divmod(rest, 10_000)
    whole, first = divmod(rest, 10_000)
    high, low = divmod(whole, 10_000)
    if high < 10_000:  # noqa: PLR2004  # the base
        return NUMERIC.pack(5, 1, sign, 12, high, low, first, second, third)
    digits = [first, second, third]
    while whole:
        whole, digit = divmod(whole, 10_000)
        digits.insert(0, digit)
    return struct.pack(f">hhHh{len(digits)}h", len(digits), len(digits) - 4, sign, 12, *digits)


def _taken(keys: set[Any], key: bytes) -> bool:
    """Say whether `key` is among `keys`, and take it out: a key that came twice was stored once."""
    if key not in keys:
        return False
    keys.remove(key)
    return True


# -- moves ------------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """A stored record with what it says of its credential."""

    row: Row
    origin: Origin


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
        width = len(Row._fields)
        return [
            Stored(_row(row[:width]), Origin(row[width], bytes(row[width + 1]), *row[width + 2 :]))
            for row in cursor.execute(SELECT_STORED, arguments)
        ]


def _row(values: Sequence[Any]) -> Row:
    costs = (None if usd is None else price.pico(usd) for usd in values[FIRST_COST : FIRST_COST + 4])
    return Row._make((*values[:FIRST_COST], *costs, *values[FIRST_COST + 4 :]))


MOVE = SQL("""
UPDATE usage.record AS r
SET dimension_id = m.dimension_id, channel_rule = m.channel_rule,
    uncached_input_tokens = m.uncached_input_tokens, cache_read_tokens = m.cache_read_tokens,
    cache_write_tokens = m.cache_write_tokens, billed_output_tokens = m.billed_output_tokens,
    unclassified_tokens = m.unclassified_tokens,
    cost_usd = m.cost_usd, actual_cost_usd = m.actual_cost_usd, cache_read_cost_usd = m.cache_read_cost_usd,
    cache_write_cost_usd = m.cache_write_cost_usd, price_id = m.price_id, cost_estimated = m.cost_estimated
FROM {stage} AS m
WHERE r.occurred_at = m.occurred_at AND r.event_key = m.event_key
  AND r.occurred_at >= %(first_at)s AND r.occurred_at <= %(last_at)s
""").format(stage=STAGE.name)


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


# -- quarantine -------------------------------------------------------------------------------------------------

INSERT_QUARANTINE = """
INSERT INTO usage.quarantine (upstream_id, digest, reason, payload, retryable, first_seen_at)
SELECT %(upstream_id)s, digest, reason, payload, retryable, %(at)s
FROM unnest(%(digests)s::bytea[], %(reasons)s::text[], %(payloads)s::text[], %(retryables)s::boolean[])
    AS t (digest, reason, payload, retryable)
WHERE NOT EXISTS (SELECT FROM usage.quarantine AS q
                  WHERE q.upstream_id = %(upstream_id)s AND q.digest = t.digest)
ORDER BY digest
ON CONFLICT (upstream_id, digest) DO NOTHING
"""


def quarantine(connection: Connection, upstream: int, asides: Sequence[Aside], at: datetime) -> int:
    """Set records aside; return how many of them are new there."""
    if not asides:
        return 0
    arguments = {
        "upstream_id": upstream,
        "at": at,
        "digests": [a.digest for a in asides],
        "reasons": [a.reason for a in asides],
        "payloads": [a.payload for a in asides],
        "retryables": [a.retryable for a in asides],
    }
    return connection.execute(INSERT_QUARANTINE, arguments).rowcount


SELECT_QUARANTINE = """
SELECT q.quarantine_id, u.name, q.first_seen_at, q.reason, q.retryable, q.payload
FROM usage.quarantine AS q
JOIN usage.upstream AS u USING (upstream_id)
WHERE (%(ids)s::bigint[] IS NULL OR q.quarantine_id = ANY(%(ids)s))
  AND (%(upstream)s::text IS NULL OR u.name = %(upstream)s)
  AND q.quarantine_id > %(after)s
ORDER BY q.quarantine_id
LIMIT %(limit)s
"""
SELECT_QUARANTINE_UPSTREAMS = """
SELECT DISTINCT u.name
FROM usage.quarantine AS q
JOIN usage.upstream AS u USING (upstream_id)
WHERE %(ids)s::bigint[] IS NULL OR q.quarantine_id = ANY(%(ids)s)
ORDER BY u.name
"""


class Quarantined(NamedTuple):
    """One record in quarantine."""

    quarantine_id: int
    upstream: str
    first_seen_at: datetime
    reason: str
    retryable: bool
    payload: str


def quarantined(
    connection: Connection,
    *,
    limit: int,
    ids: Sequence[int] | None = None,
    upstream: str | None = None,
    after: int = 0,
) -> list[Quarantined]:
    """Return records in quarantine in the order of their number: those beyond `after`, of `ids`, of one upstream."""
    arguments = {"ids": list(ids) if ids is not None else None, "upstream": upstream, "after": after, "limit": limit}
    return [Quarantined(*row) for row in connection.execute(SELECT_QUARANTINE, arguments)]


def quarantined_upstreams(connection: Connection, ids: Sequence[int] | None) -> list[str]:
    """Return the names of the upstreams that have records in quarantine, those of `ids` where they are given."""
    arguments = {"ids": list(ids) if ids is not None else None}
    return [name for (name,) in connection.execute(SELECT_QUARANTINE_UPSTREAMS, arguments)]


DELETE_QUARANTINE = "DELETE FROM usage.quarantine WHERE quarantine_id = ANY(%s)"


def drop_quarantined(connection: Connection, ids: Sequence[int]) -> int:
    """Forget records in quarantine; return how many there were."""
    return connection.execute(DELETE_QUARANTINE, [list(ids)]).rowcount


# -- passes -----------------------------------------------------------------------------------------------------

INSERT_RUN = "INSERT INTO usage.sync_run (upstream_id, kind, started_at) VALUES (%s, %s, %s) RETURNING run_id"


def begin_run(connection: Connection, upstream: int, kind: str, started_at: datetime) -> int:
    """Enter a pass and return its number."""
    return one(connection.execute(INSERT_RUN, [upstream, kind, started_at]).fetchone())


COUNT_POSSIBLE_LOSS = "UPDATE usage.sync_run SET possible_loss = possible_loss + %s WHERE run_id = %s"


def count_possible_loss(connection: Connection, run_id: int | None, answers: int) -> None:
    """Count answers of which something may be lost, with the pass that finds them: beside the batch, so once."""
    connection.execute(COUNT_POSSIBLE_LOSS, [answers, run_id])


FINISH_RUN = """
UPDATE usage.sync_run
SET finished_at = %(finished_at)s, mode = %(mode)s, pulled = %(pulled)s, inserted = %(inserted)s,
    duplicates = %(duplicates)s, quarantined = %(quarantined)s, unknown_channel = %(unknown_channel)s,
    too_old = %(too_old)s, statistics_enabled = %(statistics_enabled)s,
    journal_entries = %(journal_entries)s, journal_bytes = %(journal_bytes)s, error = %(error)s
WHERE run_id = %(run_id)s
"""


def finish_run(connection: Connection, figures: Mapping[str, Any]) -> None:
    """Note what a pass came to; `figures` holds every column of the statement."""
    connection.execute(FINISH_RUN, figures)
