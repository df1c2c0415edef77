"""`worker run` as a process: signals at any moment, stand-by and take-over, a dead proxy beside a live one, probes."""

import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from random import Random

import pytest
from support import KEY, PRICES, QUICK, calls, free_port, proxy, said, wait_until

from worker.config import Config, Upstream
from worker.db import database, migrations
from worker.service.metrics import Metrics
from worker.service.run import JobSet
from worker.simulator.proxy import Fault

STOPS = int(os.environ.get("WORKER_TEST_STOPS", "10"))


def get(port, path, method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def metric(port, name):
    text = get(port, "/metrics")[1]
    return {labels: float(value) for labels, value in re.findall(rf"(?m)^usage_worker_{name}(\{{.*?\}})? (\S+)$", text)}


def pending(pid, number):
    """Say whether a process has not begun to handle a signal, by the kernel's word."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return any(int(mask, 16) >> (number - 1) & 1 for mask in re.findall(r"(?m)^(?:Shd|Sig)Pnd:\s*(\w+)", status))


def ends_well(process):
    finished = process.wait()
    assert (finished.code, "Traceback" in finished.stderr) == (0, False), finished.stderr
    return finished


# -- at work ----------------------------------------------------------------------------------------------------


def test_it_begins_with_a_pass_drains_a_burst_and_tells_what_it_did(books):
    port = free_port()
    with proxy("queue", calls(1200)) as simulator:
        environment = {**QUICK, "WORKER_HTTP_PORT": str(port)}
        with books.starting(simulator, "run", **environment) as process:
            wait_until(lambda: books.records() == 1200, "the first pass has drained the queue")
            wait_until(lambda: metric(port, "passes_total"), "the pass is counted")
            assert metric(port, "records_inserted_total") == {'{upstream="default"}': 1200.0}
            wait_until(lambda: metric(port, "maintain_left"), "housekeeping is done")
            assert set(metric(port, "maintain_left").values()) == {0.0}
            assert metric(port, "statistics_enabled") == {'{upstream="default"}': 1.0}
            assert [get(port, page) for page in ("/livez", "/readyz")] == [(200, "ok\n")] * 2
            assert get(port, "/livez", "HEAD") == (200, "")
            assert get(port, "/elsewhere")[0] == 404
            simulator.push(calls(3000)[1200:])
            wait_until(lambda: books.records() == 3000, "a later pass has drained the backoff")
            os.kill(process.pid, signal.SIGTERM)
            events = [line["event"] for line in ends_well(process).logs]
    assert events[0] == "service.started"
    assert events[-1] == "service.stopped"
    books.require_exactly(calls())


@pytest.mark.parametrize("number", range(STOPS))
def test_a_stop_at_any_moment_ends_with_0_and_loses_and_doubles_nothing(books, number):
    luck = Random(number)
    with proxy("queue", calls(1500)) as simulator:
        with books.starting(simulator, "run", **QUICK, WORKER__UPSTREAM__0__QUEUE_COUNT="50") as process:
            wait_until(lambda: '"service.started"' in said(process), "it is at work")
            wanted = luck.randrange(1200)
            wait_until(lambda: len(simulator.handed_out) >= wanted, "so many records are handed out")
            time.sleep(luck.random() * 0.02)  # not to wait for anything: to hit another moment each time
            os.kill(process.pid, luck.choice((signal.SIGTERM, signal.SIGINT)))
            ends_well(process)
        assert books.worker(simulator, "sync", "--once").code == 0
        assert simulator.lost == []
    books.require_exactly(calls(1500))


def test_a_second_signal_ends_it_and_the_next_pass_makes_it_whole(books):
    with proxy("queue", calls(500)) as simulator:
        books.worker(simulator, "migrate")
        with (
            books.holding("LOCK TABLE usage.record IN ACCESS EXCLUSIVE MODE"),
            books.starting(simulator, "run", **QUICK) as process,
        ):
            books.wait_until_it_waits()
            os.kill(process.pid, signal.SIGTERM)
            wait_until(lambda: '"service.stopping"' in said(process), "the first signal is taken")
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait().code == 128 + signal.SIGTERM
        books.wait_until_it_left()
        assert books.worker(simulator, "sync", "--once").code == 0
        assert simulator.lost == []
    books.require_exactly(calls(500))


def test_a_second_signal_waits_for_the_answer_that_is_on_its_way(books):
    with proxy("queue", calls(500)) as simulator:
        books.worker(simulator, "migrate")
        simulator.fail_next("/usage-queue", Fault(delay_s=2.0))  # popped, and on its way
        with books.starting(simulator, "sync", "--once", WORKER__UPSTREAM__0__QUEUE_COUNT="500") as process:
            wait_until(lambda: simulator.queued == 0, "the queue is popped")
            os.kill(process.pid, signal.SIGTERM)
            os.kill(process.pid, signal.SIGINT)
            assert process.wait().code in (128 + signal.SIGTERM, 128 + signal.SIGINT)
        assert len(simulator.handed_out) == 500
        assert books.worker(simulator, "sync", "--once").code == 0
    books.require_exactly(calls(500))


def test_a_third_signal_waits_for_nothing_and_the_next_pass_counts_what_was_on_its_way(books):
    with proxy("queue", calls(500)) as simulator:
        books.worker(simulator, "migrate")
        simulator.fail_next("/usage-queue", Fault(delay_s=60.0))
        with books.starting(simulator, "sync", "--once") as process:
            wait_until(lambda: simulator.queued == 0, "the queue is popped")
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                os.kill(process.pid, number)
                wait_until(lambda n=number: not pending(process.pid, n), "it is taken")
            assert process.wait().code == 128 + signal.SIGTERM
        wait_until(lambda: len(simulator.lost) == 500, "the proxy has noticed")
        assert books.worker(simulator, "sync", "--once").code == 6
    assert books.ask("SELECT sum(possible_loss) FROM usage_api.v1_sync_runs") == [(1,)]


# -- several workers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_second_worker_stands_by_and_takes_over_when_the_first_is_gone(books, tmp_path, number):
    port = free_port()
    second = {**QUICK, "WORKER_DATA_DIR": str(tmp_path / "second"), "WORKER_HTTP_PORT": str(port)}
    with proxy("queue", calls(500)) as simulator, books.starting(simulator, "run", **QUICK) as first:
        wait_until(lambda: books.records() == 500, "the first one works")
        with books.starting(simulator, "run", **second) as process:
            wait_until(lambda: '"pass.standby"' in said(process), "the second one stands by")
            wait_until(lambda: metric(port, "standby"), "and says so")
            assert metric(port, "standby") == {'{upstream="default"}': 1.0}
            (row,) = books.worker(None, "status", "--json").json
            assert (row["served_by"] is not None, row["served_since"] is not None) == (True, True)
            assert books.worker(simulator, "sync", "--once").code == 75
            assert get(port, "/readyz")[0] == 200
            os.kill(first.pid, number)
            first.wait()
            simulator.push(calls(1000)[500:])
            wait_until(lambda: books.records() == 1000, "the second one takes over")
            os.kill(process.pid, signal.SIGTERM)
            ends_well(process)
    books.require_exactly(calls(1000))


def test_channels_can_be_linked_while_it_runs(books):
    with proxy("queue", calls(500)) as simulator, books.starting(simulator, "run", **QUICK) as process:
        wait_until(lambda: books.records() == 500, "it works")
        for _ in range(5):
            assert books.worker(None, "channels", "link", "local-vllm", "OpenRouter").code == 0
        os.kill(process.pid, signal.SIGTERM)
        ends_well(process)
    books.balance()


# -- several proxies --------------------------------------------------------------------------------------------


def test_a_dead_proxy_and_a_wrong_key_do_not_delay_a_healthy_one(books):
    port = free_port()
    with proxy("queue", calls(300)) as healthy, proxy("queue", calls(10)) as locked:
        environment = {
            **QUICK,
            "WORKER_HTTP_PORT": str(port),
            "WORKER__UPSTREAM__1__NAME": "dead",
            "WORKER__UPSTREAM__1__URL": f"http://127.0.0.1:{free_port()}",
            "WORKER__UPSTREAM__1__KEY": KEY,
            "WORKER__UPSTREAM__2__NAME": "locked",
            "WORKER__UPSTREAM__2__URL": locked.url,
            "WORKER__UPSTREAM__2__KEY": "EXAMPLE-wrong",
        }
        with books.starting(healthy, "run", **environment) as process:
            wait_until(lambda: books.records() == 300, "the healthy one is emptied")
            wait_until(lambda: '"locked"' in str(metric(port, "passes_total")), "the locked one was asked")
            wait_until(lambda: '"dead"' in str(metric(port, "passes_total")), "the dead one was asked")
            for part in (600, 900):
                healthy.push(calls(part)[part - 300 :])
                wait_until(lambda part=part: books.records() == part, "the healthy one is emptied again")
            assert locked.auth_failures == 1
            assert get(port, "/livez") == (200, "ok\n")
            os.kill(process.pid, signal.SIGTERM)
            ends_well(process)


# -- configuration ----------------------------------------------------------------------------------------------


def test_sighup_takes_a_good_configuration_and_refuses_a_bad_one(books, tmp_path):
    file = tmp_path / "worker.toml"
    file.write_text("[log]\nlevel = 'info'\n")
    with (
        proxy("queue", calls(300)) as simulator,
        books.starting(simulator, "--config", str(file), "run", **QUICK) as process,
    ):

        def count(event):
            return said(process).count(f'"event": "{event}"')

        wait_until(lambda: books.records() == 300, "it works")
        file.write_text("[log]\nlevel = 'loud'\n")
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: count("service.config_refused"), "the bad one is refused")
        file.write_text("[[upstream]]\nca_file = '/nowhere/ca.pem'\n")
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: count("service.config_refused") == 2, "and one whose certificates are not there")
        simulator.push(calls(600)[300:])
        wait_until(lambda: books.records() == 600, "the old one goes on")
        file.write_text("[schedule]\ndirectory_s = 7\n")
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: count("service.started") == 2, "the good one is taken")
        simulator.push(calls(900)[600:])
        wait_until(lambda: books.records() == 900, "it works on")
        os.kill(process.pid, signal.SIGTERM)
        ends_well(process)
    books.require_exactly(calls(900))


def test_what_cannot_run_says_why_and_ends_with_3(books):
    finished = books.worker(None, "run", **QUICK)
    assert (finished.code, "no upstream" in finished.stderr) == (3, True)
    with proxy("queue") as simulator, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        finished = books.worker(simulator, "sync", WORKER_HTTP_PORT=str(taken.getsockname()[1]))
    assert (finished.code, "http.port" in finished.stderr) == (3, True)


# -- one set of jobs, in this process ---------------------------------------------------------------------------------


@pytest.fixture
def job_set(books, tmp_path):
    upstream = Upstream(url="http://127.0.0.1:9", key=KEY)
    return JobSet(Config(data_dir=tmp_path, upstream=(upstream,), prices=PRICES), books.engine, Metrics())


def test_a_pass_that_is_stuck_is_told_to_the_probe(job_set):
    assert job_set.live() == (True, "ok")
    job_set._upstreams[0].heartbeat_at -= 10_000
    assert not job_set.live().well
    assert "default" in job_set.live().text


def test_a_database_that_is_away_or_older_is_not_ready(job_set, books, monkeypatch):
    assert job_set.ready().well
    monkeypatch.setattr(migrations, "HEAD", "9999")
    assert "9999" in job_set.ready().text
    job_set._engine = database.connect("postgresql+psycopg://nobody@/nowhere?host=/nonexistent")
    assert not job_set.ready().well


def test_the_nightly_comparison_counts_what_differs(job_set, books):
    books.loader()
    with proxy("queue", calls(100)) as simulator:
        books.sync(simulator)
    job_set._verify()
    assert job_set._metrics.registry.get_sample_value("usage_worker_verify_differences") == 0
    books.ask("UPDATE usage.daily SET requests = requests + 1")
    job_set._verify()
    assert job_set._metrics.registry.get_sample_value("usage_worker_verify_differences") > 0


def test_what_another_worker_did_meanwhile_is_no_gap_of_ours(job_set, monkeypatch):
    backoff = next(iter(job_set._backoffs.values()))
    clock = iter([100.0, 115.0, 9000.0, 9015.0])
    monkeypatch.setattr("worker.service.run.time.monotonic", lambda: next(clock))
    assert [backoff.gap_s(), backoff.gap_s()] == [0.0, 15.0]
    backoff.stand_by()
    assert [backoff.gap_s(), backoff.gap_s()] == [0.0, 15.0]


def test_a_run_that_is_skipped_is_counted_and_said_once_in_a_row(job_set, capsys):
    for _ in range(3):
        job_set._told("sync:default", "overrun")
    labels = {"task": "sync:default", "result": "overrun"}
    assert job_set._metrics.registry.get_sample_value("usage_worker_jobs_total", labels) == 3
    assert capsys.readouterr().out.count("job.skipped") == 1


def test_the_nightly_comparison_is_given_up_when_the_service_ends(job_set, books):
    books.loader()
    with books.holding("LOCK TABLE usage.daily IN ACCESS EXCLUSIVE MODE"):
        job = threading.Thread(target=job_set._kept(job_set._verify))
        job.start()
        books.wait_until_it_waits()
        job_set._jobs.start()
        job_set.end()
        job.join(20)
        assert not job.is_alive()
