"""Statements on passes, imports and retries: when each began and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from worker.db.database import Connection, one

INSERT_RUN = "INSERT INTO usage.sync_run (upstream_id, kind, started_at) VALUES (%s, %s, %s) RETURNING run_id"


def begin_run(connection: Connection, upstream: int, kind: str, started_at: datetime) -> int:
    """Enter a pass and return its number."""
    return one(connection.execute(INSERT_RUN, [upstream, kind, started_at]).fetchone())


COUNT_POSSIBLE_LOSS = "UPDATE usage.sync_run SET possible_loss = possible_loss + %s WHERE run_id = %s"


def count_possible_loss(connection: Connection, run_id: int | None, answers: int) -> None:
    """Count answers of which something may be lost, with the pass that finds them: beside the batch, so once."""
    connection.execute(COUNT_POSSIBLE_LOSS, [answers, run_id])


FINISH_RUN = """
UPDATE usage.sync_run
SET finished_at = %(finished_at)s, mode = %(mode)s, pulled = %(pulled)s, inserted = %(inserted)s,
    duplicates = %(duplicates)s, quarantined = %(quarantined)s, unknown_channel = %(unknown_channel)s,
    too_old = %(too_old)s, statistics_enabled = %(statistics_enabled)s,
    journal_entries = %(journal_entries)s, journal_bytes = %(journal_bytes)s, error = %(error)s
WHERE run_id = %(run_id)s
"""


def finish_run(connection: Connection, figures: Mapping[str, Any]) -> None:
    """Note what a pass came to; `figures` holds every column of the statement."""
    connection.execute(FINISH_RUN, figures)
