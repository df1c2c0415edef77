"""Answers of the queue on disk until their records are committed.

The proxy hands an answer out once. So there is room for it on the disk before it is asked for; its bytes are written
there as they come over the wire, synced, and renamed before anything reads them. An entry goes after the transaction
that loaded it has committed. What cannot be read whole stays, as it came, for a version that can.

A file is a header of one line, whose first word is its digest, and the answer's bytes. Its name says how far it got:
`.part` while it is written, `.entry` when it is whole, `.unread` when it was loaded as far as it could be read, and
`.damaged` when it is not what was written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from worker.errors import JournalError
from worker.json_errors import NOT_JSON

VERSION = 2
ENTRY = ".entry"
UNREAD = ".unread"
DAMAGED = ".damaged"
TEMPORARY = ".part"

HEAD_BYTES = 512
"""Length of the header, filled up with blanks: it is written again in its place."""

SHA256_CHARS = 64
PIECE_BYTES = 1 << 20
LEAST_ROOM_BYTES = 1 << 20
ENCODING_MAX_CHARS = 64
PADDING = 16
"""How many zeros at the end of an interrupted answer may be its own: those of a packed one."""

NO_PREALLOCATION = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class _Header(msgspec.Struct, frozen=True):
    version: int
    entry_id: str
    payload_bytes: int = 0
    sha256: str = ""
    state: Literal["reserved", "asked", "kept"] = "kept"
    """`reserved`: room for an answer; `asked`: the pop may have been sent; `kept`: the answer is there."""
    encoding: str = ""
    broken_off: bool = False


class JournalEntry(NamedTuple):
    """One answer: `entry_id` is unique for ever, `path` its file, in which it begins at `offset`."""

    entry_id: str
    path: Path
    offset: int
    payload_bytes: int
    encoding: str
    """The answer's Content-Encoding, as it was told."""
    broken_off: bool
    """The answer did not arrive whole, which was counted when it happened."""
    interrupted: bool
    """The worker ended while the answer was on its way: it may not be whole."""


