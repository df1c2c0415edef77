"""Signals: the first one asks to stop, the second one insists, the third one does not wait for an answer on its way."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
INSISTED = 2


class _Taking:
    """Which threads are taking what exists nowhere else, and with which status the process ends once none is."""

    def __init__(self) -> None:
        # What is told is written before the other is looked at, here and there: one of both sees it.
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

    A thread of its own does it: Python's handlers run in the main thread, which a signal that comes just before it
    begins to wait does not wake.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    watching = threading.Thread(target=_watch, args=(reading, stop), name="signals", daemon=True)
    watching.start()
    before = {number: signal.signal(number, _told_by_pipe) for number in SIGNALS}
    told_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(told_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        watching.join()
        os.close(reading)


def _told_by_pipe(_number: int, _: FrameType | None) -> None:
    """Do nothing: that there is a handler is what has the signal written into the pipe."""


def _watch(reading: int, stop: Callable[[], None]) -> None:
    """Do what signals ask for, until the other end of the pipe is closed."""
    asked = 0
    while told := os.read(reading, 1):
        number = told[0]
        if number not in SIGNALS:
            continue
        asked += 1
        if asked == 1:
            stop()
        elif asked == INSISTED:
            _taking.insist(128 + number)
        else:
            os._exit(128 + number)
