"""Statements on credentials: what the proxy's mapping endpoints list, and have ever listed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from worker.cliproxyapi.directory import Channel, Credential
from worker.db.database import Connection
from worker.storage.channels import channel_ids, follow_renames

SELECT_CREDENTIALS = """
SELECT d.endpoint, c.kind, c.identity, c.name, c.channel_group, d.provider, d.auth_index, d.key_digest, d.place,
       d.accounts, d.configured
FROM usage.credential AS d
JOIN usage.channel AS c USING (channel_id)
WHERE d.upstream_id = %s
ORDER BY d.credential_id
"""


def load_credentials(connection: Connection, upstream: int) -> tuple[list[Credential], list[Credential]]:
    """Return the last good directory and, apart from it, the credentials that are no longer listed."""
    configured: list[Credential] = []
    past: list[Credential] = []
    for endpoint, kind, identity, name, group, providers, index, digest, place, accounts, listed in connection.execute(
        SELECT_CREDENTIALS, [upstream]
    ):
        channel = Channel(kind, identity, name, group)
        credential = Credential(endpoint, channel, providers, index, bytes(digest), place, accounts)
        (configured if listed else past).append(credential)
    return configured, past


UNLIST_CREDENTIALS = """
UPDATE usage.credential SET configured = false
WHERE upstream_id = %(upstream_id)s AND endpoint = ANY(%(endpoints)s) AND configured
"""
# One that is there is updated and takes no number; ON CONFLICT is for who enters it at the same moment.
UPSERT_CREDENTIAL = """
WITH channel AS (
    SELECT channel_id FROM usage.channel
    WHERE upstream_id = %(upstream_id)s AND kind = %(kind)s AND identity = %(identity)s
), there AS (
    UPDATE usage.credential AS c
    SET configured = true, provider = %(provider)s, place = %(place)s, accounts = %(accounts)s, last_seen_at = %(at)s
    FROM channel
    WHERE (c.upstream_id, c.endpoint, c.channel_id, c.auth_index, c.key_digest)
        = (%(upstream_id)s, %(endpoint)s, channel.channel_id, %(auth_index)s, %(key_digest)s)
    RETURNING 1
)
INSERT INTO usage.credential
    (upstream_id, channel_id, endpoint, provider, auth_index, key_digest, place, accounts, configured,
     first_seen_at, last_seen_at)
SELECT %(upstream_id)s, channel_id, %(endpoint)s, %(provider)s, %(auth_index)s, %(key_digest)s, %(place)s,
       %(accounts)s, true, %(at)s, %(at)s
FROM channel
WHERE NOT EXISTS (SELECT FROM there)
ON CONFLICT (upstream_id, endpoint, channel_id, auth_index, key_digest) DO UPDATE
SET configured = true, provider = EXCLUDED.provider, place = EXCLUDED.place, accounts = EXCLUDED.accounts,
    last_seen_at = EXCLUDED.last_seen_at
"""
MARK_CHANNELS = """
UPDATE usage.channel AS c SET configured = listed.configured
FROM (SELECT channel_id, bool_or(configured) AS configured FROM usage.credential
      WHERE upstream_id = %(upstream_id)s GROUP BY channel_id) AS listed
WHERE c.channel_id = listed.channel_id AND c.configured <> listed.configured
"""


def save_credentials(
    connection: Connection, upstream: int, endpoints: Sequence[str], credentials: Sequence[Credential], at: datetime
) -> None:
    """Make `credentials` the ones that `endpoints` list; what they no longer list stays, as history.

    What is known now and was not before may be the channel of unknown records: they are to be looked at again.
    """
    configured, past = load_credentials(connection, upstream)
    before = {c.known_by for c in (*configured, *past)}
    kept = [c for c in configured if c.endpoint not in endpoints]  # a list that did not come is still in force
    follow_renames(connection, upstream, configured, [*credentials, *kept], at)
    channel_ids(connection, upstream, dict.fromkeys((c.channel for c in credentials), (at, at)), listed=True)
    connection.execute(UNLIST_CREDENTIALS, {"upstream_id": upstream, "endpoints": list(endpoints)})
    with connection.cursor() as cursor:
        cursor.executemany(
            UPSERT_CREDENTIAL,
            [
                {"upstream_id": upstream, "kind": c.channel.kind, "identity": c.channel.identity,
                 "endpoint": c.endpoint, "provider": c.providers, "auth_index": c.auth_index,
                 "key_digest": c.key_digest, "place": c.place, "accounts": c.accounts, "at": at}
                for c in credentials
            ],
        )  # fmt: skip
    connection.execute(MARK_CHANNELS, {"upstream_id": upstream})
    if any(c.known_by not in before for c in credentials):
        set_resolve_pending(connection, upstream, pending=True)


SET_RESOLVE_PENDING = "UPDATE usage.upstream SET resolve_pending = %s WHERE upstream_id = %s"
SELECT_RESOLVE_PENDING = "SELECT resolve_pending FROM usage.upstream WHERE upstream_id = %s"


def set_resolve_pending(connection: Connection, upstream: int, *, pending: bool) -> None:
    """Note whether unknown records are to be looked at again."""
    connection.execute(SET_RESOLVE_PENDING, [pending, upstream])


def resolve_pending(connection: Connection, upstream: int) -> bool:
    """Say whether the directory learned something since unknown records were last looked at."""
    row = connection.execute(SELECT_RESOLVE_PENDING, [upstream]).fetchone()
    return bool(row and row[0])


SELECT_CHANNEL_CREDENTIALS = """
SELECT endpoint, provider, auth_index, encode(key_digest, 'hex'), place, accounts, configured, first_seen_at,
       last_seen_at
FROM usage.credential WHERE channel_id = %s ORDER BY credential_id
"""


def credentials_of(connection: Connection, channel_id: int) -> list[dict[str, Any]]:
    """Return what the proxy ever listed for a channel; keys as digests."""
    names = (
        "endpoint", "provider", "auth_index", "key_digest", "place", "accounts", "configured", "first_seen_at",
        "last_seen_at",
    )  # fmt: skip
    return [dict(zip(names, row, strict=True)) for row in connection.execute(SELECT_CHANNEL_CREDENTIALS, [channel_id])]
