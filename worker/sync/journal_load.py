"""Journal → database: every answer that is kept, unpacked, read and committed, oldest first."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial

import structlog

from worker import __version__
from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.generations import QUEUE
from worker.cliproxyapi.unpack import Unpacked, unpacked
from worker.errors import BatchRefusedError, JournalError, UpstreamAnswerError
from worker.loading.load import Arrival, Batch, Loader
from worker.sync.background import Overlap
from worker.sync.credentials import MissingCredentials
from worker.sync.journal import UNREAD, JournalEntry
from worker.sync.queue import PassContext

log: structlog.stdlib.BoundLogger = structlog.get_logger()

NOTHING = Batch(decode.Decoded(records=[], bad=[]), [], [])


class JournalLoader:
    """Loads what one proxy's journal holds: an entry goes once its records are committed.

    What cannot be read whole is loaded as far as it can be, and stays; so does what PostgreSQL takes nothing of, and
    neither keeps back what came after it.
    """

    def __init__(
        self, loader: Loader, context: PassContext, *, missing: MissingCredentials | None, loaded: Callable[[], None]
    ) -> None:
        """Prepare.

        Args:
            loader: what stores.
            context: the pass.
            missing: asks for credentials that are not known; None where the proxy may not be asked.
            loaded: is called when an entry has gone.
        """
        self._loader = loader
        self._context = context
        self._missing = missing
        self._loaded = loaded
        self._begun: set[str] = set()
        self._refused: set[str] = set()

    def load(self) -> bool:
        """Load what is there and has not been begun in this pass; return whether there was anything."""
        return self._load_all(self._context.journal.entries())

    def load_unread(self) -> None:
        """Try what could not be read whole: perhaps this version can."""
        self._load_all(self._context.journal.unread_entries())

    def report(self) -> None:
        """Say which files the journal keeps since they cannot be read, or are damaged."""
        for path in self._context.journal.damaged():
            remedy = "its content is not what was written; try `worker import` on it, then remove it"
            log.error("journal.damaged", file=str(path), remedy=remedy)

    def _load_all(self, entries: Iterator[JournalEntry]) -> bool:
        found = False
        with Overlap() as loading:
            for entry in entries:
                if self._context.stopping.is_set():
                    break
                if entry.entry_id in self._begun:
                    continue
                self._begun.add(entry.entry_id)
                found = True
                self._load_entry(entry, loading)
        return found

    def _load_entry(self, entry: JournalEntry, loading: Overlap) -> None:
        """Hand an entry's records over to be stored, and then what becomes of its file."""
        # Read in another way, it is another batch: what was stored of it before is found by its identity.
        again = entry.path.suffix == UNREAD
        name = f"{entry.entry_id}:{__version__}:{self._context.upstream.max_body_bytes}" if again else entry.entry_id
        with self._unpacked(entry) as found:
            complete, fault = found.whole, found.fault
            ends_early = found.breaks_off
            for n, decoded in enumerate(decode.decode_answer(found.body)):
                if self._missing is not None:
                    self._missing.ask_for(self._context.source, decoded.records)
                batch = self._loader.prepare(decoded)
                loading.begin(partial(self._commit, entry, f"{name}:{n}" if n else name, batch))
                complete, fault = complete and decoded.complete, fault or decoded.fault
                ends_early = ends_early or (found.whole and decoded.breaks_off)
                self._context.heartbeat()
        lost = entry.broken_off or (not complete and (entry.interrupted or ends_early))
        stays = not (complete or ends_early)  # what ends early has no more in it
        loading.begin(partial(self._conclude, entry, fault, lost=lost, stays=stays))

    def _commit(self, entry: JournalEntry, name: str, batch: Batch) -> None:
        result = self._context.result
        try:
            self._loader.commit(Arrival(name), batch, result)
        except BatchRefusedError as e:
            log.error("batch.refused", file=str(entry.path), reason=str(e))  # noqa: TRY400  # the sentence says it all
            if not self._refused:  # the others seldom say anything else
                result.failed(e)
            self._refused.add(entry.entry_id)
            result.refused = len(self._refused)

    def _conclude(self, entry: JournalEntry, fault: str, *, lost: bool, stays: bool) -> None:
        """Count what may be lost of an answer, and let its file go, or keep it where there is more in it."""
        if entry.entry_id in self._refused:
            self._loaded()
            return
        if lost:
            arrival = Arrival(f"{entry.entry_id}:loss", possible_loss=1)
            self._loader.commit(arrival, NOTHING, self._context.result)
            self._context.result.possible_loss += not entry.broken_off  # that was counted when it happened
        if stays and entry.path.suffix == UNREAD:
            log.warning("journal.unread", file=str(entry.path), reason=fault)  # it failed a pass when it came
        elif stays:
            path = self._context.journal.keep_unread(entry)
            remedy = "it stays as it came; a version that can read it loads it"
            log.error("journal.unread", file=str(path), reason=fault, remedy=remedy)
            self._context.result.failed(UpstreamAnswerError(f"{fault}; the answer is kept as {path}", endpoint=QUEUE))
        else:
            self._context.journal.drop(entry)
        if lost and not (entry.broken_off or entry.interrupted):
            self._context.result.failed(UpstreamAnswerError(f"{fault}; what it lacks may be lost", endpoint=QUEUE))
        self._loaded()

    @contextmanager
    def _unpacked(self, entry: JournalEntry) -> Generator[Unpacked]:
        limit, folder = self._context.upstream.max_body_bytes, self._context.journal.folder
        try:
            with (
                self._context.journal.open(entry) as raw,
                unpacked(raw, encoding=entry.encoding, limit_bytes=limit, folder=folder) as found,
            ):
                yield found
        except OSError as e:
            raise JournalError(f"the journal entry {entry.path} cannot be unpacked: {e.strerror}") from e
