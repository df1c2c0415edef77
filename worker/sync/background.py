"""One piece of work in the background while the next is made ready: fetching and reading beside the database's work.

Python holds one core while PostgreSQL holds another; each waits for the other at most one piece long.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Self


class Overlap:
    """Does pieces of work in another thread, one at a time and in their order. What fails is raised here.

    After a failure nothing that was handed over later is begun.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="overlap")
        self._running: Future[None] | None = None

    def begin(self, work: Callable[[], None]) -> None:
        """Begin `work` once what was begun before is done; raise what that raised, and then begin nothing."""
        self.settle()
        self._running = self._thread.submit(copy_context().run, work)

    def settle(self) -> None:
        """Wait for what was begun, and raise what it raised."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Wait for what was begun; what it raised goes before an error from here."""
        try:
            self.settle()
        finally:
            self._thread.shutdown()
