"""Bytes → items → records: one answer of the usage queue or one file, in whatever shape, in pieces of bounded memory.

An array of items is the shape that the proxy documents. Forks and adapters put an object around it, export tools write
JSON lines, and what is copied by hand is at times one object. Each item is parsed by itself, so that a bad one costs
only itself, and what it was made of is let go before the next.
"""

from __future__ import annotations

import json
import mmap
import re
import sys
from collections.abc import Iterator

import msgspec

from worker.cliproxyapi.payload.payload import CHUNK_RECORDS, Decoded
from worker.cliproxyapi.payload.record import BadRecord, DuplicateNumbering, Record, read
from worker.json_errors import NOT_JSON

Body = bytes | bytearray | memoryview | msgspec.Raw
"""JSON in memory or in a mapped file."""

WINDOW_BYTES = 1 << 20
"""How much is parsed at once."""

ITEM_MAX_BYTES = 64 << 20
"""An item longer than this is not read: it is no record of one request, and would fill the memory."""

REST_MAX_BYTES = 1 << 16
"""No more than this is set aside of what is no item."""

EMPTY = "the payload is empty"
BREAKS_OFF = "the payload breaks off or is malformed from here on"
NO_USAGE = (
    "the payload holds no usage that can be read: it is no array of records, no object with one in it, no JSON lines"
)

_RAW = msgspec.json.Decoder(msgspec.Raw)
_RAW_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_BLANKS = re.compile(rb"[ \t\r\n]*+")
_BETWEEN = re.compile(rb"[ \t\r\n,]*+")
_LINE_END = re.compile(rb"[ \t\r]*+(?:\n|\Z)")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|([{\[])|([}\]])', re.DOTALL)
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SCALAR = re.compile(rb'[^\s,\[\]{}":]++')
_NAME = re.compile(rb'"(?:[^"\\]++|\\.)*+"[ \t\r\n]*+:[ \t\r\n]*+', re.DOTALL)
_ITEM_ENDS = re.compile(rb'(\}"?)[ \t\r\n]*+,[ \t\r\n]*+"?\{')
"""Where one item probably ends and the next begins; whether it does shows when the items before it are parsed."""
_ITEM_ENDS_WITHIN_BYTES = 1 << 16
_TRIES = 4
_NEWLINE = re.compile(rb"\n")
_LIST = re.compile(rb'\[[ \t\r\n]*+"?\{')
_NAMED_LIST = re.compile(rb':[ \t\r\n]*+\[[ \t\r\n]*+"?\{')

# Only whether it is JSON is wanted: of a number, Python would refuse one of thousands of digits.
_TOLERANT = json.JSONDecoder(parse_int=str)

Found = msgspec.Raw | BadRecord


def decode_answer(body: Body, *, chunk: int = CHUNK_RECORDS, lines_apart: bool = False) -> Iterator[Decoded]:
    """Read one answer of the usage queue, or one file of such.

    It may be an array of items, of which some may be strings that hold JSON; an object with such an array in it; JSON
    lines of any of these; or one item. No bytes at all are no answer: `[]` says that there is nothing. Equal records of
    one answer are so many records.

    Args:
        body: what was answered, unpacked; of a long one no more than a few pieces are in memory at a time.
        chunk: how many records to hand on at once.
        lines_apart: each line is an answer of its own, as in a file to which something appended what it saw: equal
            records on two lines are the same one.

    Yields:
        The records and what could not be read, in their order; at least once. The last says by `complete` and `fault`
        whether the answer had a shape that could be read to its end; whole items of one that breaks off are there.
    """
    reading, siblings, any_record = _Reading(body, lines_apart=lines_apart), DuplicateNumbering(), False
    records, bad, skipped, answers = list[Record](), list[BadRecord](), 0, 0
    for batch in reading.batches():
        if lines_apart and reading.answers != answers:
            siblings, answers = DuplicateNumbering(), reading.answers
        for found in batch:
            outcome = found if isinstance(found, BadRecord) else read(found, "", "")
            if isinstance(outcome, Record):
                records.append(siblings.numbered(outcome))
                any_record = True
            elif outcome is not None:
                bad.append(outcome)
            else:
                skipped += 1
            if len(records) + len(bad) + skipped >= chunk:
                yield Decoded(records=records, bad=bad, skipped=skipped)
                records, bad, skipped = [], [], 0
                _let_go(body)
    fault = reading.fault or (reading.doubt if not any_record else "")
    ends_early = reading.breaks_off and bool(fault)
    yield Decoded(records=records, bad=bad, skipped=skipped, complete=not fault, fault=fault, breaks_off=ends_early)


