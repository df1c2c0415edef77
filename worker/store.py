"""Every statement on records and what they refer to: upstreams, channels, keys, batches, runs, quarantine; COPY.

Statements are whole and literal, each above the function that runs it. No transaction begins or ends here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from worker.database import Connection
from worker.directory import Channel, Credential


class Row(NamedTuple):
    """One record as it is stored, in the order of the staging table's columns."""

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
    reasoning_effort: str
    error: str | None
    cost_usd: Decimal | None
    actual_cost_usd: Decimal | None
    cache_read_cost_usd: Decimal | None
    cache_write_cost_usd: Decimal | None


class Seen(NamedTuple):
    """What a batch says of a name: its label, and when it was used first and last."""

    label: str
    first_at: datetime
    last_at: datetime


class Origin(NamedTuple):
    """What records say of their credential."""

    auth_index: str
    source_digest: bytes
    source_label: str
    auth_type: str


class Dimension(NamedTuple):
    """One combination of the rollups' dimensions."""

    channel_id: int
    client_key_id: int
    provider: str
    endpoint: str
    model: str
    alias: str
    outcome: str


class Aside(NamedTuple):
    """A record that is set aside: `payload` no longer holds a secret."""

    digest: bytes
    reason: str
    payload: str
    retryable: bool


# -- names ------------------------------------------------------------------------------------------------------

INSERT_UPSTREAM = "INSERT INTO usage.upstream (name) VALUES (%s) ON CONFLICT (name) DO NOTHING"
SELECT_UPSTREAM = "SELECT upstream_id FROM usage.upstream WHERE name = %s"


def upstream_id(connection: Connection, name: str) -> int:
    """Return the id of the upstream called `name`, which is entered when it is new."""
    connection.execute(INSERT_UPSTREAM, [name])
    return _one(connection.execute(SELECT_UPSTREAM, [name]).fetchone())


SELECT_COMPLETE_FROM = "SELECT max(records_complete_from) FROM usage.upstream"


def records_complete_from(connection: Connection) -> date | None:
    """Return the first day of which no record was ever dropped; None when none ever was."""
    row = connection.execute(SELECT_COMPLETE_FROM).fetchone()
    return row[0] if row else None


INSERT_CHANNELS = """
INSERT INTO usage.channel (upstream_id, kind, name, channel_group, first_seen_at, last_seen_at)
SELECT %(upstream_id)s, kind, name, channel_group, first_at, last_at
FROM unnest(%(kinds)s::text[], %(names)s::text[], %(groups)s::text[],
            %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
    AS t (kind, name, channel_group, first_at, last_at)
WHERE NOT EXISTS (SELECT FROM usage.channel AS c
                  WHERE c.upstream_id = %(upstream_id)s AND c.kind = t.kind AND c.name = t.name)
ORDER BY kind, name
ON CONFLICT (upstream_id, kind, name) DO NOTHING
"""
# Rows are locked in one order, so that two workers never wait for each other in a ring.
TOUCH_CHANNELS = """
WITH touched AS (
    SELECT c.channel_id, t.first_at, t.last_at
    FROM unnest(%(kinds)s::text[], %(names)s::text[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
        AS t (kind, name, first_at, last_at)
    JOIN usage.channel AS c ON c.upstream_id = %(upstream_id)s AND c.kind = t.kind AND c.name = t.name
    WHERE c.first_seen_at > t.first_at OR c.last_seen_at < t.last_at
    ORDER BY c.channel_id
    FOR NO KEY UPDATE OF c
)
UPDATE usage.channel AS c
SET first_seen_at = least(c.first_seen_at, t.first_at), last_seen_at = greatest(c.last_seen_at, t.last_at)
FROM touched AS t
WHERE c.channel_id = t.channel_id
"""
SELECT_CHANNELS = """
SELECT kind, name, channel_id FROM usage.channel WHERE upstream_id = %(upstream_id)s AND name = ANY(%(names)s)
"""


