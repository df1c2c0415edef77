"""The schema: made once however often and by however many, commented, and open to each role only as far as it goes."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url
from support import Books, calls, plain_environment, proxy, start
from test_upgrades import next_version, upgrading

from worker.db import migrations

MIGRATIONS = Path(__file__).parents[1] / "migrations" / "versions"
SCHEMA = MIGRATIONS.parent / "schema.sql"
FIRST = 15
"""The number of the first release's schema; those below were of versions before it."""

DIMENSIONS = ["upstream", "channel", "channel_group", "channel_kind", "client_key", "provider", "endpoint", "model",
              "alias", "outcome"]  # fmt: skip
TOKENS = ["input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "total_tokens",
          "uncached_input_tokens", "cache_read_tokens", "cache_write_tokens", "billed_output_tokens",
          "unclassified_tokens"]  # fmt: skip
COSTS = ["cost_usd", "actual_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd"]
MONEY = [*COSTS, "estimated_cost_usd"]
HISTOGRAM = ["latency_le_500ms", "latency_le_1s", "latency_le_2500ms", "latency_le_5s", "latency_le_10s",
             "latency_le_30s", "latency_le_60s", "latency_le_120s", "latency_le_300s"]  # fmt: skip
TTFT_HISTOGRAM = [name.replace("latency", "ttft") for name in HISTOGRAM]
LATER_HISTOGRAMS = [f"{measure}_le_{bound}" for measure in ("latency", "ttft")
                    for bound in ("50ms", "100ms", "250ms", "600s", "1200s")]  # fmt: skip
MEASURES = ["requests", *TOKENS, *COSTS, "unpriced_requests", "latency_ms_sum", "latency_samples", "ttft_ms_sum",
            "ttft_samples", *HISTOGRAM, *TTFT_HISTOGRAM, "estimated_cost_usd", *LATER_HISTOGRAMS]  # fmt: skip
