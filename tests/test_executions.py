"""Execution ids: an attempt that is told with one, and the same told without, in any order, are one record."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import calls, proxy

from worker.cliproxyapi.payload import decode_queue
from worker.config import Prices
from worker.corrections import reprice
from worker.loading.pass_result import PassResult
from worker.pricing import dataset

SYNC = ("sync", "--once", "--json")
AT = "2026-10-12T08:04:05.123456789Z"


def item(execution=None, *, at=AT, model="gpt-5.6", tokens=100, **more):
    told = {"timestamp": at, "model": model, "provider": "codex", "auth_index": "45333f9784294f6d",
            "tokens": {"input_tokens": tokens, "output_tokens": 7, "total_tokens": tokens + 7},
            "failed": False, "api_key": "sk-client-team-a-7Q2mX"}  # fmt: skip
    return told | ({"execution_id": str(UUID(int=execution))} if execution is not None else {}) | more


def load(books, *answers, **more):
    """Load answers of a queue, one batch each."""
    loader = books.loader(**more)
    results = []
    for answer in answers:
        result = PassResult(upstream=loader.target.upstream)
        loader.load(f"{id(answer)}:{len(results)}:{books.records()}:{json.dumps(answer)[-60:]}",
                    decode_queue(json.dumps(answer).encode()), result)  # fmt: skip
        results.append((result.inserted, result.duplicates))
    return results


def test_two_equal_attempts_with_two_ids_are_two_in_one_answer_and_in_two(books):
    assert load(books, [item(1), item(2)], [item(3)], [item(4), item(1)]) == [(2, 0), (1, 0), (1, 1)]
    books.balance()


def test_an_attempt_told_twice_in_one_answer_is_one(books):
    assert load(books, [item(1), item(1)]) == [(1, 1)]
    assert load(books, [item(2), item(2), item(1)]) == [(1, 2)]
    books.balance()


def test_two_models_of_one_attempt_are_two_records(books):
    assert load(books, [item(1), item(1, model="gpt-image-2", tokens=30)]) == [(2, 0)]
    books.balance()


@pytest.mark.parametrize(
    ("answers", "stored"),
    [
        ([[item(1)], [item()]], 1),
        ([[item()], [item(1)]], 1),
        ([[item()], [item(1)], [item(1)], [item()]], 1),
        ([[item()], [item(1)], [item(2)]], 2),
        ([[item(1), item(2)], [item(), item()]], 2),
        ([[item(), item()], [item(1)], [item(2)], [item(3)]], 3),
        ([[item(1)], [item(), item()]], 2),
        ([[item(1), item()]], 1),
        ([[item(), item(1), item(2)]], 2),
        ([[item(1)], [item(), item()], [item(2)], [item(), item()]], 2),
        ([[item(), item(tokens=5)], [item(1, tokens=5)]], 2),
        ([[item(1, session_id="s")], [item(at="2026-10-12T08:04:05.123456788Z")]], 2),
    ],
)
def test_the_same_told_without_an_id_is_not_counted_again(books, answers, stored):
    load(books, *answers)
    assert books.records() == stored
    books.balance()
    assert sum(inserted for inserted, _ in load(books, *answers)) == 0
    books.balance()


def test_what_comes_with_its_id_says_so_of_the_record_that_came_without(books):
    load(books, [item()], [item(1, session_id="0199b0a4", stream=True, response_model="gpt-5.6-x")])
    columns = "execution_id, session_id, stream, response_model, cache_write_1h_tokens"
    found = books.ask(f"SELECT {columns} FROM usage_api.v1_records")
    assert found == [(str(UUID(int=1)), "0199b0a4", True, "gpt-5.6-x", None)]


@dataclass(frozen=True)
class Told:
    """An attempt as one payload tells it."""

    attempt: int
    with_id: bool


PAYLOADS = st.lists(
    st.lists(st.builds(Told, st.integers(0, 3), st.booleans()), min_size=1, max_size=4), min_size=1, max_size=5
)


SECONDS = count()


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PAYLOADS)
def test_however_often_and_in_whatever_way_attempts_are_told_each_is_stored_once(books, payloads):
    """Attempts 0 and 1 are equal but for their ids, 2 and 3 another such pair."""
    second = next(SECONDS)
    at = f"2026-10-12T08:{second // 60:02d}:{second % 60:02d}Z"

    def told(t):
        execution = 10 * second + t.attempt if t.with_id else None
        return item(execution, at=at, tokens=t.attempt // 2)

    load(books, *([told(t) for t in some] for some in payloads))
    stored = 0
    for pair in (0, 1):
        ids = {t.attempt for some in payloads for t in some if t.with_id and t.attempt // 2 == pair}
        without = max(sum(not t.with_id and t.attempt // 2 == pair for t in some) for some in payloads)
        stored += max(len(ids), without)
    assert books.ask("SELECT count(*) FROM usage.record WHERE occurred_at = %s", [at]) == [(stored,)]
    books.balance()


@pytest.mark.parametrize("first", ["queue", "v8"])
def test_a_history_that_was_exported_without_ids_adds_nothing_to_what_the_queue_told(books, first):
    """As where v8's queue was read, and a tool of old has kept the same records its own way; or before."""
    second = "v8" if first == "queue" else "queue"
    for version in (first, second):
        with proxy(version, calls(900)) as simulator:
            assert books.worker(simulator, *SYNC).code == 0
        books.require_exactly(calls(900))
    named = books.ask("SELECT count(*), count(execution_id), count(DISTINCT execution_id) FROM usage_api.v1_records")
    assert named == [(900, 900, 900)]
    assert books.worker(None, "verify").code == 0


