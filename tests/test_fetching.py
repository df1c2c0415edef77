"""Whatever database and disk do, the queue is emptied into the journal; what does not arrive whole is counted."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest
from faults import stopped
from support import QUICK, Books, calls, proxy, wait_until
from wire import wire

from worker.db.embedded import THROWAWAY, EmbeddedPostgres
from worker.db.lock import Lock, consumer
from worker.simulator.proxy import Fault
from worker.sync.journal import Room

SYNC = ("sync", "--once", "--json")
DEAD = "postgresql://nobody@127.0.0.1:1/nothing"
SELECT_LOSS = "SELECT sum(possible_loss) FROM usage_api.v1_sync_runs"


def require_all(books, simulator, usages):
    """What must hold once a pass has found everything in order again."""
    finished = books.worker(simulator, *SYNC)
    assert finished.code == 0, finished.stderr
    assert (books.journal(), simulator.queued) == ([], 0)
    books.require_exactly(usages)


def injected(books, **plan):
    state = books.folder / "window"
    state.write_bytes(b"\0")
    return {"state": str(state), **plan}


# -- the disk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [{"file_bytes": 100_000, "kill": False}, {"read_only_after": 0}], ids=min)
@pytest.mark.parametrize("away", [False, True], ids=["database works", "database away"])
def test_what_the_disk_cannot_keep_is_not_asked_for(books, plan, away):
    environment = {"WORKER_DATABASE_URL": DEAD} if away else {}
    with proxy("queue", calls(900)) as simulator:
        with books.starting(simulator, *SYNC, faults=injected(books, **plan), **environment) as process:
            finished = process.wait()
        assert finished.code != 0
        assert "no room on the disk" in finished.json[0]["error"]
        assert "Traceback" not in finished.stderr
        assert (simulator.handed_out, simulator.queued) == ([], 900)
        require_all(books, simulator, calls(900))


def test_an_answer_for_which_the_disk_fills_up_is_counted_and_what_arrived_of_it_is_kept(books):
    plan = injected(books, file_bytes=100_000, kill=False, room_bytes=4096)
    with proxy("queue", calls(900)) as simulator:
        books.worker(simulator, "migrate")
        with books.starting(simulator, *SYNC, faults=plan, WORKER_DATABASE_URL=DEAD) as process:
            assert process.wait().code != 0
        (gone,) = {len(simulator.handed_out) + len(simulator.lost)}
        assert gone == 500
        assert simulator.queued == 400
        assert books.worker(simulator, *SYNC).code in (0, 6)
    assert books.ask(SELECT_LOSS) == [(1,)]
    assert 400 < books.records() < 900
    books.balance()


# -- the database -----------------------------------------------------------------------------------------------


def test_a_read_only_database_keeps_nothing_in_the_proxy(books):
    with proxy("queue", calls(900)) as simulator:
        books.worker(simulator, "migrate")
        ((name,),) = books.ask("SELECT current_database()")
        books.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        finished = books.worker(simulator, *SYNC)
        assert finished.code == 5
        assert "read-only" in finished.json[0]["error"]
        assert "Traceback" not in finished.stderr
        assert (simulator.queued, finished.json[0]["journal_entries"]) == (0, 2)
        books.ask(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        require_all(books, simulator, calls(900))


def test_a_standby_that_is_not_promoted_yet_keeps_nothing_in_the_proxy(server_folder, tmp_path):
    server = EmbeddedPostgres(server_folder, settings={**THROWAWAY, "wal_level": "replica"})
    with server, proxy("queue", calls(300)) as simulator:
        with Books(server.url(), tmp_path) as books:
            books.sync(simulator)
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        simulator.push(calls(1200)[300:])
        with Books(server.url(), tmp_path) as books:
            assert books.ask("SELECT pg_is_in_recovery()") == [(True,)]
            finished = books.worker(simulator, *SYNC)
            assert (finished.code, simulator.queued) == (5, 0)
            assert "standby" in finished.json[0]["error"] or "read-only" in finished.json[0]["error"]
            assert "Traceback" not in finished.stderr
            assert len(books.journal()) == 2
            books.ask("SELECT pg_promote()")
            require_all(books, simulator, calls(1200))


@contextmanager
def held(books, name):
    lock = Lock(books.engine, name)
    assert lock.acquire()
    try:
        yield
    finally:
        lock.release()


def test_who_stands_by_loads_what_its_own_journal_holds(books):
    with proxy("queue") as simulator:
        books.sync(simulator)  # which brings the directory
        simulator.push(calls(900))
        assert books.worker(simulator, *SYNC, WORKER_DATABASE_URL=DEAD).code == 5
        assert len(books.journal()) == 2
        simulator.push(calls(1200)[900:])
        with held(books, consumer("default")):
            assert books.worker(simulator, *SYNC).code == 75
            assert (books.journal(), simulator.queued) == ([], 300)
            books.require_exactly(calls(900))
        require_all(books, simulator, calls(1200))


@pytest.mark.parametrize("table", ["usage.daily", "usage.record", "usage.dimension", "usage.upstream"])
def test_while_a_lock_makes_a_batch_wait_the_queue_is_emptied_again_and_again(books, table):
    some = calls(900)
    with proxy("queue", some[:300]) as simulator:
        books.sync(simulator)
        with books.starting(simulator, "run", **QUICK) as service:
            with books.holding(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"):
                for begin in range(300, 900, 200):
                    simulator.push(some[begin : begin + 200])
                    wait_until(lambda: simulator.queued == 0, "what has come meanwhile is fetched")
            wait_until(lambda: books.records() == 900, "what was fetched is loaded")
            os.kill(service.pid, signal.SIGTERM)
            assert service.wait().code == 0
    books.require_exactly(some)


def test_while_a_rebuild_holds_the_rollups_the_queue_is_emptied(books):
    some = calls(900)
    with proxy("queue", some[:300]) as simulator:
        books.sync(simulator)
        plan = injected(books, point="before commit", after=2, kill=False)
        with books.starting(simulator, "run", **QUICK) as service:
            with books.starting(None, "rebuild", faults=plan) as rebuild:
                wait_until(lambda: stopped(rebuild.pid), "the rebuild stands still in its transaction")
                for begin in range(300, 900, 200):
                    simulator.push(some[begin : begin + 200])
                    wait_until(lambda: simulator.queued == 0, "what has come meanwhile is fetched")
                os.kill(rebuild.pid, signal.SIGCONT)
                assert rebuild.wait().code == 0
            wait_until(lambda: books.records() == 900, "what was fetched is loaded")
            os.kill(service.pid, signal.SIGTERM)
            assert service.wait().code == 0
    books.require_exactly(some)


def test_while_the_connection_is_dead_without_a_word_the_queue_is_emptied(books):
    some = calls(900)
    with (
        wire(books.dsn) as way,
        proxy("queue", some[:300]) as simulator,
        books.starting(simulator, "run", **QUICK, WORKER_DATABASE_URL=way.url(books.dsn)) as service,
    ):
        wait_until(lambda: books.records() == 300, "it works")
        way.dropping.set()
        for begin in range(300, 900, 200):
            simulator.push(some[begin : begin + 200])
            wait_until(lambda: simulator.queued == 0, "what has come meanwhile is fetched")
        way.dropping.clear()
        way.give_up()  # as the operating system does, whose deadlines test_session looks at
        wait_until(lambda: books.records() == 900, "the dead connection is given up, and another one loads")
        os.kill(service.pid, signal.SIGTERM)
        assert service.wait().code == 0
    books.require_exactly(some)


@pytest.mark.parametrize("where", ["_consumer", "_opened"])
def test_an_error_that_nobody_foresaw_ends_no_pass_before_the_fetch(books, where, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("nobody foresaw this")

    target = "worker.db.lock.Lock.acquire" if where == "_consumer" else "worker.sync.run.UpstreamSync._opened"
    with proxy("queue", calls(900)) as simulator:
        with monkeypatch.context() as patched:
            patched.setattr(target, fail)
            result = books.sync(simulator)
        assert (result.exit_code, simulator.queued, len(books.journal())) == (1, 0, 2)
        assert "nobody foresaw this" in result.error
        require_all(books, simulator, calls(900))


# -- what left the proxy and did not arrive whole ---------------------------------------------------------------

BROKEN = {
    "closed": Fault(drop=True, after_pop=True),
    "cut": Fault(cut_after_bytes=20_000),
    **{str(status): Fault(status=status, body=b"timeout") for status in (408, 499, 500, 502, 504, 520, 524)},
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_was_asked_for_and_did_not_arrive_whole_is_counted_once(books, name):
    with proxy("queue", calls(100)) as simulator:
        simulator.fail_next("usage-queue", BROKEN[name])
        result = books.sync(simulator)
        assert (result.exit_code, result.possible_loss) == (4, 1)
        books.sync(simulator)
    assert books.ask(SELECT_LOSS) == [(1,)]


@pytest.mark.parametrize("away", [False, True], ids=["database works", "database away"])
def test_an_answer_that_died_with_its_worker_is_counted_by_the_next_one(books, away):
    plan = injected(books, point="answer popped", after=1, kill=True)
    with proxy("queue", calls(900)) as simulator:
        books.worker(simulator, "migrate")
        environment = {"WORKER_DATABASE_URL": DEAD} if away else {}
        with books.starting(simulator, *SYNC, faults=plan, **environment) as process:
            assert process.wait().code == -signal.SIGKILL
        books.wait_until_it_left()
        assert books.worker(simulator, *SYNC).code in (0, 6)
        assert (books.journal(), simulator.queued) == ([], 0)
    ((counted,),) = books.ask(SELECT_LOSS)
    assert counted == (books.records() < 900)
    assert books.records() >= 400


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_what_a_proxy_says_before_it_pops_is_no_loss(books, status):
    with proxy("queue", calls(100)) as simulator:
        simulator.fail_next("usage-queue", Fault(status=status, body=b'{"error":"no"}'))
        result = books.sync(simulator, mode="queue")
        assert result.exit_code == 4
        assert result.possible_loss == 0
        require_all(books, simulator, calls(100))


def test_an_answer_that_arrived_and_could_not_be_kept_is_counted(books, monkeypatch):
    def removed(room, encoding):
        begin(room, encoding)
        (path,) = (books.folder / "journal" / "default").glob("*.part")
        path.unlink()

    begin = Room.begin
    with proxy("queue", calls(100)) as simulator:
        with monkeypatch.context() as patched:
            patched.setattr("worker.sync.journal.Room.begin", removed)
            result = books.sync(simulator)
        assert (result.possible_loss, result.exit_code) == (1, 1)
        assert books.sync(simulator).exit_code == 0
    assert books.ask(SELECT_LOSS) == [(1,)]
