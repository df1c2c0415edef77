"""What sums are made of: costs known, estimated or neither; what the client cancelled; how long things took."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.rows import dict_row
from pydantic import SecretStr
from support import KEY, PRICES, Books, proxy, worker

from worker.config import OwnPrice, Prices, Upstream
from worker.pricing import price
from worker.sync import run as sync
from worker.usage import measures
from worker.usage.tokens import Normalised

NOTHING = {"input_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0, "cached_tokens": 0, "total_tokens": 0}
SOME = {"input_tokens": 1000, "output_tokens": 100, "reasoning_tokens": 0, "cached_tokens": 0, "total_tokens": 1100}
COSTS = ("cost_usd", "actual_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd", "estimated_cost_usd")
WINDOW = "'2026-11-25', '2026-11-26'"
TOTALS = {
    "v1_totals": WINDOW, "v1_summary": WINDOW, "v1_by_model": WINDOW, "v1_by_alias": WINDOW,
    "v1_by_client_key": WINDOW, "v1_by_channel": WINDOW, "v1_by_channel_and_model": WINDOW,
    "v1_by_channel_group": WINDOW, "v1_by_endpoint": WINDOW, "v1_client_key_models": WINDOW,
    "v1_channel_statistics": WINDOW, "v1_trend": WINDOW,
}  # fmt: skip
ROWS = ("v1_daily", "v1_hourly", "v1_daily_channels", "v1_daily_keys", "v1_hourly_keys", "v1_record_measures")
WINDOWS = (f"v1_usage({WINDOW})", f"v1_channel_usage({WINDOW})", f"v1_key_usage({WINDOW})",
           f"v1_series({WINDOW}, 'hour')", f"v1_key_series({WINDOW}, 'day')",
           f"v1_series({WINDOW}, 'hour', 'Asia/Kathmandu')")  # fmt: skip
FREE = Prices(dataset=False, own=(OwnPrice(model="*", input_usd_per_mtok=Decimal(0), output_usd_per_mtok=Decimal(0)),))
NO_PRICES = Prices(dataset=False)


def item(n: int, **told: Any) -> dict[str, Any]:
    """An item of the queue, as v7.2.140 writes it; the `n`th begins `n` seconds past ten."""
    return {
        "timestamp": f"2026-11-25T10:00:{n:02d}.000000{n:03d}Z", "latency_ms": 1200, "ttft_ms": 300,
        "source": "a@example.org", "auth_index": "aaaa000000000001", "tokens": SOME, "failed": False,
        "generate": True, "fail": {"status_code": 200, "body": ""}, "accounting_version": 2, "provider": "codex",
        "executor_type": "CodexExecutor", "model": "gpt-5.6-sol", "alias": "gpt-5.6-sol",
        "endpoint": "POST /v1/responses", "auth_type": "oauth", "api_key": "sk-client-example-0001",
        "request_id": f"{n:08x}", "reasoning_effort": "", "service_tier": "auto", **told,
    }  # fmt: skip


def failure(n: int, **told: Any) -> dict[str, Any]:
    """One that used nothing."""
    return item(n, **{"failed": True, "tokens": NOTHING, "fail": {"status_code": 500, "body": "x"}, **told})


def cancelled(n: int, **told: Any) -> dict[str, Any]:
    return failure(n, **{"fail": {"status_code": 499, "body": "context canceled"}, **told})


def load(books: Books, items: Sequence[dict[str, Any]], prices: Prices = PRICES) -> None:
    with proxy("queue") as simulator:
        simulator.push_raw(items)
        one = Upstream(name="default", url=simulator.url, key=SecretStr(KEY))
        assert sync.sync_once(books.config(one, prices=prices), books.engine, one).inserted == len(items)


def rows(books: Books, what: str) -> list[dict[str, Any]]:
    with books._connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"SELECT * FROM usage_api.{what}").fetchall()


# -- sums that are costs ----------------------------------------------------------------------------------------


def test_where_nothing_that_was_used_has_a_price_no_sum_is_a_cost(books):
    load(books, [failure(1), failure(2, generate=False), item(3), cancelled(4)], NO_PRICES)
    unknown = [(None,) * len(COSTS)]
    for view in (*ROWS, *WINDOWS):
        assert books.ask(f"SELECT {', '.join(f'sum({name})' for name in COSTS)} FROM usage_api.{view}") == unknown, view
    for function, window in TOTALS.items():
        for row in rows(books, f"{function}({window})"):
            if row["requests"] + row["warmups"]:
                assert [row[name] for name in COSTS] == [None] * len(COSTS), function
                assert row["unpriced_requests"] == 1
    (day,) = [row for row in rows(books, "v1_heatmap(3, '2026-11-26')") if row["requests"]]
    assert (day["cost_usd"], day["actual_cost_usd"], day["estimated_cost_usd"]) == (None, None, None)
    (page,) = rows(books, "v1_dashboard(at => '2026-11-25 12:00+00')")
    money = [f"{period}_{name}" for period in ("total", "today") for name in (*COSTS[:2], COSTS[4])]
    assert [page[name] for name in money] == [None] * 6
    (key,) = rows(books, "v1_client_key_costs('2026-11-25 12:00+00')")
    periods = ("today", "last_30_days", "total")
    assert [key[f"{period}_actual_cost_usd"] for period in periods] == [None] * 3
    (hits,) = rows(books, f"v1_cache_hits({WINDOW})")
    assert (hits["cache_read_cost_usd"], hits["aether_savings_usd"]) == (None, None)
    books.balance()


def test_attempts_that_used_nothing_make_no_cost_of_a_request_without_a_price(books):
    load(books, [failure(1, request_id="aaaaaaaa"), item(3, request_id="aaaaaaaa"), failure(9)], NO_PRICES)
    found = {r["request_id"]: r for r in rows(books, f"v1_logical_requests({WINDOW})")}
    both, alone = found["aaaaaaaa"], found["00000009"]
    assert (both["attempts"], both["cost_usd"], both["estimated_cost_usd"]) == (2, None, None)
    assert (alone["attempts"], alone["cost_usd"], alone["actual_cost_usd"]) == (1, 0, 0)


@pytest.mark.parametrize("items", [[failure(1), cancelled(2)], []], ids=["nothing was used", "nothing happened"])
def test_where_nothing_was_used_the_cost_is_nothing(books, items):
    load(books, items or [item(1, timestamp="2026-10-01T00:00:00Z")], NO_PRICES)
    (row,) = rows(books, f"v1_summary({WINDOW})")
    assert [row[name] for name in COSTS] == [0] * len(COSTS)


def test_a_free_model_costs_nothing_and_that_is_known(books):
    load(books, [failure(1), item(2)], FREE)
    load(books, [item(3, model="unknown-model", tokens={**SOME, "cached_tokens": 500})], FREE)  # no rate for it
    (row,) = rows(books, f"v1_summary({WINDOW})")
    assert (row["cost_usd"], row["unpriced_requests"]) == (0, 1)
    assert books.ask("SELECT sum(cost_usd) FROM usage_api.v1_daily") == [(0,)]
    books.balance()


def test_json_csv_and_terminal_show_no_cost_where_there_is_none(books):
    load(books, [failure(1), item(2)], NO_PRICES)
    for family in ("channels", "groups", "models", "keys", "endpoints", "daily", "hourly", "summary", "trend"):
        window = ("--since", "2026-11-25", "--until", "2026-11-26")
        told = books.worker(None, "report", family, *window, "--json").data
        assert [[row[name] for name in COSTS] for row in told] == [[None] * len(COSTS)], family
        written = books.worker(None, "report", family, *window, "--format", "csv").stdout
        assert [[row[name] for name in COSTS] for row in csv.DictReader(io.StringIO(written))] == [[""] * len(COSTS)]
        shown = books.worker(None, "report", family, *window).stdout
        assert "unpriced" in shown
        assert "0.0000" not in shown, family


def test_repricing_there_and_back_leaves_the_sums_as_they_were(books):
    load(books, [failure(1), item(2), item(3, model="other")], NO_PRICES)
    before = books.dump()
    environment = books.environment()
    told = worker(("reprice", "--json"), environment, books.folder).json["models"]
    assert [(m["cost_usd_before"], m["cost_usd_after"]) for m in told] == [(None, 0.0038), (None, 0.0038)]
    books.balance()
    assert books.ask("SELECT sum(priced_requests), sum(unpriced_requests) FROM usage.daily") == [(2, 0)]
    unpriced = {name: value for name, value in environment.items() if "PRICES__OWN" not in name}
    finished = worker(("reprice",), unpriced, books.folder)
    assert finished.stdout.count("unpriced") >= 4  # two models, cost and actual cost, and not 0.0000
    assert worker(("reprice", "--json"), unpriced, books.folder).json["models"][0]["cost_usd_after"] is None
    assert books.dump() == before
    books.balance()


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.integers(0, 2)), max_size=6))
def test_the_rule_for_sums(records):
    """(cost, tokens) of records: the sum is one unless something was used and nothing of that has a price."""
    priced = sum(measures.uses_something(cost, Normalised(tokens, 0, 0, 0, 0)) for cost, tokens in records)
    unpriced = sum(cost is None for cost, _ in records)
    known = [cost for cost, _ in records if cost is not None]
    found = measures.cost_of(Decimal(sum(known)), priced=priced, unpriced=unpriced)
    if unpriced and not any(cost is not None and (cost or tokens) for cost, tokens in records):
        assert found is None
    else:
        assert found == sum(known)


# -- estimates --------------------------------------------------------------------------------------------------


@pytest.fixture
def guessing(monkeypatch):
    """As if the prices of some models were guesses."""
    priced = price.cost

    def guessed(steps, at, counts, *more):
        found = priced(steps, at, counts, *more)
        return found._replace(estimated=bool(found.cost_pico_usd) and counts.billed_output == 100)

    monkeypatch.setattr(price, "cost", guessed)


def test_what_is_an_estimate_is_marked_in_the_record_and_in_every_sum(books, guessing):
    exact = {**SOME, "output_tokens": 200, "total_tokens": 1200}
    load(books, [failure(1), item(2), item(3), item(4, tokens=exact), item(5, model="other")])
    estimated, everything = 3 * Decimal("0.0038"), 3 * Decimal("0.0038") + Decimal("0.0046")
    marked = books.ask("SELECT cost_estimated, cost_usd, estimated_cost_usd FROM usage_api.v1_records ORDER BY 1, 2")
    guess = (True, Decimal("0.0038"), Decimal("0.0038"))
    assert marked == [(False, 0, 0), (False, Decimal("0.0046"), 0), guess, guess, guess]
    for what in (*ROWS, *WINDOWS, *(f"{name}({window})" for name, window in TOTALS.items()
                                    if name != "v1_channel_statistics"),
                 f"v1_logical_requests({WINDOW})", f"v1_attempts({WINDOW})"):  # fmt: skip
        sums = books.ask(f"SELECT sum(cost_usd), sum(estimated_cost_usd) FROM usage_api.{what}")
        assert sums == [(everything, estimated)], what
    (page,) = rows(books, "v1_dashboard(at => '2026-11-25 12:00+00')")
    assert (page["today_estimated_cost_usd"], page["total_estimated_cost_usd"]) == (estimated, estimated)
    (record,) = books.ask(
        "SELECT f.cost_estimated, f.estimated_cost_usd FROM usage_api.v1_records AS r, "
        "usage_api.v1_record(r.occurred_at, r.record_id) AS f WHERE r.model = 'other'"
    )
    assert record == (True, Decimal("0.0038"))
    shown = books.worker(None, "report", "models").stdout
    assert "estimated" in shown
    books.balance()


def test_repricing_takes_the_mark_away_again(books, monkeypatch):
    priced = price.cost
    with monkeypatch.context() as patched:
        patched.setattr(price, "cost", lambda *told: priced(*told)._replace(estimated=True))
        load(books, [item(1), item(2)])
    assert books.ask("SELECT sum(estimated_cost_usd) = sum(cost_usd) FROM usage_api.v1_daily") == [(True,)]
    assert books.worker(None, "reprice", "--json").json["models"][0]["changed"] == 2
    assert books.ask("SELECT sum(estimated_cost_usd), sum(cost_usd) FROM usage_api.v1_daily") == [
        (0, Decimal("0.0076"))
    ]
    books.balance()


# -- tiers ------------------------------------------------------------------------------------------------------

TIERS = Prices(
    dataset=False,
    own=(
        OwnPrice(model="*", input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(1)),
        OwnPrice(
            model="*", service_tier="priority", input_usd_per_mtok=Decimal(2), output_usd_per_mtok=Decimal(2)
        ),
    ),
)  # fmt: skip


def test_what_was_asked_for_and_what_was_used_are_kept_and_the_used_tier_is_charged(books):
    load(books, [
        item(1, service_tier="priority", response_service_tier="default"), item(2, service_tier="priority"),
        item(3, service_tier="auto", response_service_tier="priority"),
    ], TIERS)  # fmt: skip
    found = books.ask(
        "SELECT service_tier, response_service_tier, cost_usd FROM usage_api.v1_records ORDER BY occurred_at"
    )
    one, two = Decimal("0.0011"), Decimal("0.0022")
    assert found == [("priority", "default", one), ("priority", "", two), ("auto", "priority", two)]
    environment = {name: value for name, value in books.environment().items() if "PRICES__OWN" not in name}
    for n, own in enumerate(TIERS.own):
        for name, value in own.model_dump(mode="json", exclude_defaults=True).items():
            environment[f"WORKER__PRICES__OWN__{n}__{name.upper()}"] = str(value)
    told = worker(("reprice", "--json"), environment, books.folder).json["models"]
    assert [(m["records"], m["changed"]) for m in told] == [(3, 0)]  # charged by the same tiers


# -- what the client cancelled ----------------------------------------------------------------------------------


def test_what_the_client_cancelled_is_in_no_error_rate_and_what_it_used_counts(books):
    halfway = cancelled(5, tokens=SOME)
    load(books, [
        item(1), item(2), item(3), failure(4), halfway, cancelled(6),
        cancelled(7, fail={"status_code": 200, "body": "context canceled"}),
    ])  # fmt: skip
    (row,) = rows(books, f"v1_summary({WINDOW})")
    counted = {name: row[name] for name in ("requests", "succeeded", "failed", "cancelled", "warmups", "tokens")}
    assert counted == {"requests": 7, "succeeded": 3, "failed": 1, "cancelled": 3, "warmups": 0, "tokens": 4400}
    assert (row["success_rate"], row["error_rate"]) == (75, 25)
    assert row["cost_usd"] == 3 * Decimal("0.0038") + Decimal("0.0028")  # the cancelled one without the fee
    assert books.ask("SELECT DISTINCT outcome FROM usage_api.v1_records WHERE status_code = 499") == [("cancelled",)]
    assert books.ask("SELECT count(*), count(error) FROM usage_api.v1_records WHERE outcome = 'cancelled'") == [(3, 3)]
    calls = {r["period"]: r for r in rows(books, "v1_calls('2026-11-25 10:01+00')")}
    for period in ("1m", "1h", "24h", "month"):
        found = calls[period]
        assert (found["total"], found["succeeded"], found["failed"], found["cancelled"]) == (7, 3, 1, 3), period
    (ended,) = rows(books, f"v1_fallbacks({WINDOW})")
    assert (ended["logical_requests"], ended["final_failed"], ended["final_cancelled"]) == (7, 1, 3)
    assert ended["success_rate"] == 75
    (day,) = [r for r in rows(books, "v1_heatmap(3, '2026-11-26')") if r["requests"]]
    assert (day["requests"], day["failed"], day["cancelled"]) == (7, 1, 3)
    (page,) = rows(books, "v1_dashboard(at => '2026-11-25 12:00+00')")
    assert (page["today_requests"], page["today_failed"], page["today_cancelled"]) == (7, 1, 3)
    shown = books.worker(None, "report", "models", "--since", "2026-11-25").stdout
    assert "cancelled" in shown
    assert "75.00" in shown
    listed = books.worker(None, "report", "records", "--outcome", "cancelled", "--since", "2026-11-25", "--json").data
    assert len(listed) == 3
    books.balance()


def test_of_nothing_but_cancelled_requests_there_is_no_rate(books):
    load(books, [cancelled(1), cancelled(2)])
    (row,) = rows(books, f"v1_summary({WINDOW})")
    assert (row["requests"], row["success_rate"], row["error_rate"], row["cost_usd"]) == (2, None, None, 0)


# -- how long things took ---------------------------------------------------------------------------------------


def percentiles(books: Books, by: str = "all") -> dict[tuple[str, str], dict[str, Any]]:
    return {(r["measure"], r["name"]): r for r in rows(books, f"v1_latency_percentiles(NULL, NULL, '{by}')")}


def test_short_and_long_latencies_lie_between_bounds_that_are_near(books):
    quick = [item(n, latency_ms=44, ttft_ms=20) for n in range(1, 10)]
    load(books, [*quick, item(10, latency_ms=700_000, ttft_ms=450_000), item(11, latency_ms=1_500_000, ttft_ms=80)])
    found = percentiles(books)
    latency, ttft = found["latency", "all"], found["ttft", "all"]
    assert (latency["p50_from_ms"], latency["p50_to_ms"]) == (0, 50)
    assert Decimal(0) < latency["p50_ms"] <= 50
    assert (latency["p90_from_ms"], latency["p90_to_ms"]) == (600_000, 1_200_000)
    assert (latency["p99_from_ms"], latency["p99_to_ms"], latency["p99_ms"]) == (1_200_000, None, 1_200_000)
    assert (ttft["p50_to_ms"], ttft["p90_from_ms"], ttft["p90_to_ms"]) == (50, 50, 100)
    assert (ttft["p99_from_ms"], ttft["p99_to_ms"]) == (300_000, 600_000)
