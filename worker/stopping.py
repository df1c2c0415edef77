"""Signals: the first one asks to stop, the second one insists, the third one does not wait for an answer on its way."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
INSISTED, NOT_WAITING = 2, 3


class _Taking:
    """Which threads are taking what exists nowhere else, and with which status the process ends once none is."""

    def __init__(self) -> None:
        # Its operations are atomic: a handler runs between two instructions of a thread that may hold a lock.
        self._threads: set[int] = set()
        self._status = 0

    def begin(self) -> None:
        self._threads.add(threading.get_ident())
        if self._status:
            self.end()

    def end(self) -> None:
        self._threads.discard(threading.get_ident())
        if self._status and not self._threads:
            os._exit(self._status)

    def insist(self, status: int) -> None:
        self._status = status
        if not self._threads:
            os._exit(status)


_taking = _Taking()


@contextmanager
def taking() -> Generator[None]:
    """Let the process not end by a second signal while something is taken and kept that exists nowhere else."""
    _taking.begin()
    try:
        yield
    finally:
        _taking.end()


@contextmanager
def on_signal(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` at the first SIGTERM or SIGINT; at the second one the process ends.

    That loses nothing: an answer that is on its way is kept before, and what is not committed is in the journal. At
    the third one it ends at once, and the next pass counts what was on its way as a possible loss. As PID 1, too,
    where a signal without a handler is ignored.
    """
    asked = 0

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            stop()
        elif asked == INSISTED:
            _taking.insist(128 + number)
        elif asked >= NOT_WAITING:
            os._exit(128 + number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
