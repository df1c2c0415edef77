"""The database: whether it is there, fits this program and this configuration, and lets this account write.

Every transaction is read-only. What this account may do is asked of the catalogues, which everybody may read.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
from sqlalchemy.engine import Engine

from worker.clock import now
from worker.config import Config
from worker.db import database, migrations, settings
from worker.db.embedded import find_bindir, is_made
from worker.doctor.finding import Finding, clock, error, late_s, ok, warning
from worker.errors import ConfigError, DatabaseEncodingError, DatabaseError, NewerSchemaError
from worker.loading.make_rows import PARTITION_AHEAD

POSTGRES_OLDEST = 150000
LOOK_BACK = timedelta(hours=4)
SPAN_S = 600
"""Records are counted by ten minutes, as the proxy counts requests."""

SHOWN = 4


class Book(msgspec.Struct, kw_only=True):
    """What the database holds of one upstream; but for `last_pass_at`, of the last hours."""

    last_pass_at: datetime | None = None
    error: str | None = None
    """Of the last pass."""
    mode: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Begin and end of the time in which passes had to find all usage: none too late, none failed, statistics on."""
    ended: dict[int, int] = msgspec.field(default_factory=dict[int, int])
    """Records by the ten minutes, numbered from 1970, in which their requests ended."""


class Server(NamedTuple):
    """What the server says of itself."""

    version_number: int
    version: str
    database: str
    account: str
    read_only: bool
    at: datetime
    before: datetime
    after: datetime
    """When it was asked, by the clock here."""


def examine(config: Config, interval_s: float) -> tuple[list[Finding], dict[str, Book] | None]:
    """Make the checks of the database; return what it holds of each upstream too, None where that cannot be read."""
    with ExitStack() as stack:
        try:
            if not config.database.url.get_secret_value() and not is_made(config.data_dir / "postgres"):
                return [_to_be_made(config)], None
            engine = stack.enter_context(database.open_engine(config))
            server = _server(engine)
        except DatabaseEncodingError as e:
            return [error("database_encoding", DatabaseError, e.what, f"{e.remedy[0].upper()}{e.remedy[1:]}.")], None
        except DatabaseError as e:
            return [_away(e)], None
        try:
            return _looked_into(engine, server, config, interval_s)
        except DatabaseError as e:  # since then
            return [_away(e)], None


def _looked_into(
    engine: Engine, server: Server, config: Config, interval_s: float
) -> tuple[list[Finding], dict[str, Book] | None]:
    findings = [_answers(server), _server_version(server), _database_encoding(), _database_clock(server)]
    findings += (schema := _schema(engine))
    if _without_schema(engine) or any(found.level == "error" for found in schema):
        return findings, None
    findings.append(_database_rights(engine, server))
    for check in (_rollup_timezone, _pepper, _partitions, _future_records):
        with suppress(DatabaseError), _reading(engine) as connection:  # may not be read: that has been said
            findings.append(check(connection, config))
    with suppress(DatabaseError), _reading(engine) as connection:
        return findings, _books(connection, timedelta(seconds=late_s(interval_s)))
    return findings, None


def _away(why: DatabaseError) -> Finding:
    return error("database", DatabaseError, str(why), "Start it, or correct database.url (WORKER_DATABASE_URL).")


@contextmanager
def _reading(engine: Engine) -> Generator[database.Connection]:
    with database.transaction(engine) as connection:
        connection.execute(READ_ONLY)
        yield connection


READ_ONLY = "SET TRANSACTION READ ONLY"


# -- the server -------------------------------------------------------------------------------------------------


def _to_be_made(config: Config) -> Finding:
    try:
        find_bindir()
    except DatabaseError as e:
        return error("database", DatabaseError, "none is configured, and an embedded one cannot be made", str(e))
    return ok("database", f"the first pass makes an embedded one in {config.data_dir / 'postgres'}")


SELECT_SERVER = """
SELECT current_setting('server_version_num')::integer, current_setting('server_version'), current_database(),
       current_user, pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,
       clock_timestamp()
"""


def _server(engine: Engine) -> Server:
    with _reading(engine) as connection:
        before = now()
        rows = connection.execute(SELECT_SERVER).fetchall()
        return Server._make([*rows[0], before, now()])


def _answers(server: Server) -> Finding:
    return ok("database", f"{server.database} answers, to the account {server.account}")


