"""Queue → journal: what a proxy hands out once is on disk before anything reads it. Knows no database.

So it goes on whatever the database does. There is room for an answer on the disk before it is asked for; what is asked
for and does not arrive whole is counted.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.client import ProxyClient
from worker.cliproxyapi.lockout import Refusals
from worker.cliproxyapi.unpack import unpacked
from worker.clock import now
from worker.config import Upstream
from worker.errors import JournalError, PossibleLossError, UpstreamBanned, UpstreamError, UpstreamRefused
from worker.loading.pass_result import PassResult
from worker.stopping import taking
from worker.sync.journal import Journal, Room

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RECORD_ROOM_BYTES = 4096
"""Room for one record of an answer: they have some hundred bytes, and a few have thousands."""

COUNTED_MAX_BYTES = 32 << 20
"""A longer answer is not looked into for how many elements it has: it is taken for a full one."""

DRAIN_MAX_S = 300.0
"""For how long one pass goes on popping a queue that fills faster than it is emptied: other proxies wait."""

SMALL_ANSWERS = 3
"""So many in a row of less than a tenth of what an answer can hold, and a queue that fills all the time is empty."""


class PassContext(NamedTuple):
    """One pass at one proxy: whom it asks, where answers are kept, what came of it."""

    upstream: Upstream
    source: ProxyClient
    journal: Journal
    refusals: Refusals
    result: PassResult
    stopping: threading.Event
    heartbeat: Callable[[], None]
    """Is called whenever it gets on."""


def preflight(source: ProxyClient, refusals: Refusals) -> bool | None:
    """Ask the one question that is safe: whether the proxy is there, takes the key, and records usage.

    Raises:
        UpstreamError: it is not there, or the key is refused, now or not long ago.
    """
    refusals.check(now())
    try:
        enabled = source.statistics_enabled()
    except (UpstreamRefused, UpstreamBanned) as e:
        refusals.remember(e, now())
        raise
    refusals.forget()
    return enabled


class QueueFetcher:
    """Pops one proxy's queue into its journal."""

    def __init__(self, context: PassContext, arrived: Callable[[], None], more_room: Callable[[], bool]) -> None:
        """Prepare; nothing is asked yet.

        Args:
            context: the pass.
            arrived: is called when an answer is kept.
            more_room: waits until a full journal may have room again; False when it will have none.
        """
        self._context = context
        self._arrived = arrived
        self._more_room = more_room
        self._most = 0
        """How many elements an answer of this queue has had."""
        self._most_bytes = 0

    def drain(self) -> None:
        """Pop until the queue is empty, or the worker is to stop.

        One that fills all the time is never empty: some small answers in a row, or unreadable ones, end it as well.

        Raises:
            UpstreamError: a pop failed; what it delivered all the same has been kept.
            JournalError: the journal is full, or its disk refuses: nothing more is asked for.
        """
        small, until = 0, time.monotonic() + DRAIN_MAX_S
        while small < SMALL_ANSWERS and not self._context.stopping.is_set():
            if time.monotonic() > until:
                log.warning("queue.not_emptied", seconds=DRAIN_MAX_S, remedy="the next pass goes on with it")
                return
            elements = self._pop(self._reserve())
            self._context.heartbeat()
            if elements == 0:
                return
            self._most = max(self._most, elements or 0)
            few = elements is None or elements * 10 < min(self._most, self._context.source.count)
            small = small + 1 if few else 0

    def _reserve(self) -> Room:
        """Hold room for the longest answer to come; where the journal is full, once some has been loaded."""
        journal = self._context.journal
        while journal.is_full() and self._more_room() and not self._context.stopping.is_set():
            self._context.heartbeat()
        wanted = max(self._context.source.count * RECORD_ROOM_BYTES, 2 * self._most_bytes)
        return journal.reserve(min(wanted, self._context.upstream.max_body_bytes))

    def _pop(self, room: Room) -> int | None:
        """Pop once, and keep what came; return how many elements it has, None where it cannot be read."""
        with taking():
            elements = self._take(room)
        if elements != 0:
            self._arrived()
        return elements

    def _take(self, room: Room) -> int | None:
        room.ask()
        try:
            self._context.source.pop(room)
        except UpstreamError as e:
            if isinstance(e, PossibleLossError):
                self._keep_broken(room)
            else:
                room.reset()
            raise
        except BaseException:  # a disk that refuses, or what nobody foresaw: it may have been asked for
            self._keep_broken(room)
            raise
        self._context.result.mode = "queue"
        elements = self._elements(room)
        if elements == 0:
            room.reset()
            return 0
        self._most_bytes = max(self._most_bytes, room.payload_bytes)
        try:
            room.keep()
        except JournalError:
            if not room.is_there():  # else the next reader of the journal finds what of it is on the disk
                self._keep_broken(self._reserve())
            raise
        return elements

    def _keep_broken(self, room: Room) -> None:
        self._context.result.mode = "queue"
        self._context.result.possible_loss += 1
        room.keep(broken_off=True)
        self._arrived()

    def _elements(self, room: Room) -> int | None:
        """Return how many elements an answer has; None where it cannot be read. It is to be kept whatever happens."""
        if room.payload_bytes > COUNTED_MAX_BYTES:
            return self._context.source.count
        try:
            raw = io.BytesIO(room.content())
            with unpacked(raw, encoding=room.encoding, limit_bytes=COUNTED_MAX_BYTES) as found:
                return decode.count_elements(found.body) if found.whole else None
        except Exception:  # foreseen by nobody: the answer is nowhere else
            log.exception("answer.not_counted")
            return None
