"""The door to PostgreSQL: engine, transactions, the schema's version, and what belongs to the database itself."""

from __future__ import annotations

import importlib.resources
import secrets
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import psycopg
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from worker.config import Config
from worker.embedded import EmbeddedPostgres
from worker.errors import (
    BusyError,
    ConfigError,
    DatabaseAwayError,
    DatabaseError,
    NewerSchemaError,
    NoSchemaError,
    RefusedError,
    TransientDatabaseError,
)

HEAD = "0012"
"""The newest migration: what the schema must be at for this program. A test holds it against migrations/."""

Connection = psycopg.Connection[tuple[Any, ...]]

TRANSIENT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
)

REFUSED = (
    psycopg.DataError,
    psycopg.errors.CheckViolation,
    psycopg.errors.NotNullViolation,
    psycopg.errors.ProgramLimitExceeded,
)

MISSING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)

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
LOCK = "SELECT pg_try_advisory_xact_lock(%s)"
KEEP_ALIVE = """
SELECT set_config('idle_in_transaction_session_timeout', '0', true), set_config('tcp_keepalives_idle', '30', true),
       set_config('tcp_keepalives_interval', '10', true), set_config('tcp_keepalives_count', '3', true)
"""
SELECT_HOLDERS = """
SELECT key, coalesce(host(a.client_addr), 'local'), a.xact_start
FROM pg_locks AS l
JOIN pg_stat_activity AS a USING (pid)
CROSS JOIN LATERAL (SELECT l.classid::bigint << 32 | l.objid::bigint AS key) AS k
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND key = ANY(%s)
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
SELECT_NOTHING = "SELECT 1"
IN_UTC = "SET TIME ZONE 'UTC'"


@contextmanager
def opened(config: Config) -> Generator[Engine]:
    """Open the configured database, or the embedded one in the data folder where none is configured.

    The embedded server is shared with other processes on the same folder; the last to leave stops it.

    Raises:
        DatabaseError: there is no server to start, or it does not start.
    """
    url = config.database.url.get_secret_value()
    if url:
        engine = connect(spelled(url))
        try:
            yield engine
        finally:
            engine.dispose()
        return
    with EmbeddedPostgres(config.data_dir / "postgres") as server:
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


def spelled(url: str) -> str:
    """Return `url` in the spelling SQLAlchemy takes for psycopg 3, whichever of the three was given."""
    return f"postgresql+psycopg://{url.partition('://')[2]}"


def connect(url: str) -> Engine:
    """Return an engine for `url` (a postgresql+psycopg:// URL). Nothing is opened yet."""
    engine = sqlalchemy.create_engine(
        url,
        pool_size=4,
        max_overflow=60,  # one for each proxy that a service serves at the same time
        pool_pre_ping=True,
        connect_args={
            "application_name": "usage-worker",
            "connect_timeout": 10,
            "prepare_threshold": None,  # a pooler may give each transaction another connection
        },
    )
    event.listen(engine, "connect", _in_utc)
    return engine


def _in_utc(connection: Connection, _: object) -> None:
    """Set a new connection's time zone; not by a start-up option, which poolers refuse."""
    connection.execute(IN_UTC)
    connection.commit()


@contextmanager
def transaction(engine: Engine) -> Generator[Connection]:
    """Open one transaction on the driver's own connection: committed at the end, undone by an exception.

    Raises:
        DatabaseError: PostgreSQL cannot be reached, the connection was lost, or there is no schema yet.
    """
    with begun(engine) as connection:
        yield _driver(connection)


@contextmanager
def begun(engine: Engine) -> Generator[sqlalchemy.Connection]:
    """Do the same with SQLAlchemy's connection, for composed queries."""
    try:
        with engine.begin() as connection:
            yield connection
    except (DBAPIError, psycopg.Error) as e:
        _raise_ours(e)


class Lock:
    """A lock between workers, held by an open transaction on a connection of its own.

    A transaction and not a session, so that it also holds behind a pooler that hands out connections by transaction;
    it looks at nothing, so that it keeps no row from being cleaned up. It is let go when its holder is, in whatever
    way: a machine that vanishes is given up after about a minute.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        """Name the lock; nothing is held yet."""
        self._engine = engine
        self._key = _key(name)
        self._connection: Connection | None = None

    def acquire(self) -> bool:
        """Take the lock, or find that it is still held; return whether it is ours.

        Raises:
            DatabaseError: PostgreSQL cannot be reached.
        """
        if self._still_held():
            return True
        try:
            pooled = self._engine.connect()
            connection = _driver(pooled)
            pooled.detach()  # it is no connection of the pool's
            connection.execute(KEEP_ALIVE)
            row = connection.execute(LOCK, [self._key]).fetchone()
        except (DBAPIError, psycopg.Error) as e:
            _raise_ours(e)
        if row is not None and row[0]:
            self._connection = connection
            return True
        connection.close()
        return False

    def release(self) -> None:
        """Let the lock go, whatever state its connection is in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.rollback()  # here, and not some time after the server has seen the connection end
            connection.close()

    def _still_held(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(SELECT_NOTHING)
        except psycopg.Error:
            self.release()
            return False
        return True


def _key(name: str) -> int:
    return int.from_bytes(blake2b(f"usage-worker:{name}".encode(), digest_size=8).digest(), signed=True)


def consumer(upstream: str) -> str:
    """Return the name of the lock that the one worker holds which reads a proxy's queue."""
    return f"{upstream}:consumer"


class Holder(NamedTuple):
    """Who holds a lock: the address it came from (`local`: through a socket), and since when."""

    address: str
    since: datetime | None


def holders(connection: Connection, names: Iterable[str]) -> dict[str, Holder]:
    """Return who holds which of these locks; no entry for one that nobody holds."""
    by_key = {_key(name): name for name in names}
    found = connection.execute(SELECT_HOLDERS, [list(by_key)])
    return {by_key[key]: Holder(address, since) for key, address, since in found}


@contextmanager
def upstream_lock(engine: Engine, upstream: str) -> Generator[None]:
    """Hold the lock of one upstream while the block runs: a pass over it, or a change of what passes book on.

    Raises:
        BusyError: another worker holds it.
        DatabaseError: PostgreSQL cannot be reached.
    """
    lock = Lock(engine, upstream)
    if not lock.acquire():
        raise BusyError(f"another worker holds the upstream {upstream!r}; this one stands by")
    try:
        yield
    finally:
        lock.release()


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
    except DBAPIError as e:
        _raise_ours(e)
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


def _raise_ours(error: DBAPIError | psycopg.Error) -> NoReturn:
    """Raise a DatabaseError where PostgreSQL or its schema is not there, else the driver's own error: it is a bug."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, TRANSIENT):
        raise TransientDatabaseError(f"PostgreSQL: {str(cause).strip()}") from error
    if isinstance(cause, REFUSED):
        raise RefusedError(f"PostgreSQL refuses it: {cause.diag.message_primary or type(cause).__name__}") from error
    if isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError)):
        raise DatabaseAwayError(f"PostgreSQL: {str(cause).strip()}") from error
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        raise DatabaseError(
            f"PostgreSQL: {str(cause).strip()}. The worker needs the rights of usage_writer, a migration those of the "
            "schema's owner; reports need usage_reader."
        ) from error
    if isinstance(cause, MISSING):
        raise NoSchemaError("this database has no usage tables, or old ones: run `worker migrate`") from error
    raise error
