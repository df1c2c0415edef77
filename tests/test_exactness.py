"""Nothing lost, nothing twice: kill -9, a database that goes away, a full disk, any split, any order, two at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import KEY, PRICES, Books, calls, differing, proxy, wait_until

from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.client import ProxyClient
from worker.config import Journal, Upstream
from worker.db import database, lock
from worker.loading.load import Loader
from worker.loading.pass_result import PassResult
from worker.simulator import traffic
from worker.simulator.proxy import Fault
from worker.sync import run as sync
from worker.sync.credentials import refresh

SYNC = ("sync", "--once", "--json")
DEAD = "postgresql+psycopg://nobody@/nowhere?host=/nonexistent"
ENTRY_OF_RECORD = """
SELECT b.batch_id, array_agg(r.request_id ORDER BY r.request_id)
FROM usage.record AS r JOIN usage.batch AS b USING (batch_id) GROUP BY 1 ORDER BY 1
"""


def require_all_is_well(books, simulator, usages):
    """What must hold once the next pass has gone through."""
    finished = books.worker(simulator, *SYNC)
    assert (finished.code, finished.stderr.count("Traceback")) == (0, 0), finished.stderr
    books.require_exactly(usages)
    assert (books.journal(), simulator.lost, simulator.queued) == ([], [], 0)
    verified = books.worker(None, "verify")
    assert (verified.code, verified.stderr) == (0, "")
    return finished.json[0]


# -- kill -9 ----------------------------------------------------------------------------------------------------

# What holds the worker up, by how far it has come: each is asked for in the batch's one transaction.
HELD_UP = {
    "before its batch is entered": "LOCK TABLE usage.batch IN EXCLUSIVE MODE",
    "before its records are there": "LOCK TABLE usage.record IN EXCLUSIVE MODE",
    "between records and hours": "LOCK TABLE usage.hourly IN EXCLUSIVE MODE",
    "between hours and days": "LOCK TABLE usage.daily IN EXCLUSIVE MODE",
    "just before its commit": "SELECT 1 FROM usage.upstream FOR NO KEY UPDATE",
}


def pops(simulator):
    return [path for _, path, _ in simulator.requests if "/usage-queue" in path]


def learn_the_directory(books):
    """A pass without calls: the next one has nothing to note in the upstream's row before it pops."""
    with proxy("queue") as simulator:
        books.sync(simulator)


@pytest.mark.parametrize("moment", HELD_UP)
def test_a_worker_killed_between_pop_and_commit_loses_nothing_and_doubles_nothing(books, moment):
    some = calls(1200)
    learn_the_directory(books)  # and enter the upstream, whose row one of the locks is on
    with proxy("queue", some) as simulator:
        with books.holding("SELECT usage.ensure_record_partition('2026-08-01')", "COMMIT", HELD_UP[moment]):
            with books.starting(simulator, *SYNC) as process:
                books.wait_until_it_waits()
                wait_until(
                    lambda: len(books.journal()) == 3 and len(pops(simulator)) > 3 and not books.is_popping(),
                    "all of the queue is fetched meanwhile",
                )
                assert simulator.handed_out == list(some)
                process.kill()
            assert process.code == -9
        books.wait_until_it_left()
        assert books.ask("SELECT count(*) FROM usage_api.v1_records") == [(0,)]
        assert len(books.journal()) == 3
        result = require_all_is_well(books, simulator, some)
        assert (result["inserted"], result["replayed"]) == (1200, 0)
    runs = books.ask("SELECT finished_at IS NOT NULL FROM usage_api.v1_sync_runs ORDER BY run_id")
    assert runs == [(True,), (False,), (True,)]


WAITING_FOR_42 = """
CREATE FUNCTION public.wait_for_42() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
CREATE TRIGGER wait_for_42 BEFORE UPDATE ON usage.upstream FOR EACH ROW
WHEN (NEW.newest_record_at IS DISTINCT FROM OLD.newest_record_at) EXECUTE FUNCTION public.wait_for_42();
"""