def decode_queue(payload: Body) -> Decoded:
    """Read one answer of the usage queue at once; see `decode_answer`."""
    parts = list(decode_answer(payload))
    return Decoded(
        records=[record for part in parts for record in part.records],
        bad=[bad for part in parts for bad in part.bad],
        skipped=sum(part.skipped for part in parts),
        complete=parts[-1].complete,
        fault=parts[-1].fault,
        breaks_off=parts[-1].breaks_off,
    )


class _Reading:
    """How far an answer has been read, and what was wrong with its shape."""

    def __init__(self, body: Body, *, lines_apart: bool = False) -> None:
        self._body = memoryview(body)
        self._lines_apart = lines_apart
        self.answers = 0
        """How many values, and lines where they are apart, have been begun."""
        self._at = 0
        self._end = len(self._body)
        self._stopped = False
        self.fault = ""
        """The first thing that could not be read, which is not the matter of a single item."""
        self.doubt = ""
        """The same, unless there is a record in it after all."""
        self.breaks_off = False
        """It ends before what it begins is closed: there is no more of it in these bytes."""

    def batches(self) -> Iterator[list[Found]]:
        """Yield the items, some at a time."""
        if self._skip(_BLANKS) >= self._end:
            self.breaks_off = True
            yield [self._rest(EMPTY)]
        while self._skip(_BLANKS) < self._end:
            begin = self._at
            self.answers += 1
            if self._is_line():
                yield from self._lines()
            else:
                yield from self._value()
                if not self._stopped and not _LINE_END.match(self._body, self._at):
                    self._stop()
            if self._stopped:
                yield [self._rest(NO_USAGE if self._at == begin else BREAKS_OFF)]

    # -- lines ------------------------------------------------------------------------------------------------------

    def _is_line(self) -> bool:
        """Say whether JSON ends at the end of this line, and more follows."""
        head = bytes(self._body[self._at : self._at + WINDOW_BYTES])
        line, end, _ = head.partition(b"\n")
        return bool(end) and _BLANKS.fullmatch(self._body, self._at + len(line)) is None and _is_json(line)

    def _lines(self) -> Iterator[list[Found]]:
        """Read lines up to one that is longer than a window, or the end."""
        while self._at < self._end:
            piece = bytes(self._body[self._at : self._at + WINDOW_BYTES])
            if self._at + len(piece) < self._end:
                piece = piece[: piece.rfind(b"\n") + 1]
                if not piece:
                    return
            self._at += len(piece)
            try:
                lines = [self._of_line(raw) for raw in _RAW.decode_lines(piece)]
            except NOT_JSON:
                lines = [self._of_odd(line) for line in piece.splitlines() if line.strip()]
            else:
                self.breaks_off = False
            if not self._lines_apart:
                yield [one for line in lines for one in line]
                continue
            for line in lines:
                self.answers += 1
                yield line

    def _of_line(self, raw: msgspec.Raw) -> list[Found]:
        """Return the items of a line that is JSON: one, or an array of them, or those of an object with such in it."""
        first = memoryview(raw)[0]
        if first == ord("["):
            return [*_RAW_ITEMS.decode(raw)]
        if first == ord("n"):
            return []
        return self._of_odd(raw) if _NAMED_LIST.search(raw) else [raw]

    def _of_odd(self, line: bytes | msgspec.Raw) -> list[Found]:
        """Return the items of a line that is no JSON, or more than an item."""
        inner = _Reading(line)
        found = [one for batch in inner.batches() for one in batch]
        self.fault = self.fault or (f"a line of it: {inner.fault}" if inner.fault else "")
        self.doubt = self.doubt or inner.doubt
        self.breaks_off = inner.breaks_off
        return found

    # -- one value --------------------------------------------------------------------------------------------------

    def _value(self) -> Iterator[list[Found]]:
        first = self._body[self._at]
        if first == ord("["):
            yield from self._array()
        elif first == ord("{"):
            yield from self._object()
        else:
            end = _value_end(self._body, self._at)
            value = bytes(self._body[self._at : end]) if end else b""
            if value.startswith(b'"'):
                self.doubt = NO_USAGE
                yield [msgspec.Raw(value)]
            elif value != b"null":
                self._stop()
                return
            self._at = end or self._end

    def _array(self) -> Iterator[list[Found]]:
        self._at += 1
        while True:
            if self._skip(_BETWEEN) >= self._end:
                self._stop(breaks_off=True)
                return
            if self._body[self._at] == ord("]"):
                self._at += 1
                return
            found = self._window()
            yield self._one_by_one() if found is None else found
            if self._stopped:
                return

    def _window(self) -> list[Found] | None:
        """Read the whole items of a window at once; None where they cannot be told by this, or one is not quite JSON.

        Where to cut is guessed. A wrong guess is no JSON: what begins where an item does and is parsed to its end as
        items of an array has been cut between two of them.
        """
        stop = min(self._at + WINDOW_BYTES, self._end)
        if stop == self._end:
            with_rest = b"".join((b"[", self._body[self._at :]))
            try:
                found = _RAW_ITEMS.decode(with_rest)
            except NOT_JSON:
                pass
            else:
                self._at += len(with_rest.rstrip()) - 2  # before the bracket that closes the array
                return [*found]
        ends = _ITEM_ENDS.finditer(self._body, max(self._at, stop - _ITEM_ENDS_WITHIN_BYTES), stop)
        for cut in [match.end(1) for match in ends][: -_TRIES - 1 : -1]:
            try:
                found = _RAW_ITEMS.decode(b"".join((b"[", self._body[self._at : cut], b"]")))
            except NOT_JSON:
                continue
            self._at = cut
            return [*found]
        return None

    def _one_by_one(self) -> list[Found]:
        """Read the items of about a window, each to where its brackets close; stop at one that is no JSON."""
        stop, found = self._at + WINDOW_BYTES, list[Found]()
        while self._at < stop and self._skip(_BETWEEN) < self._end and self._body[self._at] != ord("]"):
            end = _value_end(self._body, self._at)
            if end is None or (end - self._at <= ITEM_MAX_BYTES and not _is_json(self._body[self._at : end])):
                self._stop(breaks_off=(end or self._end) >= self._end and not self._ends_closed())
                break
            found.append(self._item(end))
        return found

    def _item(self, end: int) -> Found:
        """Take the item that ends there; only the begin of one that is too long."""
        begin, self._at = self._at, end
        if end - begin <= ITEM_MAX_BYTES:
            return msgspec.Raw(bytes(self._body[begin:end]))
        reason = f"an item of {end - begin} bytes is longer than the {ITEM_MAX_BYTES} that are read of one"
        self.fault = self.fault or reason
        return BadRecord(reason=reason, raw=bytes(self._body[begin : begin + REST_MAX_BYTES]))

    def _object(self) -> Iterator[list[Found]]:
        """Read one item, or what is in the lists of an object that is none."""
        end = _value_end(self._body, self._at, self._at + WINDOW_BYTES)
        raw = self._body[self._at : end] if end else self._body[:0]
        if end is None or (_NAMED_LIST.search(raw) and isinstance(read(msgspec.Raw(bytes(raw)), "", ""), BadRecord)):
            yield from self._members()
        else:
            yield [self._item(end)]
        self.doubt = NO_USAGE

    def _members(self) -> Iterator[list[Found]]:
        begin, lists = self._at, 0
        self._at += 1
        while self._skip(_BETWEEN) < self._end and self._body[self._at] != ord("}"):
            name = _NAME.match(self._body, self._at)
            self._at = name.end() if name else self._at
            end = _value_end(self._body, self._at) if name and not _LIST.match(self._body, self._at) else None
            if end is not None:
                self._at = end
            elif name and _LIST.match(self._body, self._at):
                lists += 1
                yield from self._array()
            else:
                self._stop(breaks_off=not self._ends_closed())
            if self._stopped:
                break
        if self._at >= self._end:
            self._stop(breaks_off=True)
        if not self._stopped:
            self._at += 1
        if not lists:
            end, self._at = self._at, begin
            if not self._stopped:
                yield [self._item(end)]

    # -- places -----------------------------------------------------------------------------------------------------

    def _skip(self, blanks: re.Pattern[bytes]) -> int:
        match = blanks.match(self._body, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _stop(self, *, breaks_off: bool = False) -> None:
        self._stopped = True
        self.breaks_off = breaks_off

    def _ends_closed(self) -> bool:
        """Say whether it ends with the bracket that closes the one it begins with: then what is open is malformed."""
        first, last = bytes(self._body[:WINDOW_BYTES]).lstrip()[:1], bytes(self._body[-WINDOW_BYTES:]).rstrip()[-1:]
        return first + last in (b"[]", b"{}")

    def _rest(self, reason: str) -> BadRecord:
        """Return what cannot be read: all that is left, or this line where the next is one of JSON."""
        self.fault = self.fault or f"{reason} (byte {self._at})"
        begin, stop = self._at, self._at + WINDOW_BYTES
        line_end = _NEWLINE.search(self._body, begin)
        self._at = line_end.end() if line_end else self._end
        following = bytes(self._body[self._at : self._at + WINDOW_BYTES]).partition(b"\n")[0]
        if following.startswith((b"{", b"[")) and _is_json(following):
            self._stopped = self.breaks_off = False
            stop = self._at
        else:
            self._at = self._end
        raw = bytes(self._body[begin : min(stop, begin + REST_MAX_BYTES)]).strip()
        return BadRecord(reason=reason, raw=raw or b"(the array is not closed)")


def _value_end(body: memoryview, at: int, end: int = sys.maxsize) -> int | None:
    """Return where a value ends, by its brackets or quotes; None where they do not close."""
    if at >= len(body):
        return None
    if body[at] not in b"{[":
        match = (_STRING if body[at] == ord('"') else _SCALAR).match(body, at, end)
        return match.end() if match else None
    depth = 0
    for token in _TOKEN.finditer(body, at, end):
        if token.lastindex == 1:
            depth += 1
        elif token.lastindex == 2:  # noqa: PLR2004  # a closing bracket
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _is_json(value: bytes | memoryview) -> bool:
    """Say whether it is JSON, or nearly: NaN, lone surrogates, broken UTF-8 and what is nested too deep are taken."""
    try:
        _RAW.decode(value)
    except NOT_JSON:
        text = bytes(value).decode("utf-8", "replace").strip()
        try:
            return _TOLERANT.raw_decode(text)[1] == len(text)
        except ValueError:
            return False
        except RecursionError:
            return True
    return True


def _let_go(body: Body) -> None:
    """Tell the system that the pages of a mapped file that have been read need not stay in memory."""
    owner = body.obj if isinstance(body, memoryview) else body
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)
