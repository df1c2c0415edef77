"""A record from the future: kept, told, and it hides nothing and costs nothing."""

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from support import QUICK, calls, free_port, proxy, said, wait_until
from test_service import metric

from worker.db import database
from worker.rollups import verify
from worker.simulator.traffic import Usage

FUTURE = datetime(2087, 2, 28, 9, tzinfo=UTC)
SELECT_FRESH = "SELECT newest_record_at, future_record_at FROM usage_api.v1_freshness"


def at(when: datetime, number: int) -> Usage:
    return dataclasses.replace(calls(10)[number], timestamp_ns=int(when.timestamp()) * 10**9 + number)


def test_freshness_goes_by_what_is_not_from_the_future(books):
    now = datetime.now(UTC).replace(microsecond=0)
    with proxy("queue", [at(now - timedelta(minutes=3), 0), at(FUTURE, 1)]) as simulator:
        books.sync(simulator)
        ((newest, future),) = books.ask(SELECT_FRESH)
        assert abs(newest - (now - timedelta(minutes=3))) < timedelta(seconds=1)
        assert abs(future - FUTURE) < timedelta(seconds=1)
        simulator.push([at(now - timedelta(minutes=1), 2)])
        books.sync(simulator)
        ((newest, future),) = books.ask(SELECT_FRESH)
        assert abs(newest - (now - timedelta(minutes=1))) < timedelta(seconds=1)
        assert abs(future - FUTURE) < timedelta(seconds=1)
    assert books.records() == 3
    books.balance()


def test_a_proxy_whose_clock_is_a_little_ahead_is_as_fresh_as_any(books):
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    with proxy("queue", [at(soon, 0)]) as simulator:
        books.sync(simulator)
    ((newest, future),) = books.ask(SELECT_FRESH)
    assert abs(newest - soon) < timedelta(seconds=1)
    assert future is None


def test_status_and_doctor_tell_of_it(books):
    with proxy("queue", [at(FUTURE, 0)]) as simulator:
        books.sync(simulator)
        status = books.worker(simulator, "status", "--json").json[0]
        assert status["newest_record_at"] is None
        assert status["future_record_at"].startswith("2087-02-28")
        found = {row["check"]: row for row in books.worker(simulator, "doctor", "--json").json}
        assert found["future_records"]["level"] == "warning"


def test_records_from_the_future_do_not_stand_above_those_that_are(books):
    with proxy("queue", [*calls(5), at(FUTURE, 7), at(FUTURE, 8)]) as simulator:
        books.sync(simulator)
    told = books.worker(None, "report", "records")
    assert "2087-02-28" in told.stdout.splitlines()[-1]
    assert "5 of 5 records" in told.stdout
    assert "2087" not in "".join(told.stdout.splitlines()[:-1])
    assert [row["occurred_at"][:4] for row in books.worker(None, "report", "records", "--json").data] == ["2026"] * 5
    (day,) = re.findall(r"--since (\S+) shows", told.stdout)
    found = books.worker(None, "report", "records", "--since", day, "--json").data
    assert [row["occurred_at"][:4] for row in found] == ["2087"] * 2
    both = books.worker(None, "report", "records", "--until", "2088-01-01", "--json").data
    assert len(both) == 7
    asked = books.worker(None, "report", "records", "--since", day)
    assert ("2 of 2 records" in asked.stdout, "left out" in asked.stdout) == (True, False)


def test_an_empty_page_tells_of_records_that_are_still_to_come(books):
    with proxy("queue", [at(FUTURE, 7)]) as simulator:
        books.sync(simulator)
    told = books.worker(None, "report", "records")
    assert "no such records" in told.stdout
    assert "2087-02-28, are left out" in told.stdout


def test_metrics_tell_of_the_future_and_of_the_newest_that_is_not(books):
    port = free_port()
    newest = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    with proxy("queue", [at(newest, 0), at(FUTURE, 1)]) as simulator:
        books.sync(simulator)
        with books.starting(simulator, "run", **{**QUICK, "WORKER_HTTP_PORT": str(port)}) as process:
            wait_until(lambda: '"service.started"' in said(process), "its pages are served")  # it finds nothing new
            wait_until(lambda: metric(port, "future_record_timestamp_seconds"), "a pass has ended")
            (future,) = metric(port, "future_record_timestamp_seconds").values()
            (known,) = metric(port, "newest_record_timestamp_seconds").values()
    assert abs(future - FUTURE.timestamp()) < 1
    assert abs(known - newest.timestamp()) < 1


def test_verify_looks_at_the_days_that_have_something_and_not_at_those_between(books):
    with proxy("queue", [*calls(300), at(FUTURE, 0)]) as simulator:
        books.sync(simulator)
    with database.transaction(books.engine) as connection:
        days = verify.covered_days(connection, ZoneInfo("UTC"), None, None)
        assert set(days) == {day for (day,) in books.ask("SELECT DISTINCT day FROM usage_api.v1_daily")}
        assert days[-1] == FUTURE.date()
        assert len(days) < 20
        assert not list(verify.differences(connection, ZoneInfo("UTC"), None, None))
