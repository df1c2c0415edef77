"""Leases: one holder at a time, given up when it dies, and no transaction that stays open for them."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import QUICK, calls, proxy, said, wait_until

from worker.db import database, lease, migrations
from worker.db.lock import Lock
from worker.errors import DatabaseError

SELECT_OPEN = """
SELECT pid, state, backend_xid, backend_xmin, query FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'usage-worker'
  AND (state LIKE 'idle in transaction%%' OR backend_xmin IS NOT NULL)
"""
SELECT_ADVISORY = """
SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database
WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""
SELECT_LEASES = "SELECT name, holder, expires_at FROM usage.lease ORDER BY name"
EXPIRE = "UPDATE usage.lease SET expires_at = clock_timestamp() - interval '1 millisecond'"
CLOCK_SET_BACK = "UPDATE usage.lease SET expires_at = clock_timestamp() + interval '2 hours'"
UNKNOWN_PROCESS = "UPDATE usage.lease SET process = ''"

HOLDER = """
import sys, time
from worker.db import database, lock as locks
lock = locks.Lock(database.connect(sys.argv[1]), sys.argv[2])
print(lock.acquire(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def other(books):
    """A lock of the same name in another process."""
    command = [sys.executable, "-c", HOLDER, books.url, "it"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def lock(books, name="it"):
    return Lock(books.engine, name)


def test_one_has_it_until_it_lets_go(books):
    one, two, another = lock(books), lock(books), lock(books, "another")
    assert one.acquire()
    assert one.acquire()
    assert not two.acquire()
    assert another.acquire()
    two.release()  # what it does not hold
    assert not two.acquire()
    one.release()
    assert two.acquire()
    assert not one.acquire()
    two.release()
    another.release()
    assert books.ask(SELECT_LEASES) == []


def test_who_holds_it_is_told_and_since_when(books):
    one = lock(books)
    assert one.acquire()
    with database.transaction(books.engine) as connection:
        first = lease.holders(connection, ["it", "another"])
    assert set(first) == {"it"}
    assert first["it"].pid == os.getpid()
    assert first["it"].host
    assert one.acquire()
    with database.transaction(books.engine) as connection:
        assert lease.holders(connection, ["it"]) == first
    books.ask(EXPIRE)
    with database.transaction(books.engine) as connection:
        assert lease.holders(connection, ["it"]) == {}
    one.release()


def test_a_lock_leaves_no_transaction_and_no_snapshot_open(books):
    """Vacuum cannot clean up behind a snapshot, and poolers count idle transactions."""
    locks = [lock(books, f"lock {n}") for n in range(5)]
    assert all(each.acquire() for each in locks)
    assert books.ask(SELECT_OPEN) == []
    assert books.ask(SELECT_ADVISORY) == [(0,)]
    for each in locks:
        each.release()


def test_services_that_run_hold_nothing_open_between_passes(books, tmp_path):
    second = {**QUICK, "WORKER_DATA_DIR": str(tmp_path / "second")}
    with proxy("queue", calls(300)) as simulator, books.starting(simulator, "run", **QUICK) as first:
        wait_until(lambda: books.records() == 300, "it works")
        with books.starting(simulator, "run", **second) as process:
            wait_until(lambda: '"pass.standby"' in said(process), "the second stands by")
            assert {name for name, *_ in books.ask(SELECT_LEASES)} == {"default:consumer", "housekeeping"}
            # A pass of an empty queue has short transactions; what is held is there each time.
            wait_until(lambda: books.ask(SELECT_OPEN) == [], "nothing is held open")
            held = [{row[0] for row in books.ask(SELECT_OPEN)} for _ in range(50) if not time.sleep(0.02)]
            assert set.intersection(*held) == set()
            for running in (process, first):
                os.kill(running.pid, signal.SIGTERM)
                assert running.wait().code == 0
    assert books.ask(SELECT_LEASES) == []


def test_it_is_renewed_for_as_long_as_it_is_held(books, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 0.01)
    one = lock(books)
    assert one.acquire()
    before = books.ask(SELECT_LEASES)
    wait_until(lambda: books.ask(SELECT_LEASES)[0][2] > before[0][2], "it is renewed")
    one.release()
    wait_until(lambda: not any(t.name == "leases" for t in threading.enumerate()), "nothing is left to renew")
    assert one.acquire()
    before = books.ask(SELECT_LEASES)
    wait_until(lambda: books.ask(SELECT_LEASES)[0][2] > before[0][2], "it is renewed again")
    one.release()


def test_renewals_leave_the_table_as_small_as_it_is(books, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 0.001)
    one = lock(books)
    assert one.acquire()
    for _ in range(1000):
        assert one.acquire()
    ((size,),) = books.ask("SELECT pg_relation_size('usage.lease')")
    assert size <= 8 * 8192  # a thousand rows that nobody cleans up would take more than twice that
    one.release()


def test_who_lost_it_is_told_when_it_asks_again_and_gets_no_renewals(books, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 0.01)
    one, two = lock(books), lock(books)
    assert one.acquire()
    books.ask(EXPIRE)
    while not two.acquire():  # unless it was renewed in between
        books.ask(EXPIRE)
    assert not one.acquire()
    assert two.acquire()
    one.release()
    assert two.acquire()
    two.release()


def test_what_was_lost_and_is_free_again_is_taken_anew(books):
    one = lock(books)
    assert one.acquire()
    books.ask("DELETE FROM usage.lease")
    assert one.acquire()
    assert [name for name, *_ in books.ask(SELECT_LEASES)] == ["it"]
    one.release()


def test_a_process_of_this_machine_that_was_killed_is_given_up_at_once(books, other):
    one = lock(books)
    assert not one.acquire()
    os.kill(other.pid, signal.SIGKILL)  # nobody has waited for it yet: it is still in the list of processes
    wait_until(one.acquire, "it is given up")
    one.release()


def test_a_process_that_hangs_is_not_given_up_before_its_term(books, other):
    one = lock(books)
    os.kill(other.pid, signal.SIGSTOP)
    assert not one.acquire()
    books.ask(EXPIRE)
    assert one.acquire()
    os.kill(other.pid, signal.SIGCONT)
    one.release()


def test_a_process_of_which_nothing_is_known_is_given_up_after_its_term(books, other):
    os.kill(other.pid, signal.SIGKILL)
    books.ask(UNKNOWN_PROCESS)
    one = lock(books)
    assert not one.acquire()
    books.ask(EXPIRE)
    assert one.acquire()
    one.release()


def test_a_holder_is_given_up_before_the_proxy_forgets():
    """A minute by default; a pass comes every 15 s, and may be 2 s late."""
    assert lease.TERM_S + 15 + 2 < 60 - lease.TERM_S
    assert 3 * lease.RENEWED_EVERY_S < lease.TERM_S


def test_a_clock_that_is_set_back_keeps_nobody_out(books, other):
    """Renewals put right what the clock did; of a holder that died meanwhile, nobody waits for the time to come."""
    os.kill(other.pid, signal.SIGKILL)
    books.ask(UNKNOWN_PROCESS)
    books.ask(CLOCK_SET_BACK)
    one = lock(books)
    assert one.acquire()
    books.ask(CLOCK_SET_BACK)
    assert one.acquire()
    ((soon,),) = books.ask("SELECT expires_at < clock_timestamp() + interval '1 minute' FROM usage.lease")
    assert soon
    one.release()


@pytest.mark.parametrize(
    ("process", "gone"),
    [
        ("", False),
        ("another-boot/pid:[1]/1/1", False),
        ("{space}/{pid}/{began}", False),
        ("{space}/{pid}/1", True),  # the number was given to another one since
        ("{space}/{free}/1", True),
        ("nonsense", False),
    ],
)
def test_only_what_surely_ended_is_gone(process, gone):
    space, pid, began = lease.process().rsplit("/", 2)
    known = process.format(space=space, pid=pid, began=began, free=(1 << 22) + 1)
    assert lease.is_gone(known) is gone


def test_where_the_system_does_not_tell_processes_apart_none_is_gone(monkeypatch, tmp_path):
    mine = lease.process()
    monkeypatch.setattr(lease, "BOOT", tmp_path / "missing")
    assert lease.process() == ""
    assert not lease.is_gone(mine.rpartition("/")[0] + "/1")


def test_a_database_that_is_away_is_an_error_and_letting_go_is_none(books):
    away = database.connect("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    one = Lock(away, "it")
    with pytest.raises(DatabaseError):
        one.acquire()
    one.release()


def test_the_first_lock_brings_the_schema_that_its_table_belongs_to(empty_database_url):
    engine = database.connect(empty_database_url)
    one = Lock(engine, "it")
    assert one.acquire()
    assert migrations.schema_version(engine) == migrations.HEAD
    one.release()
    engine.dispose()


@pytest.mark.parametrize("rounds", [20])
def test_many_that_try_at_once_never_hold_it_together(books, rounds):
    inside, most, taken = [0], [0], [0]
    guard = threading.Lock()

    def work():
        one = lock(books)
        for _ in range(rounds):
            if one.acquire():
                with guard:
                    inside[0] += 1
                    taken[0] += 1
                    most[0] = max(most[0], inside[0])
                with guard:
                    inside[0] -= 1
                one.release()

    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(work) for _ in range(6)]:
            each.result()
    assert most == [1]
    assert taken[0] > 0


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["acquire", "release", "expire", "back"])), max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_in_whatever_order_at_most_one_is_told_that_it_holds_it(books, steps):
    locks = [lock(books) for _ in range(3)]
    held = None
    for number, step in steps:
        if step == "acquire":
            free = held in (None, number)
            assert locks[number].acquire() is free
            held = number if free else held
        elif step == "release":
            locks[number].release()
            held = None if held == number else held
        else:
            books.ask(EXPIRE if step == "expire" else CLOCK_SET_BACK)
            held = None
        assert len(books.ask(SELECT_LEASES)) <= 1
    for each in locks:
        each.release()
