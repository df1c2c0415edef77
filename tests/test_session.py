"""What a connection and a transaction go by: whoever is gone is noticed, and whatever is set elsewhere counts not."""

import socket
import threading
import time
from contextlib import ExitStack

import pytest
from psycopg.conninfo import conninfo_to_dict
from wire import wire

from worker.db import database, migrations, retry, session
from worker.errors import (
    DatabaseAwayError,
    DatabaseError,
    DatabaseUnusableError,
    NoSchemaError,
    RefusedError,
    TransientDatabaseError,
)

# -- who is gone without a word ---------------------------------------------------------------------------------


def test_a_connection_that_dies_without_a_word_is_noticed_within_seconds(books):
    with wire(books.dsn) as way:
        engine = database.connect(way.url(books.dsn))

        def work():
            with database.transaction(engine, session.Deadlines(1, 1, 60)) as connection:
                connection.execute("SELECT 1")
                way.dropping.set()
                connection.execute("SELECT 1")

        begun_at = time.monotonic()
        with pytest.raises(DatabaseAwayError, match="no answer"):
            work()
        assert time.monotonic() - begun_at < 1 + session.GRACE_S + 2
        engine.dispose()


def test_short_work_and_whatever_stands_outside_a_transaction_are_given_up_within_twenty_seconds():
    assert session.SHORT.answer_s <= 20
    assert session.Connection.answer_s <= 20
    assert session.LONG.answer_s is None
    assert session.BATCH.lock_s * retry.TRIES <= 30


def test_the_operating_system_watches_each_connection(books):
    with wire(books.dsn) as way:
        engine = database.connect(way.url(books.dsn))
        with database.transaction(engine) as connection, socket.socket(fileno=connection.fileno()) as found:
            options = {
                name: found.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            }
            alive = found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            found.detach()
        engine.dispose()
    assert alive == 1
    assert options["TCP_KEEPIDLE"] + options["TCP_KEEPINTVL"] * options["TCP_KEEPCNT"] <= 15
    assert 0 < options["TCP_USER_TIMEOUT"] <= 15_000


def test_what_the_url_says_of_deadlines_goes_before_ours(books):
    with wire(books.dsn) as way:
        engine = database.connect(way.url(books.dsn) + "?keepalives_idle=77&application_name=mine")
        with database.transaction(engine) as connection:
            assert connection.info.get_parameters()["keepalives_idle"] == "77"
            assert connection.execute("SELECT current_setting('application_name')").fetchone() == ("mine",)
        engine.dispose()


# -- locks and deadlines ----------------------------------------------------------------------------------------


def test_a_batch_gives_up_a_lock_after_some_seconds_and_a_rebuild_does_not(books):
    some = session.BATCH._replace(lock_s=1)
    with books.holding("LOCK TABLE usage.daily IN ACCESS EXCLUSIVE MODE"):
        begun_at = time.monotonic()
        with pytest.raises(TransientDatabaseError), database.transaction(books.engine, some) as connection:
            connection.execute("SELECT count(*) FROM usage.daily")
        assert time.monotonic() - begun_at < 5
        found = []

        def patient():
            with database.transaction(books.engine) as connection:
                found.append(connection.execute("SELECT count(*) FROM usage.daily").fetchone())

        waiting = threading.Thread(target=patient)
        waiting.start()
        books.wait_until_it_waits()
    waiting.join(20)
    assert found == [(0,)]


@pytest.mark.parametrize("deadlines", [session.SHORT, session.BATCH, session.LONG])
def test_deadlines_hold_for_one_transaction_whatever_role_and_database_say(books, deadlines):
    name = conninfo_to_dict(books.dsn)["dbname"]
    for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        books.ask(f"ALTER DATABASE {name} SET {setting} = '7min'")
    ask = """
        SELECT extract(epoch FROM current_setting('lock_timeout')::interval)::int,
               extract(epoch FROM current_setting('statement_timeout')::interval)::int,
               extract(epoch FROM current_setting('idle_in_transaction_session_timeout')::interval)::int
    """
    with database.transaction(books.engine, deadlines) as connection:
        assert connection.execute(ask).fetchone() == tuple(deadlines)
    with books.engine.connect() as pooled:  # and afterwards all is as it was
        driver = pooled.connection.driver_connection
        assert driver.execute(ask).fetchone() == (420, 420, 420)
        assert driver.answer_s == session.SHORT.answer_s


def test_a_statement_that_takes_too_long_is_a_sentence(books):
    with pytest.raises(DatabaseUnusableError, match="It took too long"):  # noqa: SIM117
        with database.transaction(books.engine, session.SHORT._replace(statement_s=1)) as connection:
            connection.execute("SELECT pg_sleep(10)")


# -- every error is one of ours ---------------------------------------------------------------------------------

