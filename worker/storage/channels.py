"""Every statement on channels. None is ever deleted: one that the proxy no longer lists keeps its usage and its names.

No transaction begins or ends here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from worker.cliproxyapi.directory import Channel, Credential, renames, suffixed
from worker.db.database import Connection

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


def follow_renames(
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
       coalesce((SELECT x.rate_multiplier FROM usage.channel_rate AS x
                 WHERE x.channel_id = c.channel_id AND x.valid_from <= now()
                 ORDER BY x.valid_from DESC LIMIT 1), 1),
       c.first_seen_at, c.last_seen_at
FROM usage.channel AS c
JOIN usage.upstream AS u USING (upstream_id)
WHERE (%(upstream)s::text IS NULL OR u.name = %(upstream)s)
  AND (%(which)s::text IS NULL OR %(which)s IN (c.channel_id::text, c.name, c.label))
ORDER BY u.name, c.kind, c.name
"""


def listed(connection: Connection, *, upstream: str | None = None, which: str | None = None) -> list[ListedChannel]:
    """Return the channels; those whose number, name or label is `which` where it is given."""
    arguments = {"upstream": upstream, "which": which}
    return [ListedChannel(*row) for row in connection.execute(LIST_CHANNELS, arguments)]


SELECT_HISTORY = """
SELECT since, name, given_by FROM usage.channel_name WHERE channel_id = %s ORDER BY since, given_by
"""


def history(connection: Connection, channel_id: int) -> list[dict[str, Any]]:
    """Return every name of a channel, oldest first."""
    rows = connection.execute(SELECT_HISTORY, [channel_id])
    return [dict(zip(("since", "name", "given_by"), row, strict=True)) for row in rows]


LABEL_CHANNEL = "UPDATE usage.channel SET label = %s WHERE channel_id = %s RETURNING coalesce(label, name)"


def label(connection: Connection, channel_id: int, label: str | None, at: datetime) -> None:
    """Give a channel an operator's label, or take it away; its past goes by the new one."""
    row = connection.execute(LABEL_CHANNEL, [label, channel_id]).fetchone()
    if row is not None:
        connection.execute(INSERT_NAME, [channel_id, at, row[0], "operator"])


SET_RATE = """
INSERT INTO usage.channel_rate (channel_id, valid_from, rate_multiplier, entered_at)
VALUES (%(channel_id)s, %(valid_from)s, %(rate)s, %(at)s)
ON CONFLICT (channel_id, valid_from) DO UPDATE
SET rate_multiplier = EXCLUDED.rate_multiplier, entered_at = EXCLUDED.entered_at
"""


def set_rate(connection: Connection, channel_id: int, rate: Decimal, valid_from: datetime, at: datetime) -> None:
    """Set what requests over this channel that begin at `valid_from` or later cost, as a multiple of their cost."""
    connection.execute(SET_RATE, {"channel_id": channel_id, "valid_from": valid_from, "rate": rate, "at": at})


SELECT_RATES = """
SELECT c.channel_id, array_remove(ARRAY[c.label, c.name], NULL), nullif(x.valid_from, '-infinity'), x.rate_multiplier
FROM usage.channel AS c
LEFT JOIN usage.channel_rate AS x USING (channel_id)
WHERE c.channel_id = ANY(%s)
ORDER BY c.channel_id, x.valid_from DESC
"""


class Rates(NamedTuple):
    """What charging needs to know of a channel: its names, and its rate multipliers, the latest first."""

    names: tuple[str, ...]
    multipliers: tuple[tuple[datetime | None, Decimal], ...]

    def multiplier(self, at: datetime) -> Decimal:
        """Return the rate multiplier of requests that began at `at`; 1 before the first that was set."""
        found = (rate for since, rate in self.multipliers if since is None or since <= at)
        return next(found, Decimal(1))


def rates(connection: Connection, channel_ids: Iterable[int]) -> dict[int, Rates]:
    """Return names and rate multipliers of these channels by their number."""
    found: dict[int, Rates] = {}
    for channel_id, names, since, rate in connection.execute(SELECT_RATES, [list(channel_ids)]):
        before = found.get(channel_id, Rates(tuple(names), ()))
        more = before.multipliers if rate is None else (*before.multipliers, (since, rate))
        found[channel_id] = before._replace(multipliers=more)
    return found


LINK_CHANNEL = "UPDATE usage.channel SET linked_to = %(to)s WHERE channel_id = %(from)s OR linked_to = %(from)s"
COUNT_LINK = """
UPDATE usage.upstream SET links = links + 1
WHERE upstream_id = (SELECT upstream_id FROM usage.channel WHERE channel_id = %s)
"""
SELECT_LINKS = "SELECT links FROM usage.upstream WHERE upstream_id = %s"


def link(connection: Connection, channel_id: int, to: int) -> None:
    """Book a channel's usage on another from now on, and with it what is booked on the channel already."""
    connection.execute(LINK_CHANNEL, {"from": channel_id, "to": to})
    connection.execute(COUNT_LINK, [channel_id])


def links(connection: Connection, upstream: int) -> int:
    """Return how many links an upstream has seen: when it is another number, usage is booked on other channels."""
    row = connection.execute(SELECT_LINKS, [upstream]).fetchone()
    return int(row[0]) if row else 0


SELECT_CHANNEL_IDS = """
SELECT channel_id FROM usage.channel
WHERE upstream_id = %(upstream_id)s AND (%(kind)s::text IS NULL OR kind = %(kind)s)
"""


def ids_of_kind(connection: Connection, upstream: int, kind: str | None) -> list[int]:
    """Return the ids of an upstream's channels of one kind; of all when None."""
    return [i for (i,) in connection.execute(SELECT_CHANNEL_IDS, {"upstream_id": upstream, "kind": kind})]
