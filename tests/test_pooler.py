"""Behind PgBouncer in transaction mode, where each transaction may get another connection.

Skipped where there is no `pgbouncer` on PATH: no package of Python's index brings it.
"""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support import QUICK, calls, free_port, proxy, said, wait_until

BINARY = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(BINARY is None, reason="pgbouncer is not on PATH")


@contextmanager
def pooled(books, folder):
    """The same database through a pooler of three server connections for many clients."""
    server = conninfo_to_dict(books.dsn)
    port = free_port()
    password = f" password={server['password']}" if server.get("password") else ""
    (folder / "users.txt").write_text(f'"{server["user"]}" ""\n')
    (folder / "pgbouncer.ini").write_text(f"""
[databases]
{server["dbname"]} = host={server["host"]} port={server["port"]} user={server["user"]}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = 12
server_reset_query = DISCARD ALL
server_reset_query_always = 1
logfile = {folder}/pgbouncer.log
pidfile =
""")
    owner = Path(server["host"]).owner() if server["host"].startswith("/") else "nobody"
    command = [str(BINARY), str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:  # it does not run as root
        shutil.chown(folder, owner)
        command[1:1] = ["-u", owner]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"postgresql://{server['user']}@127.0.0.1:{port}/{server['dbname']}"
    try:
        wait_until(lambda: process.poll() is not None or answers(url), "the pooler answers")
        assert process.poll() is None, (folder / "pgbouncer.log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(20)


def answers(url):
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def behind(books):
    """What makes the worker's every connection come from a pooler."""
    # Not in tmp_path: that is root's alone where root runs this.
    with TemporaryDirectory() as folder, pooled(books, Path(folder)) as url:
        yield {"WORKER_DATABASE_URL": url}


def test_whole_passes_commands_and_a_repeated_one_are_exact(behind, books):
    with proxy("snapshot", calls()) as simulator:
        assert books.worker(simulator, "sync", "--once", **behind).code == 0
        again = books.worker(simulator, "sync", "--once", "--json", **behind)
        assert (again.code, again.json[0]["pulled"]) == (0, 0), again.stderr
        for command in (["verify"], ["maintain"], ["resolve", "--all"], ["rebuild"], ["status"], ["report", "daily"]):
            finished = books.worker(simulator, *command, **behind)
            assert finished.code == 0, finished.stderr
    books.require_exactly(calls(), "snapshot")


def test_one_of_two_services_works_and_the_other_takes_over_when_it_dies(behind, books):
    with proxy("queue", calls(1000)) as simulator, books.starting(simulator, "run", **QUICK, **behind) as first:
        wait_until(lambda: books.records() == 1000, "the first works")
        with books.starting(simulator, "run", **QUICK, **behind) as second:
            wait_until(lambda: '"pass.standby"' in said(second), "the second stands by")
            first.kill()
            simulator.push(calls(3000)[1000:])
            wait_until(lambda: books.records() == 3000, "the second has taken over")
            os.kill(second.pid, signal.SIGTERM)
            assert second.wait().code == 0
    books.require_exactly(calls())
