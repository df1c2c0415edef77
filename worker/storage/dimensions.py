"""Statements on the combinations of dimensions that records and rollups name by a number, and on records' origins.

Nothing here is ever deleted. No transaction begins or ends here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.db.database import Connection
from worker.storage.rows import Dimension, Origin

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
