"""Behind a pooler, a session may still hold the staging tables of another version of this worker."""

from __future__ import annotations

import json

import pytest
from support import calls, proxy

from worker.db.copy import StagingTable
from worker.rollups.statements import DELTAS
from worker.rollups.tables import DAILY, HOURLY
from worker.simulator.traffic import queue_item
from worker.storage.records import RECORD_COLUMNS, STAGE

STAGING = {
    "record_stage": (STAGE, RECORD_COLUMNS),
    "hourly_delta": (DELTAS[HOURLY.name], DELTAS[HOURLY.name].columns),
    "daily_delta": (DELTAS[DAILY.name], DELTAS[DAILY.name].columns),
}
# What they were called before their names came from their columns.
BY_HAND = ("record_stage", *(f"record_stage_{n}" for n in range(2, 5)),
           *(f"{grain}_delta{n}" for grain in ("hourly", "daily") for n in ("", "_2")))  # fmt: skip
# PostgreSQL 17 and later: what every new session of this database begins with.
AT_LOGIN = """
CREATE FUNCTION public.older() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$;
CREATE EVENT TRIGGER older ON login EXECUTE FUNCTION public.older();
"""


@pytest.mark.parametrize("purpose", STAGING)
def test_a_staging_table_of_other_columns_has_another_name(purpose):
    table, columns = STAGING[purpose]
    assert StagingTable(purpose, dict(columns)).name == table.name
    less = dict(list(columns.items())[:-1])
    more = {**columns, "more": "int8"}
    first, second, *rest = columns.items()
    turned = dict([second, first, *rest])
    retyped = {**columns, first[0]: "text"}
    names = {repr(StagingTable(purpose, some).name) for some in (columns, less, more, turned, retyped)}
    assert len(names) == 5


def test_the_tables_of_older_workers_in_a_session_are_no_obstacle(books):
    if int(books.ask("SHOW server_version_num")[0][0]) < 170000:
        pytest.skip("event triggers at login came with PostgreSQL 17")
    older = [f"CREATE TEMPORARY TABLE {name} (other text);" for name in BY_HAND]
    for purpose, (_, columns) in STAGING.items():
        before = StagingTable(purpose, dict(list(columns.items())[:-1]))
        older.append(f"{before.create.as_string()};")
    books.ask(AT_LOGIN.format(" ".join(older)))
    file = books.folder / "usage.jsonl"
    file.write_text("\n".join(json.dumps(queue_item(call)) for call in calls(300)))
    with proxy("queue", calls(150)) as simulator:
        assert books.worker(simulator, "sync", "--once", "--json").json[0]["inserted"] == 150
        (again,) = books.worker(simulator, "import", str(file), "--json").json
        assert (again["inserted"], again["duplicates"]) == (150, 150)
        for command in (["resolve", "--all"], ["reprice"], ["rebuild"]):
            finished = books.worker(simulator, *command)
            assert finished.code == 0, finished.stderr
    books.require_exactly(calls(300))
