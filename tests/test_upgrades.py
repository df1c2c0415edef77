"""From every earlier schema, with what the worker of its time wrote, to today's: nothing is lost, changed or doubled.

How tests/upgrades/ was made is in make.py there.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config as AlembicConfig
from support import COSTS, KEY, QUICK, SEED, Books, calls, proxy, wait_until

from worker.db import database
from worker.simulator.proxy import Simulator
from worker.simulator.traffic import Traffic

FOLDER = Path(__file__).parent / "upgrades"
WORLD = json.loads((FOLDER / "calls.json").read_text(encoding="utf-8"))
RECORDS = len(WORLD["items"]) - 1
TOGETHER = {"0005", "0006", "0007", "0009", "0010", "0011"}
"""These came with the ones after them: no worker ever wrote them."""

EARLIER = [f"{n:04d}" for n in range(1, int(database.HEAD)) if f"{n:04d}" not in TOGETHER]
OF_THEIR_TIME = {
    "v1_records": {
        "synced_at",
        "price_id",
        "dimension_id",
        "origin_id",
        "service_tier",
        "response_service_tier",
    },
    "v1_channels": {"first_seen_at", "last_seen_at"},
}
"""What two databases with the same records need not agree on."""

PRICED = {*COSTS, "unpriced_requests"}
SELECT_COLUMNS = """
SELECT column_name::text FROM information_schema.columns
WHERE table_schema = 'usage_api' AND table_name = %s ORDER BY ordinal_position
"""
SELECT_TIERS = """
SELECT record_id, coalesce(nullif(response_service_tier, ''), service_tier) FROM usage_api.v1_records ORDER BY 1
"""
SELECT_VERSION = "SELECT version_num FROM usage.schema_version"


def dump(revision: str) -> str:
    return (FOLDER / f"{revision}.sql").read_text(encoding="utf-8")


def migrate_to(books: Books, revision: str) -> None:
    settings = AlembicConfig()
    settings.set_main_option("script_location", str(database.migrations_dir()))
    with books.engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)


@pytest.fixture(params=EARLIER)
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


def shown(books: Books, view: str, without: set[str]) -> list[tuple[object, ...]]:
    columns = [name for (name,) in books.ask(SELECT_COLUMNS, [view]) if name not in without]
    return sorted(books.ask(f"SELECT {', '.join(columns)} FROM usage_api.{view}"), key=repr)


def everything(books: Books, without: set[str] = frozenset()) -> dict[str, list[tuple[object, ...]]]:
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
    return {view: shown(books, view, {*OF_THEIR_TIME.get(view, ()), *without}) for view in views}


def load_afresh(books: Books, revision: str) -> None:
    """The same calls by today's worker, under the same pepper."""
    pepper = re.search(r"\('pepper', '(\w+:\w+)'\)", dump(revision))
    assert pepper
    books.ask("INSERT INTO usage.setting (key, value) VALUES ('pepper', %s)", [pepper[1]])
    with world() as simulator:
        for some in (WORLD["items"][:40], WORLD["items"][40:]):
            simulator.push_raw(some)
            books.sync(simulator)


def test_there_is_a_database_of_every_earlier_schema():
    assert sorted(path.stem for path in FOLDER.glob("*.sql")) == EARLIER
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
        assert old.ask(SELECT_VERSION) == [(database.HEAD,)]
        assert old.worker(None, "verify").code == 0
        old.balance()

        if revision == "0001":  # there were no prices: nothing is charged after the event
            assert old.ask("SELECT DISTINCT cost_usd, actual_cost_usd, price_id FROM usage_api.v1_records") == [
                (None,) * 3
            ]
            assert old.ask("SELECT 1 FROM usage_api.v1_daily WHERE unpriced_requests <> requests") == []
            assert everything(old, PRICED) == everything(fresh, PRICED)
            assert old.worker(None, "reprice").code == 0
        assert everything(old) == everything(fresh)
        assert old.ask(SELECT_TIERS) == fresh.ask(SELECT_TIERS)  # there was one column for both tiers

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


@pytest.mark.parametrize(
    ("revision", "table"), [("0001", "record"), ("0001", "upstream"), ("0002", "upstream")], ids="-".join
)
def test_a_migration_that_is_killed_changes_nothing_and_can_be_run_again(empty_database_url, tmp_path, revision, table):
    with of_then(empty_database_url, tmp_path / "old", revision) as old:
        records = old.ask("SELECT r::text FROM usage.record AS r ORDER BY 1")
        lock = f"LOCK TABLE usage.{table} IN ACCESS SHARE MODE"
        with old.holding(lock), old.starting(None, "migrate") as process:
            old.wait_until_it_waits()
            process.kill()
        old.wait_until_it_left()
        assert old.ask(SELECT_VERSION) == [(revision,)]
        assert old.ask("SELECT r::text FROM usage.record AS r ORDER BY 1") == records
        assert old.worker(None, "migrate").code == 0
        assert old.worker(None, "migrate", "--check").code == 0
        assert old.records() == RECORDS
        assert old.worker(None, "verify").code == 0


# -- a database that is newer than the worker -------------------------------------------------------------------

NEWER = "UPDATE usage.schema_version SET version_num = '9999'"
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


def test_every_command_stops_at_a_newer_schema_and_changes_nothing(books, tmp_path):
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator)
        books.ask(NEWER)
        before = whole(books)
        file = tmp_path / "more.json"
        file.write_text(json.dumps(WORLD["items"]))
        told = {}
        for words in COMMANDS:
            finished = books.worker(simulator, *words.format(file=file).split())
            assert "Traceback" not in finished.stderr, words
            told[words] = finished.code if "newer" in finished.stderr + finished.stdout else 0
        assert told == COMMANDS
        assert whole(books) == before


def test_the_service_waits_at_a_newer_schema_keeps_what_it_pulls_and_changes_nothing(books):
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator)
        books.ask(NEWER)
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
        books.ask(f"UPDATE usage.schema_version SET version_num = '{database.HEAD}'")
        assert books.sync(simulator).inserted == 30
    books.require_exactly(calls(80))
    assert KEY not in finished.stderr
