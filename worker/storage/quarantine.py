"""Statements on quarantine: records that could not be read, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from worker.db.database import Connection


class QuarantinedRecord(NamedTuple):
    """A record that is set aside: `payload` no longer holds a secret."""

    digest: bytes
    reason: str
    payload: str
    retryable: bool


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


def quarantine(connection: Connection, upstream: int, bad: Sequence[QuarantinedRecord], at: datetime) -> int:
    """Quarantine records; return how many of them are new there."""
    if not bad:
        return 0
    arguments = {
        "upstream_id": upstream,
        "at": at,
        "digests": [one.digest for one in bad],
        "reasons": [one.reason for one in bad],
        "payloads": [one.payload for one in bad],
        "retryables": [one.retryable for one in bad],
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
