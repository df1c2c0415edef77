"""A transaction that is tried again when PostgreSQL gave it up in favour of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity
from sqlalchemy.engine import Engine

from worker.db import database
from worker.db.session import BATCH, Deadlines
from worker.errors import TransientDatabaseError

T = TypeVar("T")
TRIES = 5


def run_transaction(engine: Engine, work: Callable[[database.Connection], T], deadlines: Deadlines = BATCH) -> T:
    """Do `work` in one transaction; again, a few times, when PostgreSQL gave it up in favour of another.

    Raises:
        TransientDatabaseError: that it did each time; with `BATCH` each takes at most some seconds of waiting.
    """
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientDatabaseError),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_exponential_jitter(multiplier=0.05, max=2.0, jitter=0.1),
        reraise=True,
    )
    for attempt in attempts:
        with attempt, database.transaction(engine, deadlines) as connection:
            return work(connection)
    raise AssertionError("tenacity gives up by raising")
