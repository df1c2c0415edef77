"""What PostgreSQL refuses: a record at fault is set aside; where none is, all wait, are told, and come in later.

What is put here in the way of records are faults of a schema, a server or a program.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from support import QUICK, calls, free_port, proxy, said, wait_until
from test_doctor import account, logged_in
from test_service import metric

SYNC = ("sync", "--once", "--json")
REFUSING = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'value out of range' USING ERRCODE = '22003'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON usage.{} FOR EACH ROW {} EXECUTE FUNCTION public.refuse();
"""
TAKING = "DROP TRIGGER refuse ON usage.{}"
OF_A_MODEL = "WHEN (NEW.model = '{}')"


class Fault(NamedTuple):
    """A fault, how it goes away again, and what is said of it."""

    begins: str
    ends: str
    words: str


OUT_OF_NUMBERS = """
ALTER TABLE usage.{0} ALTER COLUMN {0}_id SET MAXVALUE 2 RESTART WITH 2;
SELECT nextval('usage.{0}_{0}_id_seq')
"""
MORE_NUMBERS = "ALTER TABLE usage.{0} ALTER COLUMN {0}_id SET MAXVALUE 2147483647"
FAULTS = {
    "every record": Fault(REFUSING.format("record", ""), TAKING.format("record"), "out of range"),
    "every name": Fault(REFUSING.format("dimension", ""), TAKING.format("dimension"), "out of range"),
    "every sum": Fault(REFUSING.format("daily_key", ""), TAKING.format("daily_key"), "out of range"),
    "a constraint": Fault(
        "ALTER TABLE usage.record ADD CONSTRAINT made_by_hand CHECK (batch_id < 0)",
        "ALTER TABLE usage.record DROP CONSTRAINT made_by_hand",
        "made_by_hand",
    ),
    "a column too many": Fault(
        "ALTER TABLE usage.hourly ADD COLUMN made_by_hand text NOT NULL",
        "ALTER TABLE usage.hourly DROP COLUMN made_by_hand",
        "made_by_hand",
    ),
    "a column missing": Fault(
        "ALTER TABLE usage.record RENAME COLUMN request_id TO made_by_hand",
        "ALTER TABLE usage.record RENAME COLUMN made_by_hand TO request_id",
        "request_id",
    ),
    "numbers of batches": Fault(OUT_OF_NUMBERS.format("batch"), MORE_NUMBERS.format("batch"), "numbers have run out"),
    "numbers of keys": Fault(
        OUT_OF_NUMBERS.format("client_key"), MORE_NUMBERS.format("client_key"), "numbers have run out"
    ),
}


def quarantined(books):
    return books.ask("SELECT count(*) FROM usage.quarantine")[0][0]


@pytest.mark.parametrize("of", [3, 600])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_where_no_record_is_at_fault_all_wait_and_come_in_later(books, fault, of):
    with proxy("queue", calls(of)) as simulator:
        books.ask(fault.begins)
        finished = books.worker(simulator, *SYNC)
        assert finished.code == 5, finished.stderr
        assert fault.words in finished.json[0]["error"]
        assert (quarantined(books), simulator.queued, len(books.journal())) == (0, 0, 1 + of // 500)
        (status,) = books.worker(simulator, "status", "--json").json
        assert fault.words in status["last_error"]
        books.ask(fault.ends)
        assert books.worker(simulator, *SYNC).code == 0
        assert books.journal() == []
    books.require_exactly(calls(of))


def test_a_right_that_is_missing_is_told_and_all_wait(books):
    with account(books, "usage_writer") as name, proxy("queue", calls(20)) as simulator:
        environment = {"WORKER_DATABASE_URL": logged_in(books, name).url.get_secret_value()}
        books.ask("REVOKE INSERT ON usage.daily_channel FROM usage_writer")
        finished = books.worker(simulator, *SYNC, **environment)
        assert finished.code == 5, finished.stderr
        assert "daily_channel" in finished.json[0]["error"]
        assert "rights of usage_writer" in finished.json[0]["error"]
        assert (quarantined(books), simulator.queued, len(books.journal())) == (0, 0, 1)
        books.ask("GRANT INSERT ON usage.daily_channel TO usage_writer")
        assert books.worker(simulator, *SYNC, **environment).code == 0
    books.require_exactly(calls(20))


def test_records_that_are_at_fault_though_in_the_same_words_are_set_aside_alone(books):
    model = calls(600)[0].model
    wrong = [usage for usage in calls(600) if usage.model == model]
    books.ask(REFUSING.format("dimension", OF_A_MODEL.format(model)))
    with proxy("queue", calls(600)) as simulator:
        finished = books.worker(simulator, *SYNC)
        assert (finished.code, finished.json[0]["quarantined"], books.journal()) == (6, len(wrong), [])
    books.ask(TAKING.format("dimension"))
    assert books.worker(None, "quarantine", "retry", "--json").json[0]["inserted"] == len(wrong)
    books.require_exactly(calls(600))


@pytest.mark.parametrize(("of", "code", "waiting"), [(10, 6, 0), (11, 5, 1)])
def test_few_records_that_are_all_at_fault_are_set_aside_and_many_alike_are_not(books, of, code, waiting):
    some = [usage for usage in calls(3000) if usage.latency_ms][:of]
    books.ask(REFUSING.format("record", "WHEN (NEW.latency_ms > 0)"))
    with proxy("queue", some) as simulator:
        finished = books.worker(simulator, *SYNC)
        assert (finished.code, quarantined(books), len(books.journal())) == (code, 0 if waiting else of, waiting)
        books.ask(TAKING.format("record"))
        if waiting:
            assert "none of them is at fault" in finished.json[0]["error"]
            assert books.worker(simulator, *SYNC).code == 0
        else:
            assert books.worker(None, "quarantine", "retry", "--json").json[0]["inserted"] == of
    books.require_exactly(some)


def test_what_is_refused_as_a_whole_keeps_nothing_back_and_is_told(books):
    """As `worker run` does it: one answer waits, those after it are loaded, and metrics and log tell of it."""
    some = [usage for usage in calls(3000) if usage.latency_ms]
    refused, taken = some[:20], [usage for usage in some[20:] if usage.latency_ms < 60_000][:300]
    books.ask(REFUSING.format("record", "WHEN (NEW.latency_ms >= 60000)"))
    refused = [replace(usage, latency_ms=60_000 + n) for n, usage in enumerate(refused)]
    port = free_port()
    with proxy("queue", refused) as simulator:
        assert books.worker(simulator, *SYNC).code == 5
        with books.starting(simulator, "run", **{**QUICK, "WORKER_HTTP_PORT": str(port)}) as process:
            simulator.push(taken)
            wait_until(lambda: books.records() == 300, "what came after it is loaded")
            wait_until(lambda: metric(port, "journal_refused_entries"), "a pass has ended")
            assert metric(port, "journal_refused_entries") == {'{upstream="default"}': 1.0}
            assert metric(port, "journal_entries") == {'{upstream="default"}': 1.0}
            assert '"batch.refused"' in said(process)
            books.ask(TAKING.format("record"))
            wait_until(lambda: books.records() == 320, "what waited is loaded")
            wait_until(lambda: not any(metric(port, "journal_refused_entries").values()), "the alarm has ended")
    assert quarantined(books) == 0
    books.require_exactly([*refused, *taken])