def channel_ids(
    connection: Connection, upstream: int, seen: Mapping[Channel, tuple[datetime, datetime]]
) -> dict[tuple[str, str], int]:
    """Return the ids of these channels by (kind, name), entering new ones and noting when each was seen."""
    arguments = {
        "upstream_id": upstream,
        "kinds": [c.kind for c in seen],
        "names": [c.name for c in seen],
        "groups": [c.group for c in seen],
        "firsts": [first for first, _ in seen.values()],
        "lasts": [last for _, last in seen.values()],
    }
    connection.execute(INSERT_CHANNELS, arguments)
    connection.execute(TOUCH_CHANNELS, arguments)
    found = connection.execute(SELECT_CHANNELS, arguments).fetchall()
    return {(kind, name): channel_id for kind, name, channel_id in found}


INSERT_CLIENT_KEYS = """
INSERT INTO usage.client_key (upstream_id, digest, label, first_seen_at, last_seen_at)
SELECT %(upstream_id)s, digest, label, first_at, last_at
FROM unnest(%(digests)s::bytea[], %(labels)s::text[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
    AS t (digest, label, first_at, last_at)
WHERE NOT EXISTS (SELECT FROM usage.client_key AS k
                  WHERE k.upstream_id = %(upstream_id)s AND k.digest = t.digest)
ORDER BY digest
ON CONFLICT (upstream_id, digest) DO NOTHING
"""
TOUCH_CLIENT_KEYS = """
WITH touched AS (
    SELECT k.client_key_id, t.first_at, t.last_at
    FROM unnest(%(digests)s::bytea[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
        AS t (digest, first_at, last_at)
    JOIN usage.client_key AS k ON k.upstream_id = %(upstream_id)s AND k.digest = t.digest
    WHERE k.first_seen_at > t.first_at OR k.last_seen_at < t.last_at
    ORDER BY k.client_key_id
    FOR NO KEY UPDATE OF k
)
UPDATE usage.client_key AS k
SET first_seen_at = least(k.first_seen_at, t.first_at), last_seen_at = greatest(k.last_seen_at, t.last_at)
FROM touched AS t
WHERE k.client_key_id = t.client_key_id
"""
SELECT_CLIENT_KEYS = """
SELECT digest, client_key_id FROM usage.client_key
WHERE upstream_id = %(upstream_id)s AND digest = ANY(%(digests)s)
"""


def client_key_ids(connection: Connection, upstream: int, seen: Mapping[bytes, Seen]) -> dict[bytes, int]:
    """Return the ids of these client keys by digest, entering new ones and noting when each was seen."""
    arguments = {
        "upstream_id": upstream,
        "digests": list(seen),
        "labels": [s.label for s in seen.values()],
        "firsts": [s.first_at for s in seen.values()],
        "lasts": [s.last_at for s in seen.values()],
    }
    connection.execute(INSERT_CLIENT_KEYS, arguments)
    connection.execute(TOUCH_CLIENT_KEYS, arguments)
    return {bytes(d): i for d, i in connection.execute(SELECT_CLIENT_KEYS, arguments).fetchall()}


INSERT_ORIGINS = """
INSERT INTO usage.origin (upstream_id, auth_index, source_digest, source_label, auth_type)
SELECT %(upstream_id)s, auth_index, source_digest, source_label, auth_type
FROM unnest(%(indexes)s::text[], %(digests)s::bytea[], %(labels)s::text[], %(types)s::text[])
    AS t (auth_index, source_digest, source_label, auth_type)
ORDER BY auth_index, source_digest, auth_type
ON CONFLICT (upstream_id, auth_index, source_digest, auth_type) DO NOTHING
"""
SELECT_ORIGINS = """
SELECT auth_index, source_digest, source_label, auth_type, origin_id
FROM usage.origin AS o
WHERE upstream_id = %(upstream_id)s
  AND EXISTS (SELECT FROM unnest(%(indexes)s::text[], %(digests)s::bytea[], %(types)s::text[])
                  AS t (auth_index, source_digest, auth_type)
              WHERE (o.auth_index, o.source_digest, o.auth_type) = (t.auth_index, t.source_digest, t.auth_type))
"""


