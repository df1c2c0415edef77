"""The doctor: every finding provoked, against a real PostgreSQL and a proxy over HTTP, and nothing changed by it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from support import KEY, SEED, Books, calls, keep, popped, proxy

from worker import doctor
from worker.cliproxyapi.client import ProxyClient
from worker.config import Config, Database, Journal, Security, Upstream
from worker.db import database, migrations, settings
from worker.doctor import consumer
from worker.simulator.proxy import Fault, Simulator
from worker.simulator.traffic import Traffic
from worker.sync.journal import Journal as Kept

PASSWORD = "EXAMPLE-database-password"
WRONG = "EXAMPLE-wrong-key"
HERE = {"data_dir", "disk_space", "upstreams_configured"}
BOOKS = {
    "database", "server_version", "database_encoding", "database_clock", "schema", "database_rights", "rollup_timezone",
    "pepper", "partitions", "future_records",
}  # fmt: skip
REACHED = {"database", "server_version", "database_encoding", "database_clock", "schema"}
ASKED = {"upstream_reachable", "upstream_key", "management_api", "upstream_clock", "usage_statistics", "usage_offered"}
PROXY = {"journal", "last_pass", *ASKED, "queue_retention", "other_consumer"}
EVERY = HERE | BOOKS | PROXY
TABLES = """
SELECT c.relname FROM pg_class AS c
WHERE c.relnamespace = 'usage'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1
"""
LET_PASS = (
    "UPDATE usage.sync_run SET started_at = started_at - i, finished_at = finished_at - i FROM (SELECT {} AS i) AS x"
)
ROLES = "SELECT count(*) FROM pg_roles WHERE rolname IN ('usage_writer', 'usage_reader')"


def upstream(simulator, **more):
    return Upstream(**{"url": simulator.url, "key": SecretStr(KEY), **more})


def configured(books, *upstreams, **more):
    given = {"database": Database(url=SecretStr(books.dsn)), **more}
    return books.config(*upstreams, **given)


def examine(books, *upstreams, interval_s=15.0, **more):
    """What was found, by check; no check twice for one proxy, and nothing secret in any."""
    return found_by(configured(books, *upstreams, **more), interval_s)


def found_by(config: Config, interval_s=15.0):
    findings = doctor.examine(config, interval_s=interval_s)
    known = {(f.upstream, f.check): f for f in findings}
    assert len(known) == len(findings)
    said = msgspec.json.encode(findings).decode()
    for secret in (*Traffic(SEED).secrets(), KEY, WRONG, PASSWORD, "EXAMPLE-proxy-password"):
        assert secret not in said
    for f in findings:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", f.check)
        assert f.check in EVERY
        assert f.what
        assert (f.remedy == "") == (f.level == "ok")
        assert (f.exit_code != 0) == (f.level == "error")
        assert (f.upstream != "") == (f.check in PROXY)
    return {f.check: f for f in findings}


def is_error(finding, code, *words):
    assert (finding.level, finding.exit_code) == ("error", code), finding
    said(finding, *words)


def is_warning(finding, *words):
    assert (finding.level, finding.exit_code) == ("warning", 0), finding
    said(finding, *words)


def said(finding, *words):
    for word in words:
        assert word in f"{finding.what} {finding.remedy}"


def amiss(found):
    return {check for check, finding in found.items() if finding.level != "ok"}


def partitions(books):
    """Make those of this month and the next."""
    books.ask("SELECT usage.ensure_record_partition((date_trunc('month', now()) + n * interval '1 month')::date) "
              "FROM generate_series(0, 1) AS n")  # fmt: skip


def asked(simulator):
    return [path.removeprefix("/v0/management/") for _, path, _ in simulator.requests]


# -- nothing is wrong -------------------------------------------------------------------------------------------


def test_where_nothing_is_wrong_every_check_says_so(books):
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator)
        partitions(books)
        found = examine(books, upstream(simulator))
    assert found.keys() == EVERY
    assert amiss(found) == set()
    assert found["queue_retention"].what == "the proxy keeps a record for 3600 s, and passes come every 15 s"


def test_before_the_first_pass_nothing_is_wrong(books):
    with proxy("queue") as simulator:
        found = examine(books, upstream(simulator))
    assert found.keys() == EVERY - {"other_consumer"}
    assert amiss(found) == set()
    assert found["last_pass"].what == "there was none yet"


def test_the_order_is_that_in_which_to_put_things_right(books):
    with proxy("queue") as simulator:
        books.sync(simulator)
        findings = doctor.examine(configured(books, upstream(simulator)), interval_s=15)
    kinds = ["here" if f.check in HERE else "books" if f.check in BOOKS else "proxy" for f in findings]
    assert kinds == sorted(kinds, key=["here", "books", "proxy"].index)


@pytest.mark.parametrize("generation", ["queue", "queue-6.10.8", "both", "snapshot", "snapshot-int", "resp-only"])
def test_nothing_is_popped_and_nothing_is_written(books, generation):
    with proxy(generation, calls(200)) as simulator:
        books.sync(simulator)
        simulator.push(calls(300)[200:])
        queued, before = simulator.queued, everything(books)
        simulator.requests.clear()
        for _ in range(3):
            examine(books, upstream(simulator), interval_s=7200)
        assert not [path for path in asked(simulator) if path.startswith("usage-queue")]
        assert {method for method, _, _ in simulator.requests} == {"GET"}
        assert (simulator.queued, simulator.lost, simulator.expired) == (queued, [], [])
        assert everything(books) == before


def everything(books):
    tables = [name for (name,) in books.ask(TABLES)]
    return {name: sorted(books.ask(f"SELECT t::text FROM usage.{name} AS t")) for name in tables}


def test_two_proxies_are_examined_apart(books):
    with proxy("queue") as one, proxy("snapshot") as two:
        two.statistics_enabled = False
        findings = doctor.examine(
            configured(books, upstream(one, name="one"), upstream(two, name="two")), interval_s=15
        )
    assert [f.check for f in findings].count("upstream_key") == 2
    assert [(f.upstream, f.check) for f in findings if f.level == "error"] == [("two", "usage_statistics")]


# -- configuration ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocked", ["", "refused", "journal", "journal/default"])
def test_a_folder_that_cannot_be_written_is_named_and_no_proxy_is_asked(books, tmp_path, blocked):
    folder = tmp_path / "data"
    (folder / blocked).parent.mkdir(parents=True, exist_ok=True)
    (folder / blocked).write_text("a file is in its place")
    with proxy("queue") as simulator:
        found = examine_in(books, folder, upstream(simulator))
        assert simulator.requests == []
    is_error(found["data_dir"], 3, str(folder / blocked), "WORKER_DATA_DIR")
    assert found.keys() == {"data_dir", "upstreams_configured"} | BOOKS


def examine_in(books, folder, *upstreams):
    one = Database(url=SecretStr(books.dsn))
    return found_by(Config(data_dir=folder, upstream=upstreams, database=one))


def test_a_data_folder_that_is_not_there_yet_is_not_made(books, tmp_path):
    folder = tmp_path / "a" / "b"
    with proxy("queue") as simulator:
        found = examine_in(books, folder, upstream(simulator))
    assert found["data_dir"].level == found["disk_space"].level == "ok"
    assert not folder.parent.exists()


def test_a_disk_with_less_room_than_the_journal_may_take(books):
    found = examine(books, journal=Journal(max_bytes=1 << 60))
    is_warning(found["disk_space"], "MiB", "journal.max_bytes")


def test_no_upstream_at_all(books):
    found = examine(books)
    is_error(found["upstreams_configured"], 3, "WORKER_UPSTREAM_URL")
    assert found.keys() == HERE | BOOKS


# -- the database -----------------------------------------------------------------------------------------------


def test_a_database_that_is_away_is_told_and_the_proxy_is_examined_all_the_same(books):
    away = Database(url=SecretStr(f"postgresql://usage:{PASSWORD}@127.0.0.1:1/usage"))
    with proxy("queue") as simulator:
        found = examine(books, upstream(simulator), database=away)
    is_error(found["database"], 5, "127.0.0.1", "WORKER_DATABASE_URL")
    assert found.keys() == HERE | {"database"} | (PROXY - {"last_pass", "other_consumer"})
    assert amiss(found) == {"database"}


def test_a_database_that_goes_away_meanwhile_is_told_as_one_that_is_away(books):
    with (
        proxy("queue") as simulator,
        books.holding("LOCK TABLE usage.schema_version IN ACCESS EXCLUSIVE MODE"),
        books.starting(simulator, "doctor", "--json") as process,
    ):
        for pid in books.wait_until_it_waits():
            books.ask("SELECT pg_terminate_backend(%s)", [pid])
        finished = process.wait()
    assert (finished.code, "Traceback" in finished.stderr) == (5, False)
    (finding,) = [f for f in finished.json if f["check"] == "database"]
    assert finding["level"] == "error"


def test_a_server_that_is_too_old(books, monkeypatch):
    monkeypatch.setattr("worker.doctor.books.POSTGRES_OLDEST", 10**7)
    is_error(examine(books)["server_version"], 5, "PostgreSQL", "15 or newer")


@pytest.mark.parametrize(("ours_is", "said_of_it"), [(-60, "60 s ahead of"), (60, "60 s behind")])
def test_a_database_whose_clock_differs(books, monkeypatch, ours_is, said_of_it):
    monkeypatch.setattr("worker.doctor.books.now", lambda: datetime.now(UTC) + timedelta(seconds=ours_is))
    is_warning(examine(books)["database_clock"], said_of_it, "NTP")


def test_a_database_without_a_schema(empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books, proxy("queue") as simulator:
        found = examine(books, upstream(simulator))
        assert books.ask("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'usage%%'") == []
    is_warning(found["schema"], "there is none yet", "worker migrate")
    assert found.keys() == HERE | REACHED | (PROXY - {"last_pass", "other_consumer"})


def test_a_schema_that_is_older_may_be_migrated_by_its_owner(books, monkeypatch):
    older = migrations.HEAD
    monkeypatch.setattr(migrations, "HEAD", "9999")
    found = examine(books)
    is_warning(found["schema"], older, "9999", "worker migrate")
    assert found.keys() >= BOOKS


def test_a_schema_that_is_newer_is_not_looked_into(books):
    books.ask("UPDATE usage.schema_version SET version_num = '9999'")
    found = examine(books)
    is_error(found["schema"], 5, "9999", "Update this worker")
    assert found.keys() == HERE | REACHED


@contextmanager
def account(books, *roles) -> Iterator[str]:
    """An account of its own that may log in; the name of its role and of its database fit no other test."""
    if books.ask(ROLES) != [(2,)]:
        pytest.skip("this account may not make roles")
    name = f"account_{uuid.uuid4().hex[:8]}"
    books.ask(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    for role in roles:
        books.ask(f"GRANT {role} TO {name}")
    try:
        yield name
    finally:
        books.ask(f"DROP OWNED BY {name}")
        books.ask(f"DROP ROLE {name}")


def logged_in(books, name):
    url = make_url(books.dsn).set(username=name, password=PASSWORD)
    return Database(url=SecretStr(url.render_as_string(hide_password=False)))


def test_an_account_of_the_writers_may_do_all(books):
    partitions(books)
    with account(books, "usage_writer") as name, proxy("queue") as simulator:
        books.sync(simulator)
        found = examine(books, upstream(simulator), database=logged_in(books, name))
    assert (found.keys(), amiss(found)) == (EVERY, set())
    said(found["database"], name)


def test_an_account_of_the_writers_cannot_migrate(books, empty_database_url, tmp_path, monkeypatch):
    with account(books, "usage_writer") as name:
        older = migrations.HEAD
        monkeypatch.setattr(migrations, "HEAD", "9999")
        is_error(examine(books, database=logged_in(books, name))["schema"], 5, older, "as the owner")
        with Books(empty_database_url, tmp_path) as empty:
            found = examine(empty, database=logged_in(empty, name))
            is_error(found["schema"], 5, "none yet", "as the owner")


@pytest.mark.parametrize("role", ["usage_reader", None])
def test_an_account_that_may_only_read_is_told_which_rights_it_lacks(books, role):
    with account(books, *([role] if role else [])) as name, proxy("queue") as simulator:
        books.sync(simulator)
        found = examine(books, upstream(simulator), database=logged_in(books, name))
    is_error(found["database_rights"], 5, name, "USAGE on schema usage", "and ", "more rights", "usage_writer")
    assert found["partitions"]  # of which the catalogues tell everybody
    assert found.keys() & {"schema", "rollup_timezone", "pepper", "last_pass", "other_consumer"} == set()
    assert found.keys() >= ASKED


@pytest.mark.parametrize(
    ("lacking", "statement"),
    [
        ("INSERT on usage.record", "REVOKE INSERT ON usage.record FROM usage_writer"),
        ("UPDATE on usage.daily", "REVOKE UPDATE ON usage.daily FROM usage_writer"),
        ("SELECT on usage_api.v1_freshness", "REVOKE SELECT ON usage_api.v1_freshness FROM usage_writer"),
        ("EXECUTE on function usage.ensure_record_partition",
         "REVOKE EXECUTE ON FUNCTION usage.ensure_record_partition FROM usage_writer"),
    ],
)  # fmt: skip
def test_a_single_right_that_is_lacking_is_named(books, lacking, statement):
    with account(books, "usage_writer") as name:
        books.ask(statement)
        found = examine(books, database=logged_in(books, name))
    is_error(found["database_rights"], 5)
    assert found["database_rights"].what == f"the account {name} lacks {lacking}"


def test_an_account_that_may_make_no_temporary_tables_lacks_that(books):
    with account(books, "usage_writer") as name:
        books.ask(f"REVOKE TEMPORARY ON DATABASE {make_url(books.url).database} FROM PUBLIC")
        is_error(examine(books, database=logged_in(books, name))["database_rights"], 5, "TEMPORARY on database")


def test_a_database_that_takes_no_writes(books):
    books.ask(f"ALTER DATABASE {make_url(books.url).database} SET default_transaction_read_only = on")
    is_error(examine(books)["database_rights"], 5, "read-only", "primary")


def test_days_of_another_zone(books):
    with proxy("queue") as simulator:
        books.sync(simulator)
    books.timezone = "Asia/Kolkata"
    found = examine(books)
    is_error(found["rollup_timezone"], 3, "Asia/Kolkata", "UTC", "worker rebuild --timezone Asia/Kolkata")


def test_a_pepper_that_does_not_fit(books):
    with proxy("queue") as simulator:
        books.sync(simulator)
    pepper = Security(pepper=SecretStr(PASSWORD))
    is_error(examine(books, security=pepper)["pepper"], 3, "no pepper of its own")
    books.ask("DELETE FROM usage.setting WHERE key = 'pepper'")
    assert examine(books, security=pepper)["pepper"].level == "ok"
    with database.transaction(books.engine) as connection:
        settings.pepper(connection, PASSWORD)
    assert examine(books, security=pepper)["pepper"].level == "ok"
    is_error(examine(books)["pepper"], 3, "was configured when it was begun")


def test_partitions_that_are_not_there_yet(books, monkeypatch):
    """A pass makes what it needs, and what is needed soon: a word is due only where none has done so."""
    assert examine(books)["partitions"].level == "ok"
    end = datetime(2026, 11, 30, 12, tzinfo=UTC)
    monkeypatch.setattr("worker.loading.make_rows.now", lambda: end - timedelta(days=10))
    with proxy("queue", calls(10)) as simulator:
        books.sync(simulator)
    monkeypatch.setattr("worker.doctor.books.now", lambda: end - timedelta(days=10))
    assert examine(books)["partitions"].level == "ok"
    monkeypatch.setattr("worker.doctor.books.now", lambda: end)
    is_warning(examine(books)["partitions"], "2026-12", "worker maintain")
    monkeypatch.setattr("worker.loading.make_rows.now", lambda: end)
    with proxy("queue", calls(20)[10:]) as simulator:
        books.sync(simulator)
    assert examine(books)["partitions"].level == "ok"


def test_an_embedded_database_is_not_made(tmp_path, monkeypatch):
    found = found_by(Config(data_dir=tmp_path))
    assert (found["database"].level, list(tmp_path.iterdir())) == ("ok", [])
    said(found["database"], "the first pass makes")
    monkeypatch.setenv("PG_BINDIR", str(tmp_path))
    is_error(found_by(Config(data_dir=tmp_path))["database"], 5, "PG_BINDIR")


def test_an_embedded_database_that_is_there_is_examined(server_folder):
    config = Config(data_dir=server_folder)
    with database.open_engine(config, make=True):
        pass
    found = found_by(config)
    assert found["server_version"].level == "ok"
    is_warning(found["schema"], "none yet")


# -- a proxy that does not let us in ----------------------------------------------------------------------------


def test_a_proxy_that_does_not_listen(books):
    with proxy("queue") as simulator:
        gone = upstream(simulator)
    found = examine(books, gone)
    is_error(found["upstream_reachable"], 4, gone.url, "WORKER_UPSTREAM_URL")
    assert found.keys() == HERE | BOOKS | {"journal", "last_pass", "upstream_reachable"}


def test_a_wrong_key_is_asked_once_however_often_the_doctor_comes(books):
    with proxy("queue") as simulator:
        wrong = upstream(simulator, key=SecretStr(WRONG))
        first = examine(books, wrong)
        is_error(first["upstream_key"], 4, "refuses", "30 min", "not to the hash")
        assert first["upstream_reachable"].level == "ok"
        for _ in range(9):
            found = examine(books, wrong)
            is_error(found["upstream_key"], 4, "not asked again for", "upstream.key")
            assert found.keys() == HERE | BOOKS | {"journal", "last_pass", "upstream_key"}
        assert (len(simulator.requests), simulator.auth_failures) == (1, 1)
        assert examine(books, upstream(simulator))["upstream_key"].level == "ok"
        assert list((books.folder / "refused").iterdir()) == []


def test_passes_and_the_doctor_remember_a_refusal_for_each_other(books):
    with proxy("queue") as simulator:
        wrong = upstream(simulator, key=SecretStr(WRONG))
        assert books.sync(simulator, key=SecretStr(WRONG)).exit_code == 4
        is_error(examine(books, wrong)["upstream_key"], 4)
        assert simulator.auth_failures == 1
    with proxy("queue") as simulator:
        wrong = upstream(simulator, key=SecretStr(WRONG))
        examine(books, wrong)
        assert books.sync(simulator, key=SecretStr(WRONG)).exit_code == 4
        assert simulator.auth_failures == 1


def test_a_wrong_key_is_asked_once_even_where_the_first_question_is_not_served(books):
    with proxy("snapshot") as simulator:
        simulator.fail_next("usage-statistics-enabled", *[Fault(status=404)] * 10)
        wrong = upstream(simulator, key=SecretStr(WRONG))
        for _ in range(3):
            is_error(examine(books, wrong)["upstream_key"], 4)
        assert simulator.auth_failures == 1


def test_a_ban_is_told_with_the_time_that_is_left(books):
    with proxy("queue") as simulator:
        simulator.ban(20 * 60)
        is_error(examine(books, upstream(simulator))["upstream_key"], 4, "banned this address for 20 min more")
        is_error(examine(books, upstream(simulator))["upstream_key"], 4, "not asked again for 20 min")
        assert len(simulator.requests) == 1


def test_a_key_that_is_refused_while_the_doctor_asks_ends_the_questions(books):
    with proxy("queue") as simulator:
        simulator.fail_next("config", Fault(status=401, body=b'{"error":"invalid management key"}'))
        found = examine(books, upstream(simulator))
        is_error(found["upstream_key"], 4, "refuses")
        assert asked(simulator)[-1] == "config"


def test_management_that_is_not_for_us(books):
    with proxy("queue") as simulator:
        simulator.refuse("remote management disabled")
        found = examine(books, upstream(simulator))
    is_error(found["management_api"], 4, "remote management disabled", "allow-remote")
    assert found["upstream_reachable"].level == "ok"
    assert "upstream_key" not in found


@pytest.mark.parametrize("path", ["", "/proxied"])
def test_a_proxy_that_serves_no_management_at_all(books, path):
    with proxy("queue", home_mode=not path) as simulator:
        found = examine(books, upstream(simulator, url=simulator.url + path))
    is_error(found["management_api"], 4, "Home mode", "secret-key", "upstream.url")
    assert found.keys() == HERE | BOOKS | {"journal", "last_pass", "upstream_reachable", "management_api"}


@pytest.mark.parametrize("fault", [Fault(html=True), Fault(status=302), Fault(status=500, body=b"oops")])
def test_something_else_that_answers_there(books, fault):
    with proxy("queue") as simulator:
        simulator.fail_next("usage-statistics-enabled", fault)
        found = examine(books, upstream(simulator))
    is_error(found["management_api"], 4, "upstream.url")


@pytest.mark.parametrize(("seconds", "said_of_it"), [(90, "ahead of"), (-90, "behind")])
def test_a_proxy_whose_clock_differs(books, seconds, said_of_it):
    with proxy("queue", wall=lambda: time.time() + seconds) as simulator:
        finding = examine(books, upstream(simulator))["upstream_clock"]
    is_warning(finding, said_of_it, "the proxy", "NTP")
    assert abs(int(re.search(r"(\d+) s", finding.what)[1]) - 90) <= 2


def test_a_clock_that_is_a_little_off_and_one_that_is_not_told(books):
    with proxy("queue", wall=lambda: time.time() + 3) as simulator:
        assert examine(books, upstream(simulator))["upstream_clock"].level == "ok"


# -- a proxy that gives nothing ---------------------------------------------------------------------------------


def test_statistics_that_are_off(books):
    with proxy("queue") as simulator:
        books.sync(simulator)
        simulator.statistics_enabled = False
        found = examine(books, upstream(simulator))
    is_error(found["usage_statistics"], 4, "usage-statistics-enabled: true")
    assert "other_consumer" not in found


@pytest.mark.parametrize(
    ("generation", "mode", "version", "words"),
    [
        ("queue", "auto", None, "over the queue"),
        ("queue-6.10.8", "queue", None, "over the queue"),
        ("both", "auto", None, "over the queue"),
        ("both", "snapshot", None, "as snapshots"),
        ("snapshot", "auto", None, "as snapshots"),
        ("snapshot-int", "snapshot", None, "as snapshots"),
        ("queue", "auto", "dev", "only a pass can tell"),
        ("queue", "queue", "0.3.1", "only a pass can tell"),
        ("snapshot", "auto", "dev", "as snapshots"),
        ("queue", "auto", "8.0.0", "over the queue"),
    ],
)
def test_how_usage_is_read_is_found_out_without_reading_it(books, generation, mode, version, words):
    with proxy(generation, calls(20), version=version) as simulator:
        found = examine(books, upstream(simulator, mode=mode))
        assert (found["usage_offered"].level, simulator.lost) == ("ok", [])
        said(found["usage_offered"], words)
    assert ("queue_retention" in found) == ("queue" in words or "pass" in words)


@pytest.mark.parametrize(
    ("generation", "mode", "words"),
    [
        ("resp-only", "auto", ["6.10.5", "Redis protocol", "v6.10.8 or later"]),
        ("snapshot", "queue", ["6.9.49 offers no queue", "upstream.mode"]),
        ("queue", "snapshot", ["7.2.140 offers no snapshot", "upstream.mode"]),
    ],
)
def test_a_version_that_does_not_offer_what_is_wanted(books, generation, mode, words):
    with proxy(generation) as simulator:
        found = examine(books, upstream(simulator, mode=mode))
    is_error(found["usage_offered"], 4, *words)
    assert found.keys() & {"queue_retention", "other_consumer"} == set()


def test_a_fork_with_numbers_of_its_own_is_known_by_its_passes(books):
    with proxy("queue", version="6.2.0-fork") as simulator:
        books.sync(simulator)
        assert examine(books, upstream(simulator))["usage_offered"].what == "over the queue"


def test_an_adapter_that_serves_its_history_and_nothing_else(books):
    with proxy("snapshot") as simulator:
        simulator.fail_next("usage-statistics-enabled", Fault(status=404))
        found = examine(books, upstream(simulator))
    assert amiss(found) == set()
    assert "usage_statistics" not in found


def test_a_history_that_fails_is_not_known(books):
    with proxy("snapshot") as simulator:
        simulator.fail_next("usage", Fault(status=500, body=b"oops"))
        is_warning(examine(books, upstream(simulator))["usage_offered"], "not known")


@pytest.mark.parametrize(
    ("retention_s", "interval_s", "level"),
    [
        (3600, 15, "ok"),
        (3600, 1800, "ok"),
        (3600, 1801, "warning"),
        (3600, 3600, "error"),
        (60, 15, "ok"),
        (60, 30, "ok"),
        (60, 31, "warning"),
        (60, 60, "error"),
        (0, 60, "error"),
        (9999, 1800, "ok"),
    ],
)
def test_records_must_be_kept_for_twice_as_long_as_passes_are_apart(books, retention_s, interval_s, level):
    with Simulator(key=KEY, retention_s=retention_s) as simulator:
        finding = examine(books, upstream(simulator), interval_s=interval_s)["queue_retention"]
    assert (finding.level, finding.exit_code) == (level, 4 if level == "error" else 0)
    if level != "ok":
        said(finding, "config.yaml", "redis-usage-queue-retention-seconds: 3600")
        assert ("at least every 1800 s" in finding.remedy) == (interval_s > 1800)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": "not found"}, 404),
        (b"<html>sk-client-team-a-7Q2mX</html>", 200),
        ({"redis-usage-queue-retention-seconds": "sk-client-team-a-7Q2mX"}, 200),
        (b"sk-client-team-a-7Q2mX", 500),
        (b'{"a":' * 100_000, 200),
    ],
)
def test_a_retention_that_cannot_be_read_is_not_known_and_what_was_read_is_not_told(books, body, status):
    with proxy("queue") as simulator:
        simulator.override("config", body, status)
        finding = examine(books, upstream(simulator))["queue_retention"]
    is_warning(finding, "not known", "redis-usage-queue-retention-seconds: 3600")


def test_an_answer_nested_too_deep_is_told_as_any_that_cannot_be_read(books):
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator)
        for endpoint in ("auth-files", "api-key-usage", "config", "openai-compatibility"):
            simulator.override(endpoint, b'{"files":' * 100_000)
        found = examine(books, upstream(simulator))
    assert "other_consumer" not in found
    is_warning(found["queue_retention"], "not known", "3600")


# -- another consumer -------------------------------------------------------------------------------------------


AGO_S = 40 * 60


def served(n, ago_s=AGO_S):
    """Calls over accounts that the proxy lists, which ended so long ago."""
    made = [call for call in calls() if call.channel_kind == "auth"][:n]
    at = time.time_ns() - int(ago_s) * 10**9
    return [replace(call, timestamp_ns=at + i * 1000, latency_ms=0) for i, call in enumerate(made)]


def serve(simulator, ended, ago_s=AGO_S):
    simulator.wall = lambda: time.time() - ago_s
    simulator.push(ended)
    simulator.wall = time.time


@contextmanager
def watched(books, **more) -> Iterator[Simulator]:
    """A proxy whose first pass was an hour and a half ago."""
    with proxy("queue", **more) as simulator:
        books.sync(simulator)
        books.ask(LET_PASS.format("interval '90 min'"))
        yield simulator


def judged(books, simulator):
    return examine(books, upstream(simulator), interval_s=1800)["other_consumer"]


def taken_by_another(simulator, n=1000):
    with ProxyClient(upstream(simulator, queue_count=n)) as another:
        popped(another)


def test_requests_whose_records_all_arrived(books):
    with watched(books) as simulator:
        serve(simulator, served(40))
        books.sync(simulator)
        finding = judged(books, simulator)
    assert finding.level == "ok"
    said(finding, "40 requests", "40 records")


def test_requests_of_which_no_record_arrives_go_to_another_consumer(books):
    with watched(books) as simulator:
        serve(simulator, served(consumer.SILENT_MIN))
        taken_by_another(simulator)
        books.sync(simulator)
        finding = judged(books, simulator)
    is_error(finding, 4, f"{consumer.SILENT_MIN} requests", "no record", "Redis port", "dashboard")


def test_records_that_stopped_arriving_are_told_although_earlier_ones_did(books):
    with watched(books) as simulator:
        serve(simulator, served(100, 80 * 60), 80 * 60)
        books.sync(simulator)
        serve(simulator, served(10))
        taken_by_another(simulator)
        books.sync(simulator)
        is_error(judged(books, simulator), 4, "served 10 requests")


def test_requests_of_which_only_some_records_arrive_are_shared(books):
    with watched(books) as simulator:
        serve(simulator, served(40))
        taken_by_another(simulator, 30)
        books.sync(simulator)
        finding = judged(books, simulator)
    is_warning(finding, "40 requests", "10 records")


def test_api_keys_are_counted_too(books):
    made = [call for call in calls() if call.channel == "OpenRouter"][:10]
    with watched(books) as simulator:
        serve(simulator, made)
        taken_by_another(simulator)
        books.sync(simulator)
        is_error(judged(books, simulator), 4, "10 requests")


def test_what_was_served_while_statistics_were_off_is_no_sign_of_another_consumer(books):
    with watched(books) as simulator:
        simulator.statistics_enabled = False
        serve(simulator, served(40))
        books.sync(simulator)
        simulator.statistics_enabled = True
        books.sync(simulator)
        assert judged(books, simulator).level == "ok"


def test_what_was_served_while_no_pass_came_or_passes_failed_is_no_sign_of_another_consumer(books):
    with watched(books) as simulator:
        serve(simulator, served(40))
        taken_by_another(simulator)
        books.sync(simulator)
        assert judged(books, simulator).level == "error"
        assert examine(books, upstream(simulator), interval_s=600)["other_consumer"].level == "ok"
        books.ask("UPDATE usage.sync_run SET error = 'it failed' WHERE run_id = 1")
        assert judged(books, simulator).level == "ok"


def test_what_was_served_before_the_first_pass_or_since_the_last_is_no_sign_of_another_consumer(books):
    with watched(books) as simulator:
        serve(simulator, served(40, 110 * 60), 110 * 60)
        taken_by_another(simulator)
        books.sync(simulator)
        serve(simulator, served(40, 0), 0)
        finding = judged(books, simulator)
    assert finding.level == "ok"
    said(finding, " 0 requests")


@pytest.mark.parametrize("ahead_s", [3 * 3600, -3 * 3600])
def test_a_proxy_with_another_clock_is_judged_by_its_own(books, ahead_s):
    with watched(books) as simulator:
        simulator.wall = lambda: time.time() + ahead_s - AGO_S
        simulator.push(served(40, AGO_S - ahead_s))
        simulator.wall = lambda: time.time() + ahead_s
        books.sync(simulator)
        finding = judged(books, simulator)
    assert finding.level == "ok"
    said(finding, "40 requests", "40 records")


@pytest.mark.parametrize("body", [{"error": "not found"}, b"<html>", {"files": None}, {"files": [{"success": 7}]}])
def test_a_proxy_that_keeps_no_count_is_not_judged(books, body):
    with watched(books) as simulator:
        simulator.override("auth-files", body, 404 if body == {"error": "not found"} else 200)
        simulator.override("api-key-usage", {}, 200)
        assert "other_consumer" not in examine(books, upstream(simulator))


@pytest.mark.parametrize(
    ("counted", "ended", "level"),
    [
        ({}, {}, "ok"),
        ({5: 4}, {}, "ok"),
        ({5: 5}, {}, "error"),
        ({5: 5}, {4: 1}, "ok"),  # the request may be counted in the span beside its record's
        ({5: 5}, {3: 1}, "error"),
        ({5: 0, 6: 9}, {7: 9}, "ok"),
        ({5: 19}, {5: 1}, "ok"),
        ({5: 20}, {5: 9}, "warning"),
        ({5: 20}, {5: 10}, "ok"),
        ({5: 20}, {6: 10}, "ok"),
        ({5: 20}, {7: 10}, "warning"),
        ({5: 100, 9: 9}, {5: 100}, "error"),
    ],
)
def test_requests_are_compared_with_records_span_by_span(counted, ended, level):
    assert consumer.compare("default", counted, ended).level == level


# -- here -------------------------------------------------------------------------------------------------------


def test_payloads_that_wait_or_fill_the_journal_or_are_damaged(books):
    kept = Kept(books.folder, "default", 1 << 20)
    with proxy("queue") as simulator:
        keep(kept, b"[]")
        finding = examine(books, upstream(simulator))["journal"]
        assert (finding.level, finding.what) == ("ok", "1 answers wait in it")
        entry = keep(kept, b" " * (1 << 20))
        full = examine(books, upstream(simulator), journal=Journal(max_bytes=1 << 20))["journal"]
        is_error(full, 1, "2 answers", "journal.max_bytes")
        kept.drop(entry)
        (left,) = books.journal()
        left.write_bytes(b"spoilt\n[]")
        assert list(kept.entries()) == []
        is_warning(examine(books, upstream(simulator))["journal"], "1 of its files", ".damaged", "worker import")
        kept.damaged()[0].unlink()
        kept.keep_unread(keep(kept, b"<html>"))
        is_warning(examine(books, upstream(simulator))["journal"], "1 of its files", ".unread", "a version that can")


def test_passes_that_have_stopped(books):
    with proxy("queue") as simulator:
        books.sync(simulator)
        books.ask(LET_PASS.format("interval '1 hour'"))
        found = examine(books, upstream(simulator))
        is_warning(found["last_pass"], "60 min ago", "worker run")
        assert examine(books, upstream(simulator), interval_s=1200)["last_pass"].level == "ok"
        books.ask(LET_PASS.format("interval '1 day'"))
        found = examine(books, upstream(simulator))
        is_warning(found["last_pass"], "1,500 min ago")
        assert "other_consumer" not in found


def test_a_last_pass_that_failed(books):
    with proxy("queue") as simulator:
        simulator.refuse("remote management disabled")
        assert books.sync(simulator).exit_code == 4
        simulator.refuse(None)
        is_warning(examine(books, upstream(simulator))["last_pass"], "remote management disabled", "worker sync --once")
