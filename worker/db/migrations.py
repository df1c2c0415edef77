"""The schema's version, and the way to the one that this program knows."""

from __future__ import annotations

import importlib.resources
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy.engine import Engine

from worker.config import Config
from worker.db import head
from worker.db.database import connect, open_engine, transaction
from worker.db.session import SHORT
from worker.db.sqlstate import DRIVER_ERRORS, READ_ONLY, raise_ours
from worker.errors import DatabaseUnusableError, NewerSchemaError, NoSchemaError

HEAD = head.HEAD
SELECT_VERSION = "SELECT version_num FROM usage.schema_version"
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


@contextmanager
def open_engine_to_change(config: Config) -> Generator[Engine]:
    """Do the same for who changes something and does not migrate before.

    Raises:
        DatabaseError: besides, the schema is newer than this program, which must leave it alone then.
    """
    with open_engine(config) as engine:
        schema_version(engine)
        yield engine


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
    known = _known_versions()
    if found is not None and found not in known:
        whose = (
            "of a version before the first release, from which no way leads here. Let this one make a database of its "
            "own, and keep the other one for what it holds"
            if found < min(known)
            else "newer. Update the worker"
        )
        raise NewerSchemaError(
            f"the database's schema is at version {found}, which this program (schema {HEAD}) does not know: it is "
            f"{whose}; nothing was changed."
        )
    return found


def migrations_dir() -> Path:
    """Return the folder of the migrations: in the wheel beside the code, in a checkout above it."""
    package = Path(str(importlib.resources.files("worker")))
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def _known_versions() -> set[str]:
    return {p.name.partition("_")[0] for p in (migrations_dir() / "versions").glob("[0-9]*.py")}