class Journal:
    """The journal of one upstream: a folder, one file an entry."""

    def __init__(self, data_dir: Path, upstream: str, max_bytes: int) -> None:
        """Open the folder, making it where it is missing, readable by its owner alone.

        Raises:
            JournalError: it cannot be made or written.
        """
        self.folder = data_dir / "journal" / upstream
        self._max_bytes = max_bytes
        self._room: Room | None = None
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            (data_dir / "journal").mkdir(mode=0o700, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as e:
            raise JournalError(f"the journal folder {self.folder} cannot be made ({e.strerror}); see data_dir") from e

    # Writing.

    def reserve(self, room_bytes: int) -> Room:
        """Hold room on the disk for an answer of `room_bytes`, which may turn out longer; at most one at a time.

        Raises:
            JournalError: there is no room, or the journal is full: nothing may be popped.
        """
        self._require_space()
        room_bytes = max(room_bytes, LEAST_ROOM_BYTES)
        if self._room is not None:
            if self._room.serves(room_bytes):
                return self._room
            self.close()
        try:
            self._room = Room(self.folder, room_bytes)
        except OSError as e:
            raise JournalError(
                f"there is no room on the disk for an answer: {room_bytes} bytes in {self.folder} ({e.strerror}). "
                "Nothing is fetched until there is, and the proxy will forget what is not fetched in time."
            ) from e
        return self._room

    def close(self) -> None:
        """Give back the room that is held; entries stay."""
        room, self._room = self._room, None
        if room is not None:
            room.discard()

    def is_full(self) -> bool:
        """Say whether what is kept has reached the limit."""
        return _sizes([*self._paths(), *self.unread()])[1] >= self._max_bytes

    def _require_space(self) -> None:
        if self.is_full():
            entries, size = _sizes([*self._paths(), *self.unread()])
            raise JournalError(
                f"the journal {self.folder} is full ({entries} answers, {size} of {self._max_bytes} bytes): fetching "
                "has stopped, and the proxy will forget what is not fetched in time. Bring the database back or "
                "raise journal.max_bytes."
            )

    # Reading.

    def entries(self) -> Iterator[JournalEntry]:
        """Yield what is kept, oldest first, and what a killed worker was just writing, as far as it got.

        A damaged entry is renamed, so that it stays and stands in no way.

        Raises:
            JournalError: the folder cannot be read.
        """
        try:
            self._adopt()
        except OSError as e:
            raise JournalError(f"the journal folder {self.folder} cannot be read: {e.strerror}") from e
        for path in self._paths():
            entry = self._examined(path)
            if entry is not None:
                yield entry

    def unread(self) -> list[Path]:
        """Return the answers that are kept since they could not be read whole, oldest first."""
        return sorted(self.folder.glob(f"*{UNREAD}"))

    def unread_entries(self) -> Iterator[JournalEntry]:
        """Yield what could not be read whole before; another version may be able to."""
        for path in self.unread():
            entry = self._examined(path)
            if entry is not None:
                yield entry

    def damaged(self) -> list[Path]:
        """Return the entries that are not what was written."""
        return sorted(self.folder.glob(f"*{DAMAGED}"))

    @contextlib.contextmanager
    def open(self, entry: JournalEntry) -> Generator[BinaryIO]:
        """Open an entry where its answer begins.

        Raises:
            JournalError: it cannot be read.
        """
        try:
            with entry.path.open("rb") as file:
                file.seek(entry.offset)
                yield file
        except OSError as e:
            raise JournalError(f"the journal entry {entry.path} cannot be read: {e.strerror}") from e

    def drop(self, entry: JournalEntry) -> None:
        """Forget an entry whose records are committed."""
        with contextlib.suppress(FileNotFoundError):
            entry.path.unlink()

    def keep_unread(self, entry: JournalEntry) -> Path:
        """Keep an entry of which not everything could be read; return where it is."""
        path = entry.path.with_suffix(UNREAD)
        with contextlib.suppress(FileNotFoundError):  # another process did
            entry.path.rename(path)
        return path

    def backlog(self) -> tuple[int, int]:
        """Return how many entries wait to be loaded, and their bytes."""
        return _sizes(self._paths())

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{ENTRY}"))

    def _examined(self, path: Path) -> JournalEntry | None:
        """Return the entry in a file; None when it has gone, or is not what was written and is renamed."""
        try:
            entry = _read(path)
            if entry is None:
                path.rename(path.with_suffix(DAMAGED))
        except FileNotFoundError:  # another process loaded it meanwhile
            return None
        except OSError as e:
            raise JournalError(f"the journal entry {path} cannot be read: {e.strerror}") from e
        return entry

    def _adopt(self) -> None:
        """Make entries of the files of killed writers, whose locks the kernel has let go."""
        for path in sorted(path for path in self.folder.iterdir() if path.suffix == TEMPORARY):
            with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # its writer lives
                    continue
                _adopt(path, file)


class Room:
    """Room on the disk for one answer, and the way an answer takes into it."""

    def __init__(self, folder: Path, room_bytes: int) -> None:
        """Allocate it, durably.

        Raises:
            OSError: the disk has none.
        """
        self._folder = folder
        self._digest = sha256()
        self.encoding = ""
        self.payload_bytes = 0
        self._asked = False
        self._entry_id = uuid.uuid4().hex
        self._path = folder / f"{time.time_ns():020d}-{self._entry_id}{ENTRY}{TEMPORARY}"
        self._file = _created(self._path)
        try:
            self._write_header(self._header("reserved"))
            self._room_bytes = 0
            self._allocate(room_bytes)
            os.fsync(self._file)
            _sync_folder(folder)
        except OSError:
            self.discard()
            raise

    def serves(self, room_bytes: int) -> bool:
        """Say whether an answer of so many bytes has room here, and none is here."""
        unused = self._file >= 0 and not self._asked
        return unused and self._room_bytes >= room_bytes and self.is_there()

    def is_there(self) -> bool:
        """Say whether nobody has removed its file."""
        return self._path.exists()

    def ask(self) -> None:
        """Note, durably, that the answer is about to be asked for: what of it does not arrive may be lost.

        Raises:
            JournalError: the disk refuses: it may not be asked for.
        """
        with self._told():
            self._write_header(self._header("asked"))
            os.fsync(self._file)
        self._asked = True

    def begin(self, encoding: str) -> None:
        """Take note of an answer's Content-Encoding; its bytes come next."""
        self.encoding = encoding[:ENCODING_MAX_CHARS]

    def write(self, piece: bytes) -> None:
        """Append a piece of the answer.

        Raises:
            JournalError: the disk refuses; what was written before stays.
        """
        with self._told():
            if self.payload_bytes + len(piece) > self._room_bytes:
                self._allocate(max(self.payload_bytes + len(piece), self._room_bytes + self._room_bytes // 2))
            at = HEAD_BYTES + self.payload_bytes
            view = memoryview(piece)
            while view:
                written = os.pwrite(self._file, view, at)
                at, view = at + written, view[written:]
        self.payload_bytes += len(piece)
        self._digest.update(piece)

    def content(self) -> bytes:
        """Return what has arrived of the answer; for short ones."""
        return os.pread(self._file, self.payload_bytes, HEAD_BYTES)

    def reset(self) -> None:
        """Forget the answer, in which there is nothing: the room is as before.

        Raises:
            JournalError: the disk refuses.
        """
        with self._told():
            os.pwrite(self._file, bytes(self.payload_bytes), HEAD_BYTES)
            self._write_header(self._header("reserved"))
        self._digest, self.encoding, self.payload_bytes, self._asked = sha256(), "", 0, False

    def keep(self, *, broken_off: bool = False) -> JournalEntry:
        """Make what has arrived an entry, durably.

        Raises:
            JournalError: the disk refuses; the file stays as far as it got, for the next reader of the journal.
        """
        path = self._path.with_suffix("")
        with self._told():
            try:
                os.ftruncate(self._file, HEAD_BYTES + self.payload_bytes)
                self._write_header(self._header("kept", broken_off=broken_off))
                os.fsync(self._file)
                self._path.rename(path)
                _sync_folder(self._folder)
            finally:
                self._close()
        return JournalEntry(
            self._entry_id, path, HEAD_BYTES, self.payload_bytes, self.encoding, broken_off, interrupted=False
        )

    def discard(self) -> None:
        """Give the room back; where an answer has been asked for, leave it to the next reader of the journal."""
        if not self._asked:
            with contextlib.suppress(OSError):  # then the next reader of the journal removes it
                self._path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _allocate(self, room_bytes: int) -> None:
        """Let the disk hold `room_bytes` for the answer."""
        begin, length = HEAD_BYTES + self._room_bytes, room_bytes - self._room_bytes
        try:
            os.posix_fallocate(self._file, begin, length)
        except (AttributeError, OSError) as e:  # macOS has none, and not every file system
            if isinstance(e, OSError) and e.errno not in NO_PREALLOCATION:
                raise
            for at in range(begin, begin + length, PIECE_BYTES):
                os.pwrite(self._file, bytes(min(PIECE_BYTES, begin + length - at)), at)
        self._room_bytes = room_bytes

    def _header(self, state: Literal["reserved", "asked", "kept"], *, broken_off: bool = False) -> _Header:
        kept = state == "kept"
        return _Header(
            VERSION, self._entry_id, self.payload_bytes, self._digest.hexdigest() if kept else "", state,
            self.encoding, broken_off,
        )  # fmt: skip

    def _write_header(self, header: _Header) -> None:
        os.pwrite(self._file, _sealed(header), 0)

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except OSError as e:
            raise JournalError(f"the journal {self._folder} cannot be written: {e.strerror}") from e


def _created(path: Path) -> int:
    """Return the descriptor of a new file that nobody else touches.

    Until it is locked, a reader of the journal may take it for one that a killed writer has left, and remove it: then
    another one is made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # a reader that has it lets it go at once
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _sizes(paths: Iterable[Path]) -> tuple[int, int]:
    sizes: list[int] = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)


def _sealed(header: _Header) -> bytes:
    """Return the first line of an entry: the header behind a digest of its own."""
    encoded = msgspec.json.encode(header).ljust(HEAD_BYTES - SHA256_CHARS - 2)
    return sha256(encoded).hexdigest().encode() + b" " + encoded + b"\n"


def _header_of(file: BinaryIO) -> _Header | None:
    """Read an entry's header; None when it is not what was written."""
    line = file.readline(HEAD_BYTES)
    digest, _, encoded = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or sha256(encoded).hexdigest().encode() != digest:
        return None
    try:
        header = msgspec.json.decode(encoded, type=_Header)
    except NOT_JSON:
        return None
    return header if header.version in (1, VERSION) else None


def _read(path: Path) -> JournalEntry | None:
    """Return the entry in `path`; None when it is not what was written.

    An answer that is only cut short is returned: its whole records load.
    """
    with path.open("rb") as file:
        header = _header_of(file)
        if header is None:
            return None
        offset = file.tell()
        size, digest = _digested(file)
    cut_short = size < header.payload_bytes
    if header.state == "kept" and not cut_short and digest != header.sha256:
        return None
    # Under an id of its own, so that the whole of it still loads should it come to light.
    entry_id = f"{header.entry_id}:{size}" if cut_short else header.entry_id
    interrupted = header.state != "kept" or cut_short
    return JournalEntry(entry_id, path, offset, size, header.encoding, header.broken_off, interrupted)


def _digested(file: BinaryIO) -> tuple[int, str]:
    size, digest = 0, sha256()
    while piece := file.read(PIECE_BYTES):
        size += len(piece)
        digest.update(piece)
    return size, digest.hexdigest()


def _adopt(path: Path, file: BinaryIO) -> None:
    """Make an entry of what a killed writer left, or remove it where no answer had been asked for."""
    header = _header_of(file)
    if header is None or header.state == "reserved":
        path.unlink()
        return
    if header.state == "asked":
        os.ftruncate(file.fileno(), _end_of_answer(file))
        os.fsync(file.fileno())
    path.rename(path.with_suffix(""))


def _end_of_answer(file: BinaryIO) -> int:
    """Return where an answer ends of which the room after it is still there: behind its last byte that is not zero."""
    begin = file.tell()
    packed = file.read(1) not in (b"[", b"{", b"\0", b"")
    end = file.seek(0, os.SEEK_END)
    while end > begin:
        at = max(begin, end - PIECE_BYTES)
        file.seek(at)
        filled = len(file.read(end - at).rstrip(b"\0"))
        if filled:
            return min(at + filled + (PADDING if packed else 0), file.seek(0, os.SEEK_END))
        end = at
    return begin


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