def origin_ids(connection: Connection, upstream: int, origins: Iterable[Origin]) -> dict[Origin, int]:
    """Return the ids of these origins, entering new ones."""
    wanted = list(origins)
    arguments = {
        "upstream_id": upstream,
        "indexes": [o.auth_index for o in wanted],
        "digests": [o.source_digest for o in wanted],
        "labels": [o.source_label for o in wanted],
        "types": [o.auth_type for o in wanted],
    }
    connection.execute(INSERT_ORIGINS, arguments)
    found = connection.execute(SELECT_ORIGINS, arguments).fetchall()
    return {Origin(index, bytes(digest), label, auth_type): i for index, digest, label, auth_type, i in found}


INSERT_DIMENSIONS = """
INSERT INTO usage.dimension (channel_id, client_key_id, provider, endpoint, model, alias, outcome)
SELECT channel_id, client_key_id, provider, endpoint, model, alias, outcome
FROM unnest(%(channels)s::int[], %(keys)s::int[], %(providers)s::text[], %(endpoints)s::text[],
            %(models)s::text[], %(aliases)s::text[], %(outcomes)s::text[])
    AS t (channel_id, client_key_id, provider, endpoint, model, alias, outcome)
ORDER BY channel_id, client_key_id, provider, endpoint, model, alias, outcome
ON CONFLICT (channel_id, client_key_id, provider, endpoint, model, alias, outcome) DO NOTHING
"""
SELECT_DIMENSIONS = """
SELECT d.channel_id, d.client_key_id, d.provider, d.endpoint, d.model, d.alias, d.outcome, d.dimension_id
FROM unnest(%(channels)s::int[], %(keys)s::int[], %(providers)s::text[], %(endpoints)s::text[],
            %(models)s::text[], %(aliases)s::text[], %(outcomes)s::text[])
    AS t (channel_id, client_key_id, provider, endpoint, model, alias, outcome)
JOIN usage.dimension AS d USING (channel_id, client_key_id, provider, endpoint, model, alias, outcome)
"""


def dimension_ids(connection: Connection, dimensions: Iterable[Dimension]) -> dict[Dimension, int]:
    """Return the ids of these dimensions, entering new ones."""
    wanted = list(dimensions)
    arguments = {
        "channels": [d.channel_id for d in wanted],
        "keys": [d.client_key_id for d in wanted],
        "providers": [d.provider for d in wanted],
        "endpoints": [d.endpoint for d in wanted],
        "models": [d.model for d in wanted],
        "aliases": [d.alias for d in wanted],
        "outcomes": [d.outcome for d in wanted],
    }
    connection.execute(INSERT_DIMENSIONS, arguments)
    return {Dimension(*row[:7]): row[7] for row in connection.execute(SELECT_DIMENSIONS, arguments).fetchall()}


# -- directory --------------------------------------------------------------------------------------------------

UNLIST_CREDENTIALS = """
UPDATE usage.credential SET configured = false
WHERE upstream_id = %(upstream_id)s AND endpoint = ANY(%(endpoints)s) AND configured
"""
UPSERT_CREDENTIAL = """
INSERT INTO usage.credential
    (upstream_id, channel_id, endpoint, provider, auth_index, key_digest, configured, first_seen_at, last_seen_at)
VALUES (%s, %s, %s, %s, %s, %s, true, %s, %s)
ON CONFLICT (upstream_id, endpoint, channel_id, provider, auth_index, key_digest)
DO UPDATE SET configured = true, last_seen_at = EXCLUDED.last_seen_at
"""
MARK_CHANNELS = """
UPDATE usage.channel AS c SET configured = listed.configured
FROM (SELECT channel_id, bool_or(configured) AS configured FROM usage.credential
      WHERE upstream_id = %(upstream_id)s GROUP BY channel_id) AS listed
WHERE c.channel_id = listed.channel_id AND c.configured <> listed.configured
"""


def save_credentials(
    connection: Connection,
    upstream: int,
    endpoints: Sequence[str],
    credentials: Sequence[Credential],
    seen_at: datetime,
) -> None:
    """Make `credentials` the ones that `endpoints` list; what they no longer list stays, as history."""
    ids = channel_ids(connection, upstream, dict.fromkeys((c.channel for c in credentials), (seen_at, seen_at)))
    connection.execute(UNLIST_CREDENTIALS, {"upstream_id": upstream, "endpoints": list(endpoints)})
    with connection.cursor() as cursor:
        cursor.executemany(
            UPSERT_CREDENTIAL,
            [
                (upstream, ids[c.channel.kind, c.channel.name], c.endpoint, c.providers, c.auth_index, c.key_digest,
                 seen_at, seen_at)
                for c in credentials
            ],
        )  # fmt: skip
    connection.execute(MARK_CHANNELS, {"upstream_id": upstream})


