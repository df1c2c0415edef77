"""Leases: what only one worker does at a time, and who does it. No transaction stays open for it.

A lease is a row that its holder renews every few seconds, and that anybody may take once it has expired by the
server's clock. So it holds behind a pooler that hands out connections by transaction, and keeps no row from being
cleaned up. A holder that ends without a word is given up after `TERM_S`; at once where its machine says that it is
gone. Nothing that is exact hangs on a lease: two that hold one for a moment do the same work twice.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

TERM_S = 20.0
RENEWED_EVERY_S = 5.0
SET_BACK_S = 5.0
"""A lease that expires later than its term and this much from now was renewed before the clock was set back."""

BOOT = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")
ENDED = ("Z", "X")

# One statement, so that whoever stops in the midst of it keeps nobody from the row.
TAKE = """
INSERT INTO usage.lease AS l (name, holder, host, pid, process, since, expires_at)
VALUES (%(name)s, %(holder)s, %(host)s, %(pid)s, %(process)s, clock_timestamp(),
        clock_timestamp() + %(term_s)s * interval '1 second')
ON CONFLICT (name) DO UPDATE
SET holder = EXCLUDED.holder, host = EXCLUDED.host, pid = EXCLUDED.pid, process = EXCLUDED.process,
    since = CASE WHEN l.holder = EXCLUDED.holder THEN l.since ELSE clock_timestamp() END,
    expires_at = clock_timestamp() + %(term_s)s * interval '1 second'
WHERE l.holder IN (EXCLUDED.holder, %(gone)s)
   OR l.expires_at NOT BETWEEN clock_timestamp()
                           AND clock_timestamp() + (%(term_s)s + %(set_back_s)s) * interval '1 second'
RETURNING true
"""
SELECT_HOLDER = "SELECT holder, process FROM usage.lease WHERE name = %s"
RENEW = """
UPDATE usage.lease SET expires_at = clock_timestamp() + %s * interval '1 second' WHERE holder = ANY(%s)
"""
GIVE_BACK = "DELETE FROM usage.lease WHERE name = %s AND holder = %s"
SELECT_HOLDERS = """
SELECT name, host, pid, since FROM usage.lease
WHERE name = ANY(%s) AND expires_at >= clock_timestamp()
"""


class Holder(NamedTuple):
    """Who holds a lease: the machine or container, the process there, and since when."""

    host: str
    pid: int
    since: datetime


class Lease:
    """One holder's claim to one name. Each statement of it is a transaction of its own; see `take`."""

    def __init__(self, name: str) -> None:
        """Name it; nothing is held yet."""
        self.name = name
        self.holder = uuid4()

    def take(self, connection: Connection) -> bool:
        """Take or renew the lease; return whether it is ours. The connection is to commit each statement by itself."""
        if self._take(connection):
            return True
        row = connection.execute(SELECT_HOLDER, [self.name]).fetchone()
        gone = row is None or is_gone(row[1])
        return gone and self._take(connection, row[0] if row else None)

    def _take(self, connection: Connection, gone: UUID | None = None) -> bool:
        wanted = {
            "name": self.name, "holder": self.holder, "gone": gone, "host": socket.gethostname(), "pid": os.getpid(),
            "process": process(), "term_s": TERM_S, "set_back_s": SET_BACK_S,
        }  # fmt: skip
        return connection.execute(TAKE, wanted).fetchone() is not None

    def give_back(self, connection: Connection) -> None:
        """Let others have it at once; nothing where it is not ours any more."""
        connection.execute(GIVE_BACK, [self.name, self.holder])


class Renewal:
    """The thread of a process that renews its leases, for as long as there are any."""

    def __init__(self, renew: Callable[[Sequence[UUID]], None]) -> None:
        """Take what renews the leases of some holders, and says itself what keeps it from that."""
        self._renew = renew
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._renewing = threading.Lock()
        self._changing = threading.Lock()
        self._none = threading.Event()
        self._runs = False

    def begin(self, lease: Lease) -> None:
        """Renew a lease from now on."""
        with self._changing:
            self._leases.add(lease)
            self._none.clear()
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="leases", daemon=True).start()

    def end(self, lease: Lease) -> None:
        """Leave a lease alone; no renewal of it is still on its way."""
        with self._renewing, self._changing:
            self._leases.discard(lease)
            if not self._leases:
                self._none.set()

    def _run(self) -> None:
        while True:
            self._none.wait(RENEWED_EVERY_S)
            with self._renewing:
                with self._changing:
                    holders = [lease.holder for lease in self._leases]
                    if not holders:
                        self._runs = False
                        return
                self._renew(holders)


def renew(connection: Connection, holders: Sequence[UUID]) -> None:
    """Renew what these still hold."""
    connection.execute(RENEW, [TERM_S, list(holders)])


def holders(connection: Connection, names: Iterable[str]) -> dict[str, Holder]:
    """Return who holds which of these leases; no entry for one that nobody holds."""
    return {name: Holder(*found) for name, *found in connection.execute(SELECT_HOLDERS, [list(names)])}


def process() -> str:
    """Return what tells this process from every other one ever; empty where the system does not say."""
    space, began = _space(), _began(os.getpid())
    return f"{space}/{os.getpid()}/{began}" if space and began else ""


def is_gone(other: str) -> bool:
    """Say whether a process surely runs no more: only one of this boot, where this one sees the processes it saw."""
    where, _, began = other.rpartition("/")
    space, _, pid = where.rpartition("/")
    if not space or space != _space():
        return False
    try:
        with suppress(PermissionError):  # it is there, and another account's
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return _began(int(pid)) not in (None, began)


def _began(pid: int) -> str | None:
    """Return when a process began; empty where it has ended, None where the system does not say."""
    try:
        # The name in parentheses may hold anything; behind it stand the state and, twentieth, the begin.
        state, *fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "" if state in ENDED else fields[18]


def _space() -> str:
    """Return the boot and the namespace whose processes this one sees; empty where there is no such thing."""
    try:
        return f"{BOOT.read_text('ascii').strip()}/{NAMESPACE.readlink()}"
    except OSError:
        return ""