def _server_version(server: Server) -> Finding:
    what = f"the server is PostgreSQL {server.version}"
    if server.version_number < POSTGRES_OLDEST:
        return error("server_version", DatabaseError, what, "Update the server to version 15 or newer.")
    return ok("server_version", what)


def _database_encoding() -> Finding:
    """Say what every transaction has made sure of by now."""
    return ok("database_encoding", "it is UTF8, which holds every text")


def _database_clock(server: Server) -> Finding:
    return clock("database_clock", server.at, (server.before, server.after), timedelta(0), "the database server")


# -- the schema -------------------------------------------------------------------------------------------------

SELECT_SCHEMA = """
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
       pg_has_role(c.relowner, 'USAGE')
FROM pg_namespace AS n JOIN pg_class AS c ON c.relnamespace = n.oid
WHERE n.nspname = 'usage' AND c.relname = 'schema_version'
"""
SELECT_MAY_CREATE = "SELECT true, has_database_privilege(current_database(), 'CREATE')"


def _without_schema(engine: Engine) -> bool:
    with _reading(engine) as connection:
        return connection.execute(SELECT_SCHEMA).fetchone() is None


def _schema(engine: Engine) -> list[Finding]:
    """Compare the schema's version with the program's; no finding where this account may not read it."""
    with _reading(engine) as connection:
        rows = connection.execute(SELECT_SCHEMA).fetchall() or connection.execute(SELECT_MAY_CREATE).fetchall()
    may_read, may_migrate = rows[0]
    if not may_read:
        return []
    try:
        version = migrations.schema_version(engine)
    except NewerSchemaError as e:
        return [error("schema", DatabaseError, str(e), "Update this worker.")]
    if version == migrations.HEAD:
        return [ok("schema", f"it is at version {version}")]
    what = f"it is at version {version}" if version else "there is none yet"
    what = f"{what}; this program's is {migrations.HEAD}"
    if may_migrate:
        return [warning("schema", what, "Run `worker migrate`, or leave it to the next pass.")]
    return [error("schema", DatabaseError, what, "Run `worker migrate` as the owner of the database.")]


SELECT_LACKING = """
SELECT wanted || ' on schema ' || n.nspname
FROM pg_namespace AS n, unnest(ARRAY['USAGE']) AS wanted
WHERE n.nspname IN ('usage', 'usage_api') AND NOT has_schema_privilege(n.oid, wanted)
UNION ALL
SELECT wanted || ' on ' || n.nspname || '.' || c.relname
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace,
     unnest(CASE WHEN n.nspname = 'usage_api' OR c.relname = 'schema_version' THEN ARRAY['SELECT']
                 ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END) AS wanted
WHERE (n.nspname = 'usage' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
       OR n.nspname = 'usage_api' AND c.relkind = 'v')
  AND NOT has_table_privilege(c.oid, wanted)
UNION ALL
SELECT 'EXECUTE on function usage.' || p.proname
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = 'usage' AND p.proname = 'ensure_record_partition' AND NOT has_function_privilege(p.oid, 'EXECUTE')
UNION ALL
SELECT 'TEMPORARY on database ' || current_database()
WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
"""


def _database_rights(engine: Engine, server: Server) -> Finding:
    if server.read_only:
        what = "the server takes no writes: it is a standby, or was set to read-only"
        remedy = "Point database.url at the primary, or find out why it was set so: a full disk, for example."
        return error("database_rights", DatabaseError, what, remedy)
    with _reading(engine) as connection:
        lacking = [str(right) for (right,) in connection.execute(SELECT_LACKING)]
    if lacking:
        more = f" and {len(lacking) - SHOWN} more rights" if len(lacking) > SHOWN else ""
        what = f"the account {server.account} lacks {', '.join(lacking[:SHOWN])}{more}"
        remedy = "Grant it the role usage_writer, and TEMPORARY on the database."
        return error("database_rights", DatabaseError, what, remedy)
    return ok("database_rights", f"{server.account} may do all that a pass does")


def _rollup_timezone(connection: database.Connection, config: Config) -> Finding:
    kept, wanted = settings.setting(connection, "timezone"), config.rollup.timezone
    if kept in (None, wanted):
        return ok("rollup_timezone", f"days are cut in {wanted}")
    what = f"rollup.timezone is {wanted}, and the days in the database are those of {kept}"
    remedy = f"Set it back to {kept}, or cut the days anew with `worker rebuild --timezone {wanted}`."
    return error("rollup_timezone", ConfigError, what, remedy)


