"""The door to PostgreSQL: engine, transactions, the schema's version, and what belongs to the database itself."""

from __future__ import annotations

import importlib.resources
import secrets
import threading
import weakref
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
import sqlalchemy
import structlog
from sqlalchemy import event
from sqlalchemy.engine import Engine

from worker import conninfo
from worker.config import Config
from worker.db import embedded, head, lease, session
from worker.db.lease import Lease, Renewal
from worker.db.session import LONG, SHORT, Deadlines
from worker.db.sqlstate import DRIVER_ERRORS, READ_ONLY, raise_ours
from worker.errors import (
    ConfigError,
    DatabaseError,
    DatabaseUnusableError,
    NewerSchemaError,
    NoSchemaError,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger()

HEAD = head.HEAD
Connection = psycopg.Connection[tuple[Any, ...]]

EMBEDDED_NAME = "usage"
CREATE_DATABASE = "CREATE DATABASE usage"
SELECT_VERSION = "SELECT version_num FROM usage.schema_version"
SELECT_SETTING = "SELECT value FROM usage.setting WHERE key = %s"
UPDATE_SETTING = """
INSERT INTO usage.setting (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value
"""
INSERT_SETTING = "INSERT INTO usage.setting (key, value) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING"
LOCK_MIGRATION = "SELECT pg_advisory_xact_lock(hashtextextended('usage.migrate', 0))"
SELECT_OWNS_TOGETHER = """
SELECT EXISTS (
    SELECT FROM pg_roles AS r LEFT JOIN pg_namespace AS n ON n.nspname = 'usage'
    WHERE r.rolname = 'usage_owner' AND pg_has_role(current_user, r.oid, 'MEMBER')
      AND has_database_privilege(r.oid, current_database(), 'CREATE') AND (n.oid IS NULL OR n.nspowner = r.oid)
)
"""
OWN_TOGETHER = "SET LOCAL ROLE usage_owner"
SELECT_WORKS = """
SELECT (SELECT version_num FROM usage.schema_version),
       pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean
"""

_RENEWALS: weakref.WeakKeyDictionary[Engine, Renewal] = weakref.WeakKeyDictionary()
_STARTING = threading.Lock()


@contextmanager
def opened(config: Config, *, make: bool = False) -> Generator[Engine]:
    """Open the configured database, or the embedded one in the data folder where none is configured.

    The embedded server is shared with other processes on the same folder; the last to leave stops it.

    Args:
        config: what is configured.
        make: whether an embedded database is made where there is none yet: by what fetches usage, and by nothing else.

    Raises:
        ConfigError: no database is configured, and none is there.
        DatabaseError: there is no server to start, or it does not start.
    """
    url = config.database.url.get_secret_value()
    if url:
        engine = connect(url)
        try:
            yield engine
        finally:
            engine.dispose()
        return
    folder = config.data_dir / "postgres"
    if not make and not embedded.is_made(folder):
        raise ConfigError(
            f"no database is configured, and {config.data_dir} holds none: set WORKER_DATABASE_URL (database.url), or "
            "WORKER_DATA_DIR to where a pass has made one; `worker sync` and `worker run` make one where there is none"
        )
    with embedded.EmbeddedPostgres(folder) as server:
        _create_database(server.dsn())
        engine = connect(server.url(EMBEDDED_NAME))
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def opened_to_change(config: Config) -> Generator[Engine]:
    """Do the same for who changes something and does not migrate before.

    Raises:
        DatabaseError: besides, the schema is newer than this program, which must leave it alone then.
    """
    with opened(config) as engine:
        schema_version(engine)
        yield engine


def connect(url: str) -> Engine:
    """Return an engine for `url`, a URL that libpq reads. Nothing is opened yet."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=partial(session.connect, conninfo.spelled(url)),
        pool_size=4,
        max_overflow=60,  # one for each proxy that a service serves at the same time
        pool_pre_ping=True,
        use_native_hstore=False,  # there is none to look for
    )
    event.listen(engine, "begin", _begin)
    event.listen(engine, "checkin", _end)
    return engine


def _begin(connection: sqlalchemy.Connection) -> None:
    deadlines = connection.get_execution_options().get("deadlines", session.LONG)
    try:
        session.begin(_driver(connection), deadlines)
    except DRIVER_ERRORS as e:  # the pool does not hear of it otherwise, and would try to undo what was begun
        connection.invalidate(e)
        raise


def _end(connection: Connection | None, _: object) -> None:
    if connection is not None:
        session.end(connection)


@contextmanager
def transaction(engine: Engine, deadlines: Deadlines = LONG) -> Generator[Connection]:
    """Open one transaction on the driver's own connection: committed at the end, undone by an exception.

    Args:
        engine: the database.
        deadlines: how long it may be held up.

    Raises:
        DatabaseError: PostgreSQL cannot be reached, the connection was lost, it does not work, or there is no schema
            yet.
        RefusedError: it does not take a value.
    """
    with begun(engine, deadlines) as connection:
        yield _driver(connection)


@contextmanager
def begun(engine: Engine, deadlines: Deadlines = LONG) -> Generator[sqlalchemy.Connection]:
    """Do the same with SQLAlchemy's connection, for composed queries."""
    failed: BaseException | None = None
    try:
        with engine.execution_options(deadlines=deadlines).begin() as connection:
            try:
                yield connection
            except BaseException as e:
                failed = e
                raise
    except DRIVER_ERRORS as e:  # where the connection was lost, undoing failed, too: why it was lost came before
        raise_ours(failed if isinstance(failed, DRIVER_ERRORS) else e)


def check_writable(engine: Engine) -> None:
    """Make sure that the database works: it can be reached, has this program's schema, and takes writes.

    Raises:
        DatabaseError: it does not, and why. A full disk is found out by the first pass, not by this.
    """
    with transaction(engine, SHORT) as connection:
        row = connection.execute(SELECT_WORKS).fetchone()
    version, read_only = row or (None, False)
    if version != HEAD:
        raise NoSchemaError(f"the schema is at version {version}, this program's is {HEAD}: run `worker migrate`")
    if read_only:
        raise DatabaseUnusableError(f"PostgreSQL: {READ_ONLY}")


class Lock:
    """A lease that is held from `acquire` to `release`, and renewed meanwhile; see `worker.db.lease`.

    Who holds it and loses it, since its renewals did not reach PostgreSQL for a while, is told by the next `acquire`.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        """Name the lock; nothing is held yet."""
        self._engine = engine
        self._lease = Lease(name)

    def acquire(self) -> bool:
        """Take the lock, or find that it is still held; return whether it is ours.

        Raises:
            DatabaseError: PostgreSQL cannot be reached.
        """
        try:
            ours = self._take()
        except NoSchemaError:  # its table comes with the schema that a pass brings first
            upgrade(self._engine)
            ours = self._take()
        if ours:
            _renewal(self._engine).begin(self._lease)
        else:
            _renewal(self._engine).end(self._lease)
        return ours

    def _take(self) -> bool:
        with _each_by_itself(self._engine) as connection:
            return self._lease.take(connection)

    def release(self) -> None:
        """Let the lock go; where PostgreSQL cannot be told, it is free when it expires."""
        _renewal(self._engine).end(self._lease)
        with suppress(DatabaseError), _each_by_itself(self._engine) as connection:
            self._lease.give_back(connection)


@contextmanager
def _each_by_itself(engine: Engine) -> Generator[Connection]:
    """Open a connection on which each statement is a transaction: none is left open, whoever stops in between."""
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                yield _driver(connection)
            except DRIVER_ERRORS:
                connection.invalidate()  # it may be lost: the pool would find out by failing to reset it
                raise
    except DRIVER_ERRORS as e:
        raise_ours(e)


def _renewal(engine: Engine) -> Renewal:
    """Return the one that renews the leases of this process in that database."""
    weak = weakref.ref(engine)  # which it does not keep

    def renew(holders: Sequence[UUID]) -> None:
        there = weak()
        if there is None:
            return
        try:
            with _each_by_itself(there) as connection:
                lease.renew(connection, holders)
        except DatabaseError as e:  # the next renewal may come in time
            log.debug("lease.not_renewed", reason=str(e))

    with _STARTING:
        return _RENEWALS.setdefault(engine, Renewal(renew))


def consumer(upstream: str) -> str:
    """Return the name of the lock that the one worker holds which reads a proxy's queue."""
    return f"{upstream}:consumer"


def migrate(url: str) -> None:
    """Bring the schema to head. Safe to run from several processes at once, and again after it was killed.

    Raises:
        DatabaseError: PostgreSQL cannot be reached, or its schema is newer than this program.
    """
    engine = connect(url)
    try:
        upgrade(engine)
    finally:
        engine.dispose()


def upgrade(engine: Engine) -> bool:
    """Bring the schema to head; return whether it was not there already."""
    if schema_version(engine) == HEAD:
        return False
    from alembic import command  # noqa: PLC0415  # a pass that has nothing to migrate need not load Alembic
    from alembic.config import Config as AlembicConfig  # noqa: PLC0415

    settings = AlembicConfig()
    settings.set_main_option("script_location", str(migrations_dir()))
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(LOCK_MIGRATION)
            own_together(connection)
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
    except DRIVER_ERRORS as e:
        raise_ours(e)
    return True


def own_together(connection: sqlalchemy.Connection) -> None:
    """Let what this transaction makes belong to usage_owner, where that role may create here and has what is there.

    Then every member of it may migrate. Elsewhere things belong to the account that migrates, and it alone may.
    """
    if connection.exec_driver_sql(SELECT_OWNS_TOGETHER).scalar_one():
        connection.exec_driver_sql(OWN_TOGETHER)


def schema_version(engine: Engine) -> str | None:
    """Return the schema's version, None where there is no schema yet.

    Raises:
        NewerSchemaError: the version is not one that this program knows.
        DatabaseError: PostgreSQL cannot be reached.
    """
    try:
        with transaction(engine) as connection:
            row = connection.execute(SELECT_VERSION).fetchone()
    except NoSchemaError:
        return None
    found = str(row[0]) if row else None
    if found is not None and found not in _known_versions():
        raise NewerSchemaError(
            f"the database's schema is at version {found}, which this program (schema {HEAD}) does not know: "
            "it is newer. Update the worker; nothing was changed."
        )
    return found


def migrations_dir() -> Path:
    """Return the folder of the migrations: in the wheel beside the code, in a checkout above it."""
    package = Path(str(importlib.resources.files("worker")))
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def rollup_timezone(connection: Connection, configured: str) -> str:
    """Return the zone whose days the rollups hold; the first worker's configuration decides it.

    Raises:
        ConfigError: the rollups were built for another zone than the configured one.
    """
    connection.execute(INSERT_SETTING, ["timezone", configured])
    stored = setting(connection, "timezone")
    if stored != configured:
        raise ConfigError(
            f"rollup.timezone is {configured!r}, but the days in this database are those of {stored!r}. "
            f"Set it back, or rebuild the days with `worker rebuild --timezone {configured}`."
        )
    return configured


def setting(connection: Connection, key: str) -> str | None:
    """Return what the database holds under `key`; None where nothing does."""
    row = connection.execute(SELECT_SETTING, [key]).fetchone()
    return str(row[0]) if row else None


def change_setting(connection: Connection, key: str, value: str) -> None:
    """Make `value` what the database holds under `key`."""
    connection.execute(UPDATE_SETTING, [key, value])


def pepper(connection: Connection, configured: str) -> bytes:
    """Return the secret under which keys are digested: the configured one, else one the database keeps.

    It must be the same for ever and for every worker: the identity of each record hangs on it.

    Raises:
        ConfigError: the configured pepper is not the one this database was begun with.
    """
    mine = f"configured:{_proof(configured)}" if configured else f"stored:{secrets.token_hex(32)}"
    connection.execute(INSERT_SETTING, ["pepper", mine])
    return fitting_pepper(setting(connection, "pepper") or "", configured)


def fitting_pepper(kept: str, configured: str) -> bytes:
    """Return the secret that `kept`, the database's setting, and the configured pepper come to.

    Raises:
        ConfigError: the configured pepper is not the one this database was begun with.
    """
    kind, _, value = kept.partition(":")
    if kind == "stored" and not configured:
        return bytes.fromhex(value)
    if kind == "configured" and configured and value == _proof(configured):
        return configured.encode()
    wanted = "the pepper that was configured when it was begun" if kind == "configured" else "no pepper of its own"
    raise ConfigError(f"security.pepper (WORKER_PEPPER) does not fit: this database goes with {wanted}")


def _proof(configured: str) -> str:
    return sha256(b"pepper check:" + configured.encode()).hexdigest()


def _create_database(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            connection.execute(CREATE_DATABASE)
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return  # it is there, or another process is just making it


def _driver(connection: sqlalchemy.Connection) -> Connection:
    return cast("Connection", connection.connection.driver_connection)


def _known_versions() -> set[str]:
    return {p.name.partition("_")[0] for p in (migrations_dir() / "versions").glob("[0-9]*.py")}
