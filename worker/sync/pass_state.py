"""What the two sides of a pass share: fetching, which must not wait for the database, and loading, which does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from worker.errors import ConfigError, DatabaseError, WorkerError


class PassState:
    """What fetching and loading, on a thread each, tell each other in one pass."""

    def __init__(self) -> None:
        self.consumer: Future[bool | None] = Future()
        """Whether the proxy is ours to read; None where the database does not say."""
        self.preflight: Future[bool] = Future()
        """Whether the proxy is there and may be asked."""
        self.arrived = threading.Event()
        """The journal has more to load."""
        self.progress = threading.Event()
        """The journal has less to load."""
        self.idle = False
        """All that the journal holds has been looked at."""
        self.drained = threading.Event()
        """The queue has been emptied: the pass loads what has come until then, and may end."""
        self.loaded = threading.Event()
        """Loading has ended, in whatever way."""
        self.fetching = threading.Lock()
        """Held while the queue is emptied once more."""
        self.closed = False
        """Nothing more is to be fetched in this pass."""
        self.wants_history = False
        self.refused: ConfigError | None = None
        self.not_loaded: WorkerError | None = None
        self._errors: list[WorkerError] = []
        self._noted: set[str] = set()

    def end_first_fetch(self) -> None:
        """Let loading come to an end: what belongs to this pass has been fetched, or will not be."""
        if not self.preflight.done():
            self.preflight.set_result(False)
        self.drained.set()
        self.arrived.set()

    def note(self, error: WorkerError) -> None:
        """Keep an error of the proxy or the disk; fetching again and again fails in the same words."""
        if str(error) not in self._noted:
            self._noted.add(str(error))
            self._errors.append(error)

    def noting(self, work: Callable[[], None]) -> bool:
        """Do some work with the proxy; an error of it is one of the pass, which goes on. Return whether it was done."""
        try:
            work()
        except DatabaseError:
            raise
        except WorkerError as e:
            self.note(e)
            return False
        return True

    def take_errors(self) -> list[WorkerError]:
        """Return the errors that have been noted since they were taken last."""
        taken, self._errors = self._errors, []
        return taken

    def await_room(self) -> bool:
        """Wait until the journal may hold less; False when it will not."""
        if self.loaded.is_set() or self.idle:
            return False
        self.progress.clear()
        self.progress.wait(timeout=1.0)
        return True
