"""The statements on rollup tables, each made from the one list of tables and the one list of measures.

Those on summary rollups join the deltas of the table that they sum, and name their dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

from psycopg.sql import SQL, Composable, Composed, Identifier

from worker.db.copy import COMMA, StagingTable, column_list
from worker.rollups.tables import COLUMN_TYPES, DAILY, HOURLY, TABLES, RollupTable
from worker.usage.measures import COSTS, MEASURES

MEASURE_TYPES = {name: "numeric" if name in COSTS else "int8" for name in MEASURES}
DELTAS = {
    table.name: StagingTable(
        f"{table.label}_delta", {**{name: COLUMN_TYPES[name] for name in table.key}, **MEASURE_TYPES}
    )
    for table in (HOURLY, DAILY)
}
"""What is added to the hours and to the days, by their table."""


def _name(table: RollupTable) -> Composable:
    return Identifier(*table.name.split("."))


def _delta(table: RollupTable) -> StagingTable:
    return DELTAS[table.of or table.name]


def _listed(form: LiteralString, names: Iterable[str]) -> Composed:
    return COMMA.join(SQL(form).format(Identifier(name)) for name in names)


def upsert(table: RollupTable) -> Composed:
    """Return the statement that adds the deltas to a table. Rows are touched in the order of their key."""
    source = (
        SQL("SELECT {key}, {sums} FROM {delta} JOIN usage.dimension USING (dimension_id) GROUP BY {key}")
        if table.of
        else SQL("SELECT {key}, {measures} FROM {delta}")
    )
    key, measures = column_list(table.key), column_list(MEASURES)
    return SQL("""
INSERT INTO {table} AS r ({key}, {measures})
{source} ORDER BY {key}
ON CONFLICT ({key}) DO UPDATE SET {added}
""").format(
        table=_name(table),
        key=key,
        measures=measures,
        source=source.format(key=key, measures=measures, sums=_listed("sum({})", MEASURES), delta=_delta(table).name),
        added=_listed("{0} = r.{0} + EXCLUDED.{0}", MEASURES),
    )


def delete_empty(table: RollupTable) -> Composed:
    """Return the statement that deletes what the deltas have emptied: a sum of nothing is no row."""
    joined = SQL(" JOIN usage.dimension USING (dimension_id)") if table.of else SQL("")
    changed = SQL("SELECT {} FROM {}{}").format(column_list(table.key), _delta(table).name, joined)
    return SQL("DELETE FROM {} WHERE requests = 0 AND ({}) IN ({})").format(
        _name(table), column_list(table.key), changed
    )


# Days and hours of one span: [first, end) and [since, until), and of days that are not all of it, which they are.
BOUNDS = {"hour": (SQL("%(since)s"), SQL("%(until)s")), "day": (SQL("%(first)s"), SQL("%(end)s"))}
WHOLE_DAYS = SQL("%(days)s::date[], %(begins)s::timestamptz[], %(ends)s::timestamptz[]")


def _recomputed(table: RollupTable) -> Composed:
    arguments = WHOLE_DAYS if table is DAILY else COMMA.join(BOUNDS[table.grain])
    return SQL("SELECT * FROM {}({})").format(Identifier(*table.recompute.split(".")), arguments)


def _in_span(table: RollupTable) -> Composable:
    if table is DAILY:
        return SQL("day = ANY(%(days)s::date[])")
    return SQL("{0} >= {1} AND {0} < {2}").format(Identifier(table.grain), *BOUNDS[table.grain])


def differences(table: RollupTable) -> Composed:
    """Return the query of the rows of a span that are not what they are sums of: key, whether summed, measures."""
    return SQL("""
WITH summed AS ({recomputed}), stored AS (SELECT * FROM {table} WHERE {in_span})
SELECT {key}, true, {measures} FROM (TABLE summed EXCEPT TABLE stored) AS only_summed
UNION ALL
SELECT {key}, false, {measures} FROM (TABLE stored EXCEPT TABLE summed) AS only_stored
ORDER BY {key}
""").format(
        recomputed=_recomputed(table), table=_name(table), in_span=_in_span(table), key=column_list(table.key),
        measures=column_list(MEASURES),
    )  # fmt: skip


def delete(table: RollupTable) -> Composed:
    """Return the statement that deletes the rows of a span."""
    return SQL("DELETE FROM {} WHERE {}").format(_name(table), _in_span(table))


def insert(table: RollupTable) -> Composed:
    """Return the statement that sums the rows of a span anew."""
    return SQL("INSERT INTO {} {}").format(_name(table), _recomputed(table))


def select_of_dimensions(table: RollupTable) -> Composed:
    """Return the query that locks and returns all rows of some dimensions."""
    return SQL("SELECT {key}, {measures} FROM {table} WHERE dimension_id = ANY(%s) ORDER BY {key} FOR UPDATE").format(
        key=column_list(table.key), measures=column_list(MEASURES), table=_name(table)
    )


LOCK_ALL = SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(COMMA.join(map(_name, TABLES)))
"""Writers of rollups wait, readers do not: what a writer adds afterwards is of records that were not seen here."""
