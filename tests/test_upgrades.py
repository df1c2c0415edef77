"""From every earlier schema, with what the worker of its time wrote, to today's: nothing is lost, changed or doubled.

How tests/upgrades/ was made is in make.py there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config as AlembicConfig
from support import KEY, QUICK, SEED, Books, calls, proxy, wait_until

from worker.db import migrations
from worker.simulator.proxy import Simulator
from worker.simulator.traffic import Traffic

FOLDER = Path(__file__).parent / "upgrades"
WORLD = json.loads((FOLDER / "calls.json").read_text(encoding="utf-8"))
RECORDS = len(WORLD["items"]) - 1
RELEASED = sorted(path.name.partition("_")[0] for path in (migrations.migrations_dir() / "versions").glob("[0-9]*.py"))
"""Every schema that a worker ever wrote; today's is the last, and its dump is what later ones are held against."""

OF_THEIR_TIME = {
    "v1_records": {"synced_at", "price_id", "dimension_id", "origin_id"},
    "v1_channels": {"first_seen_at", "last_seen_at"},
}
"""What two databases with the same records need not agree on."""

SELECT_COLUMNS = """
SELECT column_name::text FROM information_schema.columns
WHERE table_schema = 'usage_api' AND table_name = %s ORDER BY ordinal_position
"""
SELECT_VERSION = "SELECT version_num FROM usage.schema_version"


def dump(revision: str) -> str:
    return (FOLDER / f"{revision}.sql").read_text(encoding="utf-8")


def migrate_to(books: Books, revision: str) -> None:
    settings = AlembicConfig()
    settings.set_main_option("script_location", str(migrations.migrations_dir()))
    with books.engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)


@pytest.fixture(params=RELEASED)
def revision(request):
    return request.param


@contextmanager
def of_then(url: str, folder: Path, revision: str) -> Iterator[Books]:
    """A database as the worker of that revision left it."""
    folder.mkdir(exist_ok=True)
    with Books(url, folder) as books:
        migrate_to(books, revision)
        books.ask(dump(revision))
        yield books


@contextmanager
def world() -> Iterator[Simulator]:
    with proxy("queue") as simulator:
        for endpoint, body in WORLD["mappings"].items():
            simulator.override(endpoint, body)
        yield simulator


def shown(books: Books, view: str) -> list[tuple[object, ...]]:
    columns = [name for (name,) in books.ask(SELECT_COLUMNS, [view]) if name not in OF_THEIR_TIME.get(view, ())]
    return sorted(books.ask(f"SELECT {', '.join(columns)} FROM usage_api.{view}"), key=repr)


def everything(books: Books) -> dict[str, list[tuple[object, ...]]]:
    """What readers see of the records, their sums and what they refer to."""
    views = (
        "v1_daily",
        "v1_daily_channels",
        "v1_daily_keys",
        "v1_hourly",
        "v1_hourly_keys",
        "v1_records",
        "v1_channels",
        "v1_client_keys",
    )
    return {view: shown(books, view) for view in views}


def load_afresh(books: Books, revision: str) -> None:
    """The same calls by today's worker, under the same pepper."""
    pepper = re.search(r"\('pepper', '(\w+:\w+)'\)", dump(revision))
    assert pepper
    books.ask("INSERT INTO usage.setting (key, value) VALUES ('pepper', %s)", [pepper[1]])
    with world() as simulator:
        for some in (WORLD["items"][:40], WORLD["items"][40:]):
            simulator.push_raw(some)
            books.sync(simulator)


def test_there_is_a_database_of_every_schema():
    assert sorted(path.stem for path in FOLDER.glob("*.sql")) == RELEASED
    assert RECORDS == 60


def test_an_old_database_becomes_the_one_that_todays_worker_would_have_made(
    empty_database_url, database_url, tmp_path, revision
):
    fresh_folder = tmp_path / "fresh"
    fresh_folder.mkdir()
    with of_then(empty_database_url, tmp_path / "old", revision) as old, Books(database_url, fresh_folder) as fresh:
        load_afresh(fresh, revision)
        assert old.records() == fresh.records() == RECORDS
        finished = old.worker(None, "migrate")
        assert (finished.code, finished.stderr) == (0, "")
        assert old.ask(SELECT_VERSION) == [(migrations.HEAD,)]
        assert old.worker(None, "verify").code == 0
        old.balance()

        assert everything(old) == everything(fresh)

        before = everything(old)
        with world() as simulator:
            simulator.push_raw(WORLD["items"])
            result = old.sync(simulator)
        assert (result.pulled, result.inserted, result.duplicates, result.quarantined) == (RECORDS + 1, 0, RECORDS, 0)
        assert everything(old) == before
        assert old.worker(None, "verify").code == 0


