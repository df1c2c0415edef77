"""What role, database and server have set otherwise counts not; a database that cannot hold every text is refused.

And the forms of a database's URL, each as far as the server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from urllib.parse import quote

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url
from support import Books, calls, free_port, plain_environment, proxy, worker

SYNC = ("sync", "--once", "--json")
COMMANDS = (
    ["status", "--json"],
    ["report", "daily", "--json"],
    ["report", "records", "--json"],
    ["report", "heatmap"],
    ["verify"],
    ["maintain"],
    ["resolve", "--all"],
    ["reprice"],
    ["rebuild"],
    ["channels", "list"],
    ["prices", "list"],
    ["doctor"],
)
OTHERWISE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kolkata",
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "escape_string_warning": "off",
    "client_encoding": "LATIN1",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "search_path": "pg_temp, public, pg_catalog",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "lc_monetary": "C",
    "synchronous_commit": "off",
    "statement_timeout": "1h",
    "xmlbinary": "hex",
    "quote_all_identifiers": "on",
    "plan_cache_mode": "force_generic_plan",
    "row_security": "off",
    "enable_hashjoin": "off",
}


def set_otherwise(books: Books, **settings: str) -> None:
    name = conninfo_to_dict(books.dsn)["dbname"]
    for setting, value in settings.items():
        books.ask(
            sql.SQL("ALTER DATABASE {} SET {} = {}")
            .format(sql.Identifier(name), sql.Identifier(setting), sql.Literal(value))
            .as_string()
        )


def all_goes_well(books: Books) -> None:
    with proxy("snapshot", calls(400)) as simulator:
        first = books.worker(simulator, *SYNC)
        assert first.code == 0, first.stderr
        again = books.worker(simulator, *SYNC)
        assert (again.code, again.json[0]["inserted"]) == (0, 0), again.stderr
        for command in COMMANDS:
            finished = books.worker(simulator, *command)
            assert (finished.code, "Traceback" in finished.stderr) == (0, False), (command, finished.stderr)
    books.require_exactly(calls(400), "snapshot")


def test_settings_of_a_database_count_not(books):
    set_otherwise(books, **OTHERWISE)
    all_goes_well(books)


def test_settings_count_not_even_while_the_schema_is_made(empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books:
        set_otherwise(books, **OTHERWISE)
        all_goes_well(books)


# -- a database that cannot hold every text ---------------------------------------------------------------------


@pytest.fixture(params=["SQL_ASCII", "LATIN1", "WIN1252"])
def narrow(request, admin, server_url):
    """A database of another encoding than UTF-8."""
    name = sql.Identifier(f"test_{uuid.uuid4().hex[:12]}")
    make = "CREATE DATABASE {} ENCODING {} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
    admin.execute(sql.SQL(make).format(name, sql.Literal(request.param)))
    try:
        yield request.param, server_url.set(database=name.as_string().strip('"'))
    finally:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.mark.parametrize("command", [SYNC, ("migrate",), ("status",), ("report", "daily"), ("verify",), ("maintain",)])
def test_a_database_of_another_encoding_is_refused_with_a_remedy(narrow, tmp_path, command):
    encoding, url = narrow
    with Books(url.render_as_string(hide_password=False), tmp_path) as books, proxy("queue", calls(10)) as simulator:
        finished = books.worker(simulator, *command)
        assert (finished.code, "Traceback" in finished.stderr) == (5, False), finished.stderr
        for word in (encoding, "ENCODING 'UTF8' TEMPLATE template0", "WORKER_DATABASE_URL"):
            assert word in finished.stdout + finished.stderr
        if command == SYNC:  # fetching goes on: the database may be put right before the proxy's retention is over
            assert (simulator.queued, len(books.journal())) == (0, 1)


def test_the_doctor_names_another_encoding(narrow, tmp_path):
    encoding, url = narrow
    with Books(url.render_as_string(hide_password=False), tmp_path) as books, proxy("queue") as simulator:
        finished = books.worker(simulator, "doctor", "--json")
    assert finished.code == 5
    found = {row["check"]: row for row in finished.json}
    assert found["database_encoding"]["level"] == "error"
    assert encoding in found["database_encoding"]["what"]
    assert "TEMPLATE template0" in found["database_encoding"]["remedy"]
    assert "upstream_reachable" in found  # the proxy is examined all the same


# -- where the database is --------------------------------------------------------------------------------------


def forms(dsn):
    """The same server in libpq's own forms, and in those that must be refused."""
    at = conninfo_to_dict(dsn)
    user, name, folder, port = at["user"], at["dbname"], at["host"], at["port"]
    yield "a folder as parameter", f"postgresql://{user}@/{name}?host={folder}&port={port}"
    yield "a folder as host", f"postgresql://{user}@{quote(folder, safe='')}:{port}/{name}"
    dead, quoted = free_port(), quote(folder, safe="")
    both = f"127.0.0.1:{dead},{quoted}:{port}"
    yield "two hosts, the first away", f"postgresql://{user}@{both}/{name}"
    yield "the one that takes writes", f"postgresql://{user}@{both}/{name}?target_session_attrs=read-write"
    yield "another scheme", f"postgresql+psycopg://{user}@{quoted}:{port}/{name}?connect_timeout=3&sslmode=disable"