def test_a_worker_killed_at_the_commit_of_its_second_batch_keeps_the_first(books):
    some = sorted(calls(1200), key=lambda call: call.timestamp_ns)
    learn_the_directory(books)
    # Only a batch with a newer record than this moves the newest one on, so that only the second one waits.
    newest = datetime.fromtimestamp(some[499].timestamp_ns // 10**9 + 1, UTC)
    assert some[999].timestamp_ns // 10**9 > newest.timestamp()
    books.ask("UPDATE usage.upstream SET newest_record_at = %s", [newest])
    books.ask(WAITING_FOR_42)
    with proxy("queue", some) as simulator:
        with (
            books.holding("SELECT pg_advisory_xact_lock(42)"),
            books.starting(simulator, *SYNC) as process,
        ):
            books.wait_until_it_waits()
            wait_until(
                lambda: len(books.journal()) == 2 and len(pops(simulator)) > 3 and not books.is_popping(),
                "the third answer is fetched meanwhile",
            )
            process.kill()
        books.wait_until_it_left()
        assert books.ask("SELECT sum(requests) FROM usage_api.v1_daily") == [(500,)]
        books.require_exactly(some[:500])
        assert require_all_is_well(books, simulator, some)["inserted"] == 700


def test_a_worker_killed_in_a_snapshot_starts_over(books):
    some = calls(400)
    with proxy("snapshot", some) as simulator:
        with (
            books.holding("LOCK TABLE usage.daily IN EXCLUSIVE MODE"),
            books.starting(simulator, *SYNC) as process,
        ):
            books.wait_until_it_waits()
            process.kill()
        books.wait_until_it_left()
        assert books.worker(simulator, *SYNC).code == 0
        books.require_exactly(some, "snapshot")


def test_a_worker_killed_after_its_commit_finds_its_batch_loaded(books, tmp_path):
    some = calls(700)
    with proxy("queue", some) as simulator:
        with books.starting(simulator, *SYNC) as process:
            with books.holding("LOCK TABLE usage.daily IN EXCLUSIVE MODE"):
                books.wait_until_it_waits()
                entry = books.journal()[0]
                kept = shutil.copy(entry, tmp_path / "kept")
            assert process.wait().code == 0
        assert books.journal() == []
        before = books.dump()
        shutil.copy(kept, entry)  # as if the worker had not come to drop it
        result = require_all_is_well(books, simulator, some)
        assert (result["replayed"], result["pulled"], result["inserted"], result["duplicates"]) == (1, 0, 0, 0)
        assert books.dump() == before


@pytest.mark.parametrize("ending", ["", ".part"], ids=["after its rename", "before its rename"])
def test_an_entry_that_was_cut_short_gives_what_is_whole_in_it(books, ending):
    with proxy("queue", calls(100)) as simulator:
        books.worker(simulator, *SYNC, WORKER_DATABASE_URL=DEAD)
        (entry,) = books.journal()
        entry.write_bytes(entry.read_bytes()[:50_000])
        entry.rename(f"{entry}{ending}")
        simulator.push(calls(200)[100:])
        finished = books.worker(simulator, *SYNC)
        assert (finished.code, finished.json[0]["quarantined"], books.journal()) == (6, 1, [])
        whole = finished.json[0]["inserted"] - 100
        assert 20 < whole < 100
        books.require_exactly([*calls(whole), *calls(200)[100:]])


def test_an_entry_that_is_not_what_was_written_stays_and_stands_in_no_ones_way(books):
    with proxy("queue", calls(100)) as simulator:
        books.worker(simulator, *SYNC, WORKER_DATABASE_URL=DEAD)
        (entry,) = books.journal()
        spoilt = entry.read_bytes().replace(b"gpt-5.4", b"gpt-4.5", 1)
        entry.write_bytes(spoilt)
        simulator.push(calls(200)[100:])
        finished = books.worker(simulator, *SYNC)
        assert (finished.code, finished.json[0]["inserted"], books.journal()) == (0, 100, [])
        books.require_exactly(calls(200)[100:])
        (damaged,) = entry.parent.glob("*.damaged")
        assert damaged.read_bytes() == spoilt
        assert str(damaged) in finished.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_single_pass_that_is_told_to_stop_keeps_the_answer_it_waits_for(books, number):
    some = calls(1200)
    with proxy("queue", some) as simulator:
        simulator.fail_next("usage-queue", Fault(delay_s=1.0))  # popped, and on its way
        with books.starting(simulator, *SYNC) as process:
            wait_until(lambda: simulator.queued == 700, "the first answer is on its way")
            os.kill(process.pid, number)
            finished = process.wait()
        assert (finished.code, simulator.queued) == (0, 700), finished.stderr
        assert finished.json[0]["inserted"] + 500 * len(books.journal()) == 500
        require_all_is_well(books, simulator, some)


REFUSE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NEW.request_id = ANY('{%s}') THEN
        RAISE EXCEPTION 'value out of range' USING ERRCODE = '22003';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON usage.record FOR EACH ROW EXECUTE FUNCTION public.refuse();
"""


def test_records_that_the_database_refuses_are_set_aside_and_their_siblings_load(books):
    some = calls(600)
    refused = [some[17], some[18], some[555]]
    others = [call for call in some if call not in refused]
    books.ask(REFUSE % ",".join(call.request_id for call in refused))
    with proxy("queue", some) as simulator:
        simulator.push_raw(["not even an object"])
        finished = books.worker(simulator, *SYNC)
        assert (finished.code, finished.json[0]["inserted"], finished.json[0]["quarantined"]) == (6, 597, 4)
        assert (books.journal(), "Traceback" in finished.stderr) == ([], False)
        books.require_exactly(others)
    reasons = [reason for (reason,) in books.ask("SELECT reason FROM usage.quarantine WHERE retryable")]
    assert len(reasons) == 3
    assert all("value out of range" in reason for reason in reasons)
    text = str(books.ask("SELECT payload FROM usage.quarantine"))
    assert not any(secret in text for secret in traffic.Traffic(7).secrets())
    still = books.worker(None, "quarantine", "retry", "--json")
    assert (still.code, still.json[0]["quarantined"]) == (6, 4)
    books.ask("DROP TRIGGER refuse ON usage.record")
    again = books.worker(None, "quarantine", "retry", "--json")
    assert (again.json[0]["inserted"], again.json[0]["quarantined"]) == (3, 1)
    books.require_exactly(some)


def test_a_directory_that_the_database_refuses_keeps_no_usage_away(books):
    books.ask(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'invalid byte' USING ERRCODE = '22021'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON usage.credential FOR EACH ROW EXECUTE FUNCTION public.refuse();"
    )
    with proxy("queue", calls(100)) as simulator:
        finished = books.worker(simulator, *SYNC)
        assert (finished.code, finished.json[0]["inserted"], finished.json[0]["unknown_channel"]) == (0, 100, 100)
        assert "directory.kept" in finished.stderr
        books.ask("DROP TRIGGER refuse ON usage.credential")
        require_all_is_well(books, simulator, calls(100))


def test_records_under_a_name_that_postgresql_refuses_are_set_aside_and_no_other(books):
    some = calls(300)
    refused = [call for call in some if call.model == some[0].model]
    books.ask(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.model = '{some[0].model}' THEN RAISE EXCEPTION 'no such name' USING ERRCODE = '22021'; END IF; "
        "RETURN NEW; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON usage.dimension FOR EACH ROW EXECUTE FUNCTION public.refuse();"
    )
    with proxy("queue", some) as simulator:
        finished = books.worker(simulator, *SYNC)
    assert (finished.code, finished.json[0]["quarantined"]) == (6, len(refused))
    books.require_exactly([call for call in some if call.model != some[0].model])
    assert books.ask("SELECT count(*) FROM usage.record WHERE dimension_id = 0 OR origin_id = 0") == [(0,)]


def test_a_refused_batch_that_is_met_again_is_not_loaded_twice(books, tmp_path):
    some = calls(200)
    books.ask(REFUSE % some[42].request_id)
    with proxy("queue", some) as simulator:
        books.worker(simulator, *SYNC, WORKER_DATABASE_URL=DEAD)
        (entry,) = books.journal()
        kept = shutil.copy(entry, tmp_path / "kept")
        assert books.worker(simulator, *SYNC).json[0]["inserted"] == 199
        before = books.dump()
        shutil.copy(kept, entry)
        result = books.worker(simulator, *SYNC).json[0]
        assert (result["inserted"], result["quarantined"]) == (0, 0)
        assert books.dump() == before


# -- a database that goes away, a disk that is full -------------------------------------------------------------


def test_while_the_database_is_away_the_queue_goes_to_disk_and_is_loaded_in_order_later(books):
    some = calls(1200)
    with proxy("queue", some) as simulator:
        finished = books.worker(simulator, *SYNC, WORKER_DATABASE_URL=DEAD)
        assert finished.code == 5
        (result,) = finished.json
        assert (result["journal_entries"], result["inserted"], simulator.queued) == (3, 0, 0)
        assert "PostgreSQL" in result["error"]
        assert simulator.handed_out == list(some)
        assert {entry.stat().st_mode & 0o777 for entry in books.journal()} == {0o600}
        simulator.push(calls(1300)[1200:])
        assert require_all_is_well(books, simulator, calls(1300))["inserted"] == 1300
    loaded = [ids for _, ids in books.ask(ENTRY_OF_RECORD)]
    kept = [some[:500], some[500:1000], some[1000:], calls(1300)[1200:]]
    assert loaded == [sorted(call.request_id for call in part) for part in kept]


def test_a_database_that_goes_away_within_a_pass_costs_nothing(books):
    some = calls(1200)
    with proxy("queue", some) as simulator, books.starting(simulator, *SYNC) as process:
        with books.holding("LOCK TABLE usage.daily IN EXCLUSIVE MODE"):
            for pid in books.wait_until_it_waits():
                books.ask("SELECT pg_terminate_backend(%s)", [pid])
            finished = process.wait()
        assert finished.code == 5
        assert (len(books.journal()), simulator.queued) == (3, 0)
        assert books.ask("SELECT count(*) FROM usage_api.v1_records") == [(0,)]
        require_all_is_well(books, simulator, some)


def test_a_snapshot_waits_for_the_database_and_nothing_is_kept(books):
    with proxy("snapshot", calls(100)) as simulator:
        assert books.worker(simulator, *SYNC, WORKER_DATABASE_URL=DEAD).code == 5
        assert books.journal() == []
        assert books.worker(simulator, *SYNC).code == 0
        books.require_exactly(calls(100), "snapshot")


def test_the_journal_is_loaded_even_if_the_proxy_does_not_let_us_in(books):
    with proxy("queue", calls(100)) as simulator:
        books.sync(simulator)
        simulator.push(calls(300)[100:])
        assert books.worker(simulator, *SYNC, WORKER_DATABASE_URL=DEAD).code == 5
        assert books.worker(simulator, *SYNC, WORKER_UPSTREAM_KEY="EXAMPLE-wrong-key").code == 4
        assert (books.journal(), simulator.auth_failures) == ([], 1)
        books.require_exactly(calls(300))


def test_a_full_journal_stops_the_pops_and_says_so(books):
    some = calls(3000)
    full = Journal(max_bytes=1 << 20)
    with proxy("queue", some) as simulator:
        one = Upstream(url=simulator.url, key=KEY, queue_count=500)
        config, away = books.config(one, journal=full), database.connect(DEAD)
        result = sync.sync_once(config, away, one)
        away.dispose()
        entries = books.journal()
        assert result.exit_code == 5
        assert "is full" in result.error
        assert sum(entry.stat().st_size for entry in entries) >= full.max_bytes
        assert sum(entry.stat().st_size for entry in entries[:-1]) < full.max_bytes
        assert len(simulator.handed_out) == 500 * len(entries) < 3000
        assert simulator.queued == 3000 - 500 * len(entries)
        require_all_is_well(books, simulator, some)


def test_where_the_disk_has_no_room_nothing_is_asked_for(books, tmp_path):
    some = calls(800)
    with proxy("queue", some) as simulator:
        books.sync(simulator)  # makes the folder
        simulator.push(calls(1600)[800:])
        folder = tmp_path / "journal" / "default"
        shutil.rmtree(folder)
        folder.symlink_to("/proc/self/fdinfo")  # a folder in which nobody, not even root, may make a file
        finished = books.worker(simulator, *SYNC)
        assert finished.code == 1
        assert "no room on the disk" in finished.json[0]["error"]
        assert simulator.queued == 800
        folder.unlink()
        require_all_is_well(books, simulator, calls(1600))


# -- two at once ------------------------------------------------------------------------------------------------


def test_two_workers_that_load_the_same_and_more_lose_nothing_and_double_nothing(books):
    some = calls(2000)
    parts = [some[begin : begin + 400] for begin in range(0, 1800, 200)]  # each shares half with the next
    payloads = [json.dumps([traffic.queue_item(call) for call in part]).encode() for part in parts]
    with proxy() as simulator, ProxyClient(Upstream(url=simulator.url, key=KEY)) as source:
        refresh(books.loader(), source)
    together = Barrier(2)

    def load(order):
        engine = database.connect(books.url)
        loader = Loader(engine, "default", pepper="", timezone="UTC", prices=PRICES)
        result = PassResult(upstream="default")
        together.wait(timeout=30)
        for number in order:
            loader.load(f"{order[0]}-{number}", decode.decode_queue(payloads[number]), result)
        engine.dispose()
        return result

    numbers = list(range(len(payloads)))
    with ThreadPoolExecutor(2) as pool:
        results = [each.result() for each in [pool.submit(load, numbers), pool.submit(load, numbers[::-1])]]
    assert sum(result.inserted for result in results) == len(some)
    assert sum(result.pulled for result in results) == 2 * 400 * len(parts)
    books.require_exactly(some)
    assert books.ask("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


def test_the_same_batch_in_two_workers_at_once_is_loaded_by_one_of_them(books):
    payload = json.dumps([traffic.queue_item(call) for call in calls(500)]).encode()
    together = Barrier(2)

    def load():
        engine = database.connect(books.url)
        loader = Loader(engine, "default", pepper="", timezone="UTC", prices=PRICES)
        result = PassResult(upstream="default")
        together.wait(timeout=30)
        loader.load("the same", decode.decode_queue(payload), result)
        engine.dispose()
        return result.inserted, result.replayed

    with ThreadPoolExecutor(2) as pool:
        assert sorted(each.result() for each in [pool.submit(load), pool.submit(load)]) == [(0, 1), (500, 0)]
    books.balance()


def test_a_second_worker_stands_by_and_leaves_the_queue_alone(books):
    with proxy("queue", calls(100)) as simulator:
        holder = lock.Lock(books.engine, lock.consumer("default"))
        assert holder.acquire()
        try:
            finished = books.worker(simulator, *SYNC)
            assert finished.code == 75
            assert "another worker" in finished.json[0]["error"]
            assert simulator.queued == 100
            other = books.worker(simulator, *SYNC, WORKER_UPSTREAM_NAME="other")
            assert (other.code, simulator.queued) == (0, 0)
        finally:
            holder.release()
        assert books.worker(simulator, *SYNC).code == 0


# -- any split, any order, any repetition -----------------------------------------------------------------------

POOL = calls(60)
BAD = (
    {"timestamp": "yesterday", "api_key": "sk-client-EXAMPLE-bad-0001", "model": "gpt-5.4"},
    {"model": "gpt-5.4", "tokens": {"input_tokens": 5}},
    {"timestamp": "2026-08-20T00:00:00Z", "tokens": {"input_tokens": -5}},
    {"timestamp": "2026-08-20T00:00:00Z", "tokens": "many"},
    17,
    None,
    "text",
)
WIPE = """
TRUNCATE usage.record, usage.hourly, usage.daily, usage.daily_channel, usage.daily_key, usage.hourly_key, usage.batch,
         usage.quarantine
"""
RECORDS = "SELECT to_jsonb(v) - 'synced_at' FROM usage_api.v1_records AS v ORDER BY v.record_id"
SETS = (
    RECORDS,
    "SELECT v::text FROM usage_api.v1_daily AS v ORDER BY 1",
    "SELECT v::text FROM usage_api.v1_hourly AS v ORDER BY 1",
    "SELECT digest, reason, payload, retryable FROM usage.quarantine ORDER BY digest",
)

some_calls = st.lists(st.integers(0, len(POOL) - 1), unique=True, max_size=len(POOL))
some_bad = st.lists(st.integers(0, len(BAD) - 1), max_size=3)
offsets = st.sampled_from(["Z", "+08:00", "-03:30"])
queue_payloads = st.tuples(st.just("queue"), some_calls, offsets, some_bad)
snapshot_payloads = st.tuples(st.just("snapshot"), some_calls, offsets, st.just([]))
# the same payloads, some of them again, in any order
deliveries = st.lists(queue_payloads | snapshot_payloads, min_size=1, max_size=5).flatmap(
    lambda payloads: st.tuples(
        st.just(payloads), st.lists(st.integers(0, len(payloads) - 1), max_size=3), st.randoms(use_true_random=False)
    )
)


def rendered(payload):
    kind, numbers, offset, bad = payload
    usages = [POOL[number] for number in numbers]
    if kind == "snapshot":
        return list(decode.decode_snapshot(json.dumps(traffic.snapshot(usages, "string", offset)).encode(), chunk=7))
    items = [traffic.queue_item(call, "6.10.8", offset) for call in usages]
    for place, number in enumerate(bad):
        items.insert(3 * place, BAD[number])
    return [decode.decode_queue(json.dumps(items).encode())]


def loaded(books, payloads):
    """Load the payloads into emptied books; return what stands there then, and what the passes said."""
    books.ask(WIPE)
    loader, result = books.loader(), PassResult(upstream="default")
    for n, payload in enumerate(payloads):
        for part, decoded in enumerate(rendered(payload)):
            loader.load(f"{n}-{part}", decoded, result)
    return [books.ask(statement) for statement in SETS], result


def once(payloads):
    """The same calls, each only in the payload in which it came first; one payload for each kind."""
    first = {}
    for kind, numbers, _, _ in payloads:
        for number in numbers:
            first.setdefault(number, kind)
    bad = sorted({number for payload in payloads for number in payload[3]})
    kinds = {kind: [number for number, its in first.items() if its == kind] for kind in ("queue", "snapshot")}
    return kinds, [("queue", kinds["queue"], "Z", bad), ("snapshot", kinds["snapshot"], "Z", [])]


def test_any_split_order_and_repetition_of_payloads_comes_to_the_same_books(database_url, tmp_path):
    with Books(database_url, tmp_path, "Asia/Kolkata") as books:
        with proxy("both") as simulator, ProxyClient(Upstream(url=simulator.url, key=KEY)) as source:
            refresh(books.loader(), source)

        @settings(max_examples=40, deadline=None, derandomize=True, database=None)
        @given(deliveries)
        def check(delivery):
            payloads, repeated, random = delivery
            delivered = payloads + [payloads[number] for number in repeated]
            random.shuffle(delivered)
            found, result = loaded(books, delivered)
            kinds, wanted = once(delivered)
            assert result.inserted == len(kinds["queue"]) + len(kinds["snapshot"])
            assert result.duplicates == sum(len(payload[1]) for payload in delivered) - result.inserted
            assert books.differences() == []
            sums = {}
            for kind, rendering in (("queue", "6.10.8"), ("snapshot", "snapshot")):
                add(sums, books.expected([POOL[number] for number in kinds[kind]], rendering))
            assert differing(books.daily(), sums) == {}
            assert found == loaded(books, wanted)[0]

        check()


def add(sums, more):
    for key, measures in more.items():
        before = sums.get(key, (0,) * len(measures))
        sums[key] = tuple(None if a is None else a + b for a, b in zip(measures, before, strict=True))


def test_a_payload_of_the_queue_may_come_again_in_other_pieces(books):
    pieces = [("queue", list(range(begin, begin + 20)), "Z", []) for begin in (0, 20, 40)]
    whole = [("queue", list(range(60)), "Z", [])]
    found, result = loaded(books, whole + pieces)
    assert (result.inserted, result.duplicates) == (60, 60)
    assert found == loaded(books, pieces)[0]
    ids = [row["record_id"] for (row,) in found[0]]
    assert len(set(ids)) == len(ids) == 60


# -- any instant, any zone --------------------------------------------------------------------------------------

ZONES = (
    "UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe",
    "America/Santiago", "America/Havana", "Africa/Cairo", "Asia/Beirut", "Pacific/Kiritimati", "America/St_Johns",
)  # fmt: skip
FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC).date()
DAYS = 2 * 365

instants = st.tuples(
    st.integers(0, DAYS), st.sampled_from([-1, 0, 1, 1_799_999_999_999, 3_599_999_999_999, 3_600_000_000_000, -1000])
)


def changes(zone):
    """The days of the two years on which the zone's clocks are changed: those are not 24 hours long."""
    begins = [midnight(FIRST_DAY + timedelta(days=n), zone) for n in range(DAYS + 1)]
    return [n for n in range(DAYS) if begins[n + 1] - begins[n] != 86_400]


def midnight(day, zone):
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp())


