"""Bytes → items → records: queue arrays and JSON lines.

What cannot be read becomes a BadRecord with its reason, and its siblings load.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from worker.decode.record import BadRecord, Record, Siblings, read
from worker.errors import NOT_JSON

CHUNK_RECORDS = 10_000
"""How many records of a snapshot or of a file are handed on at once."""

BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
"""A bracket, or a text, in which there are none; possessive, since what could be taken back is remembered."""


class Mark(NamedTuple):
    """How far a list of a snapshot has been read."""

    read_bytes: int
    read_digest: bytes
    """SHA-256 of as many bytes."""
    recent_ns: tuple[int, ...]
    """When the latest requests among them began, in ascending order; all of them where they are few."""


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """Some of a payload's records and what could not be read between them, in the payload's order."""

    records: list[Record]
    bad: list[BadRecord]
    complete: bool = True
    """False when the payload as a whole was not what its endpoint promises."""
    marks: Mapping[bytes, Mark] = {}
    """The lists of a snapshot that have been read to their end once these records are stored, and how far that is."""
    skipped: int = 0
    """Elements that are no usage, such as the proxy's messages to subscribers."""

    @property
    def elements(self) -> int:
        """How many elements there were, whatever became of them."""
        return len(self.records) + len(self.bad) + self.skipped


_RAW_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


def decode_queue(payload: bytes) -> Decoded:
    """Read one answer of the usage queue: a JSON array of items, some of which may be strings that hold JSON.

    Each item is parsed by itself, so that a bad one costs only itself, and what it was made of is let go before the
    next. An answer that broke off is read as far as it goes: whole items load, the rest is one BadRecord.
    """
    if not payload.lstrip().startswith(b"["):
        return Decoded(
            records=[], bad=[BadRecord(reason="the payload is not a JSON array", raw=payload)], complete=False
        )
    rest = b""
    try:
        items = _RAW_ITEMS.decode(payload)
    except NOT_JSON:
        whole, rest = _salvage(payload)
        items = [msgspec.Raw(item) for item in whole]
    siblings, records, bad, skipped = Siblings(), list[Record](), list[BadRecord](), 0
    for raw in items:
        outcome = read(raw, "", "")
        if isinstance(outcome, Record):
            records.append(siblings.numbered(outcome))
        elif outcome is not None:
            bad.append(outcome)
        else:
            skipped += 1
    if rest:
        bad.append(BadRecord(reason="the payload breaks off or is malformed from here on", raw=rest))
    return Decoded(records=records, bad=bad, complete=not rest, skipped=skipped)


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
