"""The door to PostgreSQL: engine, transactions, the schema's version, and what belongs to the database itself."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import psycopg
import sqlalchemy
import structlog
from sqlalchemy import event
from sqlalchemy.engine import Engine

from worker import conninfo
from worker.config import Config
from worker.db import embedded, session
from worker.db.session import LONG, Deadlines
from worker.db.sqlstate import DRIVER_ERRORS, raise_ours
from worker.errors import ConfigError

log: structlog.stdlib.BoundLogger = structlog.get_logger()
Connection = psycopg.Connection[tuple[Any, ...]]

EMBEDDED_NAME = "usage"
CREATE_DATABASE = "CREATE DATABASE usage"


@contextmanager
def open_engine(config: Config, *, make: bool = False) -> Generator[Engine]:
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


@contextmanager
def autocommit(engine: Engine) -> Generator[Connection]:
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


def _create_database(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            connection.execute(CREATE_DATABASE)
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return  # it is there, or another process is just making it


def _driver(connection: sqlalchemy.Connection) -> Connection:
    return cast("Connection", connection.connection.driver_connection)


def one(row: tuple[Any, ...] | None) -> int:
    """Return the number in a row that must be there."""
    if row is None:
        raise LookupError("a row that was just written is not there")
    return int(row[0])
