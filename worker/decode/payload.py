"""Bytes → items → records: snapshots, export files, queue arrays, JSON lines.

What cannot be read becomes a BadRecord with its reason, and its siblings load.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from worker.decode.record import BadRecord, BadValueError, Item, Record, Siblings, by_item, get, loads, record_of
from worker.errors import NOT_JSON

CHUNK_RECORDS = 10_000
"""How many records of a snapshot or of a file are handed on at once."""

BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
"""A bracket, or a text, in which there are none; possessive, since what could be taken back is remembered."""

DEPTH_MAX = 100
"""Nothing of a usage payload is nested as deep as this."""


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """Some of a payload's records and what could not be read between them, in the payload's order."""

    records: list[Record]
    bad: list[BadRecord]
    complete: bool = True
    """False when the payload as a whole was not what its endpoint promises."""
    skipped: int = 0
    """Elements that are no usage, such as the proxy's messages to subscribers."""

    @property
    def elements(self) -> int:
        """How many elements there were, whatever became of them."""
        return len(self.records) + len(self.bad) + self.skipped


class _Model(msgspec.Struct):
    details: msgspec.Raw = msgspec.Raw(b"null")


class _Api(msgspec.Struct):
    models: dict[str, _Model | None] | None = None


class _Usage(msgspec.Struct):
    apis: dict[str, _Api | None] | None = None


class _Snapshot(msgspec.Struct):
    usage: _Usage | None = None
    apis: dict[str, _Api | None] | None = None


ITEM = msgspec.json.Decoder(Item)
_ITEMS = msgspec.json.Decoder(list[Item])
_RAW_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_ITEMS_OR_NULL: msgspec.json.Decoder[list[msgspec.Raw] | None] = msgspec.json.Decoder(list[msgspec.Raw] | None)
_SNAPSHOT = msgspec.json.Decoder(_Snapshot)


def decode_queue(payload: bytes) -> Decoded:
    """Read one answer of the usage queue: a JSON array of items, some of which may be strings that hold JSON.

    An answer that broke off is read as far as it goes: whole items load, the rest is one BadRecord.
    """
    siblings, records = Siblings(), list[Record]()
    try:
        items = _ITEMS.decode(payload)
        items.reverse()
        while items:  # each is let go as soon as it has become a record: there is never all of both
            records.append(siblings.numbered(record_of(items.pop(), "", "")))
    except (*NOT_JSON, BadValueError):
        return _queue_by_item(payload)
    return Decoded(records=records, bad=[])


def decode_snapshot(payload: bytes | bytearray, chunk: int = CHUNK_RECORDS) -> Iterator[Decoded]:
    """Read a `/usage` answer or an export file: `{"usage": {"apis": {key: {"models": {model: …}}}}}` or bare.

    Args:
        payload: the body; lists are decoded one at a time straight out of it.
        chunk: how many records to hand on at once.

    Raises:
        BadValueError: this is no snapshot at all. It can be asked for again, so nothing of it is set aside.
    """
    records: list[Record] = []
    bad: list[BadRecord] = []
    for client_key, model, details in _lists(payload):
        siblings = Siblings()
        for outcome in _details(details, client_key, model):
            if isinstance(outcome, BadRecord):
                bad.append(outcome)
            else:
                records.append(siblings.numbered(outcome))
            if len(records) + len(bad) >= chunk:
                yield Decoded(records=records, bad=bad)
                records, bad = [], []
    yield Decoded(records=records, bad=bad)


def decode_lines(lines: Iterator[bytes], chunk: int = CHUNK_RECORDS) -> Iterator[Decoded]:
    """Read JSON lines: each is an item, or an array of items as the queue answered it."""
    records: list[Record] = []
    bad: list[BadRecord] = []
    for line in lines:
        if not line.strip():
            continue
        decoded = decode_queue(line if line.lstrip().startswith(b"[") else b"[%b]" % line)
        records += decoded.records
        bad += decoded.bad
        if len(records) + len(bad) >= chunk:
            yield Decoded(records=records, bad=bad)
            records, bad = [], []
    yield Decoded(records=records, bad=bad)


def _queue_by_item(payload: bytes) -> Decoded:
    """Read the array item by item, so that a bad one costs only itself."""
    if not payload.lstrip().startswith(b"["):
        return Decoded(
            records=[], bad=[BadRecord(reason="the payload is not a JSON array", raw=payload)], complete=False
        )
    try:
        items, rest = [bytes(raw) for raw in _RAW_ITEMS.decode(payload)], b""
    except NOT_JSON:
        items, rest = _salvage(payload)
    records: list[Record] = []
    bad: list[BadRecord] = []
    siblings = Siblings()
    skipped = 0
    for raw in items:
        outcome = by_item(raw, "", "")
        if isinstance(outcome, BadRecord):
            bad.append(outcome)
        elif outcome is not None:
            records.append(siblings.numbered(outcome))
        else:
            skipped += 1
    if rest:
        bad.append(BadRecord(reason="the payload breaks off or is malformed from here on", raw=rest))
    return Decoded(records=records, bad=bad, complete=not rest, skipped=skipped)


def _salvage(payload: bytes) -> tuple[list[bytes], bytes]:
    """Split a malformed array into the items that are whole and the rest."""
    text = payload.decode("utf-8", "replace")
    # Only where an element ends is wanted: of a number, Python would refuse one of thousands of digits.
    reader, items, at = json.JSONDecoder(parse_int=str), list[bytes](), text.index("[") + 1
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if at >= len(text):
            return items, b"(the array is not closed)"
        if text[at] == "]":
            return items, text[at + 1 :].strip().encode()
        try:
            _, end = reader.raw_decode(text, at)
        except RecursionError:
            end = _end_of_deep(text, at)
        except ValueError:
            return items, text[at:].encode()
        items.append(text[at:end].encode())
        at = end


def _end_of_deep(text: str, at: int) -> int:
    """Return where an element ends that is nested too deeply to be parsed: its brackets are counted."""
    depth = 0
    for token in BRACKET.finditer(text, at):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth <= 0:
            return token.end()
    return len(text)


def _lists(payload: bytes | bytearray) -> Iterator[tuple[str, str, msgspec.Raw | list[Any]]]:
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


def _lists_of_odd(payload: bytes | bytearray) -> Iterator[tuple[str, str, list[Any]]]:
    """Do the same for a snapshot that the strict parser refuses: what has another shape costs only itself."""
    try:
        tree: Any = loads(payload)
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
                yield client_key, model, _details_of_odd(stats)
        elif models is not None or not isinstance(api, dict | None):
            yield client_key, "", [api]  # one element that cannot be read: it is set aside with its reason


def _shallow(payload: bytes | bytearray) -> Any:
    """Parse a snapshot of which some part is nested too deep to be parsed: null stands in that part's place."""
    text, kept, depth, at = payload.decode("utf-8", "replace"), list[str](), 0, 0
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


def _details(details: msgspec.Raw | list[Any], client_key: str, model: str) -> Iterator[Record | BadRecord]:
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
    for raw in items:
        try:
            yield record_of(ITEM.decode(raw), client_key, model)
        except (*NOT_JSON, BadValueError):
            outcome = by_item(bytes(raw), client_key, model)
            if outcome is not None:
                yield outcome
