"""What only one worker does at a time: a lease that is held, and renewed meanwhile."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from sqlalchemy.engine import Engine

from worker.db import lease
from worker.db.database import autocommit, log
from worker.db.lease import Lease, Renewal
from worker.db.migrations import upgrade
from worker.errors import DatabaseError, NoSchemaError

_RENEWALS: weakref.WeakKeyDictionary[Engine, Renewal] = weakref.WeakKeyDictionary()
_STARTING = threading.Lock()


class Lock:
    """A lease that is held from `acquire` to `release`, and renewed meanwhile; see `worker.db.lease`.

    Who holds it and loses it, since its renewals did not reach PostgreSQL for a while, is told by the next `acquire`.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        """Name the lock; nothing is held yet."""
        self._engine = engine
        self._lease = Lease(name)

    def acquire(self) -> bool:
        """Take the lock, or find that it is still held; return whether it is ours.

        Raises:
            DatabaseError: PostgreSQL cannot be reached.
        """
        try:
            ours = self._take()
        except NoSchemaError:  # its table comes with the schema that a pass brings first
            upgrade(self._engine)
            ours = self._take()
        if ours:
            _renewal(self._engine).begin(self._lease)
        else:
            _renewal(self._engine).end(self._lease)
        return ours

    def _take(self) -> bool:
        with autocommit(self._engine) as connection:
            return self._lease.take(connection)

    def release(self) -> None:
        """Let the lock go; where PostgreSQL cannot be told, it is free when it expires."""
        _renewal(self._engine).end(self._lease)
        with suppress(DatabaseError), autocommit(self._engine) as connection:
            self._lease.give_back(connection)


def _renewal(engine: Engine) -> Renewal:
    """Return the one that renews the leases of this process in that database."""
    weak = weakref.ref(engine)  # which it does not keep

    def renew(holders: Sequence[UUID]) -> None:
        there = weak()
        if there is None:
            return
        try:
            with autocommit(there) as connection:
                lease.renew(connection, holders)
        except DatabaseError as e:  # the next renewal may come in time
            log.debug("lease.not_renewed", reason=str(e))

    with _STARTING:
        return _RENEWALS.setdefault(engine, Renewal(renew))


def consumer(upstream: str) -> str:
    """Return the name of the lock that the one worker holds which reads a proxy's queue."""
    return f"{upstream}:consumer"
