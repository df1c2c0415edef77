"""CLIProxyAPIHome as a source: what it has more is found by counting, whatever came late, went, or was read before."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
from support import KEY, QUICK, calls, proxy, wait_until

from worker.cliproxyapi.payload import BadRecord, BadValueError, decode_home
from worker.config import Upstream
from worker.simulator import home as simulator_home
from worker.simulator.home import Home, masked
from worker.simulator.proxy import Fault
from worker.simulator.traffic import queue_item

SYNC = ("sync", "--once", "--json")
HOME = {"WORKER_UPSTREAM_MODE": "home"}
SELECT_PERIODS = "SELECT coalesce(sum(records), 0) FROM usage.home_period"


def home(n=0):
    return proxy("home", calls(n))


def told(usages):
    """The calls as Home tells them: a client's key is masked, and that nothing was generated is not told."""
    return [replace(c, client_key=masked(c.client_key), generate=True) for c in usages]


def read(books, simulator):
    finished = books.worker(simulator, *SYNC, **HOME)
    assert finished.code == 0, finished.stderr
    return finished.json[0]


def asked(simulator):
    return [path for _, path, _ in simulator.requests if simulator_home.RECORDS in path]


# -- whole passes -----------------------------------------------------------------------------------------------


def test_a_pass_takes_all_of_it_and_a_second_one_asks_three_questions_and_changes_nothing(books):
    with home(2500) as simulator:
        first = read(books, simulator)
        assert (first["mode"], first["inserted"], first["quarantined"]) == ("home", 2500, 0)
        before = len(asked(simulator))
        again = read(books, simulator)
        assert (again["pulled"], again["inserted"]) == (0, 0)
        assert len(asked(simulator)) - before == 3
        for command in (["verify"], ["resolve", "--all"], ["doctor"]):
            finished = books.worker(simulator, *command, **HOME)
            assert finished.code == 0, finished.stdout + finished.stderr
    books.require_exactly(told(calls(2500)))
    assert books.ask(SELECT_PERIODS) == [(2500,)]


def test_what_comes_late_comes_before_what_is_there_and_is_found(books):
    some = calls(2500)
    late = [*some[10:20], *some[1200:1210], *some[2300:2310]]
    with home() as simulator:
        simulator.push(c for c in some if c not in late)
        assert read(books, simulator)["inserted"] == 2470
        for n, one in enumerate(late):
            simulator.push([one])
            if n % 7 == 0:
                read(books, simulator)
        read(books, simulator)
        assert read(books, simulator)["pulled"] == 0
    books.require_exactly(told(some))


def test_what_went_from_it_stays_here_and_hides_nothing_new(books):
    some = calls(600)
    with home(400) as simulator:
        read(books, simulator)
        simulator.home.drop(range(1, 201))
        read(books, simulator)
        assert read(books, simulator)["pulled"] == 0
        simulator.push(some[400:])
        read(books, simulator)
    books.require_exactly(told(some))


def test_equal_records_of_one_instant_are_as_many_as_home_has(books):
    one = calls(1)[0]
    with home() as simulator:
        simulator.push([one] * 450)
        assert read(books, simulator)["inserted"] == 450
        simulator.push([one] * 5)
        assert read(books, simulator)["inserted"] == 5
    assert books.records() == 455
    books.balance()


@pytest.mark.parametrize("event", ["come", "go"])
def test_records_that_come_or_go_between_two_pages_cost_none(books, event):
    some = calls(1200)
    with home() as simulator:
        simulator.push(some[300:] if event == "come" else some)
        page, pages = simulator.home.page, []

        def unsteady(query):
            found = page(query)
            if query["limit"] != "1":
                pages.append([record["usage_id"] for record in found["items"]])
                if len(pages) == 2 and event == "come":
                    simulator.push(some[:300])
                elif len(pages) == 2:
                    simulator.home.drop(pages[0][:50])
            return found

        simulator.home.page = unsteady
        read(books, simulator)
        simulator.home.page = page
        read(books, simulator)
        assert read(books, simulator)["pulled"] == 0
    books.require_exactly(told(some))


