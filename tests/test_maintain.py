"""Housekeeping: what is dropped is counted for ever and never twice, and nobody waits for it."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

import pytest
from sqlalchemy.engine import make_url
from support import SEED, Books, calls, differing, proxy

from worker.cliproxyapi import payload as decode
from worker.config import Retention
from worker.corrections import maintain, rebuild
from worker.errors import ConfigError, DatabaseError, UsageError
from worker.loading.pass_result import PassResult
from worker.simulator import traffic

OLD = 1500
"""So many calls of a month that every retention has left behind."""

MONTH = Retention(records_days=31)
PARTITIONS = """
SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'usage.record'::regclass ORDER BY 1
"""
DROPPED = "SELECT DISTINCT records_dropped_before, records_complete_from FROM usage.upstream"
STORED = "SELECT count(*) FROM usage.record"


def now():
    return datetime.now(UTC)


def names(*ahead):
    """Partitions of this month and later ones."""
    first = now().replace(day=1)
    found = []
    for _ in range(max(ahead) + 1):
        found.append(f"record_{first:%Y_%m}")
        first = (first + timedelta(days=31)).replace(day=1)
    return [found[n] for n in ahead]


@pytest.fixture
def recent():
    """Calls of the last days."""
    world = traffic.Traffic(SEED, start=now() - timedelta(days=4))
    found = world.generate(600)
    Random(SEED).shuffle(found)
    return tuple(found)


def filled(books, recent):
    with proxy("queue", [*calls(OLD), *recent]) as simulator:
        result = books.sync(simulator)
    assert result.inserted == OLD + len(recent)
    return books


# -- partitions -------------------------------------------------------------------------------------------------


def test_by_default_partitions_are_made_ahead_and_everything_is_kept(books, recent):
    filled(books, recent)
    before = books.dump()
    done = maintain.maintain(books.engine, Retention())
    assert set(names(0, 1, 2)) <= {name for (name,) in books.ask(PARTITIONS)}
    assert (done.dropped, set(done.deleted.values()), set(done.left.values())) == ([], {0}, {0})
    assert maintain.maintain(books.engine, Retention()).made == []
    assert books.dump() == before


def test_a_dry_run_says_what_would_be_and_does_nothing(books, recent):
    filled(books, recent)
    before, there = books.dump(), books.ask(PARTITIONS)
    done = maintain.maintain(books.engine, MONTH, dry_run=True)
    assert (done.dropped, bool(done.made)) == (["2026-08"], True)
    assert (books.dump(), books.ask(PARTITIONS)) == (before, there)


# -- records ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "complete_from"),
    [("UTC", "2026-09-01"), ("Asia/Kolkata", "2026-09-02"), ("America/New_York", "2026-09-01")],
)
def test_records_go_by_whole_months_and_every_sum_stays(database_url, tmp_path, recent, zone, complete_from):
    with Books(database_url, tmp_path, zone) as books:
        filled(books, recent)
        days = books.daily()
        done = maintain.maintain(books.engine, MONTH)
        assert (done.dropped, done.left["months"]) == (["2026-08"], 0)
        assert books.ask(STORED) == [(len(recent),)]
        ((before, day),) = books.ask(DROPPED)
        assert (before, str(day)) == (datetime(2026, 9, 1, tzinfo=UTC), complete_from)
        assert differing(books.daily(), days) == {}
        books_of = books.expected([*calls(OLD), *recent])
        assert differing(books.daily(), books_of) == {}
        assert books.differences() == []
        rebuild.rebuild(books.engine)
        assert differing(books.daily(), books_of) == {}
        with pytest.raises(UsageError, match="are gone"):
            rebuild.rebuild(books.engine, timezone="Europe/Paris")


def test_what_comes_again_after_it_was_dropped_is_not_counted_twice(books, recent):
    with proxy("snapshot", [*calls(OLD), *recent]) as simulator:
        books.sync(simulator)
        days = books.daily()
        maintain.maintain(books.engine, MONTH)
        books.ask("DELETE FROM usage.snapshot_cursor")  # or it would not even look at them
        again = books.sync(simulator)
        assert (again.inserted, again.too_old, again.duplicates) == (0, OLD, len(recent))
        assert again.exit_code == 0
        assert differing(books.daily(), days) == {}
        ((told,),) = books.ask("SELECT too_old FROM usage_api.v1_sync_runs ORDER BY run_id DESC LIMIT 1")
        assert told == OLD
        # Nor does it make the partition anew, pass after pass.
        assert ("record_2026_08",) not in books.ask(PARTITIONS)


def test_a_worker_that_knew_the_month_takes_no_record_of_it_once_it_is_dropped(books, recent):
    filled(books, recent)
    loader = books.loader()
    old = decode.decode_queue(json.dumps([traffic.queue_item(call) for call in calls(OLD + 50)[OLD - 50 :]]).encode())
    loader.load(uuid4().hex, old, PassResult(upstream="default"))
    maintain.maintain(books.engine, MONTH)
    result = PassResult(upstream="default")
    loader.load(uuid4().hex, old, result)
    assert (result.pulled, result.too_old, result.inserted) == (100, 100, 0)
    assert books.differences() == []


def test_a_record_in_quarantine_that_is_too_old_stays_there(books, recent):
    with proxy("queue", recent) as simulator:
        item = json.loads(json.dumps(traffic.queue_item(calls(1)[0])))
        simulator.push_raw([{**item, "timestamp": "yesterday"}])
        assert books.sync(simulator).quarantined == 1
    filled(books, [])
    maintain.maintain(books.engine, MONTH)
    books.ask("UPDATE usage.quarantine SET payload = replace(payload, 'yesterday', '2026-08-21T10:00:00Z')")
    finished = books.worker(None, "quarantine", "retry", "--json")
    assert (finished.code, finished.json[0]["too_old"], finished.json[0]["inserted"]) == (6, 1, 0), finished.stderr
    assert books.ask("SELECT count(*) FROM usage.quarantine") == [(1,)]


def test_a_file_of_old_records_is_refused_in_words(books, recent, tmp_path):
    filled(books, recent)
    maintain.maintain(books.engine, MONTH)
    file = tmp_path / "old.jsonl"
    file.write_text("\n".join(json.dumps(traffic.queue_item(call)) for call in calls(20)))
    finished = books.worker(None, "import", str(file))
    assert finished.code == 0, finished.stderr
    assert "20 records were not taken" in finished.stdout


def test_history_outlives_its_last_record_whatever_the_retention_is_changed_to(books):
    """Lowered, raised, switched off, with an empty table of records: the sums are what they were."""
    with proxy("snapshot", calls(OLD)) as simulator:
        books.sync(simulator)
        wanted = books.expected(calls(OLD), "snapshot")
        for days in (100_00, 31, 5000, 0, 31):
            maintain.maintain(books.engine, Retention(records_days=days))
            books.sync(simulator)
            assert differing(books.daily(), wanted) == {}
            assert books.differences() == []
    assert books.ask(STORED) == [(0,)]
    rebuilt = rebuild.rebuild(books.engine)
    assert (rebuilt.days, bool(rebuilt.skipped)) == ([], True)
    assert differing(books.daily(), wanted) == {}
    said = books.worker(None, "rebuild")
    assert "left alone" in said.stdout
    assert "from 2026-09-01 on" in books.worker(None, "verify").stdout


def test_a_month_that_is_in_use_is_left_to_the_next_run(books, recent):
    filled(books, recent)
    with books.holding("LOCK TABLE usage.record IN ROW EXCLUSIVE MODE"):
        done = maintain.maintain(books.engine, MONTH)
        assert (done.dropped, done.left["months"]) == ([], 1)
    assert books.ask(STORED) == [(OLD + len(recent),)]
    assert maintain.maintain(books.engine, MONTH).dropped == ["2026-08"]


def test_a_comparison_under_way_sees_no_month_go(books, recent):
    filled(books, recent)
    with books.holding("LOCK TABLE ONLY usage.record IN ACCESS SHARE MODE"):  # as `verify` and `rebuild` do
        assert maintain.maintain(books.engine, MONTH).dropped == []


def test_passes_that_load_while_months_go_count_each_record_once(books, recent):
    """Whatever comes before the drop stays counted, whatever comes after it is too old; nothing is both."""
    items = [traffic.queue_item(call) for call in [*calls(OLD), *recent]]
    books.loader()  # the upstream's row
    batches = [json.dumps(items[n : n + 25]).encode() for n in range(0, len(items), 25)]
    begun = threading.Event()

    def load(part):
        loader, result = books.loader(), PassResult(upstream="default")
        for n, batch in enumerate(batches[part::3]):
            loader.load(uuid4().hex, decode.decode_queue(batch), result)
            if n == 3:
                begun.set()
        return result

    with ThreadPoolExecutor(3) as threads:
        loading = [threads.submit(load, part) for part in range(3)]
        assert begun.wait(30)
        dropped = []
        while not dropped and not all(one.done() for one in loading):
            dropped = maintain.maintain(books.engine, MONTH).dropped
        results = [one.result(timeout=60) for one in loading]
    inserted, too_old = sum(r.inserted for r in results), sum(r.too_old for r in results)
    assert inserted + too_old == len(items)
    assert books.ask("SELECT sum(requests)::int FROM usage_api.v1_daily") == [(inserted,)]
    assert books.differences() == []


# -- rows -------------------------------------------------------------------------------------------------------

AGED = """
UPDATE usage.sync_run SET started_at = started_at - interval '40 days', finished_at = finished_at - interval '40 days'
"""


def test_passes_and_quarantine_go_by_age_and_the_last_pass_stays(books, recent):
    with proxy("queue", recent) as simulator:
        simulator.push_raw(["not even an object"])
        for _ in range(4):
            books.sync(simulator)
    books.ask(AGED)
    books.ask("UPDATE usage.quarantine SET first_seen_at = first_seen_at - interval '40 days'")
    fresh, stored = books.ask("SELECT * FROM usage_api.v1_freshness"), books.ask("SELECT * FROM usage_api.v1_records")
    done = maintain.maintain(books.engine, Retention(quarantine_days=39, runs_days=39))
    assert done.deleted == {"quarantine": 1, "runs": 3, "empty_runs": 0, "batches": 0}
    assert set(done.left.values()) == {0}
    assert books.ask("SELECT * FROM usage_api.v1_freshness") == fresh
    assert books.ask("SELECT * FROM usage_api.v1_records") == stored
    later = maintain.maintain(books.engine, Retention(quarantine_days=41, runs_days=41))
    assert set(later.deleted.values()) == {0}


def test_batches_of_dropped_months_are_forgotten_and_no_record_with_them(books, recent):
    filled(books, recent)
    books.ask(
        "UPDATE usage.batch SET loaded_at = '2026-08-25' WHERE batch_id = (SELECT min(batch_id) FROM usage.batch)"
    )
    assert maintain.maintain(books.engine, Retention()).deleted["batches"] == 0
    assert maintain.maintain(books.engine, MONTH).deleted["batches"] == 1
    assert books.ask("SELECT count(*) FROM usage_api.v1_records") == [(len(recent),)]


def test_a_run_does_so_much_and_says_what_is_left(books, recent, monkeypatch):
    monkeypatch.setattr(maintain, "STEP_ROWS", 2)
    monkeypatch.setattr(maintain, "STEPS", 2)
    with proxy("queue", recent[:10]) as simulator:
        for _ in range(8):
            books.sync(simulator)
    books.ask(AGED)
    books.ask("UPDATE usage.sync_run SET pulled = 1")  # those that found nothing go sooner
    runs = Retention(runs_days=39)
    assert maintain.maintain(books.engine, runs, dry_run=True).deleted["runs"] == 7
    first = maintain.maintain(books.engine, runs)
    assert (first.deleted["runs"], first.left["runs"]) == (4, 3)
    second = maintain.maintain(books.engine, runs)
    assert (second.deleted["runs"], second.left["runs"]) == (3, 0)


def test_passes_that_found_nothing_go_after_a_day_and_the_last_of_each_kind_stays(books, recent):
    with proxy("queue", recent[:10]) as simulator:
        for _ in range(5):
            books.sync(simulator)
        for _ in range(2):
            books.sync(simulator, url="http://127.0.0.1:1")
    books.ask("UPDATE usage.sync_run SET started_at = started_at - interval '2 days', "
              "finished_at = finished_at - interval '2 days'")  # fmt: skip
    fresh = books.ask("SELECT * FROM usage_api.v1_freshness")
    assert maintain.maintain(books.engine, Retention()).deleted["empty_runs"] == 3
    assert books.ask("SELECT pulled, error IS NULL FROM usage.sync_run ORDER BY run_id") == [
        (10, True), (0, True), (0, False), (0, False),
    ]  # fmt: skip
    assert books.ask("SELECT * FROM usage_api.v1_freshness") == fresh


# -- the command ------------------------------------------------------------------------------------------------


def test_the_command_does_it_and_says_it(books, recent):
    filled(books, recent)
    environment = {"WORKER__RETENTION__RECORDS_DAYS": "31", "WORKER__RETENTION__RUNS_DAYS": "1"}
    planned = books.worker(None, "maintain", "--dry-run", **environment)
    assert (planned.code, "months would be dropped: 2026-08" in planned.stdout) == (0, True), planned.stderr
    done = books.worker(None, "maintain", "--json", **environment)
    assert (done.code, done.json["dropped"], done.json["left"]["months"]) == (0, ["2026-08"], 0)
    assert "months dropped: none" in books.worker(None, "maintain", **environment).stdout
    verified = books.worker(None, "verify")
    assert (verified.code, "from 2026-09-01 on" in verified.stdout) == (0, True)


def test_it_makes_the_schema_where_there_is_none_and_a_dry_run_does_not(empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books:
        assert books.worker(None, "maintain", "--dry-run").code == DatabaseError.exit_code
        assert books.worker(None, "maintain").code == 0
        assert set(names(0, 1, 2)) <= {name for (name,) in books.ask(PARTITIONS)}


def test_less_than_a_month_is_refused(books):
    finished = books.worker(None, "maintain", WORKER__RETENTION__RECORDS_DAYS="30")
    assert finished.code == ConfigError.exit_code
    assert "WORKER__RETENTION__RECORDS_DAYS" in finished.stderr


def test_a_writer_may_do_it(books, recent, tmp_path):
    if not books.ask("SELECT 1 FROM pg_roles WHERE rolname = 'usage_writer'"):
        pytest.skip("this account may not make roles")
    filled(books, recent)
    name = f"writer_{uuid4().hex[:8]}"
    books.ask(f"CREATE ROLE {name} LOGIN PASSWORD 'EXAMPLE' IN ROLE usage_writer")
    try:
        url = make_url(books.url).set(username=name, password="EXAMPLE").render_as_string(hide_password=False)
        with Books(url, tmp_path / "writer") as writing:
            assert maintain.maintain(writing.engine, MONTH).dropped == ["2026-08"]
    finally:
        books.ask(f"DROP ROLE {name}")
