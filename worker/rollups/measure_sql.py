"""What statements on rollups say of every measure: sums, and how a row grows. Each is made from the one list."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg.sql import SQL, Composed, Identifier

from worker.storage.staging import COMMA
from worker.usage.measures import MAY_BE_UNKNOWN, MEASURES


def added(row: str) -> Composed:
    """Return the assignments that add EXCLUDED's measures to those of `row`; what is not known stays so."""
    assignment = SQL("{name} = {row}.{name} + EXCLUDED.{name}")
    return _listed(assignment.format(name=Identifier(name), row=Identifier(row)) for name in MEASURES)


def summed() -> Composed:
    """Return the sums of all measures, in their order. A sum is as unknown as any part of it."""
    return _listed(_sum(name) for name in MEASURES)


def sums_of_the_unknown() -> Composed:
    """Return the sums of the measures that may be unknown, under their names."""
    return _listed(SQL("{} AS {}").format(_sum(name), Identifier(name)) for name in MAY_BE_UNKNOWN)


def learned(row: str, known: str) -> Composed:
    """Return the assignments that give `row` what was not known of it and is known of the sums `known`."""
    assignment = SQL("{name} = coalesce({row}.{name}, {known}.{name})")
    return _listed(
        assignment.format(name=Identifier(name), row=Identifier(row), known=Identifier(known))
        for name in MAY_BE_UNKNOWN
    )


def any_unknown(row: str) -> Composed:
    """Return the condition that something of `row` is not known."""
    return SQL("num_nulls({}) > 0").format(_listed(Identifier(row, name) for name in MAY_BE_UNKNOWN))


def _listed(parts: Iterable[Composed | Identifier]) -> Composed:
    return COMMA.join(parts)


def _sum(name: str) -> Composed:
    known = "CASE WHEN count({name}) = count(*) THEN sum({name}) END" if name in MAY_BE_UNKNOWN else "sum({name})"
    return SQL(known).format(name=Identifier(name))