RAISE = "DO $$ BEGIN RAISE EXCEPTION 'a\nb' USING ERRCODE = '{}'; END $$"
OURS = {
    "25006": DatabaseUnusableError,
    "53100": DatabaseUnusableError,
    "53200": DatabaseUnusableError,
    "57014": DatabaseUnusableError,
    "XX001": DatabaseUnusableError,
    "42501": DatabaseUnusableError,
    "42703": DatabaseUnusableError,
    "0A000": DatabaseUnusableError,
    "08P01": DatabaseAwayError,
    "57P01": DatabaseAwayError,
    "57P03": DatabaseAwayError,
    "53300": DatabaseAwayError,
    "40P01": TransientDatabaseError,
    "40001": TransientDatabaseError,
    "55P03": TransientDatabaseError,
    "42P01": NoSchemaError,
    "22003": RefusedError,
    "22021": RefusedError,
    # What cannot be about a value.
    "22P04": DatabaseUnusableError,
    "2200H": DatabaseUnusableError,
    "22023": DatabaseUnusableError,
    "22P03": DatabaseUnusableError,
    "23514": DatabaseUnusableError,  # no name of a constraint: a partition is missing
    "99999": DatabaseUnusableError,
}


@pytest.mark.parametrize("code", OURS)
def test_whatever_postgresql_says_is_an_error_of_ours_in_one_line(books, code):
    with pytest.raises(OURS[code]) as raised, database.transaction(books.engine) as connection:
        connection.execute(RAISE.format(code))
    assert type(raised.value) is OURS[code]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("statement", "arguments", "ours"),
    [
        ("SELEC 1", [], DatabaseUnusableError),
        ("SELECT %s", [], DatabaseUnusableError),
        ("SELECT %s::text", ["\ud800"], RefusedError),
        ("SELECT %s::text", ["a\0b"], RefusedError),
        ("SELECT %s::int", [1 << 40], RefusedError),
        ("SELECT 1/%s", [0], DatabaseUnusableError),
        ("COPY (SELECT 1) TO STDOUT", [], DatabaseError),
    ],
)
def test_a_fault_of_a_program_and_a_value_that_cannot_be_are_told_apart(books, statement, arguments, ours):
    with pytest.raises(ours), database.transaction(books.engine) as connection:
        connection.execute(statement, arguments)


def test_an_exhausted_sequence_is_no_fault_of_a_record(books):
    books.ask("ALTER TABLE usage.upstream ALTER COLUMN upstream_id SET MAXVALUE 2 RESTART WITH 1")
    for name in "ab":
        books.ask("INSERT INTO usage.upstream (name) VALUES (%s)", [name])
    with pytest.raises(DatabaseUnusableError, match="numbers have run out"), database.transaction(books.engine) as c:
        c.execute("INSERT INTO usage.upstream (name) VALUES ('c')")


def test_a_pool_that_is_used_up_is_an_error_of_ours(books):
    engine = database.connect(books.url)
    engine.pool._max_overflow, engine.pool._timeout = 0, 0.1
    with ExitStack() as stack:
        for _ in range(engine.pool.size()):
            stack.enter_context(database.transaction(engine))
        with pytest.raises(DatabaseUnusableError), database.transaction(engine):
            pass
    engine.dispose()


# -- whether it works -------------------------------------------------------------------------------------------


def test_a_database_that_works_is_said_to(books):
    migrations.check_writable(books.engine)


def test_a_database_set_to_read_only_is_said_to_be(books):
    name = conninfo_to_dict(books.dsn)["dbname"]
    books.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    engine = database.connect(books.url)
    with pytest.raises(DatabaseUnusableError, match="takes no writes"):
        migrations.check_writable(engine)
    with pytest.raises(DatabaseUnusableError, match="takes no writes"):  # noqa: SIM117
        with database.transaction(engine) as connection:
            connection.execute("INSERT INTO usage.upstream (name) VALUES ('x')")
    engine.dispose()


def test_a_database_without_our_schema_does_not_work(empty_database_url):
    engine = database.connect(empty_database_url)
    with pytest.raises(NoSchemaError):
        migrations.check_writable(engine)
    engine.dispose()


def test_a_database_of_an_older_schema_does_not_work(books):
    books.ask("UPDATE usage.schema_version SET version_num = '0001'")
    with pytest.raises(NoSchemaError, match="version 0001"):
        migrations.check_writable(books.engine)


def test_a_server_that_is_not_there_does_not_work():
    engine = database.connect("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseAwayError) as raised:
        migrations.check_writable(engine)
    assert "\n" not in str(raised.value)


def test_a_lock_whose_connection_is_lost_is_an_error_of_ours_and_no_traceback_of_the_pool(books, caplog):
    with pytest.raises(DatabaseError), database.autocommit(books.engine) as connection:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert [record.message for record in caplog.records if record.exc_info] == []
    with database.autocommit(books.engine) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