CONTRACT = {
    "v1_daily": ["day", *DIMENSIONS, *MEASURES],
    "v1_hourly": ["hour", *DIMENSIONS, *MEASURES],
    "v1_daily_channels": ["day", "upstream", "channel", "channel_group", "channel_kind", "model", "outcome", *MEASURES],
    "v1_daily_keys": ["day", "upstream", "client_key", "outcome", *MEASURES],
    "v1_hourly_keys": ["hour", "upstream", "client_key", "outcome", *MEASURES],
    "v1_record_measures": ["occurred_at", *DIMENSIONS, *MEASURES],
    "v1_usage": [*DIMENSIONS, *MEASURES],
    "v1_channel_usage": ["upstream", "channel", "channel_group", "channel_kind", "model", "outcome", *MEASURES],
    "v1_key_usage": ["upstream", "client_key", "outcome", *MEASURES],
    "v1_series": ["bucket", *DIMENSIONS, *MEASURES],
    "v1_key_series": ["bucket", "upstream", "client_key", "outcome", *MEASURES],
    "v1_records": [
        "occurred_at", "completed_at", "upstream", "channel", "channel_group", "channel_kind", "channel_rule",
        "auth_index", "source", "client_key", "provider", "endpoint", "auth_type", "model", "alias", "request_id",
        "outcome", "status_code", "error", *TOKENS, *COSTS, "service_tier", "reasoning_effort", "latency_ms",
        "ttft_ms", "synced_at", "record_id", "channel_candidates", "price_id", "event_key", "dimension_id",
        "channel_id", "client_key_id", "origin_id", "response_service_tier", "cost_estimated", "estimated_cost_usd",
        "execution_id", "stream", "session_id", "parent_session_id", "response_model", "cache_write_1h_tokens",
    ],
    "v1_dimensions": ["dimension_id", *DIMENSIONS, "channel_id", "client_key_id"],
    "v1_count_records": ["records"],
    "v1_calls": ["period", "since", "until", "total", "succeeded", "failed", "warmups", "cancelled"],
    "v1_attempts": [
        "upstream", "client_key", "request_id", "started_at", "attempt", "attempts", "begins", "ends", "occurred_at",
        "completed_at", "record_id", "channel", "model", "alias", "outcome", "status_code", "error", "latency_ms",
        "tokens", "total_tokens", "cost_usd", "actual_cost_usd", "counts", "request_number", "client_key_id",
        "dimension_id", "origin_id", "estimated_cost_usd",
    ],
    "v1_logical_requests": [
        "upstream", "client_key", "request_id", "started_at", "ended_at", "attempts", "failed_attempts",
        "has_fallback", "switched", "first_channel", "final_channel", "model", "alias", "final_outcome", "tokens",
        "total_tokens", "cost_usd", "actual_cost_usd", "unpriced_records", "client_key_id",
        "estimated_cost_usd",
    ],
    "v1_request_outcomes": [
        "request_id", "started_at", "attempts", "switched", "outcome", "client_key_id", "dimension_id",
    ],
    "v1_fallbacks": [
        "logical_requests", "attempts", "with_fallback", "switched", "rescued", "final_succeeded", "final_failed",
        "success_rate", "fallback_rate", "final_cancelled",
    ],
    "v1_record": [
        "occurred_at", "completed_at", "upstream", "channel", "channel_group", "channel_kind", "channel_rule",
        "auth_index", "source", "client_key", "provider", "endpoint", "auth_type", "model", "alias", "request_id",
        "outcome", "status_code", "error", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens",
        "total_tokens", "uncached_input_tokens", "cache_read_tokens", "cache_write_tokens", "billed_output_tokens",
        "unclassified_tokens", "cost_usd", "actual_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd",
        "service_tier", "reasoning_effort", "latency_ms", "ttft_ms", "synced_at", "record_id", "channel_candidates",
        "price_id", "input_usd_per_mtok", "cache_read_usd_per_mtok", "cache_write_usd_per_mtok",
        "output_usd_per_mtok", "request_usd", "rate_multiplier", "attempt", "attempts",
        "response_service_tier", "cost_estimated", "estimated_cost_usd",
        "execution_id", "stream", "session_id", "parent_session_id", "response_model", "cache_write_1h_tokens",
        "cache_write_1h_usd_per_mtok",
    ],
    "v1_request_gaps": ["occurred_at", "upstream", "client_key", "model", "gap_minutes", "gap", "client_key_id"],
    "v1_interval_timeline": ["occurred_at", "upstream", "client_key", "model", "gap_minutes"],
    "v1_cache_ttl": [
        "upstream", "client_key", "request_count", "within_5_min", "within_15_min", "within_30_min", "within_60_min",
        "over_60_min", "within_5_min_percent", "within_15_min_percent", "within_30_min_percent",
        "within_60_min_percent", "over_60_min_percent", "p50_minutes", "p75_minutes", "p90_minutes", "avg_minutes",
        "min_minutes", "max_minutes", "recommended_ttl_minutes", "reason", "client_key_id",
    ],
    "v1_cache_hits": [
        "total_requests", "requests_with_cache_hit", "request_cache_hit_rate", "uncached_input_tokens",
        "cache_read_tokens", "cache_write_tokens", "token_cache_hit_rate", "cache_read_cost_usd",
        "cache_write_cost_usd", "unpriced_requests", "savings_usd", "savings_unknown_requests", "aether_savings_usd",
    ],
}  # fmt: skip
OTHER_VIEWS = {"v1_channels", "v1_client_keys", "v1_freshness", "v1_prices", "v1_sync_runs", "v1_timezone"}

COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'usage_api'::regnamespace AND NOT a.attisdropped
ORDER BY c.relname, a.attnum
"""
SHAPE = """
SELECT n.nspname, c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
FROM pg_namespace AS n JOIN pg_class AS c ON c.relnamespace = n.oid JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE n.nspname IN ('usage', 'usage_api', 'usage_internal') AND a.attnum > 0 ORDER BY 1, 2, a.attnum
"""
FUNCTIONS = "SELECT proname::text, proargnames FROM pg_proc WHERE pronamespace = 'usage_api'::regnamespace"
WITHOUT_A_COMMENT = f"{FUNCTIONS} AND obj_description(oid, 'pg_proc') IS NULL"
TYPES = "SELECT relname::text FROM pg_class WHERE relnamespace = 'usage_api'::regnamespace AND relkind = 'c'"
VIEWS = "SELECT relname::text FROM pg_class WHERE relnamespace = 'usage_api'::regnamespace AND relkind = 'v'"
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'usage'::regnamespace AND relkind IN ('r', 'p', 'v')"
ROLES = "SELECT rolname FROM pg_roles WHERE rolname IN ('usage_owner', 'usage_reader', 'usage_writer')"


@pytest.fixture
def roles(books):
    """Books in whose server the three roles are: an account that may not make roles does without."""
    if len(books.ask(ROLES)) != 3:
        pytest.skip("this account may not make roles")
    return books


# -- migrations -------------------------------------------------------------------------------------------------


def test_head_is_the_newest_migration_and_their_numbers_have_no_gap():
    numbers = sorted(path.name.partition("_")[0] for path in MIGRATIONS.glob("*.py"))
    assert numbers == [f"{n:04d}" for n in range(FIRST, FIRST + len(numbers))]
    assert numbers[-1] == migrations.HEAD
    revisions = [re.search(r'^revision = "(\d+)"$', path.read_text(), re.MULTILINE) for path in MIGRATIONS.glob("*.py")]
    assert sorted(found[1] for found in revisions if found) == numbers


INVENTORY = {
    "columns": """
        SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text,
               pg_get_expr(d.adbin, d.adrelid), col_description(attrelid, attnum)
        FROM pg_attribute LEFT JOIN pg_attrdef AS d ON (adrelid, adnum) = (attrelid, attnum)
        WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT oid FROM ours)""",
    "relations": "SELECT oid::regclass, relkind::text, reloptions, relacl, obj_description(oid, 'pg_class') FROM ours",
    "types": "SELECT t.oid::regtype, obj_description(t.oid, 'pg_type') FROM ours JOIN pg_type AS t "
             "ON t.typrelid = ours.oid",
    "views": "SELECT oid::regclass, pg_get_viewdef(oid) FROM ours WHERE relkind = 'v'",
    "constraints": "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint "
                   "WHERE conrelid IN (SELECT oid FROM ours)",
    "indexes": "SELECT indrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index "
               "WHERE indrelid IN (SELECT oid FROM ours)",
    "functions": "SELECT pg_get_functiondef(oid), proacl, obj_description(oid, 'pg_proc') FROM pg_proc "
                 "WHERE pronamespace IN (SELECT oid FROM schemas)",
    "schemas": "SELECT oid::regnamespace, nspacl FROM schemas",
    "defaults": "SELECT defaclnamespace::regnamespace, defaclobjtype::text, defaclacl FROM pg_default_acl",
}  # fmt: skip
OURS = """
WITH schemas AS (SELECT * FROM pg_namespace WHERE nspname IN ('usage', 'usage_api', 'usage_internal')),
     ours AS (SELECT * FROM pg_class WHERE relnamespace IN (SELECT oid FROM schemas))