SELECT_CREDENTIALS = """
SELECT d.endpoint, c.kind, c.name, c.channel_group, d.provider, d.auth_index, d.key_digest, d.configured
FROM usage.credential AS d
JOIN usage.channel AS c USING (channel_id)
WHERE d.upstream_id = %s
ORDER BY d.credential_id
"""


def load_credentials(connection: Connection, upstream: int) -> tuple[list[Credential], list[Credential]]:
    """Return the last good directory and, apart from it, the credentials that are no longer listed."""
    configured: list[Credential] = []
    past: list[Credential] = []
    for endpoint, kind, name, group, providers, index, digest, listed in connection.execute(
        SELECT_CREDENTIALS, [upstream]
    ):
        credential = Credential(endpoint, Channel(kind, name, group), providers, index, bytes(digest))
        (configured if listed else past).append(credential)
    return configured, past


# -- batches ----------------------------------------------------------------------------------------------------

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
    row = connection.execute(INSERT_BATCH, [entry_id, upstream, run_id, loaded_at, pulled]).fetchone()
    return row[0] if row else None


FINISH_BATCH = "UPDATE usage.batch SET inserted = %s, quarantined = %s WHERE batch_id = %s"
TOUCH_UPSTREAM = """
UPDATE usage.upstream SET newest_record_at = %(newest_at)s
WHERE upstream_id = %(upstream_id)s AND (newest_record_at IS NULL OR newest_record_at < %(newest_at)s)
"""


def finish_batch(
    connection: Connection,
    batch_id: int,
    upstream: int,
    inserted: int,
    quarantined: int,
    newest_at: datetime | None,
) -> None:
    """Note what a batch came to."""
    connection.execute(FINISH_BATCH, [inserted, quarantined, batch_id])
    if newest_at is not None:
        connection.execute(TOUCH_UPSTREAM, {"upstream_id": upstream, "newest_at": newest_at})


ENSURE_PARTITION = "SELECT usage.ensure_record_partition(%s::date)"


def ensure_partition(connection: Connection, month: str) -> None:
    """Make the partition of the month that holds the day `month` (YYYY-MM-DD) where it is missing."""
    connection.execute(ENSURE_PARTITION, [month])


CREATE_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS record_stage (
    occurred_at timestamptz, latency_ms bigint, ttft_ms bigint,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, dimension_id integer, origin_id integer, status_code integer, event_key bytea,
    channel_rule text, request_id text, service_tier text, reasoning_effort text, error text,
    cost_usd numeric, actual_cost_usd numeric, cache_read_cost_usd numeric, cache_write_cost_usd numeric
) ON COMMIT DELETE ROWS
"""
COPY_STAGE = "COPY record_stage FROM STDIN (FORMAT BINARY)"
STAGE_TYPES = (
    "timestamptz", *["int8"] * 12, *["int4"] * 3, "bytea", *["text"] * 5, *["numeric"] * 4,
)  # fmt: skip
INSERT_NEW = """
INSERT INTO usage.record (
    occurred_at, latency_ms, ttft_ms,
    input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
    uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens,
    batch_id, dimension_id, origin_id, status_code, event_key,
    channel_rule, request_id, service_tier, reasoning_effort, error,
    cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd)
SELECT
    occurred_at, latency_ms, ttft_ms,
    input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
    uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens,
    %(batch_id)s, dimension_id, origin_id, status_code, event_key,
    channel_rule, request_id, service_tier, reasoning_effort, error,
    cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd
FROM record_stage AS s
WHERE NOT EXISTS (SELECT FROM usage.record AS r
                  WHERE r.occurred_at = s.occurred_at AND r.event_key = s.event_key
                    AND r.occurred_at >= %(first_at)s AND r.occurred_at <= %(last_at)s)
