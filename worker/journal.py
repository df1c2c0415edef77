"""Payload bytes on disk until their batch is committed.

The proxy hands a payload out once. So it is durable here before anything reads it: written to a temporary file,
synced, renamed, the folder synced. An entry is dropped after the transaction that loaded it has committed; what
a crash or a database outage leaves behind is loaded first by the next pass, oldest first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Generator, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from worker.errors import NOT_JSON, JournalError

VERSION = 1
ENTRY = ".entry"
DAMAGED = ".damaged"
TEMPORARY = ".part"


class JournalEntry(msgspec.Struct, frozen=True):
    """One payload: `entry_id` is unique for ever, `name` its file."""

    entry_id: str
    name: str
    payload: bytes

    def __repr__(self) -> str:
        """Name the entry and not its payload, which holds keys."""
        return f"<JournalEntry {self.entry_id} of {len(self.payload)} bytes>"

    def bare(self) -> JournalEntry:
        """Return it without its payload, for one who only has to drop it."""
        return JournalEntry(self.entry_id, self.name, b"")


class _Header(msgspec.Struct, frozen=True):
    version: int
    entry_id: str
    payload_bytes: int
    sha256: str


class Journal:
    """The journal of one upstream: a folder, one file an entry."""

    def __init__(self, data_dir: Path, upstream: str, max_bytes: int) -> None:
        """Open the folder, making it where it is missing, readable by its owner alone.

        Raises:
            JournalError: it cannot be made or written.
        """
        self._dir = data_dir / "journal" / upstream
        self._max_bytes = max_bytes
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            (data_dir / "journal").mkdir(mode=0o700, exist_ok=True)
            self._dir.mkdir(mode=0o700, exist_ok=True)
        except OSError as e:
            raise JournalError(f"the journal folder {self._dir} cannot be made ({e.strerror}); see data_dir") from e

    def keep(self, payload: bytes) -> JournalEntry:
        """Make `payload` durable and return its entry.

        Raises:
            JournalError: the disk refuses. The payload exists nowhere else: the caller should load it at once.
        """
        entry_id = uuid.uuid4().hex
        header = _Header(VERSION, entry_id, len(payload), sha256(payload).hexdigest())
        name = f"{time.time_ns():020d}-{entry_id}{ENTRY}"
        try:
            self._write(name, _sealed(header) + b"\n", payload)
        except OSError as e:
            raise JournalError(f"the journal {self._dir} cannot be written: {e.strerror}") from e
        return JournalEntry(entry_id, name, payload)

    def entries(self) -> Iterator[JournalEntry]:
        """Yield what is kept, oldest first, and what a killed worker was just writing, as far as it got.

        A damaged entry is renamed, so that it stays and stands in no way.
        """
        try:
            self._adopt()
        except OSError as e:
            raise JournalError(f"the journal folder {self._dir} cannot be read: {e.strerror}") from e
        for path in self._paths():
            try:
                entry = _read(path)
            except FileNotFoundError:  # another process loaded it meanwhile
                continue
            except OSError as e:
                raise JournalError(f"the journal entry {path} cannot be read: {e.strerror}") from e
            if entry is None:
                path.rename(path.with_suffix(DAMAGED))
            else:
                yield entry

    def drop(self, entry: JournalEntry) -> None:
        """Forget an entry whose batch is committed."""
        with contextlib.suppress(FileNotFoundError):
            (self._dir / entry.name).unlink()

    def backlog(self) -> tuple[int, int]:
        """Return how many entries are kept, and their bytes."""
        sizes: list[int] = []
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return len(sizes), sum(sizes)

    def damaged(self) -> list[Path]:
        """Return the entries that could not be read."""
        return sorted(self._dir.glob(f"*{DAMAGED}"))

    def require_room(self) -> None:
        """Raise JournalError when the journal is full: then nothing more may be popped."""
        entries, size = self.backlog()
        if size >= self._max_bytes:
            raise JournalError(
                f"the journal {self._dir} is full ({entries} payloads, {size} of {self._max_bytes} bytes): pulling "
                "has stopped, and the proxy will forget what is not pulled in time. Bring the database back or "
                "raise journal.max_bytes."
            )

    def _adopt(self) -> None:
        """Make entries of the temporary files of killed writers: the kernel has let go of their locks."""
        with self._folder() as folder, contextlib.suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in sorted(self._dir.glob(f"*{TEMPORARY}")):
                if b"\n" in path.read_bytes():
                    path.rename(path.with_suffix(""))
                else:  # not even its first line: no byte of a payload got this far
                    path.unlink()

    @contextlib.contextmanager
    def _folder(self) -> Generator[int]:
        descriptor = os.open(self._dir, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _paths(self) -> list[Path]:
        return sorted(self._dir.glob(f"*{ENTRY}"))

    def _write(self, name: str, head: bytes, payload: bytes) -> None:
        temporary = self._dir / f"{name}{TEMPORARY}"
        with self._folder() as folder:
            fcntl.flock(folder, fcntl.LOCK_SH)  # a writer lives: what is temporary is not yet left behind
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(descriptor, "wb") as file:  # noqa: PTH123  # it is a descriptor, opened with its mode
                    file.write(head)
                    file.write(payload)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.rename(self._dir / name)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            os.fsync(folder)


def _sealed(header: _Header) -> bytes:
    """Return the first line of an entry: the header behind a digest of its own."""
    encoded = msgspec.json.encode(header)
    return sha256(encoded).hexdigest().encode() + b" " + encoded


def _read(path: Path) -> JournalEntry | None:
    """Return the entry in `path`; None when it is not what was written.

    A payload that is only cut short is returned: its whole records load, and the rest is set aside with a reason.
    """
    head, _, payload = path.read_bytes().partition(b"\n")
    digest, _, encoded = head.partition(b" ")
    if sha256(encoded).hexdigest().encode() != digest:
        return None
    try:
        header = msgspec.json.decode(encoded, type=_Header)
    except NOT_JSON:
        return None
    cut_short = len(payload) < header.payload_bytes
    if header.version != VERSION or not (cut_short or sha256(payload).hexdigest() == header.sha256):
        return None
    # Under an id of its own, so that the whole of it still loads should it come to light.
    entry_id = f"{header.entry_id}:{len(payload)}" if cut_short else header.entry_id
    return JournalEntry(entry_id, path.name, payload)
