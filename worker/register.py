"""Every statement on what records refer to: upstreams, channels, credentials, client keys, dimensions, origins.

Nothing here is ever deleted: a channel or a key that the proxy no longer lists keeps its usage and its name. No
transaction begins or ends here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from worker.database import Connection
from worker.directory import Channel, Credential, renames, suffixed


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

INSERT_UPSTREAM = "INSERT INTO usage.upstream (name) VALUES (%s) ON CONFLICT (name) DO NOTHING"
SELECT_UPSTREAM = "SELECT upstream_id FROM usage.upstream WHERE name = %s"


def upstream_id(connection: Connection, name: str) -> int:
    """Return the id of the upstream called `name`, which is entered when it is new."""
    connection.execute(INSERT_UPSTREAM, [name])
    return one(connection.execute(SELECT_UPSTREAM, [name]).fetchone())


SELECT_COMPLETE_FROM = "SELECT max(records_complete_from) FROM usage.upstream"


def records_complete_from(connection: Connection) -> date | None:
    """Return the first day of which no record was ever dropped; None when none ever was."""
    row = connection.execute(SELECT_COMPLETE_FROM).fetchone()
    return row[0] if row else None


# -- channels ---------------------------------------------------------------------------------------------------

SELECT_NAMES = """
SELECT kind, identity, name FROM usage.channel WHERE upstream_id = %(upstream_id)s
"""
INSERT_CHANNEL = """
INSERT INTO usage.channel (upstream_id, kind, identity, name, channel_group, first_seen_at, last_seen_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (upstream_id, kind, identity) DO NOTHING
RETURNING channel_id
"""
INSERT_NAME = """
INSERT INTO usage.channel_name (channel_id, since, name, given_by) VALUES (%s, %s, %s, %s)
ON CONFLICT (channel_id, since, given_by) DO UPDATE SET name = EXCLUDED.name
"""
# Rows are locked in one order, so that two workers never wait for each other in a ring.
TOUCH_CHANNELS = """
WITH touched AS (
    SELECT c.channel_id, t.first_at, t.last_at
    FROM unnest(%(kinds)s::text[], %(identities)s::text[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
        AS t (kind, identity, first_at, last_at)
    JOIN usage.channel AS c ON c.upstream_id = %(upstream_id)s AND c.kind = t.kind AND c.identity = t.identity
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
SELECT kind, identity, coalesce(linked_to, channel_id) FROM usage.channel
WHERE upstream_id = %(upstream_id)s AND identity = ANY(%(identities)s)
"""


# Where an import or a late pass still goes by a name that the proxy's configuration has given up meanwhile.
SELECT_FORMER = """
SELECT DISTINCT ON (n.name) n.name, coalesce(c.linked_to, c.channel_id)
FROM usage.channel_name AS n
JOIN usage.channel AS c USING (channel_id)
WHERE c.upstream_id = %(upstream_id)s AND c.kind = 'apikey' AND n.given_by = 'proxy' AND n.name = ANY(%(identities)s)
ORDER BY n.name, n.since DESC
"""


def channel_ids(
    connection: Connection,
    upstream: int,
    seen: Mapping[Channel, tuple[datetime, datetime]],
    *,
    listed: bool = False,
) -> dict[tuple[str, str], int]:
    """Return the channels on which usage is booked by (kind, identity); enter new ones, note when each was seen.

    `listed` says that the proxy lists them under these names now. Otherwise a name may be a former one.
    """
    arguments = {
        "upstream_id": upstream,
        "kinds": [c.kind for c in seen],
        "identities": [c.identity for c in seen],
        "firsts": [first for first, _ in seen.values()],
        "lasts": [last for _, last in seen.values()],
    }
    known = {(kind, identity): name for kind, identity, name in connection.execute(SELECT_NAMES, arguments)}
    former = {} if listed else _former(connection, arguments)
    fresh = sorted(c for c in seen if (c.kind, c.identity) not in known and (c.kind, c.identity) not in former)
    for channel in fresh:
        name = _free_name(channel, [*known.values(), *(c.name for c in fresh if c is not channel)])
        _enter(connection, upstream, channel, name, seen[channel])
    connection.execute(TOUCH_CHANNELS, arguments)
    found = connection.execute(SELECT_CHANNELS, arguments).fetchall()
    return former | {(kind, identity): channel_id for kind, identity, channel_id in found}


def _former(connection: Connection, arguments: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    return {("apikey", name): channel_id for name, channel_id in connection.execute(SELECT_FORMER, arguments)}


def _enter(connection: Connection, upstream: int, channel: Channel, name: str, seen: tuple[datetime, datetime]) -> None:
    arguments = [upstream, channel.kind, channel.identity, name, channel.group, *seen]
    row = connection.execute(INSERT_CHANNEL, arguments).fetchone()
    if row is not None:
        connection.execute(INSERT_NAME, [row[0], seen[0], name, "proxy"])


def booked_ids(connection: Connection, upstream: int, channels: Iterable[Channel]) -> dict[tuple[str, str], int]:
    """Return the same as `channel_ids` for those that are there, and write nothing."""
    arguments = {"upstream_id": upstream, "identities": [c.identity for c in channels]}
    found = connection.execute(SELECT_CHANNELS, arguments).fetchall()
    return _former(connection, arguments) | {(kind, identity): channel_id for kind, identity, channel_id in found}


def _free_name(channel: Channel, taken: Sequence[str]) -> str:
    """Return the channel's name; with its detail where another channel has that name already."""
    return suffixed(channel.name, channel.detail) if channel.detail and channel.name in taken else channel.name


RENAME_CHANNEL = """
UPDATE usage.channel SET identity = %(identity)s, name = %(name)s, channel_group = %(group)s
WHERE upstream_id = %(upstream_id)s AND kind = %(kind)s AND identity = %(was)s
RETURNING channel_id
"""


def _rename(connection: Connection, upstream: int, was: str, now: Channel, name: str, at: datetime) -> None:
    """Follow the proxy's configuration: the same channel under another name."""
    row = connection.execute(
        RENAME_CHANNEL,
        {"upstream_id": upstream, "kind": now.kind, "was": was, "identity": now.identity, "name": name,
         "group": now.group},
    ).fetchone()  # fmt: skip
    if row is not None:
        connection.execute(INSERT_NAME, [row[0], at, name, "proxy"])


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
INSERT INTO usage.origin AS o (upstream_id, auth_index, source_digest, source_label, auth_type, candidates)
SELECT %(upstream_id)s, auth_index, source_digest, source_label, auth_type, candidates
FROM unnest(%(indexes)s::text[], %(digests)s::bytea[], %(labels)s::text[], %(types)s::text[], %(candidates)s::text[])
    AS t (auth_index, source_digest, source_label, auth_type, candidates)
ORDER BY auth_index, source_digest, auth_type
ON CONFLICT (upstream_id, auth_index, source_digest, auth_type) DO UPDATE
SET candidates = EXCLUDED.candidates WHERE EXCLUDED.candidates NOT IN ('', o.candidates)
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


# -- credentials ------------------------------------------------------------------------------------------------

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
UPSERT_CREDENTIAL = """
INSERT INTO usage.credential
    (upstream_id, channel_id, endpoint, provider, auth_index, key_digest, place, accounts, configured,
     first_seen_at, last_seen_at)
SELECT %(upstream_id)s, c.channel_id, %(endpoint)s, %(provider)s, %(auth_index)s, %(key_digest)s, %(place)s,
       %(accounts)s, true, %(at)s, %(at)s
FROM usage.channel AS c
WHERE c.upstream_id = %(upstream_id)s AND c.kind = %(kind)s AND c.identity = %(identity)s
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
    _follow_renames(connection, upstream, configured, [*credentials, *kept], at)
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


def _follow_renames(
    connection: Connection, upstream: int, before: Sequence[Credential], after: Sequence[Credential], at: datetime
) -> None:
    """Rename the channels whose name changed in the proxy: API-key providers, and auth files without an address."""
    rows = connection.execute(SELECT_NAMES, {"upstream_id": upstream}).fetchall()
    names = {(kind, identity): name for kind, identity, name in rows}
    ever = {identity for kind, identity in names if kind == "apikey"}
    for was, now in renames(before, after, ever).items():
        _rename(connection, upstream, was, now, now.name, at)
    files = dict.fromkeys(c.channel for c in after if c.channel.kind == "auth")
    shared = Counter(c.identity for c in files)
    for channel in (c for c in files if shared[c.identity] == 1):  # of several names for one, the first stays
        known = names.get((channel.kind, channel.identity))
        if known is not None and known not in (channel.name, suffixed(channel.name, channel.detail)):
            others = [name for key, name in names.items() if key != (channel.kind, channel.identity)]
            _rename(connection, upstream, channel.identity, channel, _free_name(channel, others), at)


# -- an operator's word -----------------------------------------------------------------------------------------


class ListedChannel(NamedTuple):
    """A channel as an operator sees it."""

    channel_id: int
    upstream: str
    channel: str
    kind: str
    group: str
    configured_name: str
    configured: bool
    linked_to: int | None
    rate_multiplier: Decimal
    first_seen_at: datetime
    last_seen_at: datetime


LIST_CHANNELS = """
SELECT c.channel_id, u.name, coalesce(c.label, c.name), c.kind, c.channel_group, c.name, c.configured, c.linked_to,
       c.rate_multiplier, c.first_seen_at, c.last_seen_at
FROM usage.channel AS c
JOIN usage.upstream AS u USING (upstream_id)
WHERE (%(upstream)s::text IS NULL OR u.name = %(upstream)s)
  AND (%(which)s::text IS NULL OR %(which)s IN (c.channel_id::text, c.name, c.label))
ORDER BY u.name, c.kind, c.name
"""


def channels(connection: Connection, *, upstream: str | None = None, which: str | None = None) -> list[ListedChannel]:
    """Return the channels; those whose number, name or label is `which` where it is given."""
    arguments = {"upstream": upstream, "which": which}
    return [ListedChannel(*row) for row in connection.execute(LIST_CHANNELS, arguments)]


SELECT_HISTORY = """
SELECT since, name, given_by FROM usage.channel_name WHERE channel_id = %s ORDER BY since, given_by
"""
SELECT_CHANNEL_CREDENTIALS = """
SELECT endpoint, provider, auth_index, encode(key_digest, 'hex'), place, accounts, configured, first_seen_at,
       last_seen_at
FROM usage.credential WHERE channel_id = %s ORDER BY credential_id
"""


def channel_history(connection: Connection, channel_id: int) -> list[dict[str, Any]]:
    """Return every name of a channel, oldest first."""
    rows = connection.execute(SELECT_HISTORY, [channel_id])
    return [dict(zip(("since", "name", "given_by"), row, strict=True)) for row in rows]


def channel_credentials(connection: Connection, channel_id: int) -> list[dict[str, Any]]:
    """Return what the proxy ever listed for a channel; keys as digests."""
    names = (
        "endpoint", "provider", "auth_index", "key_digest", "place", "accounts", "configured", "first_seen_at",
        "last_seen_at",
    )  # fmt: skip
    return [dict(zip(names, row, strict=True)) for row in connection.execute(SELECT_CHANNEL_CREDENTIALS, [channel_id])]


LABEL_CHANNEL = "UPDATE usage.channel SET label = %s WHERE channel_id = %s RETURNING coalesce(label, name)"


def label_channel(connection: Connection, channel_id: int, label: str | None, at: datetime) -> None:
    """Give a channel an operator's label, or take it away; its past goes by the new one."""
    row = connection.execute(LABEL_CHANNEL, [label, channel_id]).fetchone()
    if row is not None:
        connection.execute(INSERT_NAME, [channel_id, at, row[0], "operator"])


SET_RATE = "UPDATE usage.channel SET rate_multiplier = %s WHERE channel_id = %s"


def set_rate(connection: Connection, channel_id: int, rate: Decimal) -> None:
    """Set what a request over this channel really costs, as a multiple of its cost."""
    connection.execute(SET_RATE, [rate, channel_id])


LINK_CHANNEL = "UPDATE usage.channel SET linked_to = %(to)s WHERE channel_id = %(from)s OR linked_to = %(from)s"


def link_channel(connection: Connection, channel_id: int, to: int) -> None:
    """Book a channel's usage on another from now on, and with it what is booked on the channel already."""
    connection.execute(LINK_CHANNEL, {"from": channel_id, "to": to})


SELECT_DIMENSIONS_OF = """
SELECT channel_id, client_key_id, provider, endpoint, model, alias, outcome, dimension_id
FROM usage.dimension WHERE channel_id = ANY(%s)
"""
SELECT_CHANNEL_IDS = """
SELECT channel_id FROM usage.channel
WHERE upstream_id = %(upstream_id)s AND (%(kind)s::text IS NULL OR kind = %(kind)s)
"""


def dimensions_of(connection: Connection, channel_ids: Sequence[int]) -> dict[int, Dimension]:
    """Return the dimensions of these channels by their id."""
    rows = connection.execute(SELECT_DIMENSIONS_OF, [list(channel_ids)])
    return {row[7]: Dimension(*row[:7]) for row in rows}


def ids_of_kind(connection: Connection, upstream: int, kind: str | None) -> list[int]:
    """Return the ids of an upstream's channels of one kind; of all when None."""
    return [i for (i,) in connection.execute(SELECT_CHANNEL_IDS, {"upstream_id": upstream, "kind": kind})]


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
