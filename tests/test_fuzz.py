"""Whatever a queue answers, the good records in it are loaded, nothing crashes, and PostgreSQL refuses nothing.

300 payloads as a rule; WORKER_TEST_FUZZ=10000 makes it as many, others each time (`make fuzz`).
"""

from __future__ import annotations

import json
import os
import uuid
from itertools import count
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import payload

from worker.cliproxyapi import payload as decode
from worker.loading.pass_result import PassResult

PAYLOADS = int(os.environ.get("WORKER_TEST_FUZZ", "0"))


@pytest.mark.timeout(3600)
def test_the_good_records_of_any_payload_are_loaded_and_postgresql_refuses_nothing(books):
    loader = books.loader()
    result = PassResult(upstream="default")
    numbers = count()
    good: list[str] = []
    seen = {"payloads": 0, "bad": 0}

    @settings(
        max_examples=PAYLOADS or 300,
        derandomize=not PAYLOADS,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # what was loaded stays: an example cannot be made smaller
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(min_value=0, max_value=2**64))
    def load(seed: int) -> None:
        made = payload(Random(seed), next(numbers))
        before = result.inserted + result.duplicates
        decoded = decode.decode_queue(made.body)
        found = {record.request_id for record in decoded.records}
        assert found >= set(made.good), (seed, made.body)
        assert decoded.elements >= len(made.good)
        loader.load(uuid.uuid4().hex, decoded, result)
        assert result.inserted + result.duplicates - before == len(decoded.records), seed
        for kept, whole in aside(decoded.bad):
            if whole:
                decode.decode_quarantined(kept)  # it may still not be read, but nothing is raised
        good.extend(made.good)
        seen["payloads"] += 1
        seen["bad"] += len(decoded.bad)

    def aside(bad: list[decode.BadRecord]) -> list[tuple[str, bool]]:
        return [decode.quarantine(one, loader.target.keyring) for one in bad]

    load()
    assert seen["payloads"] >= (PAYLOADS or 300)
    assert seen["bad"] > seen["payloads"] / 10
    loaded = {name for (name,) in books.ask("SELECT request_id FROM usage.record")}
    assert set(good) <= loaded
    assert result.quarantined > 0
    for (kept,) in books.ask("SELECT payload FROM usage.quarantine WHERE retryable"):
        json.loads(kept)
    books.balance()
    print(json.dumps({**seen, "good": len(good), "inserted": result.inserted, "quarantined": result.quarantined}))  # noqa: T201
