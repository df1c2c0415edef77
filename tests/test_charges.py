"""Costs over time: what a price list, a rate or a late channel may change of what was charged, and what not."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PRICES, calls, proxy

from worker import clock
from worker.channels.resolve import Resolution
from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.directory import UNKNOWN
from worker.config import OwnPrice, Prices
from worker.corrections.reprice import Selection
from worker.corrections.reprice import reprice as reprice_records
from worker.db import database
from worker.loading import names
from worker.loading.load import Loader
from worker.loading.pass_result import PassResult
from worker.loading.prices import open_pricer
from worker.pricing import dataset, price
from worker.pricing.price import Price, Subject
from worker.simulator import traffic
from worker.storage import channels, price_table
from worker.usage import tokens
from worker.usage.money import PICO, usd
from worker.usage.tokens import Normalised, Reported

BEGUN = min(call.timestamp_ns for call in calls()) // 10**9
FIRST = datetime.fromtimestamp(BEGUN, UTC).date()
UTC_ZONE = ZoneInfo("UTC")
RATES = ("input_usd_per_mtok", "cache_read_usd_per_mtok", "cache_write_usd_per_mtok", "output_usd_per_mtok")
NONE_OWN = Prices(dataset=False)

SELECT_CHARGED = "SELECT record_id, model, occurred_at, cost_usd, actual_cost_usd, price_id FROM usage_api.v1_records"
SELECT_ROWS = "SELECT xmin::text, event_key FROM usage.record ORDER BY event_key"
WIPE_RECORDS = """
TRUNCATE usage.record, usage.hourly, usage.daily, usage.daily_channel, usage.daily_key, usage.hourly_key, usage.batch
"""
WIPE = f"{WIPE_RECORDS}; DELETE FROM usage.price WHERE source = 'operator'"
SUMS = """
SELECT (SELECT sum(cost_usd) FROM usage_api.v1_record_measures), (SELECT sum(cost_usd) FROM usage_api.v1_daily),
       (SELECT sum(cost_usd) FROM usage_api.v1_hourly), (SELECT sum(actual_cost_usd) FROM usage_api.v1_record_measures),
       (SELECT sum(actual_cost_usd) FROM usage_api.v1_daily), (SELECT sum(actual_cost_usd) FROM usage_api.v1_hourly)
