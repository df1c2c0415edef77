"""Every statement on what records refer to: upstreams, client keys, dimensions, origins; channels are in `roster`.

Nothing here is ever deleted. No transaction begins or ends here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from worker.cliproxyapi.payload import Mark
from worker.db.database import Connection


class Seen(NamedTuple):
    """What a batch says of a client key: its mask, and when it was used first and last."""

    mask: str
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


# -- upstreams --------------------------------------------------------------------------------------------------

# Here and below: an identity is used up by whatever is to be inserted, whether it is or not. So only what is not there
# yet is inserted; ON CONFLICT is for who comes at the same moment.
INSERT_UPSTREAM = """
INSERT INTO usage.upstream (name)
SELECT %(name)s WHERE NOT EXISTS (SELECT FROM usage.upstream WHERE name = %(name)s)
ON CONFLICT (name) DO NOTHING
"""
SELECT_UPSTREAM = "SELECT upstream_id FROM usage.upstream WHERE name = %s"


def upstream_id(connection: Connection, name: str) -> int:
    """Return the id of the upstream called `name`, which is entered when it is new."""
    connection.execute(INSERT_UPSTREAM, {"name": name})
    return one(connection.execute(SELECT_UPSTREAM, [name]).fetchone())


# Dropping records waits for the first, and for the second, too.
KEEP_RECORDS = "LOCK TABLE ONLY usage.record IN ACCESS SHARE MODE"
KEEP_RECORDS_TO_WRITE = "LOCK TABLE ONLY usage.record IN ROW EXCLUSIVE MODE"
SELECT_COMPLETE_FROM = "SELECT max(records_complete_from) FROM usage.upstream"
SELECT_DROPPED_BEFORE = "SELECT records_dropped_before FROM usage.upstream WHERE upstream_id = %s"
SELECT_DROPPED_EVERYWHERE = """
SELECT min(records_dropped_before) FROM usage.upstream HAVING bool_and(records_dropped_before IS NOT NULL)
"""


def records_complete_from(connection: Connection) -> date | None:
    """Return the first day that has all its records, and keeps them until the transaction ends; None when all have."""
    connection.execute(KEEP_RECORDS)
    row = connection.execute(SELECT_COMPLETE_FROM).fetchone()
    return row[0] if row else None


def keep_records(connection: Connection) -> None:
    """Let no record be dropped until the transaction ends, which may store some."""
    connection.execute(KEEP_RECORDS_TO_WRITE)


def records_dropped_before(connection: Connection, upstream: int) -> datetime | None:
    """Return the instant before which an upstream's records may have been dropped; None when none was."""
    row = connection.execute(SELECT_DROPPED_BEFORE, [upstream]).fetchone()
    return row[0] if row else None


def records_dropped_before_everywhere(connection: Connection) -> datetime | None:
    """Return the instant before which no upstream has a record; None where one has them all."""
    row = connection.execute(SELECT_DROPPED_EVERYWHERE).fetchone()
    return row[0] if row else None


SELECT_MARKS = """
SELECT list_digest, read_bytes, read_digest, recent_ns FROM usage.snapshot_mark WHERE upstream_id = %s
"""
SAVE_MARK = """
INSERT INTO usage.snapshot_mark (upstream_id, list_digest, read_bytes, read_digest, recent_ns)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (upstream_id, list_digest) DO UPDATE
SET read_bytes = EXCLUDED.read_bytes, read_digest = EXCLUDED.read_digest, recent_ns = EXCLUDED.recent_ns
"""


def snapshot_marks(connection: Connection, upstream: int) -> dict[bytes, Mark]:
    """Return how far the lists of a proxy's snapshot have been read."""
    with connection.cursor(binary=True) as cursor:
        found = cursor.execute(SELECT_MARKS, [upstream])
        return {name: Mark(read_bytes, digest, tuple(recent)) for name, read_bytes, digest, recent in found}


def save_snapshot_marks(connection: Connection, upstream: int, marks: Mapping[bytes, Mark]) -> None:
    """Note how far lists have been read, all records up to there being stored when this commits."""
    rows = [(upstream, name, mark.read_bytes, mark.read_digest, list(mark.recent_ns)) for name, mark in marks.items()]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(SAVE_MARK, sorted(rows))


# -- client keys ------------------------------------------------------------------------------------------------

INSERT_CLIENT_KEYS = """
INSERT INTO usage.client_key (upstream_id, digest, mask, first_seen_at, last_seen_at)
SELECT %(upstream_id)s, digest, mask, first_at, last_at
FROM unnest(%(digests)s::bytea[], %(masks)s::text[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
    AS t (digest, mask, first_at, last_at)
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
        "masks": [s.mask for s in seen.values()],
        "firsts": [s.first_at for s in seen.values()],
        "lasts": [s.last_at for s in seen.values()],
    }
    connection.execute(INSERT_CLIENT_KEYS, arguments)
    connection.execute(TOUCH_CLIENT_KEYS, arguments)
    return {bytes(d): i for d, i in connection.execute(SELECT_CLIENT_KEYS, arguments).fetchall()}


INSERT_ORIGINS = """
INSERT INTO usage.origin (upstream_id, auth_index, source_digest, source_label, auth_type, candidates)
SELECT %(upstream_id)s, auth_index, source_digest, source_label, auth_type, candidates
FROM unnest(%(indexes)s::text[], %(digests)s::bytea[], %(labels)s::text[], %(types)s::text[], %(candidates)s::text[])
    AS t (auth_index, source_digest, source_label, auth_type, candidates)
WHERE NOT EXISTS (SELECT FROM usage.origin AS o
                  WHERE (o.upstream_id, o.auth_index, o.source_digest, o.auth_type)
                      = (%(upstream_id)s, t.auth_index, t.source_digest, t.auth_type))
