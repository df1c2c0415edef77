"""Writes the schema as it stands today, and the migration that leads to it.

    python migrations/generate.py                   write migrations/schema.sql
    python migrations/generate.py --check           say whether it is what its sources make
    python migrations/generate.py --migration NAME  write the next migration, and schema.sql with it

The sources are the templates in `migrations/schema` and the measures in `worker/usage/measures.py`. What stands in
`schema.sql` is compared with what they make now, object by object: a view or a function is replaced, a type and a
rollup table get the columns that are new at their end. Anything else is written by hand; a test holds the sum of all
migrations against `schema.sql`.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import jinja2

from worker.rollups.tables import TABLES
from worker.usage.measures import ADDED, COSTS, EXCLUSIVE_TOKENS, LATENCY_BOUNDS_MS, MEASURES

HERE = Path(__file__).parent
SCHEMA = HERE / "schema.sql"
PARTS = ("tables", "rollups", "views", "windows", "requests", "totals", "figures", "comments", "roles")
WIDTH = 118

OBJECT = re.compile(r"CREATE (?:OR REPLACE )?(SCHEMA|TABLE|INDEX|VIEW|TYPE|FUNCTION) (?:IF NOT EXISTS )?([\w.]+)")
COLUMN = re.compile(r"^    (\w+) (.+?),?(?:  --.*)?$")


# -- schema.sql -------------------------------------------------------------------------------------------------


def totals() -> SimpleNamespace:
    """Return what totals consist of: the measures by kind, and all columns in their order with their types."""
    first = [name for name, m in MEASURES.items() if m.published and not m.bound and name not in ADDED]
    later = [name for name in ADDED if MEASURES[name].published and not MEASURES[name].bound]
    tokens = [name for name in first if MEASURES[name].unit == "tokens"]
    costs = [name for name in first if name in COSTS and name != "estimated_cost_usd"]
    numbers = ("requests", "succeeded", "failed", "warmups")
    columns = {
        **dict.fromkeys(numbers, "bigint"), "success_rate": "numeric", "error_rate": "numeric",
        **dict.fromkeys(tokens, "bigint"), "tokens": "bigint", "cache_hit_rate": "numeric",
        **dict.fromkeys(costs, "numeric"), "unpriced_requests": "bigint",
        "mean_latency_ms": "numeric", "mean_ttft_ms": "numeric", "cancelled": "bigint", "estimated_cost_usd": "numeric",
        **{name: MEASURES[name].sql_type for name in later},
    }  # fmt: skip
    return SimpleNamespace(tokens=tokens, costs=costs, later=later, columns=columns, summed=first + later)


def listed(items: Iterable[str], indent: int = 8) -> str:
    """Return items with commas between, in lines that are no longer than WIDTH."""
    lines = textwrap.wrap(", ".join(items), WIDTH - indent, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * indent).join(lines)


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def render() -> str:
    """Return schema.sql as its sources make it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "schema"), undefined=jinja2.StrictUndefined, autoescape=False,  # noqa: S701  # SQL
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {
        "listed": listed, "literal": literal,
        "prefixed": lambda name, row: f"{row}{name}",
        "called": lambda name, function: f"{function}({name})",
    }  # fmt: skip
    environment.globals |= {
        "measures": [m for m in MEASURES.values() if m.published],
        "all_measures": list(MEASURES.values()),
        "bounds": LATENCY_BOUNDS_MS, "costs": COSTS, "exclusive_tokens": EXCLUSIVE_TOKENS,
        "rollups": TABLES, "totals": totals(),
    }  # fmt: skip
    made = "\n".join(environment.get_template(f"{part}.sql").render() for part in PARTS)
    return "\n".join(line.rstrip() for line in made.splitlines()) + "\n"


# -- the next migration -----------------------------------------------------------------------------------------


def statements(sql: str) -> Iterator[str]:
    """Yield the statements of a schema, each with the comment in front of it."""
    found: list[str] = []
    quoted = False
    for line in sql.splitlines():
        if line or found:
            found.append(line)
        quoted ^= line.count("$$") % 2 == 1
        if not quoted and line.endswith(";") and not line.startswith("--"):
            yield "\n".join(found)
            found = []


def key_of(statement: str) -> str:
    """Return what a statement makes or describes; a block of code is told apart by the comment in front of it."""
    lines = statement.splitlines()
    said = [line for line in lines if line.startswith("--") and not line.startswith("-- --")]
    body = "\n".join(line for line in lines if not line.startswith("--")).lstrip()
    if body.startswith("DO "):
        return f"DO {said[0]}"
    if body.startswith("COMMENT ON "):
        return body.partition(" IS ")[0]
    made = OBJECT.match(body)
    if made is None:
        raise SystemExit(f"no kind of statement that is known here: {lines[0]}")
    return f"{made[1]} {made[2]}"


def changes(was: str, becomes: str) -> Iterator[str]:
    """Yield the statements that lead from one schema to another.

    Raises:
        SystemExit: a change is none that can be made out; what it is, and that it is to be written by hand.
    """
    before = {key_of(statement): statement for statement in statements(was)}
    after = {key_of(statement): statement for statement in statements(becomes)}
    if gone := before.keys() - after.keys():
        raise SystemExit(f"what goes is dropped by hand: {', '.join(sorted(gone))}")
    blocks: list[str] = []
    for key, statement in after.items():
        if key.startswith("DO "):
            blocks.append(statement)
        elif key not in before:
            yield statement
        elif before[key] != statement:
            yield from changed(key, before[key], statement)
    yield from blocks  # comments and grants of all there is: they can be said again


