"""The door to PostgreSQL: engine, transactions, the schema's version, and what belongs to the database itself."""

from __future__ import annotations

import importlib.resources
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, NoReturn, cast

import psycopg
import sqlalchemy
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from worker.config import Config
from worker.embedded import EmbeddedPostgres
from worker.errors import BusyError, ConfigError, DatabaseError, NoSchemaError, TransientDatabaseError

HEAD = "0002"
"""The newest migration: what the schema must be at for this program. A test holds it against migrations/."""

Connection = psycopg.Connection[tuple[Any, ...]]

TRANSIENT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
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
LOCK_UPSTREAM = "SELECT pg_try_advisory_lock(%s)"
UNLOCK_UPSTREAM = "SELECT pg_advisory_unlock(%s)"


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


def spelled(url: str) -> str:
    """Return `url` in the spelling SQLAlchemy takes for psycopg 3, whichever of the three was given."""
    return f"postgresql+psycopg://{url.partition('://')[2]}"


def connect(url: str) -> Engine:
    """Return an engine for `url` (a postgresql+psycopg:// URL). Nothing is opened yet."""
    return sqlalchemy.create_engine(
        url,
        pool_size=2,
        max_overflow=2,
        pool_pre_ping=True,
        connect_args={
            "application_name": "usage-worker",
            "options": "-c timezone=UTC",
            "connect_timeout": 10,
        },
    )


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


@contextmanager
def upstream_lock(engine: Engine, upstream: str) -> Generator[None]:
    """Hold the lock of one upstream, on a connection of its own, while the block runs.

    Raises:
        BusyError: another worker holds it.
        DatabaseError: PostgreSQL cannot be reached.
    """
    key = int.from_bytes(blake2b(f"usage-worker:{upstream}".encode(), digest_size=8).digest(), signed=True)
    try:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    except DBAPIError as e:
        _raise_ours(e)
    with connection:
        row = _driver(connection).execute(LOCK_UPSTREAM, [key]).fetchone()
        if row is None or not row[0]:
            raise BusyError(f"another worker holds the upstream {upstream!r}; this one stands by")
        try:
            yield
        finally:
            with suppress(psycopg.Error):  # here, and not some time after the session has ended
                _driver(connection).execute(UNLOCK_UPSTREAM, [key])
            connection.invalidate()  # closing the session lets the lock go, whatever state it is in


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
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
    except DBAPIError as e:
        _raise_ours(e)
    return True


def schema_version(engine: Engine) -> str | None:
    """Return the schema's version, None where there is no schema yet.

    Raises:
        DatabaseError: the version is not one that this program knows: the database is newer.
    """
    try:
        with transaction(engine) as connection:
            row = connection.execute(SELECT_VERSION).fetchone()
    except NoSchemaError:
        return None
    found = str(row[0]) if row else None
    if found is not None and found not in _known_versions():
        raise DatabaseError(
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
    proof = sha256(b"pepper check:" + configured.encode()).hexdigest()
    mine = f"configured:{proof}" if configured else f"stored:{secrets.token_hex(32)}"
    connection.execute(INSERT_SETTING, ["pepper", mine])
    kind, _, value = (setting(connection, "pepper") or "").partition(":")
    if kind == "stored" and not configured:
        return bytes.fromhex(value)
    if kind == "configured" and configured and value == proof:
        return configured.encode()
    wanted = "the pepper that was configured when it was begun" if kind == "configured" else "no pepper of its own"
    raise ConfigError(f"security.pepper (WORKER_PEPPER) does not fit: this database goes with {wanted}")


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
    if isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError)):
        raise DatabaseError(f"PostgreSQL: {str(cause).strip()}") from error
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        raise DatabaseError(
            f"PostgreSQL: {str(cause).strip()}. The worker needs the rights of usage_writer, a migration those of the "
            "schema's owner; reports need usage_reader."
        ) from error
    if isinstance(cause, (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)):
        raise NoSchemaError("this database has no usage tables, or old ones: run `worker migrate`") from error
    raise error
