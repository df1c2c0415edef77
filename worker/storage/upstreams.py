"""Statements on upstreams: their names, which records of them are still here, how far snapshots have been read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from worker.cliproxyapi.payload import Cursor
from worker.db.database import Connection, one

# Here and below: an identity is used up by whatever is to be inserted, whether it is or not. So only what is not there
# yet is inserted; ON CONFLICT is for who comes at the same moment.
INSERT_UPSTREAM = """
INSERT INTO usage.upstream (name)
SELECT %(name)s WHERE NOT EXISTS (SELECT FROM usage.upstream WHERE name = %(name)s)
ON CONFLICT (name) DO NOTHING
"""
SELECT_UPSTREAM = "SELECT upstream_id FROM usage.upstream WHERE name = %s"


def upstream_id(connection: Connection, name: str) -> int:
    """Return the id of the upstream called `name`, which is entered when it is new."""
    connection.execute(INSERT_UPSTREAM, {"name": name})
    return one(connection.execute(SELECT_UPSTREAM, [name]).fetchone())


# Dropping records waits for the first, and for the second, too.
KEEP_RECORDS = "LOCK TABLE ONLY usage.record IN ACCESS SHARE MODE"
KEEP_RECORDS_TO_WRITE = "LOCK TABLE ONLY usage.record IN ROW EXCLUSIVE MODE"
SELECT_COMPLETE_FROM = "SELECT max(records_complete_from) FROM usage.upstream"
SELECT_DROPPED_BEFORE = "SELECT records_dropped_before FROM usage.upstream WHERE upstream_id = %s"
SELECT_DROPPED_EVERYWHERE = """
SELECT min(records_dropped_before) FROM usage.upstream HAVING bool_and(records_dropped_before IS NOT NULL)
"""


def records_complete_from(connection: Connection) -> date | None:
    """Return the first day that has all its records, and keeps them until the transaction ends; None when all have."""
    connection.execute(KEEP_RECORDS)
    row = connection.execute(SELECT_COMPLETE_FROM).fetchone()
    return row[0] if row else None


def keep_records(connection: Connection) -> None:
    """Let no record be dropped until the transaction ends, which may store some."""
    connection.execute(KEEP_RECORDS_TO_WRITE)


def records_dropped_before(connection: Connection, upstream: int) -> datetime | None:
    """Return the instant before which an upstream's records may have been dropped; None when none was."""
    row = connection.execute(SELECT_DROPPED_BEFORE, [upstream]).fetchone()
    return row[0] if row else None


def records_dropped_before_everywhere(connection: Connection) -> datetime | None:
    """Return the instant before which no upstream has a record; None where one has them all."""
    row = connection.execute(SELECT_DROPPED_EVERYWHERE).fetchone()
    return row[0] if row else None


SELECT_MARKS = """
SELECT list_digest, read_bytes, read_digest, recent_ns FROM usage.snapshot_cursor WHERE upstream_id = %s
"""
SAVE_MARK = """
INSERT INTO usage.snapshot_cursor (upstream_id, list_digest, read_bytes, read_digest, recent_ns)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (upstream_id, list_digest) DO UPDATE
SET read_bytes = EXCLUDED.read_bytes, read_digest = EXCLUDED.read_digest, recent_ns = EXCLUDED.recent_ns
"""


def snapshot_cursors(connection: Connection, upstream: int) -> dict[bytes, Cursor]:
    """Return how far the lists of a proxy's snapshot have been read."""
    with connection.cursor(binary=True) as cursor:
        found = cursor.execute(SELECT_MARKS, [upstream])
        return {name: Cursor(read_bytes, digest, tuple(recent)) for name, read_bytes, digest, recent in found}


def save_snapshot_cursors(connection: Connection, upstream: int, cursors: Mapping[bytes, Cursor]) -> None:
    """Note how far lists have been read, all records up to there being stored when this commits."""
    rows = [
        (upstream, name, cursor.read_bytes, cursor.read_digest, list(cursor.recent_ns))
        for name, cursor in cursors.items()
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(SAVE_MARK, sorted(rows))