ORDER BY occurred_at, event_key
ON CONFLICT (occurred_at, event_key) DO NOTHING
RETURNING event_key
"""


def insert_records(connection: Connection, batch_id: int, rows: Sequence[Row]) -> list[Row]:
    """Store what is new of `rows` and return exactly those: a record that is there already changes nothing."""
    if not rows:
        return []
    connection.execute(CREATE_STAGE)
    with connection.cursor() as cursor, cursor.copy(COPY_STAGE) as copy:
        copy.set_types(STAGE_TYPES)
        for row in rows:
            copy.write_row(row)
    arguments = {
        "batch_id": batch_id,
        "first_at": min(row.occurred_at for row in rows),
        "last_at": max(row.occurred_at for row in rows),
    }
    with connection.cursor(binary=True) as cursor:
        new = {key for (key,) in cursor.execute(INSERT_NEW, arguments)}
    if len(new) == len(rows):
        return list(rows)
    return [row for row in rows if _taken(new, row.event_key)]


def _taken(keys: set[Any], key: bytes) -> bool:
    """Say whether `key` is among `keys`, and take it out: a key that came twice was stored once."""
    if key not in keys:
        return False
    keys.remove(key)
    return True


# -- quarantine -------------------------------------------------------------------------------------------------

INSERT_QUARANTINE = """
INSERT INTO usage.quarantine (upstream_id, digest, reason, payload, retryable, first_seen_at)
SELECT %(upstream_id)s, digest, reason, payload, retryable, %(at)s
FROM unnest(%(digests)s::bytea[], %(reasons)s::text[], %(payloads)s::text[], %(retryables)s::boolean[])
    AS t (digest, reason, payload, retryable)
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
WHERE (%(id)s::bigint IS NULL OR q.quarantine_id = %(id)s) AND q.quarantine_id > %(after)s
ORDER BY q.quarantine_id
LIMIT %(limit)s
"""


class Quarantined(NamedTuple):
    """One record in quarantine."""

    quarantine_id: int
    upstream: str
    first_seen_at: datetime
    reason: str
    retryable: bool
    payload: str


def quarantined(connection: Connection, *, limit: int, one: int | None = None, after: int = 0) -> list[Quarantined]:
    """Return the records in quarantine by their number, those beyond `after`, or the `one` asked for."""
    arguments = {"id": one, "after": after, "limit": limit}
    return [Quarantined(*row) for row in connection.execute(SELECT_QUARANTINE, arguments)]


DELETE_QUARANTINE = "DELETE FROM usage.quarantine WHERE quarantine_id = ANY(%s)"


def drop_quarantined(connection: Connection, ids: Sequence[int]) -> int:
    """Forget records in quarantine; return how many there were."""
    return connection.execute(DELETE_QUARANTINE, [list(ids)]).rowcount


# -- passes -----------------------------------------------------------------------------------------------------

INSERT_RUN = "INSERT INTO usage.sync_run (upstream_id, kind, started_at) VALUES (%s, %s, %s) RETURNING run_id"


def begin_run(connection: Connection, upstream: int, kind: str, started_at: datetime) -> int:
    """Enter a pass and return its number."""
    return _one(connection.execute(INSERT_RUN, [upstream, kind, started_at]).fetchone())


FINISH_RUN = """
UPDATE usage.sync_run
SET finished_at = %(finished_at)s, mode = %(mode)s, pulled = %(pulled)s, inserted = %(inserted)s,
    duplicates = %(duplicates)s, quarantined = %(quarantined)s, unknown_channel = %(unknown_channel)s,
    possible_loss = %(possible_loss)s, statistics_enabled = %(statistics_enabled)s,
    journal_entries = %(journal_entries)s, journal_bytes = %(journal_bytes)s, error = %(error)s
WHERE run_id = %(run_id)s
"""


def finish_run(connection: Connection, figures: Mapping[str, Any]) -> None:
    """Note what a pass came to; `figures` holds every column of the statement."""
    connection.execute(FINISH_RUN, figures)


def _one(row: tuple[Any, ...] | None) -> int:
    if row is None:
        raise LookupError("a row that was just written is not there")
    return int(row[0])
