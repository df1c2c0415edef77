"""Bytes as they came, packed in whatever way → what they say. Memory is bounded, and nothing is made up.

How bytes are packed is told by how they begin, and only then by the label that came with them: reverse proxies forget
labels, and keep them on what they have unpacked. What fails its checksum is not handed on. What breaks off is, as far
as it goes.
"""

from __future__ import annotations

import codecs
import io
import mmap
import os
import re
import stat
import sys
import tempfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Literal, NamedTuple, Self

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES = 1 << 20
"""How much is read and unpacked at once: what came as a few bytes may be gigabytes."""

MEMORY_MAX_BYTES = 32 << 20
"""What is longer lies in a file: a long answer would else fill the memory of a container."""

LAYERS_MAX = 3
"""How often something may be packed: twice is a mistake of some proxy, and without end it would be an attack."""

Kind = Literal["gzip", "zstd", "zlib", "deflate", "UTF-16"]

BREAKS_OFF = "breaks off"

_MAGIC: Mapping[Kind, re.Pattern[bytes]] = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    "zlib": re.compile(rb"\x78[\x01\x5e\x9c\xda]"),
    "UTF-16": re.compile(rb"\xff\xfe|\xfe\xff"),
}
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:[\[{]\s*(?:[\"\[{\]}0-9tfn-]|$)|null|$)")
_BEGIN_BYTES = 64
_LABEL = re.compile(r"[a-z0-9.-]{1,20}")
_WBITS = {"gzip": 16 + zlib.MAX_WBITS, "zlib": zlib.MAX_WBITS, "deflate": -zlib.MAX_WBITS}


class Unpacked(NamedTuple):
    """What bytes came to."""

    body: bytes | memoryview
    """What could be unpacked and can be trusted. A long one lies in a file, until the block is left."""
    whole: bool
    """False where there was more that could not be unpacked."""
    fault: str
    """Why it is not whole, in one sentence; empty when it is."""
    breaks_off: bool
    """What is packed ends before its end: there is no more of it in these bytes."""


@contextmanager
def unpacked(raw: BinaryIO, *, encoding: str, limit_bytes: int, folder: Path | None = None) -> Generator[Unpacked]:
    """Unpack what `raw` holds from where it stands to its end: gzip, zstd, deflate and UTF-16, or what is plain.

    Args:
        raw: a file, or whatever is read to its end, such as a pipe.
        encoding: what its Content-Encoding said; may be empty, or wrong.
        limit_bytes: unpack no more than this.
        folder: where something long lies meanwhile; the system's own place for such, where it is None or has no room.

    Yields:
        What it came to. An unlabelled UTF-8 byte-order mark is left out.

    Raises:
        OSError: `raw` cannot be read, or no folder takes what is long.
    """
    labels = [label for part in encoding.lower().split(",") if (label := part.strip()) not in ("", "identity")]
    with ExitStack() as stack:
        begin = _place(raw)
        head, pieces = _headed(_pieces(raw))
        content, fault = stack.enter_context(_Store(limit_bytes, folder)), ""
        for layer in range(LAYERS_MAX + 1):
            kind, unknown = _kind(head, labels.pop() if labels else "")
            if kind and layer == LAYERS_MAX:
                unknown = f"it is packed more than {LAYERS_MAX} times"
            if unknown:
                content, fault = stack.enter_context(_Store(limit_bytes, folder)), fault or unknown
                break
            if kind is None:
                if layer == 0:
                    fault = content.adopt(raw, begin) if begin is not None else content.fill(pieces)
                break
            content = stack.enter_context(_Store(limit_bytes, folder))
            said = _unpack(kind, pieces, content)
            fault = fault or said
            head, pieces = _headed(content.pieces())
        body = content.view()
        yield Unpacked(
            body[3:] if bytes(body[:3]) == codecs.BOM_UTF8 else body, not fault, fault, fault.endswith(BREAKS_OFF)
        )


def _kind(head: bytes, label: str) -> tuple[Kind | None, str]:
    """Return how something is packed (None: it is plain), or why that cannot be told."""
    for kind, begins in _MAGIC.items():
        if begins.match(head):
            return kind, ""
    if not label or _JSON.match(head):
        return None, ""
    if label == "deflate":
        by_rfc = len(head) > 1 and head[0] & 15 == 8 and int.from_bytes(head[:2], "big") % 31 == 0  # noqa: PLR2004
        return "zlib" if by_rfc else "deflate", ""
    said = label if _LABEL.fullmatch(label) else "something unknown"
    known = "and is neither that nor JSON" if label in ("gzip", "x-gzip", "zstd") else "which cannot be unpacked here"
    return None, f"it is labelled as {said}, {known}"


def _unpack(kind: Kind, pieces: Iterator[bytes], store: _Store) -> str:
    """Unpack one layer into `store`; return why that is not all of it, or nothing."""
    if kind == "UTF-16":
        return _recode(pieces, store)
    unpacker, trusted = _unpacker(kind), 0
    for piece in pieces:
        rest = piece
        while rest:
            if unpacker.ended():  # another member, or the zeros that some pad the end with
                rest = rest.lstrip(b"\0")
                unpacker = _unpacker(kind) if rest else unpacker
                continue
            try:
                for some in unpacker.feed(rest):
                    if not store.write(some):
                        return store.too_long
            except (zlib.error, zstd.ZstdError) as e:
                store.cut(trusted)
                return f"what is packed as {kind} is damaged, and only {trusted} bytes before the damage are read ({e})"
            rest = unpacker.following()
            if unpacker.ended():
                trusted = store.size
    return "" if unpacker.ended() else f"what is packed as {kind} {BREAKS_OFF}"


def _recode(pieces: Iterator[bytes], store: _Store) -> str:
    decoder = codecs.getincrementaldecoder("utf-16")()
    try:
        for piece in chain(pieces, [b""]):
            if not store.write(decoder.decode(piece, final=not piece).encode()):
                return store.too_long
    except UnicodeError as e:
        return f"it begins as UTF-16 and does not go on as such ({type(e).__name__})"
    return ""


class _Inflating:
    """Unpacks one member of gzip or deflate."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits=wbits)

    def ended(self) -> bool:
        """Say whether the end has been unpacked."""
        return self._inner.eof

    def following(self) -> bytes:
        """Return what of the last piece came after the end."""
        return self._inner.unused_data

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what a piece comes to, in pieces."""
        while True:
            some = self._inner.decompress(piece, PIECE_BYTES)
            yield some
            piece = self._inner.unconsumed_tail
            if self._inner.eof or not (piece or len(some) == PIECE_BYTES):
                return


class _Zstandard:
    """Unpacks one frame of Zstandard."""

    def __init__(self) -> None:
        self._inner = zstd.ZstdDecompressor()

    def ended(self) -> bool:
        """Say whether the end has been unpacked."""
        return self._inner.eof

    def following(self) -> bytes:
        """Return what of the last piece came after the end."""
        return self._inner.unused_data

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what a piece comes to, in pieces."""
        yield self._inner.decompress(piece, PIECE_BYTES)
        while not (self._inner.eof or self._inner.needs_input):
            yield self._inner.decompress(b"", PIECE_BYTES)


def _unpacker(kind: Kind) -> _Inflating | _Zstandard:
    return _Zstandard() if kind == "zstd" else _Inflating(_WBITS[kind])


class _Store:
    """Where unpacked bytes are kept: in memory while they are few, else in a file that no other process sees."""

    def __init__(self, limit_bytes: int, folder: Path | None) -> None:
        self.size = 0
        self.too_long = f"it is longer than the limit of {limit_bytes} bytes"
        self._limit_bytes = limit_bytes
        # The system's folder for large files comes first: /tmp is memory on many systems. None is the one that Python
        # finds, if there is any.
        self._folders = [*([folder] if folder else []), Path("/var/tmp"), None]  # noqa: S108
        self._file: IO[bytes] = io.BytesIO()
        self._begin = 0
        self._map: mmap.mmap | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of the file; of its pages too, unless somebody still looks at them."""
        self._file.close()
        if self._map is not None:
            with suppress(BufferError):
                self._map.close()

    def write(self, piece: bytes) -> bool:
        """Add a piece; return False where the limit cut it."""
        fits = piece[: self._limit_bytes - self.size]
        if self._in_memory() and self.size + len(fits) > MEMORY_MAX_BYTES:
            self._move()
        while True:
            try:
                _write_all(self._file, fits)
                break
            except OSError:
                if not self._folders:
                    raise
                self._move()
        self.size += len(fits)
        return len(fits) == len(piece)

    def fill(self, pieces: Iterator[bytes]) -> str:
        """Add all of these; return why it was not all, or nothing."""
        return "" if all(self.write(piece) for piece in pieces) else self.too_long

    def adopt(self, file: BinaryIO, begin: int) -> str:
        """Be the rest of a file on disk, without a copy where it is long; return why it is not all, or nothing."""
        size = os.fstat(file.fileno()).st_size - begin
        file.seek(begin)
        if size <= MEMORY_MAX_BYTES:
            return self.fill(_pieces(file))
        self.size, self._begin = min(size, self._limit_bytes), begin
        self._map = mmap.mmap(file.fileno(), begin + self.size, access=mmap.ACCESS_READ)
        return "" if size == self.size else self.too_long

    def cut(self, size: int) -> None:
        """Forget all but the first bytes."""
        self.size = size
        self._file.seek(size)
        self._file.truncate()

    def pieces(self) -> Iterator[bytes]:
        """Read it from its begin."""
        self._file.seek(0)
        return _pieces(self._file)

    def view(self) -> bytes | memoryview:
        """Return all of it."""
        if isinstance(self._file, io.BytesIO) and self._map is None:
            return self._file.getvalue()
        if self._map is None:
            self._map = mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ) if self.size else None
        return memoryview(self._map)[self._begin :] if self._map is not None else b""

    def _in_memory(self) -> bool:
        return isinstance(self._file, io.BytesIO)

    def _move(self) -> None:
        """Go on in a file of the next folder that takes one."""
        before = self._file
        while True:
            try:
                self._file = tempfile.TemporaryFile(dir=self._folders.pop(0), buffering=0)  # noqa: SIM115  # see __exit__
                before.seek(0)
                left = self.size
                while left:
                    left -= len(some := before.read(min(left, PIECE_BYTES)))
                    _write_all(self._file, some)
            except OSError:
                if not self._folders:
                    raise
            else:
                before.close()
                return


def _write_all(file: IO[bytes], piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def _pieces(file: BinaryIO | IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def _headed(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of some pieces, and all of the pieces."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _BEGIN_BYTES:
            break
    return head[:_BEGIN_BYTES], chain([head] if head else [], pieces)


def _place(raw: BinaryIO) -> int | None:
    """Return where a file on disk stands; None for anything else."""
    try:
        return raw.tell() if stat.S_ISREG(os.fstat(raw.fileno()).st_mode) else None
    except OSError:  # it has no descriptor, as in memory
        return None