"""


def inventory(books: Books) -> dict[str, list[str]]:
    return {what: sorted(map(repr, books.ask(OURS + query))) for what, query in INVENTORY.items()}


def test_the_migrations_add_up_to_schema_sql(books, empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as other:
        other.ask("CREATE SCHEMA usage")
        other.ask("CREATE TABLE usage.schema_version (version_num varchar(32) NOT NULL)")
        other.ask("ALTER TABLE usage.schema_version ADD CONSTRAINT schema_version_pkc PRIMARY KEY (version_num)")
        with psycopg.connect(other.url.replace("+psycopg", "")) as connection:
            connection.execute(SCHEMA.read_text())  # as a migration is: several statements, and % is no parameter
        assert inventory(other) == inventory(books)


def test_schema_sql_is_what_its_sources_make():
    command = [sys.executable, str(SCHEMA.with_name("generate.py")), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run python migrations/generate.py"


def test_a_second_migration_changes_nothing(empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books:
        assert migrations.upgrade(books.engine)
        assert migrations.schema_version(books.engine) == migrations.HEAD
        shape = books.ask(SHAPE)
        assert {row[0] for row in shape} == {"usage", "usage_api", "usage_internal"}
        assert not migrations.upgrade(books.engine)
        migrations.migrate(empty_database_url)
        assert books.ask(SHAPE) == shape


def test_four_processes_that_migrate_at_once_make_one_schema(empty_database_url, database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books, Books(database_url, tmp_path) as other:
        environment = plain_environment(books.environment())
        running = [start(["migrate"], environment, tmp_path) for _ in range(4)]
        finished = [process.wait() for process in running]
        assert [(each.code, each.stderr) for each in finished] == [(0, "")] * 4
        assert any("migrated" in each.stdout for each in finished)
        assert books.ask("SELECT version_num FROM usage.schema_version") == [(migrations.HEAD,)]
        assert books.ask(SHAPE) == other.ask(SHAPE)


def test_a_migration_that_was_killed_is_made_whole_by_the_next(empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books:
        # The version's table is asked for in the migration's own transaction, after the schema.
        with books.holding("CREATE SCHEMA usage"), books.starting(None, "migrate") as process:
            books.wait_until_it_waits()
            process.kill()
        books.wait_until_it_left()
        assert books.ask("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'usage%%'") == []
        assert books.worker(None, "migrate").code == 0
        assert books.worker(None, "migrate", "--check").code == 0


# -- the views --------------------------------------------------------------------------------------------------


def test_the_views_have_the_columns_that_were_promised_and_no_others(books):
    found = {}
    for view, name, _, _ in books.ask(COLUMNS):
        found.setdefault(view, []).append(name)
    assert {view: found[view] for view in CONTRACT} == CONTRACT
    assert found.keys() >= CONTRACT.keys() | OTHER_VIEWS
    assert all(view.startswith("v1_") for view in found)


def test_counts_are_bigint_money_is_numeric_and_instants_know_their_zone(books):
    types = {(view, name): kind for view, name, kind, _ in books.ask(COLUMNS)}
    for view in ("v1_daily", "v1_hourly", "v1_daily_channels", "v1_daily_keys", "v1_hourly_keys", "v1_usage",
                 "v1_series", "v1_key_series"):  # fmt: skip
        assert {types[view, name] for name in MEASURES if name not in MONEY} == {"bigint"}
        assert {types[view, name] for name in MONEY} == {"numeric"}
    assert types["v1_daily", "day"] == "date"
    assert {kind for (_, name), kind in types.items() if name.endswith("_at") or name == "hour"} == {
        "timestamp with time zone"
    }
    assert {types["v1_records", name] for name in TOKENS} == {"bigint"}


def test_every_view_and_every_column_has_a_comment(books):
    rows = books.ask(COLUMNS)
    assert len(rows) > 100
    assert [(view, name) for view, name, _, comment in rows if not comment] == []
    without = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'usage_api'::regnamespace "
        "AND coalesce(obj_description(oid, 'pg_class'), obj_description(reltype, 'pg_type')) IS NULL"
    )
    assert books.ask(without) == []
    assert books.ask(WITHOUT_A_COMMENT) == []


def test_every_type_is_what_the_function_of_its_name_returns(books):
    assert {name for (name,) in books.ask(TYPES)} <= {name for name, _ in books.ask(FUNCTIONS)}
    assert all(name.startswith("v1_") for name, _ in books.ask(FUNCTIONS))


def test_what_functions_share_is_nobody_elses_and_has_no_version(books):
    shared = books.ask("SELECT proname::text FROM pg_proc WHERE pronamespace = 'usage_internal'::regnamespace")
    assert shared
    assert not [name for (name,) in shared if name.startswith("v1_")]


# -- the roles --------------------------------------------------------------------------------------------------


def test_a_reader_reads_every_view_and_no_table(roles):
    with proxy("queue", calls(50)) as simulator:
        roles.sync(simulator)
    views = {view for (view,) in roles.ask(VIEWS)}
    tables = [name for (name,) in roles.ask(TABLES)]
    assert len(tables) > 10
    roles.ask("SET ROLE usage_reader")
    for view in sorted(views):
        roles.ask(f"SELECT * FROM usage_api.{view}")
    assert roles.ask("SELECT sum(requests) FROM usage_api.v1_daily") == [(50,)]
    for call in ("v1_usage(NULL, NULL)", "v1_channel_usage(NULL, NULL)", "v1_key_usage(NULL, NULL)",
                 "v1_series(NULL, NULL, 'hour', 'Asia/Kolkata')", "v1_series(NULL, NULL, 'day')",
                 "v1_key_series(NULL, NULL, 'hour', 'Asia/Kolkata')", "v1_key_series(NULL, NULL, 'hour')"):  # fmt: skip
        assert roles.ask(f"SELECT sum(requests) FROM usage_api.{call}") == [(50,)]
    for table in tables:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            roles.ask(f"SELECT * FROM usage.{table}")
    for statement in ("CREATE VIEW usage_api.mine AS SELECT 1", "CREATE TABLE usage_api.mine ()",
                      "SELECT usage.ensure_record_partition('2026-01-01')",
                      "SELECT usage.drop_record_partition('2026-01-01')", "SELECT * FROM usage.schema_version",
                      "DROP VIEW usage_api.v1_daily"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            roles.ask(statement)


def test_a_writer_does_whole_passes_and_makes_alters_and_drops_nothing(roles, tmp_path):
    name = f"writer_{uuid.uuid4().hex[:8]}"
    roles.ask(f"CREATE ROLE {name} LOGIN PASSWORD 'EXAMPLE' IN ROLE usage_writer")
    try:
        url = make_url(roles.url).set(username=name, password="EXAMPLE").render_as_string(hide_password=False)
        with Books(url, tmp_path) as writing, proxy("queue", calls(300)) as simulator:
            assert writing.ask("SELECT current_user") == [(name,)]
            finished = writing.worker(simulator, "sync", "--once", "--json")
            assert (finished.code, finished.json[0]["inserted"]) == (0, 300), finished.stderr
            writing.require_exactly(calls(300))
            for command in (["verify"], ["status"], ["report", "daily"], ["rebuild"], ["migrate"]):
                assert writing.worker(simulator, *command).code == 0, command
            for statement in ("CREATE TABLE usage.mine ()", "CREATE VIEW usage_api.mine AS SELECT 1",
                              "ALTER TABLE usage.record ADD COLUMN mine int", "DROP TABLE usage.record",
                              "TRUNCATE usage.record", "DROP VIEW usage_api.v1_daily",
                              "UPDATE usage.schema_version SET version_num = '0'",
                              "DROP FUNCTION usage.drop_record_partition(date)", "DROP SCHEMA usage CASCADE",
                              "CREATE FUNCTION usage.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                              "ALTER FUNCTION usage.drop_record_partition(date) RESET ALL",
                              "CREATE INDEX ON usage.record (model)", "CREATE SCHEMA mine",
                              "ALTER DEFAULT PRIVILEGES FOR ROLE usage_owner GRANT ALL ON TABLES TO PUBLIC",
                              "SET ROLE usage_owner"):  # fmt: skip
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    writing.ask(statement)
    finally:
        roles.ask(f"DROP ROLE {name}")


SELECT_FUNCTIONS = f"""
{OURS}
SELECT proname::text, prosecdef, array_to_string(proconfig, ' '), has_function_privilege('public', oid, 'EXECUTE'),
       has_function_privilege('usage_writer', oid, 'EXECUTE'), has_function_privilege('usage_reader', oid, 'EXECUTE')