"""


def rate(top=1000):
    return st.decimals(0, top, places=6)


def own(model="*", usd=1, **more):
    return OwnPrice(model=model, **dict.fromkeys(RATES, Decimal(usd)), **more)


def enter(books, *prices):
    with database.transaction(books.engine) as connection:
        return [price_table.add(connection, p, UTC_ZONE, clock.now()).price_id for p in prices]


def reprice(books, prices=NONE_OWN, dry_run=False, **selection):
    pricer = open_pricer(books.engine, prices, UTC_ZONE)
    return reprice_records(books.engine, pricer, Selection(**selection), dry_run=dry_run)


def charged(books):
    return {row[0]: row[1:] for row in books.ask(SELECT_CHARGED)}


def fill(books):
    """Five hundred calls, charged by what is in the price table."""
    loader = Loader(books.engine, "default", pepper="", timezone="UTC", prices=NONE_OWN)
    payload = json.dumps([traffic.queue_item(call) for call in calls(500)]).encode()
    loader.load("one", decode.decode_queue(payload), PassResult(upstream="default"))


@pytest.fixture
def unpriced(books):
    fill(books)
    return books


# -- what a cost is made of -------------------------------------------------------------------------------------


@given(
    st.lists(st.one_of(st.none(), rate()), min_size=5, max_size=5),
    st.lists(st.integers(0, 10**12), min_size=4, max_size=4),
    st.sampled_from(["success", "failed", "warmup"]),
)
def test_the_parts_of_a_cost_sum_to_it_and_an_unknown_rate_is_never_nothing(rates, tokens, outcome):
    p = Price(source="operator", model="*", **dict(zip(RATES, rates[:4], strict=True)), request_usd=rates[4])
    counts = Normalised(*tokens, 0)
    found = price.parts(p, counts, outcome)
    missing = any(n and known is None for n, known in zip(tokens, rates, strict=False))
    assert (found is None) == missing
    cost = price.priced(p, counts, outcome)
    if found is None:
        assert cost == price.UNPRICED
        return
    exact = sum(n * (known or 0) for n, known in zip(tokens, rates, strict=False))
    per_request = (rates[4] or 0) if outcome == "success" else 0
    assert sum(found) == cost.cost_pico_usd
    assert usd(cost.cost_pico_usd) == Decimal(exact) / 10**6 + per_request
    assert (found.cache_read, found.cache_write) == (cost.cache_read_cost_pico_usd, cost.cache_write_cost_pico_usd)


@given(
    st.one_of(st.none(), rate()),
    st.one_of(st.none(), rate()),
    st.integers(0, 10**6),
    st.one_of(st.none(), st.integers(0, 10**6)),
    st.sampled_from(["", "cache_write"]),
)
def test_a_cache_write_for_an_hour_has_its_own_rate_where_it_is_told(for_write, for_1h, tokens, told, estimated):
    p = Price(
        source="dataset", model="m", cache_write_usd_per_mtok=for_write, cache_write_1h_usd_per_mtok=for_1h,
        estimated=estimated,
    )  # fmt: skip
    cost = price.priced(p, Normalised(0, 0, tokens, 0, 0), "success", told)
    possible = told is not None and told <= tokens
    kept = told if possible else 0
    if (for_write is None and tokens > kept) or (for_write is None and for_1h is None and kept):
        assert cost == price.UNPRICED
        return
    own = for_write if for_1h is None else for_1h
    assert usd(cost.cost_pico_usd) == ((tokens - kept) * (for_write or 0) + kept * (own or 0)) / Decimal(10**6)
    assert cost.cache_write_cost_pico_usd == cost.cost_pico_usd
    known = possible and (not kept or for_1h is not None)
    assert cost.estimated == (estimated == "cache_write" and tokens > 0 and not known)


@given(st.lists(st.tuples(st.sampled_from("*ab"), st.integers(0, 2), rate(9)), max_size=8), st.randoms())
def test_the_order_in_which_prices_are_read_does_not_matter(told, luck):
    prices = [
        Price(price_id=n, source="operator", model=f"{letter}*", above_input_tokens=above, input_usd_per_mtok=usd)
        for n, (letter, above, usd) in enumerate(told)
    ]
    subject = Subject("", "abc", "")
    steps = price.rank_prices(prices, subject, "")
    luck.shuffle(prices)
    assert price.rank_prices(prices, subject, "") == steps


# -- frozen -----------------------------------------------------------------------------------------------------


def test_prices_that_come_and_go_change_nothing_that_is_charged_already(unpriced):
    before = unpriced.dump()
    (number,) = enter(unpriced, own())
    with database.transaction(unpriced.engine) as connection:
        price_table.sync(connection, dataset.shipped(), clock.now())
        assert price_table.drop(connection, number, clock.now())
    assert unpriced.dump() == before
    unpriced.balance()


def test_a_reprice_with_unchanged_prices_writes_nothing(books):
    with proxy("queue", calls(500)) as simulator:
        books.sync(simulator)
    before, rows = books.dump(), books.ask(SELECT_ROWS)
    (done,) = {r.changed for r in reprice(books, PRICES)}
    assert done == 0
    assert (books.dump(), books.ask(SELECT_ROWS)) == (before, rows)


def test_a_dry_run_says_what_the_real_one_does_and_writes_nothing(unpriced):
    enter(unpriced, own("claude*", 3), own("gpt*", 2))
    before = unpriced.dump()
    told = reprice(unpriced, dry_run=True)
    assert unpriced.dump() == before
    assert reprice(unpriced) == told
    assert {r.model for r in told if r.changed} == {
        call.model for call in calls(500) if call.model.startswith(("claude", "gpt"))
    }
    assert [r.changed for r in reprice(unpriced)] == [0] * len(told)
    unpriced.balance()


edits = st.lists(
    st.tuples(
        st.sampled_from(["*", "claude*", "gpt-5.4", "gemini-2.5-pro"]),
        st.lists(st.integers(-1, 4), min_size=2, max_size=2, unique=True),
        rate(50),
    ),
    min_size=1,
    max_size=3,
)


def test_price_edits_change_only_records_they_are_valid_for_and_end_where_loading_anew_would(books):
    @settings(max_examples=15, deadline=None, derandomize=True, database=None)
    @given(edits)
    def check(told):
        books.ask(WIPE)
        prices = [
            own(model, usd, valid_from=FIRST + timedelta(days=min(days)), valid_to=FIRST + timedelta(days=max(days)))
            for model, days, usd in told
        ]
        fill(books)
        before = charged(books)
        enter(books, *prices)
        reprice(books)
        after = charged(books)
        for key, (model, at, *_) in after.items():
            if not any(price.named(p.model, model) and p.valid_from <= at.date() < p.valid_to for p in prices):
                assert after[key] == before[key]
        books.balance()
        assert [len(set(sums)) for sums in (books.ask(SUMS)[0][:3], books.ask(SUMS)[0][3:])] == [1, 1]
        books.ask(WIPE_RECORDS)
        fill(books)
        assert charged(books) == after
        books.balance()

    check()


def test_days_models_and_what_is_unpriced_narrow_a_reprice(unpriced):
    enter(unpriced, own())
    second = FIRST + timedelta(days=1)
    reprice(unpriced, since=second, until=second + timedelta(days=1), model="CLAUDE-*")
    for model, at, cost, *_ in charged(unpriced).values():
        if cost:
            assert model.startswith("claude")
            assert at.date() == second
    enter(unpriced, own("*", 5))
    frozen = {key: row for key, row in charged(unpriced).items() if row[2] is not None}
    assert any(row[2] for row in frozen.values())
    reprice(unpriced, unpriced=True)
    assert {key: charged(unpriced)[key] for key in frozen} == frozen
    unpriced.balance()


# -- rates ------------------------------------------------------------------------------------------------------


def test_the_multiplier_that_held_when_a_request_began_makes_its_actual_cost(books):
    with proxy("queue", calls(500)) as simulator:
        books.sync(simulator)
    name = "claude/bob@example.com"
    ((number,),) = books.ask("SELECT channel_id FROM usage_api.v1_channels WHERE channel = %s", [name])
    noon = datetime.combine(FIRST + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=12)
    with database.transaction(books.engine) as connection:
        channels.set_rate(connection, number, Decimal("0.333333"), noon, clock.now())
        channels.set_rate(connection, number, Decimal(0), noon + timedelta(hours=12), clock.now())
    reprice(books, PRICES)
    rows = books.ask(
        "SELECT occurred_at, cost_usd, actual_cost_usd FROM usage_api.v1_records WHERE channel = %s", [name]
    )
    assert rows
    for at, cost, actual in rows:
        wanted = 1 if at < noon else Decimal("0.333333") if at < noon + timedelta(hours=12) else 0
        assert cost is None or actual == (cost * wanted).quantize(PICO)
    books.balance()


# -- the dataset ------------------------------------------------------------------------------------------------


def listed(usd, **more):
    return Price(source="dataset", vendor="openai", model="gpt-x", input_usd_per_mtok=Decimal(usd), **more)


def test_a_sync_ends_what_changed_and_rewrites_nothing_of_the_past(books):
    first, second = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)
    steps = [("a 0.0.1", [listed(1)], first), ("a 0.0.2", [listed(2)], second), ("a 0.0.3", [listed(2)], second)]
    with database.transaction(books.engine) as connection:
        connection.execute("DELETE FROM usage.price")
        done = [price_table.sync(connection, dataset.Dataset(label, prices), at) for label, prices, at in steps]
        found = price_table.listed(connection)
    assert [(s.added, s.changed, s.unchanged) for s in done] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    subject = Subject("codex", "gpt-x", "")
    ladder = price.rank_prices(found, subject, "")
    for at, rate_usd in ((first - timedelta(days=900), 1), (second - timedelta(seconds=1), 1), (second, 2)):
        assert price.choose(ladder, at, 0).input_usd_per_mtok == rate_usd
    assert len(found) == 2


def test_no_two_shipped_prices_hold_at_once_for_the_same():
    seen = {}
    for p in dataset.shipped().prices:
        assert (p.valid_from is None) or (p.valid_to is None) or p.valid_from < p.valid_to
        key = replace(p, valid_from=None, valid_to=None, **dict.fromkeys(RATES), request_usd=None)
        for began, ended in seen.setdefault(str(key), []):
            assert (ended is not None and p.valid_from is not None and p.valid_from >= ended) or (
                p.valid_to is not None and began is not None and p.valid_to <= began
            )
        seen[str(key)].append((p.valid_from, p.valid_to))
    assert len(seen) > 3000


# -- commands ---------------------------------------------------------------------------------------------------


def test_from_unpriced_to_priced_by_command(unpriced):
    listing = unpriced.worker(None, "prices", "unpriced", "--json").json
    assert sum(row["requests"] for row in listing) == sum(row[2] is None for row in charged(unpriced).values())
    done = unpriced.worker(None, "prices", "set", "claude-*", "--input", "3", "--output", "15", "--cache-read", "0.3")
    assert done.code == 0
    assert "without --cache-write" in done.stdout
    number = done.stdout.split()[1].rstrip(":")
    changed = unpriced.worker(None, "reprice", "--unpriced", "--json").json["models"]
    assert sum(r["changed"] for r in changed) > 0
    assert "*" in unpriced.worker(None, "report", "channels").stdout
    assert unpriced.worker(None, "verify").code == 0
    assert unpriced.worker(None, "prices", "drop", number).code == 0
    assert unpriced.worker(None, "prices", "drop", number).code == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--input"),
        (["--input", "-1"], "--input"),
        (["--input", "much"], "--input"),
        (["--input", "0.0000001"], "--input"),
        (["--output", "NaN"], "--output"),
        (["--input", "1", "--since", "2026-12-01", "--until", "2026-11-01"], "valid_to"),
        (["--input", "1", "--hours", "25:00-26:00"], "hours"),
        (["--input", "1", "--channel", "nobody"], "nobody"),
    ],
)
def test_a_price_that_cannot_be_is_refused_by_name(books, options, named):
    finished = books.worker(None, "prices", "set", "gpt-x", *options)
    assert finished.code == 2
    assert named in finished.stderr
    assert books.ask("SELECT count(*) FROM usage.price WHERE source = 'operator'") == [(0,)]


def test_a_day_is_one_of_the_rollup_zone():
    zone = ZoneInfo("Asia/Kolkata")
    p = price_table._own(own(valid_from=date(2026, 11, 1)), "operator", zone)
    assert p.valid_from == datetime(2026, 10, 31, 18, 30, tzinfo=UTC)


def test_a_compatible_provider_whose_name_holds_a_blank_counts_as_one():
    reported = Reported(1000, 200, 0, 400, 1200, None, None)
    ids = "openai-compatibility\nopenai-compatible-claude relay\nclaude relay"
    of = names.of_credential("Claude Relay", "gpt-5", Resolution(UNKNOWN, "auth_index", ids))
    assert of is not None
    assert tokens.normalise(reported, of) == Normalised(600, 400, 0, 200, 0)