FORMS = ("a folder as parameter", "a folder as host", "two hosts, the first away", "the one that takes writes",
         "another scheme")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_libpqs_own_forms_of_a_url_work(books, form):
    if not conninfo_to_dict(books.dsn)["host"].startswith("/"):
        pytest.skip("the server has no folder of sockets here")
    url = dict(forms(books.dsn))[form]
    with proxy("queue", calls(10)) as simulator:
        for command in (SYNC, ("status",), ("doctor",), ("config", "check")):
            finished = books.worker(simulator, *command, WORKER_DATABASE_URL=url)
            assert finished.code == 0, finished.stderr
    books.require_exactly(calls(10))


PASSWORD = "EXAMPLE-pass"
REFUSED = {
    "a parameter of another driver": ("postgresql://u:{}@h/d?pgbouncer=true", "pgbouncer"),
    "an @ in the password": ("postgresql://u:x@{}@h/d", "%40"),
    "a slash in the password": ("postgresql://u:{}/x@h/d", "%2F"),
    "a hash": ("postgresql://u:x#{}@h:x/d", "%23"),
    "a port that is none": ("postgresql://u:{}@h:70000/d", "port"),
    "another database": ("mysql://u:{}@h/d", "postgresql://"),
}


@pytest.mark.parametrize(("url", "word"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("command", [SYNC, ("status",), ("doctor",), ("config", "check"), ("config", "show")])
def test_a_url_that_cannot_be_understood_is_one_sentence_without_any_part_of_the_password(tmp_path, url, word, command):
    environment = {"WORKER_DATA_DIR": str(tmp_path), "WORKER_DATABASE_URL": url.format(PASSWORD)}
    finished = worker(command, environment, tmp_path)
    told = finished.stdout + finished.stderr
    assert (finished.code, "Traceback" in told) == (3, False), told
    assert "WORKER_DATABASE_URL" in told
    assert word in told
    assert "EXAMPLE" not in told


def test_a_server_that_refuses_the_password_does_not_make_us_say_it(books):
    url = make_url(books.dsn).set(username="nobody_here", password=PASSWORD).render_as_string(hide_password=False)
    finished = books.worker(None, "status", WORKER_DATABASE_URL=url)
    assert finished.code == 5, finished.stderr
    assert "EXAMPLE" not in finished.stdout + finished.stderr


def test_one_upstream_in_single_brackets_is_told_the_double_ones(tmp_path):
    (tmp_path / "config.toml").write_text(f'[upstream]\nurl = "http://127.0.0.1:1"\nkey = "{PASSWORD}"\n')
    finished = worker(["config", "check"], {"WORKER_DATA_DIR": str(tmp_path)}, tmp_path)
    told = finished.stdout + finished.stderr
    assert (finished.code, "Traceback" in told) == (3, False), told
    assert "[[upstream]]" in told
    assert "EXAMPLE" not in told


def test_without_a_home_a_command_works_or_says_what_it_needs(tmp_path):
    """As a systemd unit without User's home, or a container with a number for its user."""
    environment = {name: value for name, value in plain_environment({}).items() if name != "HOME"}
    for user in ([], ["setpriv", "--reuid=64321", "--regid=64321", "--clear-groups"]):
        if user and (os.geteuid() != 0 or shutil.which(user[0]) is None):
            continue
        command = [*user, sys.executable, "-m", "worker", "config", "show"]
        finished = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert finished.returncode == (3 if user else 0), finished.stderr
        assert "Traceback" not in finished.stderr
        assert not user or "WORKER_DATA_DIR" in finished.stderr


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs another account")
def test_a_configuration_that_is_shut_to_this_account_is_one_sentence(tmp_path):
    file = tmp_path / "shut.toml"
    file.write_text("", encoding="utf-8")
    for named in (["--config", str(file)], ["--config", str(tmp_path)]):
        command = ["setpriv", "--reuid=64321", "--regid=64321", "--clear-groups", sys.executable, "-m", "worker"]
        finished = subprocess.run(
            [*command, *named, "config", "check"],
            env=plain_environment({}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (finished.returncode, "Traceback" in finished.stderr) == (3, False), finished.stderr
        assert str(tmp_path) in finished.stderr
