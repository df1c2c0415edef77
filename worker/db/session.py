"""What every connection and every transaction goes by, whatever role, database and server have set otherwise.

Behind a pooler each transaction may get another connection: so all that counts is set in each transaction, for it
alone. By start-up options a connection gets only what libpq keeps to itself, and what poolers know.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from worker.errors import DatabaseEncodingError

T = TypeVar("T")
GRACE_S = 5.0
"""For how much longer than the server may take its answer is waited for."""


class Deadlines(NamedTuple):
    """How long a transaction may be held up; 0 is for ever."""

    lock_s: int
    """One wait for a lock; then another try is worth more than a longer wait."""
    statement_s: int
    """One statement, its waits included."""
    idle_s: int
    """Between two statements: then its worker is gone, and what it has locked is let go."""

    @property
    def answer_s(self) -> float | None:
        """For how long an answer is waited for; then nobody is there any more. None where it may take any time."""
        return self.statement_s + GRACE_S if self.statement_s else None


SHORT = Deadlines(lock_s=5, statement_s=15, idle_s=60)
"""Look-ups, names, notes: what touches few rows."""
BATCH = Deadlines(lock_s=5, statement_s=300, idle_s=60)
"""A batch of records with its rollups."""
LONG = Deadlines(lock_s=0, statement_s=0, idle_s=0)
"""What looks at all records there are: a migration, a rebuild, verify, reports."""

DEFAULTS: Mapping[str, str | int] = {
    "application_name": "usage-worker",
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 5,
    "tcp_user_timeout": 12_000,
}
"""What libpq is told where the URL does not say it: by this it notices within 15 s that the other side is gone."""

# The types of values, and with them amounts and digests, hang on how they are written.
SETTINGS: LiteralString = """
SELECT
    pg_catalog.getdatabaseencoding(),
    pg_catalog.set_config('lock_timeout', %(lock)s, true),
    pg_catalog.set_config('statement_timeout', %(statement)s, true),
    pg_catalog.set_config('idle_in_transaction_session_timeout', %(idle)s, true),
    pg_catalog.set_config('tcp_keepalives_idle', '10', true),
    pg_catalog.set_config('tcp_keepalives_interval', '5', true),
    pg_catalog.set_config('tcp_keepalives_count', '4', true),
    pg_catalog.set_config('search_path', 'pg_catalog', true),
    pg_catalog.set_config('client_encoding', 'UTF8', true),
    pg_catalog.set_config('standard_conforming_strings', 'on', true),
    pg_catalog.set_config('bytea_output', 'hex', true),
    pg_catalog.set_config('array_nulls', 'on', true),
    pg_catalog.set_config('transform_null_equals', 'off', true),
    pg_catalog.set_config('DateStyle', 'ISO, YMD', true),
    pg_catalog.set_config('IntervalStyle', 'postgres', true),
    pg_catalog.set_config('TimeZone', 'UTC', true),
    pg_catalog.set_config('extra_float_digits', '1', true),
    pg_catalog.set_config('row_security', 'on', true)
"""
TRANSACTION_TIMEOUT_SINCE = 170000
NO_TRANSACTION_TIMEOUT = ", pg_catalog.set_config('transaction_timeout', '0', true)"


class NoAnswerError(psycopg.OperationalError):
    """The server has not answered for longer than it may take."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that does not wait for ever for a server that is gone."""

    answer_s: float | None = SHORT.answer_s
    """For how long an answer is waited for; as long as any short one outside a transaction of ours."""

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Do what the driver does, and give up when nothing has come for `answer_s` seconds.

        Raises:
            NoAnswerError: nothing has; the connection is closed then.
        """
        try:
            return super().wait(gen if self.answer_s is None else _answered(gen, self.answer_s), *args, **kwargs)
        except NoAnswerError:
            self.pgconn.finish()  # what it would still say belongs to nothing any more
            raise


def _answered(gen: PQGen[T], answer_s: float) -> PQGen[T]:
    """Do what `gen` does, and give up when nothing has come for `answer_s` seconds."""
    heard_at = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > answer_s:
                raise NoAnswerError(f"no answer for {answer_s:.0f} s")
            wanted = gen.send(ready)
    except StopIteration as done:
        returned: T = done.value
        return returned


def connect(conninfo: str) -> Connection:
    """Open a connection; `conninfo` is a URL or whatever else libpq takes.

    Raises:
        psycopg.Error: nobody is there, or does not let us in.
    """
    given = conninfo_to_dict(conninfo)
    missing = {name: value for name, value in DEFAULTS.items() if name not in given}
    # Nothing is prepared: a pooler may give each transaction another connection.
    connection = Connection.connect(make_conninfo(conninfo, **missing), prepare_threshold=None)
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return connection


def begin(connection: psycopg.Connection[tuple[Any, ...]], deadlines: Deadlines) -> None:
    """Begin a transaction that goes by these deadlines, and by what the program relies on.

    Raises:
        DatabaseEncodingError: the database cannot hold every text there is.
    """
    if isinstance(connection, Connection):
        connection.answer_s = deadlines.answer_s
    settings = SETTINGS
    if connection.info.server_version >= TRANSACTION_TIMEOUT_SINCE:
        settings += NO_TRANSACTION_TIMEOUT
    names = {"lock": deadlines.lock_s, "statement": deadlines.statement_s, "idle": deadlines.idle_s}
    row = connection.execute(settings, {name: f"{seconds}s" for name, seconds in names.items()}).fetchone()
    if row is not None and row[0] != "UTF8":
        raise DatabaseEncodingError(str(row[0]))


def end(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Go back to the deadline of what stands outside a transaction."""
    if isinstance(connection, Connection):
        connection.answer_s = SHORT.answer_s
