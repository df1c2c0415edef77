"""Numbers, and how far they reach: names that are there take none, and where they end no record is at fault."""

from __future__ import annotations

from dataclasses import replace

from support import calls, proxy

SYNC = ("sync", "--once", "--json")
SELECT_TAKEN = """
SELECT sequencename, last_value FROM pg_sequences
WHERE schemaname = 'usage' AND sequencename NOT IN ('sync_run_run_id_seq', 'batch_batch_id_seq')
ORDER BY 1
"""
SELECT_INTEGERS = """
SELECT DISTINCT c.column_name FROM information_schema.columns AS c JOIN information_schema.tables AS t
    USING (table_schema, table_name)
WHERE c.table_schema = 'usage' AND t.table_type = 'BASE TABLE' AND c.data_type IN ('integer', 'smallint')
ORDER BY 1
"""
END = "ALTER SEQUENCE usage.dimension_dimension_id_seq RESTART 2147483640"


def later(usages, ms):
    return [replace(usage, timestamp_ns=usage.timestamp_ns + ms * 1_000_000) for usage in usages]


def test_names_that_are_there_take_no_numbers(books):
    with proxy("queue", calls(600)) as simulator:
        simulator.push_raw([17])
        assert books.worker(simulator, *SYNC).code == 6
        taken = books.ask(SELECT_TAKEN)
        for ms in (1, 2, 3):
            simulator.push(later(calls(600), ms))
            simulator.push_raw([17])
            assert books.worker(simulator, *SYNC).json[0]["inserted"] == 600  # a process that has learnt nothing yet
        assert books.ask(SELECT_TAKEN) == taken


def test_where_numbers_end_records_wait_and_none_is_set_aside(books):
    with proxy("queue", calls(600)) as simulator:
        books.ask(END)
        finished = books.worker(simulator, *SYNC)
        assert finished.code == 5
        assert "numbers have run out" in finished.json[0]["error"]
        assert (len(books.journal()), simulator.queued) == (2, 0)
        assert books.ask("SELECT count(*) FROM usage.quarantine") == [(0,)]
        books.ask("ALTER SEQUENCE usage.dimension_dimension_id_seq RESTART 1000")
        assert books.worker(simulator, *SYNC).code == 0
    books.require_exactly(calls(600))


OF_ROWS = {"channel_id", "linked_to", "client_key_id", "dimension_id", "origin_id", "price_id", "upstream_id"}
"""Names and prices, of which each has a row: two thousand million rows come before the end."""
BOUNDED = {"status_code": "decode keeps three digits", "links": "one for each link that an operator makes"}


def test_what_counts_events_is_as_wide_as_they_may_become(books):
    assert {name for (name,) in books.ask(SELECT_INTEGERS)} == OF_ROWS | BOUNDED.keys()