def test_every_instant_lands_in_the_day_that_its_zones_calendar_shows(database_url, tmp_path):
    odd = {zone: changes(zone) for zone in ZONES}
    assert sum(map(len, odd.values())) > 20

    with Books(database_url, tmp_path) as books:
        books.loader()

        @settings(max_examples=25, deadline=None, derandomize=True, database=None)
        @given(st.sampled_from(ZONES), st.lists(instants, min_size=1, max_size=12, unique=True))
        def check(zone, times):
            assume(odd[zone] or zone in ("UTC", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Kiritimati"))
            days = [n for n, _ in times] + odd[zone]
            shifts = [shift for _, shift in times] + [0, -1] * len(odd[zone])
            stamps = {
                midnight(FIRST_DAY + timedelta(days=n), zone) * 10**9 + s for n, s in zip(days, shifts, strict=False)
            }
            usages = [replace(POOL[0], timestamp_ns=at) for at in sorted(stamps)]
            books.ask(WIPE)
            books.ask("UPDATE usage.setting SET value = %s WHERE key = 'timezone'", [zone])
            books.timezone = zone
            payload = json.dumps([traffic.queue_item(call) for call in usages]).encode()
            books.loader().load("one", decode.decode_queue(payload), PassResult(upstream="default"))
            found = dict(books.ask("SELECT day, sum(requests)::int FROM usage_api.v1_daily GROUP BY day"))
            shown = Counter(datetime.fromtimestamp(at // 10**9, ZoneInfo(zone)).date() for at in stamps)
            assert found == shown
            assert books.differences() == []

        check()