@pytest.mark.parametrize("answers", [1, 2, 5, 11, 13])
def test_killed_at_any_page_the_next_pass_makes_it_whole(books, answers):
    with home(2500) as simulator:
        books.worker(simulator, "migrate")
        simulator.fail_next(simulator_home.RECORDS, *[Fault()] * answers, Fault(delay_s=60.0))
        with books.starting(simulator, "sync", "--once", **HOME) as process:
            wait_until(lambda: len(asked(simulator)) >= answers, "it is reading")
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        books.wait_until_it_left()
        simulator.clear_faults()
        read(books, simulator)
        assert read(books, simulator)["pulled"] == 0
    books.require_exactly(told(calls(2500)))


@pytest.mark.parametrize("future", [False, True])
def test_the_service_reads_what_comes_also_behind_a_record_from_the_future(books, future):
    some = sorted(calls(600), key=lambda call: call.timestamp_ns)
    more = {"WORKER__SCHEDULE__DIRECTORY_S": "86400"}  # only its first pass compares everything
    with home() as simulator:
        simulator.push(some[:500])
        if future:
            simulator.home.store(queue_item(some[0]) | {"timestamp": "2199-12-31T23:59:59Z"})
        with books.starting(simulator, "run", **QUICK, **HOME, **more) as process:
            wait_until(lambda: books.records() == 500, "what is there is read")
            simulator.push(some[500:])
            wait_until(lambda: books.records() == 600, "what comes is read")
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait().code == 0
    books.require_exactly(told(some))


def test_a_stop_between_two_pages_keeps_what_was_read(books):
    with home(2500) as simulator:
        books.worker(simulator, "migrate")
        simulator.fail_next(simulator_home.RECORDS, *[Fault()] * 4, Fault(delay_s=1.0))
        with books.starting(simulator, *SYNC, **HOME) as process:
            wait_until(lambda: len(asked(simulator)) >= 4, "it is reading")
            os.kill(process.pid, signal.SIGTERM)
            finished = process.wait()
        assert finished.code == 0, finished.stderr
        assert 0 < books.records() < 2500
        read(books, simulator)
    books.require_exactly(told(calls(2500)))


# -- what is not as it should be --------------------------------------------------------------------------------


def test_a_bad_record_is_set_aside_once_and_its_siblings_load(books):
    with home(300) as simulator:
        spoilt = queue_item(calls(301)[300])
        spoilt["tokens"] = {"input_tokens": -5}
        simulator.home.store(spoilt)
        finished = books.worker(simulator, *SYNC, **HOME)
        assert (finished.code, finished.json[0]["quarantined"]) == (6, 1)
        simulator.push(calls(310)[301:])
        books.worker(simulator, *SYNC, **HOME)
    assert books.ask("SELECT count(*), min(reason) FROM usage.quarantine") == [
        (1, "`tokens`: input is -5, which is no count of tokens")
    ]
    books.require_exactly(told([*calls(300), *calls(310)[301:]]))


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:07.5Z", "2199-12-31T23:59:59+02:00"])
def test_a_record_of_a_broken_clock_is_set_aside_once_and_keeps_no_other_back(books, at):
    with home(300) as simulator:
        simulator.home.store(queue_item(calls(301)[300]) | {"timestamp": at})
        finished = books.worker(simulator, *SYNC, **HOME)
        assert (finished.code, finished.json[0]["inserted"], finished.json[0]["quarantined"]) == (6, 300, 1)
        assert read(books, simulator)["pulled"] == 0
        simulator.push(calls(310)[301:])
        assert books.worker(simulator, *SYNC, **HOME).json[0]["inserted"] == 9
    ((reason,),) = books.ask("SELECT reason FROM usage.quarantine")
    assert "is not between 2020 and 2100" in reason
    books.require_exactly(told([*calls(300), *calls(310)[301:]]))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=500), "usage/records answered 500"),
        (Fault(status=200, body=b"[]"), "usage/records answered 200: no page of usage records"),
        (Fault(status=200, body=b'{"items": [], "total": -1, "limit": 50}'), "no count"),
        (Fault(status=200, body=b'{"items": [{"usage_id": 1}], "total": 1, "limit": 50}'), "no page of usage records"),
    ],
)
def test_an_answer_that_is_none_is_told_with_where_it_came_from(books, fault, words):
    with home(100) as simulator:
        simulator.fail_next(simulator_home.RECORDS, *[fault] * 8)
        finished = books.worker(simulator, *SYNC, **HOME)
        assert finished.code == 4
        assert words in finished.json[0]["error"]
        simulator.clear_faults()
        assert read(books, simulator)["inserted"] == 100


