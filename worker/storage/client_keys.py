"""Statements on client keys: whom usage belongs to. None is ever deleted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from worker.db.database import Connection


class Seen(NamedTuple):
    """What a batch says of a client key: its mask, and when it was used first and last."""

    mask: str
    first_at: datetime
    last_at: datetime


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
