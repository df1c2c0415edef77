"""Temporary tables that rows are copied into before a statement takes them on, and the types of binary COPY.

Their name says their columns: behind a pooler, a connection may still have the ones of another version of this worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from psycopg.sql import SQL, Composable, Composed, Identifier

COMMA = SQL(", ")


def column_list(names: Iterable[str]) -> Composed:
    """Return names of columns as a statement lists them."""
    return COMMA.join(map(Identifier, names))


def copy_types(columns: Mapping[str, str]) -> tuple[str, ...]:
    """Return what COPY is told of these columns: a numeric is handed over as the bytes that it is made of.

    psycopg would need as long for one as for the rest of a row.
    """
    return tuple("bytea" if kind == "numeric" else kind for kind in columns.values())


class StagingTable:
    """A temporary table of one purpose; its rows live as long as the transaction."""

    def __init__(self, purpose: str, columns: Mapping[str, str]) -> None:
        """Name it after what it is for and after its columns, whose types are given by PostgreSQL's short names."""
        digest = sha256(repr(list(columns.items())).encode()).hexdigest()
        self.name: Composable = Identifier(f"{purpose}_{digest[:8]}")
        self.types = copy_types(columns)
        defined = COMMA.join(SQL("{} {}").format(Identifier(name), Identifier(kind)) for name, kind in columns.items())
        self.create = SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
            self.name, defined
        )
        self.copy = SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(self.name)