FROM pg_proc WHERE prosecdef AND pronamespace IN (SELECT oid FROM schemas) ORDER BY 1
"""


def test_functions_that_run_with_their_owners_rights_are_the_writers_alone_and_look_nowhere_else(roles):
    found = {name: rest for name, *rest in roles.ask(SELECT_FUNCTIONS)}
    assert found.keys() == {"ensure_record_partition", "drop_record_partition"}
    for definer, settings, public, writer, reader in found.values():
        assert (definer, public, writer, reader) == (True, False, True, False)
        assert "search_path=pg_catalog, pg_temp" in settings


def test_what_the_functions_of_partitions_make_and_drop_is_partitions_of_records_only(roles, tmp_path):
    with account(roles, "usage_writer", tmp_path) as writing:
        writing.ask("SELECT usage.ensure_record_partition('2026-01-15')")
        assert roles.ask("SELECT to_regclass('usage.record_2026_01') IS NOT NULL") == [(True,)]
        writing.ask("SELECT usage.drop_record_partition('2026-01-15')")
        assert roles.ask("SELECT to_regclass('usage.record_2026_01') IS NULL") == [(True,)]
        with pytest.raises(psycopg.errors.DataError):
            writing.ask("SELECT usage.drop_record_partition('record; DROP TABLE usage.setting')")


OWNERS = f"""
{OURS}
SELECT DISTINCT pg_get_userbyid(owner)::text FROM (
    SELECT relowner FROM pg_class WHERE relnamespace IN (SELECT oid FROM schemas)
    UNION SELECT proowner FROM pg_proc WHERE pronamespace IN (SELECT oid FROM schemas)
    UNION SELECT nspowner FROM pg_namespace WHERE nspname IN ('usage', 'usage_api', 'usage_internal')
) AS t (owner)
"""


@contextmanager
def account(books: Books, role: str, folder: Path) -> Iterator[Books]:
    """Books in the same database under a new account that is a member of `role`."""
    name = f"member_{uuid.uuid4().hex[:8]}"
    folder = folder / name
    folder.mkdir()
    books.ask(f"CREATE ROLE {name} LOGIN PASSWORD 'EXAMPLE' IN ROLE {role}")
    try:
        url = make_url(books.url).set(username=name, password="EXAMPLE").render_as_string(hide_password=False)
        with Books(url, folder) as members:
            yield members
    finally:
        books.ask(f"DROP ROLE {name}")


def test_what_a_member_of_usage_owner_migrates_another_member_can_migrate_later(roles, empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books:
        ((name,),) = books.ask("SELECT current_database()")
        books.ask(f"GRANT CREATE ON DATABASE {name} TO usage_owner")
        with account(books, "usage_owner", tmp_path) as first, account(books, "usage_owner", tmp_path) as second:
            assert first.worker(None, "migrate").code == 0
            assert first.ask(OWNERS) == [("usage_owner",)]
            with account(books, "usage_writer", tmp_path) as writing, proxy("queue", calls(50)) as simulator:
                assert writing.worker(simulator, "sync", "--once").code == 0
                writing.require_exactly(calls(50))
            assert books.ask(OWNERS) == [("usage_owner",)]  # partitions, too
            assert upgrading(next_version(tmp_path), second.url).wait() == 0
            assert books.ask("SELECT version_num FROM usage.schema_version") == [("9999",)]
            assert books.ask(OWNERS) == [("usage_owner",)]


def test_a_schema_of_one_account_stays_with_it(roles, empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books:
        migrations.migrate(empty_database_url)
        ((me, name),) = books.ask("SELECT current_user::text, current_database()::text")
        assert books.ask(OWNERS) == [(me,)]
        books.ask(f"GRANT CREATE ON DATABASE {name} TO usage_owner")
        with books.engine.begin() as connection:
            migrations.own_together(connection)
            assert connection.exec_driver_sql("SELECT current_user::text").scalar_one() == me
