"""When jobs run: passes by the monotonic clock, whatever the wall clock does; once a day at a time of day."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import QUICK, SEED, free_port, plain_environment, proxy, wait_until
from test_service import get
from wallclock import Clock

from worker.reports import daily
from worker.service.scheduler import Scheduler
from worker.simulator.traffic import Traffic

ZONES = ("UTC", "Europe/Helsinki", "Asia/Beirut", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia",
         "America/Nuuk", "Africa/Casablanca", "Asia/Kathmandu")  # fmt: skip


def utc(*when):
    return datetime(*when, tzinfo=UTC)


# -- a time of day ----------------------------------------------------------------------------------------------


def runs(at, zone, begin, clock):
    """The wall clock's times at which a job runs whose service began at `begin`; `clock` yields what is looked at."""
    done = daily.latest(begin, at, zone)
    for now in clock:
        done = daily.last_done(done, now, at, zone)
        if daily.next_run(done, now, at, zone) <= now:
            done = daily.latest(now, at, zone)
            yield now


def ticks(begin, end, step):
    now = begin
    while now < end:
        yield now
        now += step


@pytest.mark.parametrize(
    ("zone", "at", "around"),
    [("Europe/Helsinki", "03:20", utc(2026, 10, 24, 12)), ("Asia/Beirut", "00:15", utc(2026, 3, 27, 12))],
    ids=["twice in autumn", "skipped in spring"],
)
def test_a_time_that_comes_twice_or_never_is_one_run(zone, at, around):
    zone = ZoneInfo(zone)
    clock = ticks(around, around + timedelta(days=3), timedelta(minutes=5))
    found = list(runs(time_of_day.fromisoformat(at), zone, around, clock))
    first = around.astimezone(zone).date()
    assert [run.astimezone(zone).date() for run in found] == [first + timedelta(days=n) for n in (1, 2, 3)]


@given(
    zone=st.sampled_from(ZONES),
    at=st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    begin=st.integers(0, 27 * 365 * 24 * 60).map(lambda n: utc(2010, 1, 1) + timedelta(minutes=n)),
    days=st.integers(1, 40),
)
def test_each_day_of_a_zone_has_one_run(zone, at, begin, days):
    zone = ZoneInfo(zone)
    end = begin + timedelta(days=days)
    found = list(runs(at, zone, begin, ticks(begin, end, timedelta(minutes=15))))
    moments = {daily.moment(begin.date() + timedelta(days=n), at, zone) for n in range(-2, days + 3)}
    last = end - timedelta(minutes=15)
    assert len(found) == sum(begin < moment <= last for moment in moments) or last < begin + timedelta(minutes=15)
    for run in found:
        assert any(moment <= run < moment + timedelta(minutes=15) for moment in moments)


@given(
    zone=st.sampled_from(ZONES),
    at=st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    begin=st.integers(0, 20 * 365 * 24 * 60).map(lambda n: utc(2015, 1, 1) + timedelta(minutes=n)),
    jumps=st.lists(st.tuples(st.integers(0, 60), st.integers(-14 * 60, 14 * 60)), max_size=8),
)
def test_a_clock_that_is_set_by_hours_makes_no_day_run_twice(zone, at, begin, jumps):
    zone = ZoneInfo(zone)
    done, now = daily.latest(begin, at, zone), begin
    for quiet_h, jump_min in jumps:
        for when in (now + timedelta(hours=quiet_h), now + timedelta(hours=quiet_h, minutes=jump_min)):
            done, before = daily.last_done(done, when, at, zone), done
            assert done == before or before > daily.latest(when, at, zone) + timedelta(days=1)
            if daily.next_run(done, when, at, zone) <= when:
                assert daily.latest(when, at, zone) > done
                done = daily.latest(when, at, zone)
            now = when
        assert daily.next_run(done, now, at, zone) - now <= timedelta(days=4)


def test_a_clock_ten_years_ahead_runs_once_and_set_right_again_runs_the_next_day():
    zone, at = ZoneInfo("UTC"), time_of_day(3, 20)
    begin = utc(2026, 11, 26, 12)
    wrong = begin.replace(year=2036)
    clock = [begin, wrong, wrong + timedelta(hours=1), begin + timedelta(hours=2), utc(2026, 11, 27, 3, 20)]
    assert list(runs(at, zone, begin, clock)) == [wrong, utc(2026, 11, 27, 3, 20)]
    assert daily.last_done(date(2036, 11, 26), begin, at, zone) == date(2026, 11, 26)


# -- jobs in this process ---------------------------------------------------------------------------------------


def test_jobs_run_at_once_and_again_never_beside_themselves_and_end_in_time():
    told: list[tuple[str, str]] = []
    held, ran = threading.Event(), []
    jobs = Scheduler(3, lambda name, result: told.append((name, result)))
    jobs.every("quick", lambda: ran.append(time.monotonic()), 0.02)
    jobs.every("slow", lambda: held.wait(30) and None, 0.02)
    jobs.every("broken", lambda: 1 // 0, 0.02)
    jobs.start()
    wait_until(lambda: len(ran) >= 3, "it runs again and again")
    wait_until(lambda: ("slow", "overrun") in told, "the one that still runs is told of")
    wait_until(lambda: ("broken", "error") in told, "the one that fails is told of")
    assert jobs.idle_s() < 10
    held.set()
    jobs.stop()
    assert ("slow", "ok") in told
    assert all(b - a > 0.01 for a, b in pairwise(ran))


# -- the service, under a wall clock of the test's own -----------------------------------------------------------


def resident_kb(pid):
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="libfaketime comes built for Linux on x86-64"
)
@pytest.mark.parametrize("jump", ["-2h", "+3650d"], ids=["set back 2 hours", "set ahead 10 years"])
def test_passes_go_on_whatever_the_wall_clock_does(books, tmp_path, jump):
    clock, port = Clock(tmp_path), free_port()
    environment = {**QUICK, **clock.environment, "WORKER_HTTP_PORT": str(port)}
    with proxy("queue") as simulator, running(books, simulator, environment) as (process, stderr):
        made = Traffic(SEED).generate(600)

        def pushed_and_stored(n):
            simulator.push(made[n - 200 : n])
            wait_until(lambda: books.records() == n, f"{n} records are stored")

        pushed_and_stored(200)
        before_kb = resident_kb(process.pid)
        clock.set(jump)
        pushed_and_stored(400)
        assert get(port, "/livez") == (200, "ok\n")
        clock.set("+0")
        pushed_and_stored(600)
        assert resident_kb(process.pid) < before_kb + 100_000
        clock.set(jump)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
        assert "Traceback" not in stderr.read_text()
    assert simulator.lost == []


@contextmanager
def running(books, simulator, environment):
    """`worker run` as a process of its own: what is preloaded must be there before Python is."""
    stderr = books.folder / "run.stderr"
    known = plain_environment(books.environment(simulator, **environment))
    command = [sys.executable, "-W", "error", "-m", "worker", "run"]
    with stderr.open("wb") as file, subprocess.Popen(command, env=known, cwd=books.folder, stderr=file) as process:
        try:
            yield process, stderr
        finally:
            process.kill()