def test_a_proxy_that_is_no_home_is_told_so(books):
    with proxy("queue", calls(5)) as simulator:
        finished = books.worker(simulator, *SYNC, **HOME)
        assert finished.code == 4
        assert "no CLIProxyAPIHome" in finished.json[0]["error"]
        assert simulator.queued == 5
        finished = books.worker(simulator, "doctor", **HOME)
        assert finished.code == 4
        assert "no CLIProxyAPIHome" in finished.stdout


# -- one page ---------------------------------------------------------------------------------------------------


def test_a_record_says_the_same_as_the_queue_but_for_what_is_masked(books):
    with home() as simulator, proxy("queue") as other:
        some = [replace(c, generate=True) for c in calls(200)]
        simulator.push(some)
        other.push(some)
        read(books, simulator)
        books.worker(other, *SYNC, WORKER_UPSTREAM_NAME="other")
    left_out = ("client_key", "source", "upstream", "record_id", "execution_id", "synced_at", "batch_id")
    rows = {}
    for name in ("default", "other"):
        rows[name] = [
            {column: value for column, value in row.items() if column not in left_out}
            for (row,) in books.ask(
                "SELECT to_jsonb(r) - array['event_key','dimension_id','channel_id','client_key_id','origin_id',"
                "'response_service_tier'] FROM usage_api.v1_records AS r WHERE upstream = %s "
                "ORDER BY occurred_at, model",
                [name],
            )
        ]
    differing = {
        (column, row[column], other_row[column])
        for row, other_row in zip(rows["default"], rows["other"], strict=True)
        for column in row
        if row[column] != other_row[column]
    }
    assert differing == {("status_code", None, 200)}, "Home tells 200 where nothing was told"


def test_names_of_no_use_stay_with_a_record_that_cannot_be_read():
    one = simulator_home.record(queue_item(calls(1)[0]), 7) | {"tokens": {"output_tokens": -1}, "new": {"a": 1}}
    page = decode_home(encoded(one))
    (record,) = page.records
    assert isinstance(record.outcome, BadRecord)
    assert b'"new":{"a":1}' in record.outcome.raw
    assert record.usage_id == 7


@pytest.mark.parametrize("change", [{"usage_id": "x"}, {"usage_id": None}, {"timestamp": "yesterday"}])
def test_a_record_without_number_or_time_is_no_end_of_a_page(change):
    with pytest.raises(BadValueError):
        decode_home(encoded(simulator_home.record(queue_item(calls(1)[0]), 7) | change))


def encoded(*records):
    return json.dumps({"items": records, "total": len(records), "limit": 50}).encode()


def test_the_simulator_pages_as_home_does():
    database = Home()
    for one in calls(5):
        database.store(queue_item(one))
    page = database.page({"sort": "timestamp_asc", "limit": "2", "offset": "1"})
    times = [record["timestamp"] for record in page["items"]]
    assert (times, page["total"]) == (sorted(times), 5)
    bounds = {"from": page["items"][0]["timestamp"], "to": page["items"][1]["timestamp"]}
    assert [record["timestamp"] for record in database.page(bounds)["items"]] == [bounds["from"]]
    assert len(database.page({})["items"]) == 5
    with pytest.raises(simulator_home.BadQueryError):
        database.page({"sort": "id_asc"})


def test_the_mode_is_one_of_the_configuration():
    assert Upstream(url="http://127.0.0.1:1", key=KEY, mode="home").mode == "home"