def _pepper(connection: database.Connection, config: Config) -> Finding:
    kept = settings.setting(connection, "pepper")
    if kept is None:
        return ok("pepper", "the first pass decides it")
    try:
        settings.fitting_pepper(kept, config.security.pepper.get_secret_value())
    except ConfigError as e:
        return error("pepper", ConfigError, str(e), "Set it as it was then: it cannot be changed.")
    return ok("pepper", "it is the one that the database goes with")


SELECT_PARTITIONS = """
SELECT p.relname
FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhrelid JOIN pg_class AS c ON c.oid = i.inhparent
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'usage' AND c.relname = 'record'
"""


def _partitions(connection: database.Connection, _: Config) -> Finding:
    there = {name for (name,) in connection.execute(SELECT_PARTITIONS)}
    if not there:
        return ok("partitions", "the first record makes the first")
    soon = now() + PARTITION_AHEAD
    if f"record_{soon:%Y_%m}" in there or soon.month == now().month:
        return ok("partitions", "a pass that needs one makes it")
    what = f"there is no partition yet for the records of {soon:%Y-%m}, which begins soon"
    return warning("partitions", what, "Run `worker maintain`; a pass that needs one makes it, too.")


SELECT_FUTURE = (
    "SELECT upstream, future_record_at FROM usage_api.v1_freshness WHERE future_record_at IS NOT NULL ORDER BY 2"
)


def _future_records(connection: database.Connection, _: Config) -> Finding:
    found = connection.execute(SELECT_FUTURE).fetchall()
    if not found:
        return ok("future_records", "no record is from the future")
    told = ", ".join(f"{upstream} up to {at:%Y-%m-%d %H:%M} UTC" for upstream, at in found[:SHOWN])
    what = f"there are records from the future: {told}"
    remedy = (
        "Set the clocks of these proxies and of this machine right. The records are kept, and count on the day that "
        "they name; freshness goes by the others."
    )
    return warning("future_records", what, remedy)


# -- what it holds ----------------------------------------------------------------------------------------------

SELECT_FRESHNESS = "SELECT upstream, last_pass_at FROM usage_api.v1_freshness"
SELECT_LAST = """
SELECT upstream, (array_agg(error ORDER BY started_at DESC))[1],
       (array_agg(mode ORDER BY started_at DESC) FILTER (WHERE mode IS NOT NULL))[1]
FROM usage_api.v1_sync_runs
WHERE kind = 'sync' AND finished_at IS NOT NULL AND started_at > %(since)s
GROUP BY upstream
"""
SELECT_WATCHED = """
SELECT upstream,
       max(started_at) FILTER (WHERE started_at - before > %(late)s OR before IS NULL OR NOT statistics_enabled),
       max(started_at)
FROM (SELECT *, lag(finished_at) OVER (PARTITION BY upstream ORDER BY started_at) AS before
      FROM usage_api.v1_sync_runs
      WHERE kind = 'sync' AND error IS NULL AND finished_at IS NOT NULL AND started_at > %(since)s) AS s
GROUP BY upstream
"""
SELECT_ENDED = """
SELECT u.name, floor((extract(epoch FROM r.occurred_at) + coalesce(r.latency_ms, 0) / 1000.0) / %(span_s)s)::bigint,
       count(*)
FROM usage.record AS r JOIN usage.batch AS b USING (batch_id) JOIN usage.upstream AS u USING (upstream_id)
WHERE r.occurred_at > %(since)s
GROUP BY 1, 2
"""


def _books(connection: database.Connection, late: timedelta) -> dict[str, Book]:
    asked = {"since": now() - LOOK_BACK, "late": late, "span_s": SPAN_S}
    books = {name: Book(last_pass_at=at) for name, at in connection.execute(SELECT_FRESHNESS)}
    for name, failure, mode in connection.execute(SELECT_LAST, asked):
        books[name].error, books[name].mode = failure, mode
    for name, since, until in connection.execute(SELECT_WATCHED, asked):
        books[name].since, books[name].until = since, until
    for name, span, records in connection.execute(SELECT_ENDED, asked):
        books[name].ended[span] = records
    return books
