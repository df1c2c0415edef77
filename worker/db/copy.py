"""Binary COPY: staging tables, and rows into a table as fast as the driver gets them there."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Identifier
from psycopg.types.string import BytesBinaryDumper

from worker.db.database import Connection

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
        self.columns = columns
        digest = sha256(repr(list(columns.items())).encode()).hexdigest()
        self.name: Composable = Identifier(f"{purpose}_{digest[:8]}")
        self.types = copy_types(columns)
        defined = COMMA.join(SQL("{} {}").format(Identifier(name), Identifier(kind)) for name, kind in columns.items())
        self.create = SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
            self.name, defined
        )
        self.copy = SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(self.name)


def copy_binary(connection: Connection, query: Composed, types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Copy rows of these types in; a numeric is given as `numeric` makes it, and its type as that of bytes."""
    with connection.cursor() as cursor:
        cursor.adapters.register_dumper(bytes, BytesBinaryDumper)  # the default one for bytea is written in Python
        with cursor.copy(query) as copy:
            copy.set_types(types)
            write = copy.write_row
            for row in rows:
                write(row)


NUMERIC = struct.Struct(">hhHh5h")
POSITIVE, NEGATIVE = 0x0000, 0x4000
NO_USD = NUMERIC.pack(5, 1, POSITIVE, 12, 0, 0, 0, 0, 0)


def numeric(pico_usd: int | None) -> bytes | None:
    """Return units of 1e-12 US dollars as the wire format of a numeric with twelve decimals.

    Digits to the base 10,000, three of them after the point; PostgreSQL leaves out zeros in front by itself.
    """
    if not pico_usd:
        return NO_USD if pico_usd == 0 else None
    sign = POSITIVE if pico_usd > 0 else NEGATIVE
    rest, third = divmod(abs(pico_usd), 10_000)
    rest, second = divmod(rest, 10_000)
    whole, first = divmod(rest, 10_000)
    high, low = divmod(whole, 10_000)
    if high < 10_000:  # noqa: PLR2004  # the base
        return NUMERIC.pack(5, 1, sign, 12, high, low, first, second, third)
    digits = [first, second, third]
    while whole:
        whole, digit = divmod(whole, 10_000)
        digits.insert(0, digit)
    return struct.pack(f">hhHh{len(digits)}h", len(digits), len(digits) - 4, sign, 12, *digits)