def changed(key: str, was: str, becomes: str) -> Iterator[str]:
    """Yield what makes one object another."""
    kind, _, name = key.partition(" ")
    if kind in ("VIEW", "FUNCTION"):
        yield becomes.replace(f"CREATE {kind} ", f"CREATE OR REPLACE {kind} ", 1)
    elif kind == "TYPE":
        yield (
            f"ALTER TYPE {name}\n" + ",\n".join(f"    ADD ATTRIBUTE {c} {t}" for c, t in added(key, was, becomes)) + ";"
        )
    elif kind == "TABLE" and name in {table.name for table in TABLES}:
        columns = added(key, was, becomes)
        yield f"ALTER TABLE {name}\n" + ",\n".join(f"    ADD COLUMN {c} {t} DEFAULT 0" for c, t in columns) + ";"
        yield f"ALTER TABLE {name}\n" + ",\n".join(f"    ALTER COLUMN {c} DROP DEFAULT" for c, _ in columns) + ";"
    elif key.startswith("COMMENT ON"):
        yield becomes
    else:
        raise SystemExit(f"a changed {key} is written by hand:\n" + "\n".join(difflib.ndiff([was], [becomes])))


def added(key: str, was: str, becomes: str) -> list[tuple[str, str]]:
    """Return the columns that are new in an object, each with its type."""
    before, after = (dict(c.groups() for line in s.splitlines() if (c := COLUMN.match(line))) for s in (was, becomes))
    if {name: after.get(name) for name in before} != before:
        raise SystemExit(f"{key}: columns that change or go are written by hand")
    return [(name, kind) for name, kind in after.items() if name not in before]


FILL = """
-- What the records that are still here add up to. Of what has been dropped it stays 0: it was not counted then.
{fills}"""
WHOLE_DAYS = """
    SELECT array_agg(day) AS days, array_agg(usage_api.v1_day_begin(day, usage_api.v1_zone())) AS begins,
           array_agg(usage_api.v1_day_begin(day + 1, usage_api.v1_zone())) AS ends
    FROM (SELECT DISTINCT day FROM usage.daily) AS d
    WHERE day >= coalesce((SELECT max(records_complete_from) FROM usage.upstream), '-infinity')
"""
EVERYTHING = {
    "usage.daily": f"({WHOLE_DAYS}) AS whole, usage.daily_from_records(whole.days, whole.begins, whole.ends)",
}
"""How all rows of a table are summed anew, where not by its bounds."""

FILL_ONE = """UPDATE {table} AS r SET {columns}
FROM {source} AS s
WHERE {keys};
"""
SCRIPT = '''"""{title}

Revision ID: {number}
Revises: {before}
"""

from pathlib import Path

from alembic import op

revision = "{number}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_suffix(".sql").read_text())
'''


def fills(sql: list[str]) -> str:
    """Return the statements that fill new columns of the rollups from what they are sums of."""
    made: list[str] = []
    for table in TABLES:
        columns = [
            c for s in sql if s.startswith(f"ALTER TABLE {table.name}\n") for c in re.findall(r"ADD COLUMN (\w+)", s)
        ]
        if columns:
            assigned = ", ".join(f"{name} = s.{name}" for name in columns)
            keys = " AND ".join(f"r.{name} = s.{name}" for name in table.key)
            made.append(
                FILL_ONE.format(
                    table=table.name,
                    columns=assigned,
                    source=EVERYTHING.get(table.name, f"{table.recompute}('-infinity', 'infinity')"),
                    keys=keys,
                )
            )
    return FILL.format(fills="".join(made)) if made else ""


def write_migration(name: str) -> None:
    """Write the next migration: what leads from schema.sql to what its sources make now."""
    found = list(changes(SCHEMA.read_text(), render()))
    versions = sorted((HERE / "versions").glob("[0-9]*.py"))
    before = versions[-1].name.partition("_")[0]
    number = f"{int(before) + 1:04}"
    head = HERE.parent / "worker" / "db" / "head.py"
    alters = [s for s in found if s.startswith("ALTER")]
    rest = [s for s in found if not s.startswith("ALTER")]
    sql = "\n\n".join([*alters, *rest]) + "\n" + fills(found)
    path = HERE / "versions" / f"{number}_{name}.sql"
    path.write_text(sql)
    title = name.replace("_", " ").capitalize() + "."
    path.with_suffix(".py").write_text(SCRIPT.format(title=title, number=number, before=before))
    head.write_text(head.read_text().replace(f'"{before}"', f'"{number}"'))
    SCHEMA.write_text(render())
    sys.stdout.write(f"{path.name}: read it, say in its first line why, and fill what only a person knows\n")


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--migration", metavar="NAME")
    options = parser.parse_args()
    if options.migration:
        write_migration(options.migration)
    elif not options.check:
        SCHEMA.write_text(render())
    elif SCHEMA.read_text() != render():
        raise SystemExit("migrations/schema.sql is not what its sources make: python migrations/generate.py")


if __name__ == "__main__":
    main()
