"""Some runs of the fault suite; `make faults` does a thousand."""

import os

import pytest
from faults import a_server, run_seed

RUNS = int(os.environ.get("WORKER_TEST_FAULTS", "20"))


@pytest.fixture(scope="module")
def server():
    """A server that only these runs crash."""
    with a_server() as found:
        yield found


@pytest.mark.parametrize("seed", range(1, RUNS + 1))
def test_whatever_goes_wrong_nothing_is_lost_doubled_or_summed_otherwise(server, seed):
    tally = run_seed(seed, server)
    assert tally.failures == []
    assert tally.runs == 1
