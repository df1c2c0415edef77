"""The command line as its users have it: processes, exit codes, data on stdout and logs on stderr."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from support import KEY, QUICK, RENDERINGS, Books, calls, plain_environment, proxy, utc, wait_until, worker
from typer.main import get_command

from worker import __version__
from worker.cli import main as cli
from worker.db import migrations
from worker.reports import report
from worker.simulator import traffic

SYNC = ("sync", "--once", "--json")
DEAD = "postgresql://somebody:EXAMPLE-db-password@/nowhere?host=/nonexistent"
MODULE = (sys.executable, "-W", "error", "-m", "worker")


@pytest.fixture
def filled(books):
    """Books that hold 500 calls."""
    with proxy("queue", calls(500)) as simulator:
        books.sync(simulator)
    return books


def real(command, folder, **environment):
    return subprocess.run(
        command,
        env=plain_environment(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def without_traceback(finished):
    assert "Traceback" not in finished.stderr
    return finished


# -- the way in -------------------------------------------------------------------------------------------------


def test_the_console_script_and_the_module_are_the_same_command(tmp_path):
    script = Path(sys.executable).with_name("worker")
    said = [real([*command, "--version"], tmp_path) for command in ([script], MODULE)]
    assert {(each.returncode, each.stdout, each.stderr) for each in said} == {
        (0, f"worker {__version__} (schema {migrations.HEAD})\n", "")
    }


def test_the_real_command_does_a_pass(books):
    with proxy("queue", calls(50)) as simulator:
        finished = real([*MODULE, *SYNC], books.folder, **books.environment(simulator))
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)[0]["inserted"] == 50
    books.require_exactly(calls(50))


HEAVY = {"sqlalchemy", "psycopg", "pydantic", "httpx", "structlog", "msgspec", "rich", "alembic", "uvicorn",
         "worker.cli.demo", "worker.service.run", "worker.config", "worker.db.database"}  # fmt: skip


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_needs_nothing_loads_nothing(tmp_path, option):
    finished = real([sys.executable, "-X", "importtime", "-m", "worker", option], tmp_path)
    assert finished.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert "worker.cli.main" in loaded
    assert loaded & HEAVY == set()


def test_help_names_every_command_and_needs_no_configuration(tmp_path):
    finished = worker(["--help"], {"WORKER_NONSENSE": "1"}, tmp_path)
    assert finished.code == 0
    for command in (
        "sync",
        "import",
        "migrate",
        "report",
        "rebuild",
        "verify",
        "status",
        "config",
        "quarantine",
        "demo",
    ):
        assert f" {command} " in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["unheard-of"], "unheard-of"),
        (["report"], "Missing argument"),
        (["report", "unheard-of"], "unheard-of"),
        (["report", "daily", "--since", "yesterday"], "yesterday"),
        (["report", "daily", "--until", "2026-13-01"], "2026-13-01"),
        (["report", "daily", "--format", "xml"], "xml"),
        (["verify", "--since", "2026-02-29"], "2026-02-29"),
        (["import"], "Missing argument"),
        (["import", "/nonexistent/file.json"], "/nonexistent/file.json"),
        (["quarantine", "show", "12345"], "12345"),
        (["quarantine", "show", "first"], "ID"),
        (["rebuild", "--timezone", "Europe/Atlantis"], "Europe/Atlantis"),
        (["sync", "--json"], "--once"),
        (["status", "--config", "own.toml"], "worker --config FILE status"),
        (["channels", "list", "--config=own.toml"], "worker --config FILE channels list"),
        (["prices", "--config", "own.toml", "list"], "worker --config FILE prices"),
    ],
)
def test_what_cannot_be_asked_for_is_exit_2_and_names_it(books, arguments, said):
    finished = without_traceback(books.worker(None, *arguments))
    assert (finished.code, finished.stdout) == (2, "")
    assert said in finished.stderr


# -- passes -----------------------------------------------------------------------------------------------------


def test_data_is_on_stdout_and_logs_are_on_stderr(books):
    with proxy("queue", calls(300)) as simulator:
        finished = books.worker(simulator, *SYNC)
    assert finished.code == 0
    (result,) = finished.json
    documented = {"upstream": "default", "mode": "queue", "pulled": 300, "inserted": 300, "duplicates": 0,
                  "quarantined": 0, "possible_loss": 0, "error": None}  # fmt: skip
    assert documented.items() <= result.items()
    assert result["unknown_channel"] == sum(call.channel_kind == "unknown" for call in calls(300))
    assert [line["event"] for line in finished.logs] == ["directory.refreshed_on_miss", "pass.done"]
    assert len(finished.logs) == len(finished.stderr.splitlines())
    runs = "pulled, inserted, duplicates, quarantined, unknown_channel, possible_loss, mode, error, finished_at IS NULL"
    assert books.ask(f"SELECT {runs} FROM usage_api.v1_sync_runs") == [
        (300, 300, 0, 0, result["unknown_channel"], 0, "queue", None, False)
    ]


def test_a_person_sees_a_table(books):
    with proxy("queue", calls(300)) as simulator:
        finished = books.worker(simulator, "sync", "--once")
    assert finished.code == 0
    assert re.search(r"default +queue +300 +300 +0 +0", finished.stdout)


def test_a_first_pass_makes_the_schema(empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books, proxy("queue", calls(50)) as simulator:
        assert books.worker(simulator, *SYNC).code == 0
        books.require_exactly(calls(50))


def test_switched_off_statistics_are_told_to_a_person(books):
    with proxy("queue", calls(5), statistics_enabled=False) as simulator:
        finished = books.worker(simulator, "sync", "--once")
    assert finished.code == 0
    assert "usage-statistics-enabled: true" in finished.stdout
    assert "upstream.statistics_off" in {line["event"] for line in finished.logs}


@pytest.mark.parametrize("generation", ["resp-only", "home mode", "wrong key", "redirect"])
def test_a_proxy_that_cannot_be_read_is_exit_4(books, generation):
    with proxy("resp-only" if generation == "resp-only" else "queue", calls(5)) as simulator:
        simulator.home_mode = generation == "home mode"
        if generation == "redirect":
            simulator.override("usage-statistics-enabled", b"", 302)
        key = {"WORKER_UPSTREAM_KEY": "EXAMPLE-wrong-key"} if generation == "wrong key" else {}
        finished = without_traceback(books.worker(simulator, "sync", "--once", **key))
    assert finished.code == 4
    assert "worker: default: " in finished.stderr
    assert "EXAMPLE-" not in finished.stdout + finished.stderr


def test_a_database_that_is_not_there_is_exit_5_for_every_command_and_its_password_is_not_said(books):
    for command in (["migrate"], ["migrate", "--check"], ["report", "daily"], ["verify"], ["status"],
                    ["quarantine", "list"], ["rebuild"]):  # fmt: skip
        finished = without_traceback(books.worker(None, *command, WORKER_DATABASE_URL=DEAD))
        assert (finished.code, finished.stdout) == (5, ""), command
        assert "EXAMPLE-db-password" not in finished.stderr
        assert "/nonexistent" in finished.stderr


WITHOUT_A_DATABASE = [
    ["status"], ["report", "channels"], ["report", "daily", "--json"], ["verify"], ["rebuild"], ["maintain"],
    ["migrate"], ["migrate", "--check"], ["migrate", "--unless-away"], ["resolve"], ["reprice"], ["prices", "list"],
    ["prices", "set", "x", "--input", "1"], ["prices", "drop", "1"], ["prices", "sync"], ["prices", "unpriced"],
    ["channels", "list"], ["channels", "show", "x"], ["channels", "rename", "x", "y"], ["channels", "link", "x", "y"],
    ["channels", "set-rate", "x", "1"], ["keys", "list"], ["keys", "rename", "x", "y"], ["quarantine", "list"],
    ["quarantine", "show", "1"], ["quarantine", "retry"], ["quarantine", "drop", "1"], ["import", "usage.json"],
]  # fmt: skip


@pytest.mark.parametrize("command", WITHOUT_A_DATABASE, ids=" ".join)
def test_where_no_database_is_configured_nothing_makes_one_but_a_pass(tmp_path, command):
    data, work = tmp_path / "data", tmp_path / "work"
    work.mkdir()
    (work / "usage.json").write_text("[]")
    environment = {
        "WORKER_DATA_DIR": str(data),
        "WORKER_UPSTREAM_URL": "http://127.0.0.1:1",
        "WORKER_UPSTREAM_KEY": "k",
    }
    finished = without_traceback(worker(command, environment, work))
    assert (finished.code, finished.stdout) == (3, "")
    assert "WORKER_DATABASE_URL" in finished.stderr
    assert str(data) in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
    assert not data.exists()


def test_every_command_that_needs_a_database_is_asked_for_without_one():
    asked = {" ".join(command) for command in WITHOUT_A_DATABASE}
    for words in leaves(get_command(cli.app)):
        if words not in {("sync",), ("run",), ("demo",), ("doctor",), ("config", "show"), ("config", "check")}:
            assert any(f"{one} ".startswith(" ".join(words) + " ") for one in asked), words


def leaves(command, way=()):
    below = getattr(command, "commands", None)
    if below is None:
        return {way}
    return set().union(*(leaves(inner, (*way, name)) for name, inner in below.items()))


def test_sync_without_once_says_that_it_is_a_service_and_how_to_have_one_pass(books):
    with proxy("queue", calls(10)) as simulator, books.starting(simulator, "sync", **QUICK) as process:
        wait_until(lambda: books.records() == 10, "a pass")
        os.kill(process.pid, signal.SIGTERM)
        finished = process.wait()
    assert (finished.code, finished.stdout) == (0, "")
    assert finished.stderr.startswith("worker: without --once this is `worker run`: a service")
    assert "--once does one pass" in finished.stderr.splitlines()[0]


def test_a_database_without_tables_is_exit_5_and_says_what_to_do(empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books:
        for command in (["report", "daily"], ["verify"], ["status"], ["quarantine", "list"]):
            finished = without_traceback(books.worker(None, *command))
            assert (finished.code, finished.stdout) == (5, ""), command
            assert "worker migrate" in finished.stderr


def test_a_database_that_is_newer_is_exit_5_and_what_was_popped_is_kept(books):
    books.ask("UPDATE usage.schema_version SET version_num = '9999'")
    with proxy("queue", calls(100)) as simulator:
        for command in (["migrate"], ["migrate", "--check"], ["rebuild"], ["quarantine", "retry"], ["sync", "--once"]):
            finished = without_traceback(books.worker(simulator, *command))
            assert finished.code == 5, command
            assert "9999" in finished.stderr
            assert "newer" in finished.stderr
        assert (simulator.queued, len(books.journal())) == (0, 1)
        books.ask("UPDATE usage.schema_version SET version_num = %s", [migrations.HEAD])
        assert books.worker(simulator, *SYNC).code == 0
        books.require_exactly(calls(100))


def check_loaded_later(books, simulator):
    """The proxy forgets what is not fetched in time: it waits in the journal until the configuration is right."""
    assert (simulator.queued, simulator.lost, len(books.journal())) == (0, [], 1)
    finished = books.worker(simulator, *SYNC)
    assert (finished.code, finished.json[0]["inserted"]) == (0, 20)
    assert books.journal() == []


def test_another_time_zone_than_the_databases_is_exit_3_and_names_the_way_out(filled):
    with proxy("queue", calls(520)[500:]) as simulator:
        finished = without_traceback(filled.worker(simulator, *SYNC, WORKER_TIMEZONE="Asia/Kolkata"))
        assert finished.code == 3
        assert "worker rebuild --timezone Asia/Kolkata" in finished.stderr
        check_loaded_later(filled, simulator)


def test_another_pepper_than_the_databases_is_exit_3_and_is_not_said(filled):
    with proxy("queue", calls(520)[500:]) as simulator:
        finished = without_traceback(filled.worker(simulator, *SYNC, WORKER_PEPPER="EXAMPLE-pepper"))
        assert finished.code == 3
        assert "WORKER_PEPPER" in finished.stderr
        assert "EXAMPLE-pepper" not in finished.stderr
        check_loaded_later(filled, simulator)


def test_one_proxy_that_fails_does_not_stand_in_the_way_of_the_others(books, tmp_path):
    with proxy("queue", calls(100)) as first, proxy("snapshot", calls(100)) as second:
        (tmp_path / "own.toml").write_text(
            f'[[upstream]]\nname = "first"\nurl = "{first.url}"\nkey = "EXAMPLE-wrong-key"\n'
            f'[[upstream]]\nname = "second"\nurl = "{second.url}"\nkey = "{KEY}"\n'
        )
        finished = books.worker(None, "--config", "own.toml", *SYNC)
        assert finished.code == 4
        assert [(r["upstream"], r["inserted"]) for r in finished.json] == [("first", 0), ("second", 100)]
        only = books.worker(None, "--config", "own.toml", *SYNC, "--upstream", "second")
        assert (only.code, [r["upstream"] for r in only.json]) == (0, ["second"])
        assert first.auth_failures == 1


# -- import -----------------------------------------------------------------------------------------------------

QUEUE = [traffic.queue_item(call) for call in calls(240)]
TOLD = {
    "a snapshot": (traffic.snapshot(calls(240)), "snapshot"),
    "a snapshot of the integer era": (traffic.snapshot(calls(240), "int"), "snapshot-int"),
    "a bare snapshot": (traffic.snapshot(calls(240))["usage"], "snapshot"),
    "an export": (
        {"version": 1, "exported_at": "2026-08-24T00:00:00Z", "usage": traffic.snapshot(calls(240))["usage"]},
        "snapshot",
    ),
    "an array": (QUEUE, "7.2.140"),
}
FILES = {name: (json.dumps(tree).encode(), rendering) for name, (tree, rendering) in TOLD.items()} | {
    "an array over many lines": (json.dumps(QUEUE, indent=1, ensure_ascii=False).encode(), "7.2.140"),
    "JSON lines": (b"\n".join(json.dumps(item).encode() for item in QUEUE) + b"\n", "7.2.140"),
    "lines of arrays": (
        b"\n".join(json.dumps(QUEUE[begin : begin + 50]).encode() for begin in range(0, 240, 50)),
        "7.2.140",
    ),
}


@pytest.mark.parametrize("shape", FILES)
def test_a_file_of_any_shape_is_loaded_once_however_often_it_is_imported(books, tmp_path, shape):
    content, rendering = FILES[shape]
    (tmp_path / "usage.json").write_bytes(content)
    (tmp_path / "usage.json.gz").write_bytes(gzip.compress(content))
    generation = next(name for name, its in RENDERINGS.items() if its == rendering)
    with proxy(generation) as simulator:
        books.sync(simulator)  # so that there is a directory
    finished = books.worker(None, "import", "--json", "usage.json.gz")
    assert (finished.code, finished.json[0]["inserted"]) == (0, 240), finished.stderr
    books.require_exactly(calls(240), rendering)
    before = books.dump()
    again = books.worker(None, "import", "--json", "usage.json", "usage.json.gz")
    assert (again.code, again.json[0]["inserted"], again.json[0]["duplicates"]) == (0, 0, 480)
    assert books.dump() == before


def test_lines_that_stand_twice_in_one_file_are_one_record_each(books, tmp_path):
    lines, rendering = FILES["JSON lines"]
    (tmp_path / "twice.jsonl").write_bytes(lines + lines)
    with proxy("queue") as simulator:
        books.sync(simulator)
    finished = books.worker(None, "import", "--json", "twice.jsonl")
    assert (finished.json[0]["pulled"], finished.json[0]["inserted"], finished.json[0]["duplicates"]) == (480, 240, 240)
    books.require_exactly(calls(240), rendering)


def test_imported_usage_and_the_passes_own_are_the_same_records(books, tmp_path):
    (tmp_path / "old.json").write_bytes(FILES["a snapshot"][0])
    with proxy("queue-6.10.8", calls(300)) as simulator:
        assert books.worker(simulator, *SYNC).code == 0
        before = books.dump()
        finished = books.worker(simulator, "import", "--json", "old.json")
    assert (finished.json[0]["inserted"], finished.json[0]["duplicates"]) == (0, 240)
    assert books.dump() == before
    other = books.worker(None, "import", "--json", "--upstream", "elsewhere", "old.json")
    assert (other.json[0]["upstream"], other.json[0]["inserted"]) == ("elsewhere", 240)
    books.balance()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.json", b""),
        ("text.json", b"usage of August\n"),
        ("page.html", b"<html></html>"),
        ("cut.json.gz", gzip.compress(FILES["a snapshot"][0])[:-200]),
        ("cut.json", FILES["a snapshot"][0][:5000]),
        ("numbers.json", b'{"usage": 17}'),
    ],
)
def test_a_file_that_holds_no_usage_is_exit_2_and_named_and_files_before_it_are_loaded(books, tmp_path, name, content):
    (tmp_path / "good.json").write_bytes(json.dumps(QUEUE[:10]).encode())
    (tmp_path / name).write_bytes(content)
    finished = without_traceback(books.worker(None, "import", "good.json", name))
    assert finished.code == 2
    assert name in finished.stderr
    assert books.ask("SELECT count(*) FROM usage_api.v1_records") == [(10,)]


# -- figures ----------------------------------------------------------------------------------------------------


SINCE_LONG_AGO = ("channels", "groups", "models", "keys", "endpoints", "daily", "hourly", "summary")


@pytest.mark.parametrize("what", SINCE_LONG_AGO)
def test_a_report_says_the_same_in_every_format_and_it_is_what_the_calls_add_up_to(filled, what):
    finished = filled.worker(None, "report", what, "--format", "json")
    assert (finished.code, finished.stderr) == (0, "")
    rows = finished.data
    some = calls(500)
    assert sum(row["requests"] for row in rows) == sum(call.generate for call in some)
    assert sum(row["warmups"] for row in rows) == sum(not call.generate for call in some)
    assert sum(row["failed"] for row in rows) == sum(call.failed and call.generate for call in some)
    assert sum(row["total_tokens"] for row in rows) == sum(traffic.reported(call).total for call in some)
    assert sum(row["cache_read_tokens"] for row in rows) == sum(call.cache_read for call in some)
    assert filled.worker(None, "report", what, "--json").data == rows

    table = list(csv.DictReader(io.StringIO(filled.worker(None, "report", what, "--format", "csv").stdout)))
    assert [[text.replace("+00:00", "Z") for text in row.values()] for row in table] == [
        ["" if row[name] is None else str(row[name]) for name in table[0]] for row in rows
    ]
    assert {"requests", "failed", "success_rate", "total_tokens", "cost_usd", *report.FAMILIES[what].columns} <= set(
        table[0]
    )

    shown = filled.worker(None, "report", what)
    assert shown.code == 0
    assert report.FAMILIES[what].title in shown.stdout


def test_a_report_by_channel_is_that_of_the_calls(filled):
    rows = filled.worker(None, "report", "channels", "--json").data
    wanted = Counter(call.channel for call in calls(500) if call.generate)
    found = Counter()
    for row in rows:
        found[row["channel"]] += row["requests"]
        assert Decimal(str(row["success_rate"])) == round(
            100 * Decimal(row["requests"] - row["failed"]) / row["requests"], 2
        )
    assert found == wanted
    assert {row["channel_kind"] for row in rows} == {"auth", "apikey", "unknown"}


def test_a_reports_range_is_half_open_and_one_proxy_can_be_asked_for(filled):
    by_day = Counter(
        datetime.fromtimestamp(call.timestamp_ns // 10**9, UTC).date() for call in calls(500) if call.generate
    )
    assert len(by_day) >= 2
    first, second = sorted(by_day)[:2]

    def requests(*arguments):
        return sum(row["requests"] for row in filled.worker(None, "report", *arguments, "--json").data)

    for what in ("daily", "hourly", "summary"):
        assert requests(what, "--since", str(first), "--until", str(second)) == by_day[first]
        assert requests(what, "--since", str(second)) == sum(by_day.values()) - by_day[first]
        assert requests(what, "--until", str(first)) == 0
    assert requests("models", "--upstream", "default") == sum(by_day.values())


def test_verify_names_the_sum_that_differs_and_rebuild_mends_it(filled):
    assert filled.worker(None, "verify", "--json").json == {"complete_from": None, "differences": []}
    select = "SELECT day, channel, client_key FROM usage_api.v1_daily ORDER BY total_tokens DESC LIMIT 1"
    ((day, channel, client_key),) = filled.ask(select)
    filled.ask(
        "UPDATE usage.daily SET total_tokens = total_tokens + 7 WHERE (day, dimension_id) = "
        "(SELECT day, dimension_id FROM usage.daily ORDER BY total_tokens DESC LIMIT 1)"
    )
    finished = without_traceback(filled.worker(None, "verify", "--json"))
    assert finished.code == 7
    found = {difference["grain"]: difference for difference in finished.json["differences"]}
    assert {(each["bucket"], each["measure"]) for each in found.values()} == {(str(day), "total_tokens")}
    assert {grain: each["rollup"] - each["records"] for grain, each in found.items()} == {
        "daily": 7, "daily_channel": -7, "daily_key": -7,
    }  # fmt: skip
    assert (found["daily"]["dimension"]["channel"], found["daily_key"]["dimension"]["channel"]) == (channel, "")
    assert found["daily_channel"]["dimension"]["channel"] == channel
    assert {found[grain]["dimension"]["client_key"] for grain in ("daily", "daily_key")} == {client_key}
    shown = filled.worker(None, "verify")
    assert shown.code == 7
    assert "total_tokens" in shown.stdout.replace(" ", "_")
    assert filled.worker(None, "verify", "--until", str(day)).code == 0

    dry = filled.worker(None, "rebuild", "--dry-run", "--json")
    assert (dry.code, dry.json["differences"]) == (0, finished.json["differences"])
    assert filled.worker(None, "verify").code == 7
    assert filled.worker(None, "rebuild").code == 0
    assert filled.worker(None, "verify").code == 0
    filled.require_exactly(calls(500))


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM usage.hourly WHERE dimension_id = (SELECT min(dimension_id) FROM usage.hourly)",
        "UPDATE usage.daily SET day = day - 400 WHERE dimension_id = (SELECT min(dimension_id) FROM usage.daily)",
        "DELETE FROM usage.record WHERE event_key = (SELECT min(event_key::text)::bytea FROM usage.record)",
        "UPDATE usage.hourly SET latency_le_10s = latency_le_10s - 1 WHERE latency_le_10s = 1",
        "UPDATE usage.daily SET cost_usd = cost_usd + 0.000001",
        "DELETE FROM usage.daily_channel WHERE outcome = 'failed'",
        "UPDATE usage.daily_channel SET day = day + 400 WHERE outcome = 'failed'",
        "UPDATE usage.daily_key SET ttft_le_300s = ttft_le_300s + 1",
        "UPDATE usage.daily_key SET requests = 2 * requests",
        "DELETE FROM usage.hourly_key WHERE hour = (SELECT min(hour) FROM usage.hourly_key)",
        "UPDATE usage.hourly_key SET hour = hour + interval '400 days' WHERE outcome = 'failed'",
    ],
    ids=[
        "hours gone",
        "another day",
        "a record gone",
        "a latency",
        "a cost",
        "channels gone",
        "a channel's other day",
        "a key's first token",
        "a key twice",
        "a key's hour gone",
        "a key's other hours",
    ],
)
def test_verify_finds_any_damage_and_rebuild_mends_it(filled, damage):
    filled.ask(damage)
    assert filled.worker(None, "verify").code == 7
    assert filled.worker(None, "rebuild").code == 0
    assert filled.worker(None, "verify").code == 0
    filled.balance()


def test_rebuild_cuts_the_days_by_another_zone_and_passes_go_on_in_it(filled):
    filled.timezone = "Asia/Kolkata"
    finished = filled.worker(None, "rebuild", "--timezone", "Asia/Kolkata")
    assert finished.code == 0, finished.stderr
    filled.require_exactly(calls(500))
    with proxy("queue", calls(600)[500:]) as simulator:
        assert filled.worker(simulator, *SYNC).code == 0
    filled.require_exactly(calls(600))


def test_a_migration_may_be_left_to_the_first_pass_while_the_database_is_away(books):
    away = {"WORKER_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    assert books.worker(None, "migrate", **away).code == 5
    finished = books.worker(None, "migrate", "--unless-away", **away)
    assert (finished.code, "left to the first pass" in finished.stdout) == (0, True)
    assert "nothing to do" in books.worker(None, "migrate", "--unless-away").stdout
    books.ask("UPDATE usage.schema_version SET version_num = '9999'")
    assert books.worker(None, "migrate", "--unless-away").code == 5


def test_status_tells_how_old_the_last_success_is(books):
    assert books.worker(None, "status").code == 0
    assert books.worker(None, "status", "--max-age", "60").code == 1  # there was none
    with proxy("queue", calls(50)) as simulator:
        books.worker(simulator, *SYNC)
        finished = books.worker(None, "status", "--max-age", "60", "--json")
        assert finished.code == 0
        (row,) = finished.json
        assert {"upstream", "last_pass_at", "last_success_at", "newest_record_at", "journal_entries", "journal_bytes",
                "timezone", "records_complete_from", "last_failure_at", "last_error", "future_record_at", "served_by",
                "served_since"} == set(row)  # fmt: skip
        assert (row["served_by"], row["served_since"]) == (None, None)  # the pass is over
        assert (row["upstream"], row["timezone"], row["journal_entries"]) == ("default", "UTC", 0)
        assert datetime.fromisoformat(row["last_success_at"]) <= datetime.now(UTC)
        books.ask("UPDATE usage.sync_run SET finished_at = finished_at - interval '2 hours'")
        assert books.worker(None, "status", "--max-age", "7000").code == 1
        assert books.worker(None, "status", "--max-age", "7400").code == 0
        books.worker(simulator, *SYNC, WORKER_UPSTREAM_KEY="EXAMPLE-wrong-key")
        finished = books.worker(None, "status", "--max-age", "7000", "--json")
        assert finished.code == 1  # a pass that failed is no success
        (row,) = finished.json
        assert (row["last_failure_at"] == row["last_pass_at"], "401" in row["last_error"]) == (True, True)
        books.ask("UPDATE usage.sync_run SET finished_at = finished_at + interval '10 years' WHERE error IS NULL")
        assert books.worker(None, "status", "--max-age", "7000").code == 1  # nor is one that is still to come
    assert "default" in books.worker(None, "status").stdout


# -- the schema -------------------------------------------------------------------------------------------------


def test_migrate_makes_the_schema_once_and_check_only_looks(empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books:
        for _ in range(2):
            assert books.worker(None, "migrate", "--check").code == 5
        assert books.ask("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'usage%%'") == []
        for said in ("migrated", "nothing to do"):
            finished = books.worker(None, "migrate")
            assert (finished.code, finished.stdout) == (0, f"schema {migrations.HEAD}: {said}\n")
        finished = books.worker(None, "migrate", "--check")
        assert finished.code == 0
        assert migrations.HEAD in finished.stdout


# -- configuration ----------------------------------------------------------------------------------------------

GOOD = {"WORKER_UPSTREAM_URL": "http://127.0.0.1:8317", "WORKER_UPSTREAM_KEY": KEY}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({**GOOD, "WORKER_TIMEZON": "UTC"}, ["WORKER_TIMEZON"]),
        ({**GOOD, "WORKER_TIMEZONE": "Europe/Atlantis"}, ["WORKER_TIMEZONE", "Europe/Atlantis"]),
        ({**GOOD, "WORKER_DATABASE_URL": "mysql://u:EXAMPLE-db-password@h/d"}, ["WORKER_DATABASE_URL"]),
        ({**GOOD, "WORKER_UPSTREAM_MODE": "psychic"}, ["WORKER_UPSTREAM_MODE"]),
        ({**GOOD, "WORKER_UPSTREAM_URL": "ftp://h"}, ["WORKER_UPSTREAM_URL", "http"]),
        ({**GOOD, "WORKER_UPSTREAM_KEY": "$2a$10$EXAMPLEhash"}, ["WORKER_UPSTREAM_KEY", "bcrypt"]),
        ({"WORKER_UPSTREAM_URL": "http://h"}, ["key", "missing"]),
        ({**GOOD, "WORKER__JOURNAL__MAX_BYTES": "12 MB"}, ["WORKER__JOURNAL__MAX_BYTES"]),
        ({**GOOD, "WORKER__UPSTREAM__0__SPEED": "9"}, ["WORKER__UPSTREAM__0__SPEED", "not a known key"]),
        ({**GOOD, "WORKER_UPSTREAM_KEY_FILE": "/nonexistent"}, ["WORKER_UPSTREAM_KEY_FILE", "/nonexistent"]),
        ({**GOOD, "WORKER_CONFIG": "/nonexistent.toml"}, ["/nonexistent.toml"]),
        ({}, ["no upstream is configured"]),
    ],
)
def test_a_bad_configuration_is_exit_3_and_names_the_key_and_where_it_stands(tmp_path, environment, said):
    finished = without_traceback(worker(["config", "check"], environment, tmp_path))
    assert (finished.code, finished.stdout) == (3, "")
    for words in said:
        assert words in finished.stderr
    assert "EXAMPLE" not in finished.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[[upstream]]\nurl = "http://h"\nkey = "k"\nspeed = 9\n', "speed"),
        ("[rollup\n", "TOML"),
        ("[rollups]\n", "rollups"),
        ('[[upstream]]\nurl = "http://h"\nkey = "k"\n' * 2, "default"),
        ("[log]\nlevel = 7\n", "log.level"),
    ],
)
def test_a_bad_file_is_exit_3_and_is_named(tmp_path, content, said):
    (tmp_path / "own.toml").write_text(content)
    finished = without_traceback(worker(["--config", "own.toml", "config", "check"], {}, tmp_path))
    assert finished.code == 3
    assert said in finished.stderr
    assert "own.toml" in finished.stderr


def test_a_file_given_that_is_missing_is_exit_3(tmp_path):
    finished = worker(["--config", "missing.toml", "config", "check"], GOOD, tmp_path)
    assert finished.code == 3
    assert "missing.toml" in finished.stderr


def test_config_show_tells_what_is_in_force_and_masks_every_secret(tmp_path):
    (tmp_path / "config.toml").write_text(
        '[[upstream]]\nname = "one"\nurl = "http://127.0.0.1:8317/"\nkey = "EXAMPLE-key-of-one"\n'
        '[rollup]\ntimezone = "Europe/Berlin"\n[security]\npepper = "EXAMPLE-pepper"\n'
    )
    (tmp_path / "key").write_text("EXAMPLE-key-from-file\n")
    environment = {
        "WORKER_DATABASE_URL": "postgres://someone:EXAMPLE-password@db.example.net/usage?password=EXAMPLE-other",
        "WORKER_UPSTREAM_KEY_FILE": str(tmp_path / "key"),
        "WORKER_TIMEZONE": "Asia/Kolkata",
        "WORKER__JOURNAL__MAX_BYTES": "2000000",
    }
    finished = worker(["config", "show"], environment, tmp_path)
    assert (finished.code, finished.stderr) == (0, "")
    shown = finished.json
    assert shown["rollup"]["timezone"] == "Asia/Kolkata"
    assert shown["journal"]["max_bytes"] == 2_000_000
    assert [(one["name"], one["url"], one["key"]) for one in shown["upstream"]] == [
        ("one", "http://127.0.0.1:8317", "***")
    ]
    assert "db.example.net" in shown["database"]["url"]
    assert "EXAMPLE" not in finished.stdout
    checked = worker(["config", "check"], environment, tmp_path)
    assert (checked.code, checked.stderr) == (0, "")
    assert "EXAMPLE" not in checked.stdout


def test_every_spelling_of_the_databases_url_is_taken(filled):
    _, _, rest = filled.dsn.partition("://")
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        assert filled.worker(None, "verify", WORKER_DATABASE_URL=f"{scheme}://{rest}").code == 0


# -- quarantine -------------------------------------------------------------------------------------------------

READABLE = "2026-08-21T10:00:00.123456789Z"
BAD_KEY = "sk-client-EXAMPLE-bad-record-0001"


def bad(call, **changes):
    item = traffic.queue_item(call)
    return {**item, "api_key": BAD_KEY, **changes}


@pytest.fixture
def quarantined(books):
    """Books with 40 good records, and three bad ones that stood between them."""
    good = [traffic.queue_item(call) for call in calls(40)]
    bads = [bad(calls(41)[40], timestamp="yesterday"), bad(calls(42)[41], tokens="many"), "not even an object"]
    with proxy("queue") as simulator:
        simulator.push_raw([*good[:20], *bads, *good[20:]])
        finished = books.worker(simulator, *SYNC)
    assert (finished.code, finished.json[0]["inserted"], finished.json[0]["quarantined"]) == (6, 40, 3)
    books.require_exactly(calls(40))
    return books


def test_bad_records_are_set_aside_with_their_reason_and_their_siblings_load(quarantined):
    listed = quarantined.worker(None, "quarantine", "list", "--json")
    assert listed.code == 0
    assert {row["upstream"] for row in listed.json} == {"default"}
    reasons = {row["reason"]: row["retryable"] for row in listed.json}
    assert sorted(reasons.values()) == [False, True, True]
    for words in ("timestamp", "`tokens`", "Expecting value"):
        assert sum(words in reason for reason in reasons) == 1, reasons
    assert BAD_KEY not in listed.stdout
    assert "timestamp" in quarantined.worker(None, "quarantine", "list").stdout
    assert len(quarantined.worker(None, "quarantine", "list", "--limit", "2", "--json").json) == 2


def test_what_is_shown_of_a_bad_record_holds_no_secret(quarantined):
    for row in quarantined.worker(None, "quarantine", "list", "--json").json:
        shown = quarantined.worker(None, "quarantine", "show", str(row["quarantine_id"]))
        assert shown.code == 0
        assert shown.json["reason"] == row["reason"]
        for secret in (BAD_KEY, *traffic.Traffic(7).secrets()):
            assert secret not in shown.stdout


def test_a_bad_record_that_comes_again_is_counted_once(quarantined):
    with proxy("queue") as simulator:
        simulator.push_raw([bad(calls(41)[40], timestamp="yesterday")])
        finished = quarantined.worker(simulator, *SYNC)
    assert (finished.code, finished.json[0]["quarantined"]) == (0, 0)
    assert len(quarantined.worker(None, "quarantine", "list", "--json").json) == 3


def test_retry_loads_what_can_be_read_now_and_the_rollups_with_it(quarantined):
    nothing = quarantined.worker(None, "quarantine", "retry", "--json")
    assert (nothing.code, nothing.json[0]["inserted"], nothing.json[0]["quarantined"]) == (6, 0, 3)
    quarantined.ask("UPDATE usage.quarantine SET payload = replace(payload, 'yesterday', %s)", [READABLE])
    ((number,),) = quarantined.ask(
        "SELECT quarantine_id FROM usage.quarantine WHERE strpos(payload, %s) > 0", [READABLE]
    )
    finished = quarantined.worker(None, "quarantine", "retry", str(number), "--json")
    assert (finished.code, finished.json[0]["inserted"]) == (0, 1)
    at = int(utc(2026, 8, 21, 10).timestamp()) * 10**9 + 123_456_789
    quarantined.require_exactly([*calls(40), replace(calls(41)[40], client_key=BAD_KEY, timestamp_ns=at)])
    again = quarantined.worker(None, "quarantine", "retry", "--json")
    assert (again.code, again.json[0]["inserted"], again.json[0]["quarantined"]) == (6, 0, 2)
    noted = "SELECT inserted, quarantined FROM usage_api.v1_sync_runs WHERE kind = 'retry' ORDER BY run_id"
    assert quarantined.ask(noted) == [(0, 3), (1, 0), (0, 2)]


def test_a_record_that_was_retried_and_comes_again_off_the_proxy_is_one(quarantined):
    quarantined.ask("UPDATE usage.quarantine SET payload = replace(payload, 'yesterday', %s)", [READABLE])
    quarantined.worker(None, "quarantine", "retry")
    with proxy("queue") as simulator:
        simulator.push_raw([bad(calls(41)[40], timestamp=READABLE)])
        finished = quarantined.worker(simulator, *SYNC)
    assert (finished.json[0]["inserted"], finished.json[0]["duplicates"]) == (0, 1)


def test_drop_forgets_what_is_named_and_nothing_else(quarantined):
    first, *others = (row["quarantine_id"] for row in quarantined.worker(None, "quarantine", "list", "--json").json)
    finished = quarantined.worker(None, "quarantine", "drop", str(first))
    assert (finished.code, finished.stdout) == (0, "dropped 1\n")
    left = quarantined.worker(None, "quarantine", "list", "--json").json
    assert [row["quarantine_id"] for row in left] == others
    assert quarantined.worker(None, "quarantine", "drop", *map(str, others)).code == 0
    assert "empty" in quarantined.worker(None, "quarantine", "list").stdout


# -- the demo ---------------------------------------------------------------------------------------------------


def test_the_demo_shows_every_kind_of_channel_and_can_be_looked_at_afterwards(server_folder, tmp_path):
    finished = real([*MODULE, "demo", "--keep"], tmp_path, TMPDIR=str(server_folder))
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    for words in ("claude/bob@example.com", "OpenRouter", "unknown", "rollups and records agree"):
        assert words in finished.stdout
    for secret in traffic.Traffic(7).secrets():
        assert secret not in finished.stdout + finished.stderr
    (kept,) = server_folder.glob("worker-demo-*")
    assert str(kept) in finished.stdout
    shown = worker(["report", "channels", "--json"], {"WORKER_DATA_DIR": str(kept)}, tmp_path)
    assert shown.code == 0, shown.stderr
    assert sum(row["requests"] + row["warmups"] for row in shown.data) == 3000
    assert {row["channel_kind"] for row in shown.data} == {"auth", "apikey", "unknown"}


def test_the_demo_leaves_nothing_behind(server_folder, tmp_path):
    finished = worker(["demo"], {"TMPDIR": str(server_folder)}, tmp_path)
    assert finished.code == 0, finished.stderr
    assert list(server_folder.glob("worker-demo-*")) == []
    assert not any(str(server_folder) in line for line in processes())


def processes():
    return [
        path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if os.access(path, os.R_OK)
    ]
