"""Faults within the worker's own process, put there between its fork and its command.

The worker's code knows nothing of this. A plan names a point by what was just done or is about to be, and which time
it comes by; there the process kills itself, or stops until the harness has done something to what is around it.
"""

from __future__ import annotations

import errno
import importlib
import mmap
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from functools import wraps
from pathlib import Path
from random import Random
from typing import Any

POINTS = {
    "answer popped": ("worker.cliproxyapi.client", "ProxyClient", "pop", "after"),
    "before fsync": ("os", "", "fsync", "before"),
    "after fsync": ("os", "", "fsync", "after"),
    "payload kept": ("worker.sync.journal", "Room", "keep", "after"),
    "answer asked for": ("worker.sync.journal", "Room", "ask", "after"),
    "piece written": ("worker.sync.journal", "Room", "write", "after"),
    "payload decoded": ("worker.cliproxyapi.payload", "", "decode_answer", "after"),
    "mid-COPY": ("psycopg", "Copy", "write_row", "before"),
    "before commit": ("psycopg", "Connection", "commit", "before"),
    "after commit": ("psycopg", "Connection", "commit", "after"),
    "before drop": ("worker.sync.journal", "Journal", "drop", "before"),
    "after drop": ("worker.sync.journal", "Journal", "drop", "after"),
    "statement": ("psycopg", "Connection", "execute", "before"),
}
PACKAGE = str(Path(__file__).parents[1] / "worker")


def install(plan: dict[str, Any]) -> None:
    """Do what `plan` says; its keys are the arguments of the functions below."""
    _watch_window(Path(plan["state"]))
    if "file_bytes" in plan:
        _limit_files(plan["file_bytes"], kill=plan["kill"])
    if "room_bytes" in plan:
        _expect_short_answers(plan["room_bytes"])
    if "read_only_after" in plan:
        _refuse_new_files(plan["read_only_after"])
    if "clock_days" in plan:
        _shift_clock(plan["clock_days"], plan["after"])
    if "point" in plan:
        _at(plan["point"], plan["after"], _kill if plan["kill"] else _stop)
    if "calls" in plan:
        _kill_at_call(plan["calls"])


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _wrap(module: str, owner: str, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    found = importlib.import_module(module)
    target = getattr(found, owner) if owner else found
    original = getattr(target, name)
    setattr(target, name, wraps(original)(make(original)))


def _watch_window(state: Path) -> None:
    """Keep in the file's one byte whether a popped answer may be in this process's memory alone."""
    with state.open("r+b") as file:
        byte = mmap.mmap(file.fileno(), 1)

    def opening(pop: Callable[..., Any]) -> Callable[..., Any]:
        def popping(*arguments: Any) -> Any:
            byte[0] = 1
            return pop(*arguments)

        return popping

    def closing(keep: Callable[..., Any]) -> Callable[..., Any]:
        def keeping(*arguments: Any, **named: Any) -> Any:
            kept = keep(*arguments, **named)
            byte[0] = 0
            return kept

        return keeping

    _wrap("worker.cliproxyapi.client", "ProxyClient", "pop", opening)
    _wrap("worker.sync.journal", "Room", "keep", closing)
    _wrap("worker.sync.journal", "Room", "reset", closing)


def _limit_files(size: int, *, kill: bool) -> None:
    """Let no file grow beyond `size`: the write that would fails as on a full disk, or kills in its middle."""
    if kill:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _expect_short_answers(room_bytes: int) -> None:
    """Hold so little room for an answer that more is needed while it arrives."""
    importlib.import_module("worker.sync.journal").LEAST_ROOM_BYTES = room_bytes  # type: ignore[attr-defined]
    importlib.import_module("worker.sync.queue").RECORD_ROOM_BYTES = 1  # type: ignore[attr-defined]


def _refuse_new_files(after: int) -> None:
    """Let the disk turn read-only once it has taken some files, as one does that finds itself damaged."""
    taken, real = [0], os.open

    def opening(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            taken[0] += 1
            if taken[0] > after:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *more, **named)

    os.open = opening  # type: ignore[assignment]


def _shift_clock(days: float, after: int) -> None:
    """Let the clock jump once it has been looked at some times."""
    looked = [0]

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            looked[0] += 1
            return datetime.now(tz) + timedelta(days=days if looked[0] > after else 0)

    importlib.import_module("worker.clock").datetime = Shifted  # type: ignore[attr-defined]


def _at(point: str, after: int, act: Callable[[], None]) -> None:
    module, owner, name, moment = POINTS[point]
    come_by = [0]

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            come_by[0] += 1
            now = come_by[0] == after
            if now and moment == "before":
                act()
            found = original(*arguments, **more)
            if now and moment == "after":
                act()
            return found

        return wrapped

    _wrap(module, owner, name, make)


def _kill_at_call(calls: int) -> None:
    """Kill the process at one of the calls of the worker's functions, whichever comes to be that one."""
    left = [calls]

    def count(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            left[0] -= 1
            if left[0] == 0:
                _kill()

    threading.setprofile(count)
    sys.setprofile(count)


def chosen(rng: Random) -> str:
    """Return a point."""
    return rng.choice(tuple(POINTS))