ORDER BY auth_index, source_digest, auth_type
ON CONFLICT (upstream_id, auth_index, source_digest, auth_type) DO NOTHING
"""
UPDATE_CANDIDATES = """
WITH changed AS (
    SELECT o.origin_id, t.candidates
    FROM unnest(%(indexes)s::text[], %(digests)s::bytea[], %(types)s::text[], %(candidates)s::text[])
        AS t (auth_index, source_digest, auth_type, candidates)
    JOIN usage.origin AS o
        ON (o.upstream_id, o.auth_index, o.source_digest, o.auth_type)
         = (%(upstream_id)s, t.auth_index, t.source_digest, t.auth_type)
    WHERE t.candidates NOT IN ('', o.candidates)
    ORDER BY o.origin_id
    FOR NO KEY UPDATE OF o
)
UPDATE usage.origin AS o SET candidates = c.candidates FROM changed AS c WHERE o.origin_id = c.origin_id
"""
SELECT_ORIGINS = """
SELECT auth_index, source_digest, source_label, auth_type, origin_id
FROM usage.origin AS o
WHERE upstream_id = %(upstream_id)s
  AND EXISTS (SELECT FROM unnest(%(indexes)s::text[], %(digests)s::bytea[], %(types)s::text[])
                  AS t (auth_index, source_digest, auth_type)
              WHERE (o.auth_index, o.source_digest, o.auth_type) = (t.auth_index, t.source_digest, t.auth_type))
"""


def origin_ids(connection: Connection, upstream: int, origins: Mapping[Origin, str]) -> dict[Origin, int]:
    """Return the ids of these origins, entering new ones, and the candidates that each came with."""
    arguments = {**_origin_arguments(upstream, origins), "candidates": list(origins.values())}
    connection.execute(INSERT_ORIGINS, arguments)
    connection.execute(UPDATE_CANDIDATES, arguments)
    return _origins_found(connection, arguments)


def known_origins(connection: Connection, upstream: int, origins: Iterable[Origin]) -> set[Origin]:
    """Return those of these origins that were seen before."""
    return set(_origins_found(connection, _origin_arguments(upstream, origins)))


def _origin_arguments(upstream: int, origins: Iterable[Origin]) -> dict[str, Any]:
    wanted = list(origins)
    return {
        "upstream_id": upstream,
        "indexes": [o.auth_index for o in wanted],
        "digests": [o.source_digest for o in wanted],
        "labels": [o.source_label for o in wanted],
        "types": [o.auth_type for o in wanted],
    }


def _origins_found(connection: Connection, arguments: Mapping[str, Any]) -> dict[Origin, int]:
    found = connection.execute(SELECT_ORIGINS, arguments).fetchall()
    return {Origin(index, bytes(digest), label, auth_type): i for index, digest, label, auth_type, i in found}


INSERT_DIMENSIONS = """
INSERT INTO usage.dimension (channel_id, client_key_id, provider, endpoint, model, alias, outcome)
SELECT channel_id, client_key_id, provider, endpoint, model, alias, outcome
FROM unnest(%(channels)s::int[], %(keys)s::int[], %(providers)s::text[], %(endpoints)s::text[],
            %(models)s::text[], %(aliases)s::text[], %(outcomes)s::text[])
    AS t (channel_id, client_key_id, provider, endpoint, model, alias, outcome)
WHERE NOT EXISTS (SELECT FROM usage.dimension AS d
                  WHERE (d.channel_id, d.client_key_id, d.provider, d.endpoint, d.model, d.alias, d.outcome)
                      = (t.channel_id, t.client_key_id, t.provider, t.endpoint, t.model, t.alias, t.outcome))
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


SELECT_DIMENSIONS_OF = """
SELECT channel_id, client_key_id, provider, endpoint, model, alias, outcome, dimension_id
FROM usage.dimension WHERE channel_id = ANY(%s)
"""


def dimensions_of(connection: Connection, channel_ids: Sequence[int]) -> dict[int, Dimension]:
    """Return the dimensions of these channels by their id."""
    rows = connection.execute(SELECT_DIMENSIONS_OF, [list(channel_ids)])
    return {row[7]: Dimension(*row[:7]) for row in rows}


class ListedKey(NamedTuple):
    """A client key as an operator sees it."""

    client_key_id: int
    upstream: str
    client_key: str
    mask: str
    first_seen_at: datetime
    last_seen_at: datetime


LIST_KEYS = """
SELECT k.client_key_id, u.name, coalesce(k.label, k.mask), k.mask, k.first_seen_at, k.last_seen_at
FROM usage.client_key AS k
JOIN usage.upstream AS u USING (upstream_id)
WHERE (%(upstream)s::text IS NULL OR u.name = %(upstream)s)
  AND (%(which)s::text IS NULL OR %(which)s IN (k.client_key_id::text, k.mask, k.label))
ORDER BY u.name, coalesce(k.label, k.mask)
"""
LABEL_KEY = "UPDATE usage.client_key SET label = %s WHERE client_key_id = %s"


def client_keys(connection: Connection, *, upstream: str | None = None, which: str | None = None) -> list[ListedKey]:
    """Return the client keys; those whose number, mask or label is `which` where it is given."""
    arguments = {"upstream": upstream, "which": which}
    return [ListedKey(*row) for row in connection.execute(LIST_KEYS, arguments)]


def label_client_key(connection: Connection, client_key_id: int, label: str | None) -> None:
    """Give a client key a label, such as a person's or a team's name, or take it away."""
    connection.execute(LABEL_KEY, [label, client_key_id])


def one(row: tuple[Any, ...] | None) -> int:
    """Return the number in a row that must be there."""
    if row is None:
        raise LookupError("a row that was just written is not there")
    return int(row[0])
