"""Bytes → items → records: a snapshot or an export file, which is the whole history in lists that grow at their ends.

What of a list has been read before is told by its bytes, and not read again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from typing import Any, NamedTuple, cast

import msgspec

from worker.cliproxyapi.payload.payload import BRACKET, CHUNK_RECORDS, Cursor, Decoded
from worker.cliproxyapi.payload.record import (
    TIMESTAMP,
    BadRecord,
    BadValueError,
    DuplicateNumbering,
    Record,
    by_item,
    clean,
    get,
    loads,
    read,
    timestamp_ns,
)
from worker.json_errors import NOT_JSON
from worker.secret import Keyring

DEPTH_MAX = 100
"""Nothing of a usage payload is nested as deep as this."""


DATE_CHARS = len("2026-08-22T12:00")
TIMESTAMP_BYTES = re.compile(TIMESTAMP.pattern.encode())

RECENT_INSTANTS = 128
"""How many of the latest instants of a list are kept with its cursor: more than are under way at a time."""

HASHING_THREADS = 2

UNREAD_MAX_BYTES = 1 << 24
"""More than this at the end of a list, and it is read from its beginning, a chunk at a time."""


class _Model(msgspec.Struct):
    details: msgspec.Raw = msgspec.Raw(b"null")


class _Api(msgspec.Struct):
    models: dict[str, _Model | None] | None = None


class _Usage(msgspec.Struct):
    apis: dict[str, _Api | None] | None = None


class _Snapshot(msgspec.Struct):
    usage: _Usage | None = None
    apis: dict[str, _Api | None] | None = None


_RAW_ITEMS_OR_NULL: msgspec.json.Decoder[list[msgspec.Raw] | None] = msgspec.json.Decoder(list[msgspec.Raw] | None)
_SNAPSHOT = msgspec.json.Decoder(_Snapshot)

Outcome = Record | BadRecord


def decode_snapshot(
    payload: bytes | bytearray | memoryview,
    keyring: Keyring | None = None,
    cursors: Mapping[bytes, Cursor] | None = None,
    chunk: int = CHUNK_RECORDS,
) -> Iterator[Decoded]:
    """Read a `/usage` answer or an export file: `{"usage": {"apis": {key: {"models": {model: …}}}}}` or bare.

    Args:
        payload: the body; lists are decoded one at a time straight out of it.
        keyring: makes the names that lists are remembered by; without it, none is.
        cursors: how far lists have been read before. What they cover is left out.
        chunk: how many records to hand on at once.

    Raises:
        BadValueError: this is no snapshot at all. It can be asked for again, so nothing of it is set aside.
    """
    records: list[Record] = []
    bad: list[BadRecord] = []
    moved: dict[bytes, Cursor] = {}
    lists = [_named(keyring, cursors or {}, *one) for one in _lists(payload)]
    with ThreadPoolExecutor(HASHING_THREADS) as threads:
        for one, (cursor, before) in zip(lists, threads.map(_compared, lists), strict=True):
            siblings, instants = DuplicateNumbering(), list(one.known.recent_ns if one.known else ())
            for outcome in _unread(one, before):
                if isinstance(outcome, BadRecord):
                    bad.append(outcome)
                else:
                    records.append(siblings.numbered(outcome))
                    instants.append(outcome.occurred_at_ns)
                if len(records) + len(bad) >= chunk:
                    yield Decoded(records=records, bad=bad, cursors=moved)
                    records, bad, moved = [], [], {}
            if cursor and cursor != one.known:
                moved[one.name] = cursor._replace(recent_ns=tuple(sorted(set(instants))[-RECENT_INSTANTS:]))
    if records or bad or moved:
        yield Decoded(records=records, bad=bad, cursors=moved)


class _List(NamedTuple):
    """A list of a snapshot, not yet read, and what is known of it; without a name it is not remembered."""

    name: bytes
    client_key: str
    model: str
    details: msgspec.Raw | list[Any]
    known: Cursor | None


def _named(
    keyring: Keyring | None,
    cursors: Mapping[bytes, Cursor],
    client_key: str,
    model: str,
    details: msgspec.Raw | list[Any],
) -> _List:
    name = keyring.event_key(f"list\0{client_key}\0{model}") if keyring else b""
    return _List(name, client_key, model, details, cursors.get(name))


def _compared(one: _List) -> tuple[Cursor | None, int]:
    """Return how far a list goes, and how many bytes of it are as they were; in a thread, since it only hashes."""
    if not one.name or isinstance(one.details, list):
        return None, 0
    content = memoryview(one.details)
    end = len(content)
    while end and content[end - 1] in b" \t\r\n":
        end -= 1
    end -= 1  # before the bracket that closes it
    if end <= 1 or content[end] != ord("]"):
        return None, 0
    known = one.known
    before = known.read_bytes if known and known.read_bytes <= end else 0
    digest = sha256(content[:before])
    as_before = known is not None and digest.digest() == known.read_digest
    digest.update(content[before:end])
    return Cursor(end, digest.digest(), known.recent_ns if known else ()), before if as_before else 0


def _unread(one: _List, before: int) -> Iterable[Outcome]:
    """Return what a list holds beyond the bytes that are as before; all of it where in doubt."""
    if one.known and before and not isinstance(one.details, list):
        added = _added(memoryview(one.details), before, one.known, one.client_key, one.model)
        if added is not None:
            return added
    return _details(one.details, one.client_key, one.model)


def _added(content: memoryview, before: int, known: Cursor, client_key: str, model: str) -> list[Outcome] | None:
    """Return what follows the part of a list that is known; None where it must be read with it.

    A record that is equal to another of its list counts by its place among such. One that began at an instant at
    which none before it did has none.
    """
    added = bytes(content[before:]).strip()
    if added == b"]":
        return []
    if not added.startswith(b",") or len(added) > UNREAD_MAX_BYTES:
        return None
    found = list(_details(msgspec.Raw(b"[" + added[1:]), client_key, model))
    instants = {r.occurred_at_ns for r in found if isinstance(r, Record)}
    if not instants.isdisjoint(known.recent_ns):
        return None
    late = [ns for ns in instants if ns < min(known.recent_ns, default=0)]
    if late and len(known.recent_ns) == RECENT_INSTANTS:
        past = bytes(content[:before])
        if any(_names(past, ns) for ns in late):
            return None
    return found


def _names(past: bytes, ns: int) -> bool:
    """Say whether an instant is among the timestamps in some JSON, in whatever offset they are written."""
    second, fraction = divmod(ns % 60_000_000_000, 1_000_000_000)
    clock = f":{second:02d}.{fraction:09d}".rstrip("0").rstrip(".").encode()  # all writings of it contain this
    at = past.find(clock, DATE_CHARS)
    while at >= 0:
        found = TIMESTAMP_BYTES.match(past, at - DATE_CHARS)
        if found:
            with suppress(BadValueError):
                if timestamp_ns(found[0].decode()) == ns:
                    return True
        at = past.find(clock, at + 1)
    return False


def _lists(payload: bytes | bytearray | memoryview) -> Iterator[tuple[str, str, msgspec.Raw | list[Any]]]:
    """Yield (client key, model, its list of details, not yet read) for everything a snapshot holds."""
    try:
        snapshot = _SNAPSHOT.decode(payload)
    except NOT_JSON:
        yield from _lists_of_odd(payload)
        return
    if snapshot.usage is None and snapshot.apis is None:
        raise BadValueError("not a usage snapshot: neither `usage` nor `apis` is there")
    apis = (snapshot.usage.apis if snapshot.usage else snapshot.apis) or {}
    for client_key, api in apis.items():
        for model, stats in ((api and api.models) or {}).items():
            if stats is not None:
                yield client_key, model, stats.details


def _lists_of_odd(payload: bytes | bytearray | memoryview) -> Iterator[tuple[str, str, list[Any]]]:
    """Do the same for a snapshot that the strict parser refuses: what has another shape costs only itself."""
    try:
        tree: Any = loads(bytes(payload))
    except RecursionError:
        tree = _shallow(payload)
    except ValueError as e:
        raise BadValueError(f"not a usage snapshot: {e}") from None
    usage = get(tree, "usage") or tree
    apis = get(usage, "apis")
    if not isinstance(apis, dict):
        raise BadValueError("not a usage snapshot: `apis` is not an object")
    for client_key, api in cast("dict[str, Any]", apis).items():
        models = get(api, "models")
        if isinstance(models, dict):
            for model, stats in cast("dict[str, Any]", models).items():
                yield clean(client_key), clean(model), _details_of_odd(stats)
        elif models is not None or not isinstance(api, dict | None):
            yield clean(client_key), "", [api]  # one element that cannot be read: it is set aside with its reason


def _shallow(payload: bytes | bytearray | memoryview) -> Any:
    """Parse a snapshot of which some part is nested too deep to be parsed: null stands in that part's place."""
    text, kept, depth, at = bytes(payload).decode("utf-8", "replace"), list[str](), 0, 0
    for token in BRACKET.finditer(text):
        if token[0] in "{[":
            depth += 1
            if depth == DEPTH_MAX:
                kept += (text[at : token.start()], "null")
        elif token[0] in "}]":
            if depth == DEPTH_MAX:
                at = token.end()
            depth -= 1
    try:
        return json.loads("".join([*kept, text[at:]]))
    except (ValueError, RecursionError):
        raise BadValueError("not a usage snapshot: it is nested too deep") from None


def _details_of_odd(stats: Any) -> list[Any]:
    details = get(stats, "details") if isinstance(stats, dict) else stats
    if details is None:
        return []
    whole = isinstance(stats, dict) and isinstance(details, list)
    return details if whole else [details]  # pyright: ignore[reportUnknownVariableType]  # JSON is untyped


def _details(details: msgspec.Raw | list[Any], client_key: str, model: str) -> Iterator[Outcome]:
    """Yield what one list of a snapshot holds; a list of another shape is one BadRecord."""
    if isinstance(details, list):
        found = (by_item(json.dumps(item).encode(), client_key, model) for item in details)
        yield from (outcome for outcome in found if outcome is not None)
        return
    try:
        items = _RAW_ITEMS_OR_NULL.decode(details) or []
    except NOT_JSON:
        try:
            items = [msgspec.Raw(json.dumps(item).encode()) for item in _details_of_odd({"details": loads(details)})]
        except (ValueError, RecursionError) as e:
            reason = f"`details` is not a list: {e}"
            yield BadRecord(reason=reason, raw=bytes(details), client_key=client_key, model=model)
            return
    found = (read(raw, client_key, model) for raw in items)
    yield from (outcome for outcome in found if outcome is not None)