def test_sessions_are_grouped_with_their_requests_tokens_and_cost(books):
    with proxy("v8", calls(900)) as simulator:
        assert books.worker(simulator, *SYNC).code == 0
    window = ("--since", "2026-08-20", "--until", "2026-08-24", "--limit", "1000")
    found = books.worker(None, "report", "sessions", *window, "--json").data
    records = books.worker(None, "report", "records", *window, "--json").data
    wanted = Counter(
        (r["client_key"], r["session_id"]) for r in records if r["session_id"] and r["outcome"] != "warmup"
    )
    assert {(s["client_key"], s["session_id"]): s["requests"] for s in found} == wanted
    assert len(wanted) > 10
    one = found[0]
    own = [r for r in records if (r["client_key"], r["session_id"]) == (one["client_key"], one["session_id"])
           and r["outcome"] != "warmup"]  # fmt: skip
    assert one["first_at"] == min(r["occurred_at"] for r in own)
    assert one["last_at"] == max(r["occurred_at"] for r in own)
    assert one["total_tokens"] == sum(r["total_tokens"] for r in own)
    assert one["models"] == len({r["model"] for r in own})
    assert one["cost_usd"] == pytest.approx(sum(r["cost_usd"] or 0 for r in own))
    shown = books.worker(None, "report", "sessions", *window).stdout
    assert one["session_id"] in shown
    assert books.worker(None, "report", "sessions", "--since", "2026-01-01", "--until", "2026-01-02").stdout == (
        "no sessions in this period: the proxy tells them from v8 on\n"
    )


def test_how_long_a_cache_is_kept_is_kept(books):
    tokens = {"input_tokens": 10, "output_tokens": 1, "cache_creation_tokens": 300, "cache_creation_5m_tokens": 100,
              "cache_creation_1h_tokens": 200, "total_tokens": 311}  # fmt: skip
    load(books, [{**item(1), "provider": "claude", "tokens": tokens}, {**item(2), "tokens": {**tokens,
         "cache_creation_1h_tokens": -1}}])  # fmt: skip
    found = books.ask("SELECT cache_write_1h_tokens FROM usage_api.v1_records ORDER BY 1")
    assert found == [(200,), (None,)]


@pytest.mark.parametrize("told", [0, 200, 300, None, 301])
def test_a_cache_kept_for_an_hour_is_charged_so_where_the_list_has_a_rate_and_it_is_told(books, told):
    listed = {p.model: p for p in dataset.shipped().prices if p.vendor == "anthropic"}["claude-3-5-haiku"]
    assert (listed.cache_write_usd_per_mtok, listed.cache_write_1h_usd_per_mtok) == (1, Decimal("1.6"))
    tokens = {"input_tokens": 10, "output_tokens": 1, "cache_creation_tokens": 300, "total_tokens": 311}
    if told is not None:
        tokens["cache_creation_1h_tokens"] = told
    one = item(1, provider="claude", model="claude-3-5-haiku") | {"tokens": tokens}
    load(books, [one], prices=Prices())
    kept = told if told is not None and told <= 300 else 0
    plain = 10 * listed.input_usd_per_mtok + listed.output_usd_per_mtok
    cost = (plain + (300 - kept) * 1 + kept * Decimal("1.6")) / 10**6
    columns = "cost_usd, cache_write_cost_usd, cost_estimated"
    wanted = [(cost, (300 - kept + kept * Decimal("1.6")) / 10**6, told in (None, 301))]
    assert books.ask(f"SELECT {columns} FROM usage_api.v1_records") == wanted
    shown = books.ask(
        "SELECT n.cache_write_1h_usd_per_mtok FROM usage_api.v1_records AS r, "
        "usage_api.v1_record(r.occurred_at, r.record_id) AS n"
    )
    assert shown == [(Decimal("1.6"),)]
    again = reprice.reprice(books.engine, books.loader(prices=Prices()).pricer, reprice.Selection())
    assert [(one.records, one.changed) for one in again] == [(1, 0)]
    books.balance()


def test_names_of_sessions_may_be_any_text(books):
    load(
        books,
        [item(1, session_id="=1+1\ud800\x1b[31m", response_model="[/]", parent_session_id="x" * 999, stream="yes")],
    )
    ((session, parent, model, stream),) = books.ask(
        "SELECT session_id, parent_session_id, response_model, stream FROM usage_api.v1_records"
    )
    assert (session, len(parent), model, stream) == ("=1+1\ufffd\x1b[31m", 150, "[/]", None)
    for style in ("table", "csv", "json"):
        shown = books.worker(None, "report", "sessions", "--since", "2026-10-01", "--format", style)
        assert (shown.code, "\x1b[31m" in shown.stdout) == (0, False)