def test_an_old_database_goes_on_with_new_records(empty_database_url, tmp_path, revision):
    with of_then(empty_database_url, tmp_path / "old", revision) as old, world() as simulator:
        simulator.push(Traffic(SEED).generate(3000)[1:3000:50])
        simulator.push_raw(WORLD["items"][:5])
        finished = old.worker(simulator, "sync", "--once", "--json")  # it migrates by itself
        assert (finished.code, finished.json[0]["inserted"], finished.json[0]["duplicates"]) == (0, 60, 5)
        assert old.worker(None, "verify").code == 0
        assert old.worker(None, "rebuild", "--json").code == 0
        old.balance()


# -- killed -----------------------------------------------------------------------------------------------------


NEXT = """
from alembic import op

revision, down_revision = "9999", "{before}"


def upgrade():
    op.execute("ALTER TABLE usage.record ADD COLUMN more text")
    op.execute("ALTER TABLE usage.upstream ADD COLUMN more text")
"""
UPGRADE = """
import sys
from alembic import command
from alembic.config import Config
from worker.db import database, migrations

settings = Config()
settings.set_main_option("script_location", sys.argv[1])
with database.connect(sys.argv[2]).begin() as connection:
    migrations.own_together(connection)
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")
"""


def next_version(folder: Path) -> Path:
    """A copy of the migrations with one more behind them."""
    copy = folder / "migrations"
    shutil.copytree(migrations.migrations_dir(), copy)
    (copy / "versions" / "9999_next.py").write_text(NEXT.format(before=migrations.HEAD))
    return copy


def upgrading(scripts: Path, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", UPGRADE, str(scripts), url])


@pytest.mark.parametrize("table", ["record", "upstream"])
def test_a_migration_that_is_killed_changes_nothing_and_can_be_run_again(empty_database_url, tmp_path, table):
    scripts = next_version(tmp_path)
    with of_then(empty_database_url, tmp_path / "old", migrations.HEAD) as old:
        records = old.ask("SELECT r::text FROM usage.record AS r ORDER BY 1")
        with old.holding(f"LOCK TABLE usage.{table} IN ACCESS SHARE MODE"):
            process = upgrading(scripts, empty_database_url)
            old.wait_until_it_waits()
            process.kill()
            process.wait()
        old.wait_until_it_left()
        assert old.ask(SELECT_VERSION) == [(migrations.HEAD,)]
        assert old.ask("SELECT r::text FROM usage.record AS r ORDER BY 1") == records
        assert upgrading(scripts, empty_database_url).wait() == 0
        assert old.ask(SELECT_VERSION) == [("9999",)]
        assert old.records() == RECORDS


# -- a database of another worker -----------------------------------------------------------------------------------

SET_VERSION = "UPDATE usage.schema_version SET version_num = %s"
OTHERS = {"9999": "it is newer", "0014": "before the first release"}
COMMANDS = {
    "sync --once": 5, "import {file}": 5, "migrate": 5, "migrate --check": 5, "maintain": 5, "resolve": 5,
    "resolve --all": 5, "reprice": 5, "rebuild": 5, "verify": 5, "quarantine retry": 5, "prices sync": 5,
    "prices set model --input 1": 5, "prices drop 1": 5, "channels rename OpenRouter Other": 5,
    "channels link OpenRouter api.openai.com": 5, "keys rename 1 Other": 5, "quarantine drop 1": 5,
    "channels set-rate OpenRouter 2": 5, "doctor": 5,
}  # fmt: skip


def whole(books: Books) -> dict[str, list[tuple[object, ...]]]:
    tables = books.ask(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'usage'::regnamespace AND relkind IN ('r', 'p')"
    )
    return {name: sorted(books.ask(f"SELECT t::text FROM usage.{name} AS t")) for (name,) in tables}


@pytest.mark.parametrize("version", OTHERS)
def test_every_command_stops_at_a_schema_that_it_does_not_know_and_changes_nothing(books, tmp_path, version):
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator)
        books.ask(SET_VERSION, [version])
        before = whole(books)
        file = tmp_path / "more.json"
        file.write_text(json.dumps(WORLD["items"]))
        told = {}
        for words in COMMANDS:
            finished = books.worker(simulator, *words.format(file=file).split())
            assert "Traceback" not in finished.stderr, words
            told[words] = finished.code if OTHERS[version] in finished.stderr + finished.stdout else 0
        assert told == COMMANDS
        assert whole(books) == before


def test_the_service_waits_at_a_newer_schema_keeps_what_it_pulls_and_changes_nothing(books):
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator)
        books.ask(SET_VERSION, ["9999"])
        before = whole(books)
        simulator.push(calls(80)[50:])
        with books.starting(simulator, "run", **QUICK) as process:
            wait_until(lambda: simulator.queued == 0, "the queue is emptied into the journal")
            wait_until(books.journal, "the journal has it")
            os.kill(process.pid, signal.SIGTERM)
            finished = process.wait()
        assert finished.code == 0
        assert "newer" in finished.stderr
        assert whole(books) == before
        books.ask(f"UPDATE usage.schema_version SET version_num = '{migrations.HEAD}'")
        assert books.sync(simulator).inserted == 30
    books.require_exactly(calls(80))
    assert KEY not in finished.stderr
