"""What reading a payload comes to: records, and what could not be read between them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from worker.cliproxyapi.payload.record import BadRecord, Record
from worker.json_errors import NOT_JSON

CHUNK_RECORDS = 10_000
"""How many records of a snapshot or of a file are handed on at once."""

BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
"""A bracket, or a text, in which there are none; possessive, since what could be taken back is remembered."""


class Cursor(NamedTuple):
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
    """False when the payload as a whole could not be read to its end; the last of its parts says so."""
    cursors: Mapping[bytes, Cursor] = {}
    """The lists of a snapshot that have been read to their end once these records are stored, and how far that is."""
    fault: str = ""
    """Why it is not complete, in one sentence; empty when it is."""
    breaks_off: bool = False
    """It is not complete since it ends before what it begins is closed: there is no more of it in these bytes."""
    skipped: int = 0
    """Elements that are no usage, such as the proxy's messages to subscribers."""

    @property
    def elements(self) -> int:
        """How many elements there were, whatever became of them."""
        return len(self.records) + len(self.bad) + self.skipped


def count_elements(body: bytes | memoryview) -> int | None:
    """Return how many elements an answer has, be it an array or an object with arrays in it; None for anything else."""
    try:
        if not bytes(body[:64]).lstrip().startswith(b"{"):
            return len(msgspec.json.decode(body, type=list[msgspec.Raw] | None) or ())
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        arrays = [value for value in fields.values() if bytes(memoryview(value)[:1]) == b"["]
        return sum(len(msgspec.json.decode(array, type=list[msgspec.Raw])) for array in arrays) if arrays else None
    except NOT_JSON:
        return None
