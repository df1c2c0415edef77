"""Some runs of the fault suite; `make faults` does a thousand."""

import os

import psycopg
import pytest
from faults import a_server, crash, fresh, run_seed
from support import Books, calls, proxy

RUNS = int(os.environ.get("WORKER_TEST_FAULTS", "20"))


@pytest.fixture(scope="module")
def server():
    """A server that only these runs crash."""
    with a_server() as found:
        yield found


def test_what_is_committed_outlives_a_server_that_commits_lazily(server, tmp_path):
    """With synchronous_commit off, a crash takes what was said to be committed; the journal would be gone, too."""
    with fresh(server, migrated=True) as name, psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        admin.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        admin.execute("SELECT pg_reload_conf()")
        with Books(server.url(name), tmp_path) as books, proxy("queue", calls(50)) as simulator:
            books.sync(simulator)
            assert books.journal() == []
        crash(server)
        server.start()
        with Books(server.url(name), tmp_path) as books:
            assert books.records() == 50
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM RESET wal_writer_delay")
        admin.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("seed", range(1, RUNS + 1))
def test_whatever_goes_wrong_nothing_is_lost_doubled_or_summed_otherwise(server, seed):
    tally = run_seed(seed, server)
    assert tally.failures == []
    assert tally.runs == 1
