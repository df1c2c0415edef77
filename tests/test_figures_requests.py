"""Figures from records, held against plain Python: calls, searches, logical requests, gaps and cache hits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import figures
import psycopg
import pytest
from conftest import _fresh, _text
from figures import Logical, Record
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import Books, calls, proxy, utc

from worker.simulator.traffic import Usage

CRAFTED = utc(2026, 8, 24, 10)
KEYS = ("sk-client-EXAMPLE-one", "sk-client-EXAMPLE-two", "")
BLANK = ("b1a00000", "b1a00001", "b1a00002")
"""Request ids that are emptied once they are stored: the generator cannot make an empty one."""

SELECT_IDENTITIES = "SELECT occurred_at, client_key, model, outcome, record_id FROM usage_api.v1_records"
EMPTY_THE_BLANK = "UPDATE usage.record SET request_id = '' WHERE request_id = ANY (%s)"
FUNCTIONS = {
    "v1_calls": "('2026-08-21')",
    "v1_call_details": "('24h', '2026-08-21')",
    "v1_find_records": "('gpt', '2026-08-20', '2026-08-22')",
    "v1_count_records": "('gpt', '2026-08-20', '2026-08-22')",
    "v1_record": "('2026-08-20 10:00+00', '00')",
    "v1_attempts": "('2026-08-20', '2026-08-22')",
    "v1_logical_requests": "('2026-08-20', '2026-08-22')",
    "v1_request_outcomes": "('2026-08-20', '2026-08-22')",
    "v1_fallbacks": "('2026-08-20', '2026-08-22')",
    "v1_request_gaps": "('2026-08-20', '2026-08-22')",
    "v1_interval_timeline": "('2026-08-20', '2026-08-22')",
    "v1_cache_ttl": "('2026-08-20', '2026-08-22')",
    "v1_cache_hits": "('2026-08-20', '2026-08-22')",
}

# -- the calls --------------------------------------------------------------------------------------------------

SUCCESSES = [call for call in calls() if not call.failed and call.generate and call.latency_ms and call.cache_read]
FAILURES = [call for call in calls() if call.failed and call.latency_ms]
BOB = next(call for call in SUCCESSES if call.channel == "claude/bob@example.com")
ALICE = next(call for call in SUCCESSES if call.channel == "claude/alice@example.com")


def made(model: Usage, at: datetime, request_id: str, *, failed: bool = False, latency_ms: int = 1000) -> Usage:
    """A call like `model`, at another time and with another end."""
    status, body = (429, "busy") if failed else (200, "")
    return replace(
        model,
        timestamp_ns=(at - figures.EPOCH) // timedelta(microseconds=1) * 1000,
        request_id=request_id,
        client_key=KEYS[0],
        failed=failed,
        status_code=status,
        fail_body=body,
        latency_ms=latency_ms,
    )


def after(seconds: float) -> datetime:
    return CRAFTED + timedelta(seconds=seconds)


def crafted() -> list[Usage]:
    """What a request id may mean, and what it must not be taken for."""
    twin = replace(BOB, model="gpt-image-2", alias="gpt-image-2")
    warmup = replace(made(BOB, after(21), "00000002", failed=True), generate=False)
    return [
        made(BOB, after(0), "00000001"),
        made(BOB, after(20), "00000002", failed=True),
        warmup,
        made(ALICE, after(25), "00000002"),
        *(made(BOB, after(100 + 5 * turn), "00000003") for turn in range(3)),
        made(BOB, after(7300), "00000002"),
        made(BOB, after(200), "00000004"),
        made(twin, after(200), "00000004"),
        made(BOB, after(300), BLANK[0], failed=True),
        made(BOB, after(301), BLANK[1], failed=True),
        made(ALICE, after(302), BLANK[2]),
        *(made(BOB, after(400 + 10 * attempt), "00000005", failed=True) for attempt in range(3)),
        made(BOB, after(500), "00000006", failed=True),
        made(BOB, after(500 + 1 + 90), "00000006"),
        made(BOB, after(700), "00000007", failed=True),
        made(BOB, after(700 + 1 + 90.001), "00000007"),
        made(BOB, after(900), "00000008", failed=True, latency_ms=0),
        made(BOB, after(900 + 90), "00000008"),
        # the proxy goes on while the clock of the attempt before is not over
        made(BOB, after(1100), "00000009", failed=True, latency_ms=60_000),
        made(ALICE, after(1130), "00000009"),
        made(replace(BOB, client_key=KEYS[1]), after(1131), "0000000a", failed=True),
        # nobody tries again what the client does not wait for
        replace(made(BOB, after(1300), "0000000b", failed=True), status_code=499, fail_body="context canceled"),
        made(BOB, after(1302), "0000000b"),
    ]


CRAFTED_REQUESTS = {
    ("00000001", 0): (1, False, "success"),
    ("00000002", 20): (2, True, "success"),
    ("00000003", 100): (1, False, "success"),
    ("00000003", 105): (1, False, "success"),
    ("00000003", 110): (1, False, "success"),
    ("00000002", 7300): (1, False, "success"),
    ("00000004", 200): (1, False, "success"),
    ("", 300): (1, False, "failed"),
    ("", 301): (1, False, "failed"),
    ("", 302): (1, False, "success"),
    ("00000005", 400): (3, False, "failed"),
    ("00000006", 500): (2, False, "success"),
    ("00000007", 700): (1, False, "failed"),
    ("00000007", 791.001): (1, False, "success"),
    ("00000008", 900): (2, False, "success"),
    ("00000009", 1100): (2, True, "success"),
    ("0000000a", 1131): (1, False, "failed"),
    ("0000000b", 1300): (1, False, "cancelled"),
    ("0000000b", 1302): (1, False, "success"),
}
"""By request id and seconds after CRAFTED: attempts, switched, final outcome."""


def dense(seed: int, n: int = 700) -> list[Usage]:
    """Calls that share few request ids within an hour, many of them failed: most of them belong together."""
    random = Random(seed)
    found = []
    for microsecond in random.sample(range(3600 * 10**6), n):
        call = random.choice(FAILURES if random.random() < 0.5 else SUCCESSES)
        at = utc(2026, 8, 25, 3) + timedelta(microseconds=microsecond)
        latency_ms = random.choice([0, 40, 2000, 90_000])
        call = replace(call, client_key=random.choice(KEYS), request_id=f"{random.randrange(20):08x}")
        since = (at - figures.EPOCH) // timedelta(microseconds=1)
        found.append(replace(call, timestamp_ns=since * 1000, latency_ms=latency_ms))
    return found


class World:
    """A database that was filled once, and what is in it."""

    def __init__(self, books: Books) -> None:
        self.books = books
        usages = [*calls(1200), *crafted(), *dense(1)]
        with proxy("queue", usages) as simulator:
            books.sync(simulator)
        books.ask(EMPTY_THE_BLANK, [list(BLANK)])
        keyring = books.keyring()
        blanked = [replace(each, request_id="") if each.request_id in BLANK else each for each in usages]
        self.records = [figures.record(each, keyring) for each in blanked]
        self.identities: dict[Any, str] = {row[:4]: row[4] for row in books.ask(SELECT_IDENTITIES)}
        assert len(self.identities) == len(self.records)
        self.keys = [keyring.label(key) for key in KEYS]

    def ids(self, records: list[Record]) -> list[str]:
        return [self.identities[each.key] for each in records]

    def newest_first(self, records: list[Record]) -> list[Record]:
        return sorted(records, key=lambda each: (each.occurred_at, self.identities[each.key]), reverse=True)

    def logical(self, gap_s: int = 90) -> list[Logical]:
        return list(figures.logical_requests(self.records, self.identities, gap_s))

    def ask(self, call: str, *arguments: Any, columns: str = "*") -> list[Any]:
        return self.books.ask(f"SELECT {columns} FROM usage_api.{call}", arguments)


@pytest.fixture(scope="module")
def world(server_url, admin, template, tmp_path_factory) -> Iterator[World]:
    with (
        _fresh(admin, template) as name,
        Books(_text(server_url.set(database=name)), tmp_path_factory.mktemp("books"), "Asia/Kolkata") as books,
    ):
        yield World(books)


BEGIN, END = utc(2026, 8, 19, 20), utc(2026, 8, 25, 10)
INSIDE = st.datetimes(BEGIN.replace(tzinfo=None), END.replace(tzinfo=None)).map(lambda at: at.replace(tzinfo=UTC))
WINDOWS = st.lists(INSIDE, min_size=2, max_size=2, unique=True).map(sorted)
WHOLE = [BEGIN, END]
CASES = settings(max_examples=25, deadline=None)


def optional(values: list[str]) -> st.SearchStrategy[str | None]:
    return st.one_of(st.none(), st.sampled_from(values))


CHANNELS = optional(["claude/bob@example.com", "OpenRouter", "unknown", "nobody"])


# -- calls and records ------------------------------------------------------------------------------------------


@CASES
@given(at=INSIDE, zone=optional(["UTC", "America/New_York", "Asia/Kathmandu"]), channel=CHANNELS)
@example(at=utc(2026, 8, 25, 6), zone=None, channel=None)
@example(at=after(500), zone=None, channel=None)
@example(at=utc(2026, 8, 20, 0, 30), zone="UTC", channel="claude/bob@example.com")
def test_calls_are_those_of_the_last_minute_hour_day_and_calendar_month(world, at, zone, channel):
    local = at.astimezone(ZoneInfo(zone or "Asia/Kolkata"))
    month = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    begins = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1), "24h": timedelta(hours=24)}
    wanted = {name: at - length for name, length in begins.items()} | {"month": month}
    records = [each for each in world.records if channel is None or each.channel == channel]
    found = world.ask("v1_calls(%s, %s, of_channel => %s)", at, zone, channel)
    assert found == [(name, since, at, *figures.calls(records, since, at)) for name, since in wanted.items()]


@CASES
@given(at=INSIDE, period=st.sampled_from([("1m", 1), ("1h", 60), ("8h", 480), ("24h", 1440)]), channel=CHANNELS)
@example(at=after(500), period=("1h", 60), channel=None)
@example(at=CRAFTED, period=("1m", 1), channel=None)
def test_call_details_are_the_records_of_a_period_newest_first(world, at, period, channel):
    name, length = period
    records = figures.within(world.records, at - timedelta(minutes=length), at)
    wanted = world.newest_first([each for each in records if channel is None or each.channel == channel])
    found = world.ask("v1_call_details(%s, %s, of_channel => %s)", name, at, channel,
                      columns="record_id, occurred_at, channel, model, outcome")  # fmt: skip
    assert found == [
        (world.identities[each.key], each.occurred_at, each.channel, each.model, each.outcome) for each in wanted
    ]


def test_a_period_that_is_not_known_is_refused_with_those_that_are(world):
    for period in ("1d", "", None):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="1m, 1h, 8h and 24h"):
            world.ask("v1_call_details(%s)", period)


def pages(world: World, size: int, filters: dict[str, Any]) -> list[str]:
    """Every page of v1_find_records, one after the other."""
    found: list[tuple[Any, ...]] = []
    named = ", ".join(f"{name} => %s" for name in [*filters, "page_size", "before_at", "before_id"])
    before: tuple[Any, Any] = (None, None)
    while True:
        page = world.ask(f"v1_find_records({named})", *filters.values(), size, *before,
                         columns="occurred_at, record_id")  # fmt: skip
        assert len(page) <= size
        found += page
        if len(page) < size:
            return [record_id for _, record_id in found]
        before = page[-1]


SEARCHES = ["gpt", "CLAUDE bob", "  sonnet   EXAMPLE", "openrouter kimi", "no_such", "%", "_", "\\", "o%r", "", "  ",
            "kimi " * 10 + "nobody", "kimi " * 9 + "nobody", "x" * 101, "研究", "(no key)"]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    search=optional(SEARCHES), window=st.one_of(st.none(), WINDOWS), channel=CHANNELS,
    model=optional(["gpt-5.4", "nothing"]), outcome=optional(["success", "failed", "warmup"]),
    key=st.one_of(st.none(), st.integers(0, 2)), size=st.sampled_from([40, 333, 5000]),
)  # fmt: skip
@example(search=None, window=None, channel=None, model=None, outcome=None, key=None, size=40)
@example(search="gpt", window=WHOLE, channel=None, model=None, outcome=None, key=None, size=40)
@example(search=SEARCHES[-5], window=None, channel=None, model=None, outcome=None, key=None, size=333)
def test_pages_are_what_fits_newest_first_and_the_count_is_all_of_it(
    world, search, window, channel, model, outcome, key, size
):
    since, until = window or (None, None)
    filters = {"search": search, "since": since, "until": until, "of_channel": channel, "of_model": model,
               "of_outcome": outcome, "of_client_key": None if key is None else world.keys[key]}  # fmt: skip
    wanted = [
        each
        for each in figures.matching(figures.within(world.records, since or BEGIN, until or END), search or "")
        if channel in (None, each.channel) and model in (None, each.model) and outcome in (None, each.outcome)
        and filters["of_client_key"] in (None, each.client_key)
    ]  # fmt: skip
    assert pages(world, size, filters) == world.ids(world.newest_first(wanted))
    named = ", ".join(f"{name} => %s" for name in filters)
    assert world.ask(f"v1_count_records({named})", *filters.values()) == [(len(wanted),)]


@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_finds_what_has_all_of_its_words(world, search):
    wanted = world.newest_first(figures.matching(world.records, search))
    assert pages(world, 5000, {"search": search}) == world.ids(wanted)


def test_searches_find_something_and_not_everything(world):
    found = {search: len(figures.matching(world.records, search)) for search in SEARCHES}
    assert all(found[search] for search in ("gpt", "CLAUDE bob", "openrouter kimi", "研究", "(no key)"))
    assert not any(found[search] for search in ("no_such", "%", "_", "\\", "o%r"))
    assert found["kimi " * 10 + "nobody"] > 0 == found["kimi " * 9 + "nobody"]
    assert found["gpt"] < found[""] == len(world.records)


def test_a_page_may_end_between_two_records_of_one_instant(world):
    twins = [each for each in world.records if each.occurred_at == after(200)]
    assert len(twins) == 2
    assert pages(world, 1, {"since": after(200), "until": after(201)}) == world.ids(world.newest_first(twins))


def test_without_a_page_size_a_page_is_of_a_hundred(world):
    assert len(world.ask("v1_find_records()")) == 100
    newest = max(world.records, key=lambda each: each.occurred_at)
    assert world.ask("v1_find_records(page_size => 1)", columns="record_id") == [(world.identities[newest.key],)]


def test_one_record_comes_with_its_prices_its_rate_and_its_place_among_the_attempts(world):
    requests = {each.key: logical for logical in world.logical() for each in logical.records}
    chosen = world.records[:40] + [each for each in world.records if each.occurred_at >= CRAFTED][:80]
    columns = "v1_record.record_id, channel, model, cost_usd, input_usd_per_mtok, cache_read_usd_per_mtok, "
    columns += "cache_write_usd_per_mtok, output_usd_per_mtok, request_usd, rate_multiplier, attempt, attempts"
    for each in chosen:
        identity = world.identities[each.key]
        request = requests.get(each.key)
        place = (None, None)
        if request is not None:
            place = (request.begins.index(each.occurred_at) + 1, request.attempts)
        charged: list[Any] = [None] * 6
        if each.cost:
            charged = [figures.INPUT, figures.READ, figures.WRITE, figures.OUTPUT, figures.REQUEST, Decimal(1)]
        found = world.ask("v1_record(%s, %s)", each.occurred_at, identity, columns=columns)
        assert found == [(identity, each.channel, each.model, each.cost, *charged, *place)]
    assert world.ask("v1_record(%s, %s)", END, "00" * 16) == []


def test_one_records_rate_is_what_it_really_cost(books):
    with proxy("queue", calls(20)) as simulator:
        books.sync(simulator)
    books.ask("UPDATE usage.record SET actual_cost_usd = cost_usd * 0.85")
    rows = books.ask("SELECT occurred_at, record_id, cost_usd > 0 FROM usage_api.v1_records")
    for occurred_at, record_id, charged in rows:
        ((found,),) = books.ask("SELECT rate_multiplier FROM usage_api.v1_record(%s, %s)", [occurred_at, record_id])
        assert found == (Decimal("0.85") if charged else None)
    assert any(charged for *_, charged in rows)


# -- logical requests -------------------------------------------------------------------------------------------


def test_what_belongs_together_is_one_request_and_what_does_not_is_not(world):
    found = world.ask("v1_logical_requests(%s, %s)", CRAFTED, utc(2026, 8, 25),
                      columns="request_id, started_at, attempts, has_fallback, switched, final_outcome")  # fmt: skip
    assert {(row[0], (row[1] - CRAFTED).total_seconds()): (row[2], *row[4:]) for row in found} == CRAFTED_REQUESTS
    assert len(found) == len(CRAFTED_REQUESTS)
    assert [fallback for *_, fallback, _, _ in found] == [row[2] > 1 for row in found]


def logical_row(request: Logical) -> tuple[Any, ...]:
    records, first, final = request.records, request.first, request.final
    costs = figures.money(records, "cost")
    return (
        first.client_key, first.request_id, first.occurred_at,
        max(each.completed_at or each.occurred_at for each in records),
        request.attempts, sum(each.outcome == "failed" for each in records), request.attempts > 1, request.switched,
        first.channel, final.channel, final.model, final.alias, final.outcome,
        sum(each.tokens for each in records), sum(each.total_tokens for each in records), costs, costs,
        sum(each.cost is None for each in records),
    )  # fmt: skip


LOGICAL = """client_key, request_id, started_at, ended_at, attempts, failed_attempts, has_fallback, switched,
first_channel, final_channel, model, alias, final_outcome, tokens, total_tokens, cost_usd, actual_cost_usd,
unpriced_records"""


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


@CASES
@given(window=WINDOWS, gap_s=st.sampled_from([0, 5, 90, 600]), key=st.one_of(st.none(), st.integers(0, 2)))
@example(window=WHOLE, gap_s=90, key=None)
@example(window=[after(25), after(1125)], gap_s=90, key=0)
@example(window=[END, BEGIN], gap_s=90, key=None)
def test_logical_requests_and_their_attempts_are_those_that_began_in_the_window(world, window, gap_s, key):
    of_key = None if key is None else world.keys[key]
    wanted = [each for each in figures.begun(world.logical(gap_s), *window) if of_key in (None, each.first.client_key)]
    margin = timedelta(hours=8)
    found = world.ask("v1_logical_requests(%s, %s, %s, %s, of_client_key => %s)", *window, gap_s, margin, of_key,
                      columns=LOGICAL)  # fmt: skip
    assert in_order(found) == in_order([logical_row(each) for each in wanted])

    found = world.ask("v1_attempts(%s, %s, %s, %s, of_client_key => %s)", *window, gap_s, margin, of_key,
                      columns="record_id, started_at, attempt, attempts, begins, ends, occurred_at, completed_at, "
                              "channel, model, outcome, tokens, cost_usd")  # fmt: skip
    assert in_order(found) == in_order([
        (
            world.identities[each.key], request.started_at, request.begins.index(each.occurred_at) + 1,
            request.attempts, each is request.first, each is request.final, each.occurred_at, each.completed_at,
            each.channel, each.model, each.outcome, each.tokens, each.cost,
        )
        for request in wanted
        for each in request.records
    ])  # fmt: skip

    found = world.ask("v1_request_outcomes(%s, %s, %s, %s, of_client_key => %s) JOIN usage_api.v1_dimensions AS d "
                      "USING (dimension_id, client_key_id)", *window, gap_s, margin, of_key,
                      columns="client_key, request_id, started_at, attempts, switched, v1_request_outcomes.outcome, "
                              "channel, model")  # fmt: skip
    assert in_order(found) == in_order([
        (each.first.client_key, each.first.request_id, each.started_at, each.attempts, each.switched,
         each.final.outcome, each.final.channel, each.final.model)
        for each in wanted
    ])  # fmt: skip

    found = world.ask("v1_fallbacks(%s, %s, %s, %s, of_client_key => %s)", *window, gap_s, margin, of_key)
    assert found == [figures.fallbacks(wanted)]


def test_the_margin_is_as_far_as_attempts_are_looked_for_outside_the_window(world):
    window = (after(25), after(26))
    assert world.ask("v1_logical_requests(%s, %s)", *window) == []
    # what began before is not seen without a margin, and its second attempt passes for a request
    assert len(world.ask("v1_logical_requests(%s, %s, 90, '0')", *window)) == 1
    assert world.ask("v1_fallbacks(%s, %s)", after(20), after(21), columns="with_fallback") == [(1,)]
    assert world.ask("v1_fallbacks(%s, %s, 90, '0')", after(20), after(21), columns="with_fallback") == [(0,)]


def test_a_window_without_a_bound_is_everything(world):
    assert world.ask("v1_fallbacks(NULL, NULL)") == world.ask("v1_fallbacks(%s, %s)", *WHOLE)
    assert world.ask("v1_cache_hits(NULL, NULL)") == world.ask("v1_cache_hits(%s, %s)", *WHOLE)
    assert len(world.ask("v1_request_gaps(%s, NULL)", CRAFTED)) == len(
        world.ask("v1_request_gaps(%s, %s)", CRAFTED, END)
    )
    assert world.ask("v1_fallbacks(NULL, %s)", CRAFTED) == world.ask("v1_fallbacks(%s, %s)", BEGIN, CRAFTED)


def test_most_of_the_traffic_here_is_what_the_rule_is_about(world):
    requests = world.logical()
    assert sum(each.attempts > 1 for each in requests) > 40
    assert sum(each.switched for each in requests) > 40
    assert max(each.attempts for each in requests) >= 3


# -- gaps -------------------------------------------------------------------------------------------------------


def chart_order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    occurred_at, client_key, model, gap = row
    return occurred_at, client_key, gap, model


def gaps_of(world: World, window: list[datetime], key: int | None) -> dict[str, list[tuple[Logical, timedelta]]]:
    found = figures.gaps(figures.begun(world.logical(), *window))
    return {name: pairs for name, pairs in found.items() if key is None or name == world.keys[key]}


@CASES
@given(window=WINDOWS, key=st.one_of(st.none(), st.integers(0, 2)), points=st.sampled_from([1, 10, 10_000]))
@example(window=WHOLE, key=None, points=10_000)
@example(window=WHOLE, key=None, points=50)
@example(window=[CRAFTED, after(3600)], key=0, points=3)
def test_gaps_lie_between_the_begins_of_successful_requests_of_one_client_key(world, window, key, points):
    of_key = None if key is None else world.keys[key]
    pairs = list(chain.from_iterable(gaps_of(world, window, key).values()))
    found = world.ask("v1_request_gaps(%s, %s, %s)", *window, of_key,
                      columns="occurred_at, client_key, model, gap, gap_minutes")  # fmt: skip
    wanted = [(each.started_at, each.first.client_key, each.final.model, gap) for each, gap in pairs]
    assert in_order([row[:4] for row in found]) == in_order(wanted)
    for *_, gap, minutes in found:
        assert minutes == pytest.approx(Decimal(gap // timedelta(microseconds=1)) / 60_000_000, abs=Decimal("1e-12"))

    short = sorted((row for row in wanted if row[3] <= timedelta(minutes=120)), key=chart_order)[-points:]
    found = world.ask("v1_interval_timeline(%s, %s, %s, %s)", *window, points, of_key,
                      columns="occurred_at, client_key, model, gap_minutes")  # fmt: skip
    assert found == [(*row[:3], figures.rounded(figures.minutes(row[3]), 2)) for row in short]


TTL = """client_key, request_count, ARRAY[within_5_min, within_15_min, within_30_min, within_60_min, over_60_min],
ARRAY[within_5_min_percent, within_15_min_percent, within_30_min_percent, within_60_min_percent, over_60_min_percent],
ARRAY[p50_minutes, p75_minutes, p90_minutes, avg_minutes, min_minutes, max_minutes], recommended_ttl_minutes, reason"""


@CASES
@given(window=WINDOWS, key=st.one_of(st.none(), st.integers(0, 2)))
@example(window=WHOLE, key=None)
@example(window=[utc(2026, 8, 25, 3), utc(2026, 8, 25, 9)], key=None)
@example(window=[CRAFTED, after(3600)], key=None)
def test_the_time_to_keep_a_cache_comes_from_the_gaps(world, window, key):
    of_key = None if key is None else world.keys[key]
    pairs = gaps_of(world, window, key)
    wanted = {name: figures.ttl([gap for _, gap in each]) for name, each in pairs.items() if len(each) > 1}
    found = world.ask("v1_cache_ttl(%s, %s, %s)", *window, of_key, columns=TTL)
    assert {row[0] for row in found} == wanted.keys()
    assert [row[1] for row in found] == sorted((row[1] for row in found), reverse=True)
    for client_key, count, counts, percents, minutes, recommended, reason in found:
        one = wanted[client_key]
        assert (count, counts, percents, recommended) == (
            one["request_count"], one["counts"], one["percents"], one["recommended"],
        )  # fmt: skip
        for mine, theirs in zip(minutes, one["minutes"], strict=True):
            assert abs(mine - Decimal(float(theirs))) < Decimal("0.00501")
        assert f"{5 if recommended == 5 else min(recommended, 30)} minutes" in reason


@pytest.mark.parametrize(
    ("gaps", "recommended"),
    [
        ([5] * 11 + [6], 5),
        ([5] * 9 + [30], 15),
        ([4, 15, 15, 40], 30),
        ([4, 15, 15, 15, 40], 15),
        ([4, 30, 30, 30, 90], 30),
        ([31, 31], 60),
        ([1, 1, 121], 60),
    ],
)
def test_the_recommendation_follows_the_percentiles(books, gaps, recommended):
    at = [utc(2026, 8, 24)]
    for gap in gaps:
        at.append(at[-1] + timedelta(minutes=gap))
    with proxy("queue", [made(BOB, each, f"{n:08x}") for n, each in enumerate(at)]) as simulator:
        books.sync(simulator)
    wanted = figures.ttl([timedelta(minutes=gap) for gap in gaps])
    ((_, count, counts, percents, minutes, found, _),) = books.ask(
        f"SELECT {TTL} FROM usage_api.v1_cache_ttl(%s, %s)", [at[0], utc(2026, 8, 26)]
    )
    assert (count, found, minutes[-1]) == (len(gaps), recommended, max(gaps))
    assert (counts, percents, found) == (wanted["counts"], wanted["percents"], wanted["recommended"])


def test_one_gap_recommends_nothing(books):
    with proxy("queue", [made(BOB, after(0), "00000001"), made(BOB, after(60), "00000002")]) as simulator:
        books.sync(simulator)
    assert books.ask("SELECT gap_minutes FROM usage_api.v1_request_gaps(NULL, NULL)") == [(1,)]
    assert books.ask("SELECT * FROM usage_api.v1_cache_ttl(NULL, NULL)") == []


# -- cache hits -------------------------------------------------------------------------------------------------


@CASES
@given(
    window=WINDOWS, channel=CHANNELS, model=optional(["gpt-5.4", "claude-sonnet-4-6"]),
    key=st.one_of(st.none(), st.integers(0, 2)),
)  # fmt: skip
@example(window=WHOLE, channel=None, model=None, key=None)
@example(window=[END, BEGIN], channel=None, model=None, key=None)
def test_cache_hits_are_those_of_successful_requests(world, window, channel, model, key):
    of_key = None if key is None else world.keys[key]
    records = [
        each
        for each in figures.within(world.records, *window)
        if channel in (None, each.channel) and model in (None, each.model) and of_key in (None, each.client_key)
    ]
    found = world.ask("v1_cache_hits(%s, %s, of_channel => %s, of_model => %s, of_client_key => %s)",
                      *window, channel, model, of_key)  # fmt: skip
    assert found == [figures.cache_hits(records)]


def test_what_a_hit_saved_is_not_known_without_both_prices(books):
    with proxy("queue", calls(400)) as simulator:
        books.sync(simulator)
    keyring = books.keyring()
    records = [figures.record(each, keyring) for each in calls(400)]
    ask = """SELECT savings_usd, savings_unknown_requests, requests_with_cache_hit
             FROM usage_api.v1_cache_hits('2026-08-01', '2026-09-01')"""
    hits = [each for each in records if each.outcome == "success" and each.read]
    saved = sum((each.read * Decimal("1.75") / 1_000_000 for each in hits), Decimal(0))
    assert books.ask(ask) == [(saved, 0, len(hits))]
    books.ask("UPDATE usage.price SET cache_read_usd_per_mtok = NULL")
    assert books.ask(ask) == [(None, len(hits), len(hits))]


# -- all of them ------------------------------------------------------------------------------------------------


def test_dimensions_are_those_of_the_records(world):
    names = "dimension_id, upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, "
    names += "alias, outcome, channel_id, client_key_id"
    assert in_order(world.ask("v1_dimensions", columns=names)) == in_order(
        world.ask("v1_records", columns=f"DISTINCT {names}")
    )


def test_records_that_were_dropped_are_missed_and_not_left_out_of_a_sum(books):
    with proxy("queue", calls(100)) as simulator:
        books.sync(simulator)
    books.ask("DELETE FROM usage.record WHERE occurred_at < '2026-08-21'")
    books.ask("UPDATE usage.upstream SET records_dropped_before = '2026-08-21', records_complete_from = '2026-08-21'")
    for name in ("v1_logical_requests", "v1_fallbacks", "v1_request_gaps", "v1_cache_ttl", "v1_cache_hits"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="have been dropped"):
            books.ask(f"SELECT * FROM usage_api.{name}('2026-08-20', '2026-08-22')")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="have been dropped"):
            books.ask(f"SELECT * FROM usage_api.{name}(NULL, NULL)")
        books.ask(f"SELECT * FROM usage_api.{name}('2026-08-21', '2026-08-22')")


def test_where_no_record_is_left_at_all_they_are_missed_too(books):
    with proxy("queue", calls(100)) as simulator:
        books.sync(simulator)
    books.ask("UPDATE usage.upstream SET records_dropped_before = '2026-09-01', records_complete_from = '2026-09-01'")
    books.ask("SELECT usage.ensure_record_partition('2026-09-01'), usage.drop_record_partition('2026-08-01')")
    windows = [f"{name}('2026-08-20', '2026-08-22')" for name in ("v1_logical_requests", "v1_fallbacks",
               "v1_request_gaps", "v1_cache_ttl", "v1_cache_hits")]  # fmt: skip
    for call in (*windows, "v1_calls('2026-08-21 12:00:30+00')"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="have been dropped"):
            books.ask(f"SELECT * FROM usage_api.{call}")
        books.ask(f"SELECT * FROM usage_api.{call.replace('2026-08', '2026-09')}")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_reader_may_call_it_with_nothing_but_views(books, name):
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator)
    if not books.ask("SELECT 1 FROM pg_roles WHERE rolname = 'usage_reader'"):
        pytest.skip("this account may not make roles")
    wanted = books.ask(f"SELECT * FROM usage_api.{name}{FUNCTIONS[name]}")
    books.ask("SET ROLE usage_reader")
    assert books.ask(f"SELECT * FROM usage_api.{name}{FUNCTIONS[name]}") == wanted


def planned(world: World, statement: str) -> str:
    return "\n".join(line for (line,) in world.books.ask(f"EXPLAIN {statement}"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_planned_as_part_of_its_query(world, name):
    plan = planned(world, f"SELECT * FROM usage_api.{name}{FUNCTIONS[name]}")
    assert "Function Scan" not in plan
    assert "record_2026_08" in plan
    assert "record_2026_09" not in plan or name in ("v1_calls", "v1_count_records")


def test_one_record_is_found_by_its_key(world):
    plan = planned(world, f"SELECT occurred_at FROM usage_api.v1_record{FUNCTIONS['v1_record']}")
    assert "Index Cond: ((occurred_at = " in plan
    assert "(event_key = " in plan


def test_columns_that_are_not_asked_for_cost_no_join(world):
    plan = planned(world, "SELECT occurred_at, latency_ms FROM usage_api.v1_records")
    assert "Join" not in plan
    assert "Nested Loop" not in plan


OF_ONE_UPSTREAM = {
    "v1_calls('2026-08-24 12:00+00', of_upstream => %s)": "period, total, succeeded, failed, warmups",
    "v1_call_details('24h', '2026-08-25', of_upstream => %s)": "occurred_at, channel, model, outcome",
    "v1_find_records(of_upstream => %s)": "occurred_at, channel, model, outcome",
    "v1_count_records(of_upstream => %s)": "records",
    "v1_attempts(NULL, NULL, of_upstream => %s)": "occurred_at, channel, model, attempt, attempts, started_at",
    "v1_logical_requests(NULL, NULL, of_upstream => %s)": f"upstream, {LOGICAL}",
    "v1_request_outcomes(NULL, NULL, of_upstream => %s)": "request_id, started_at, attempts, switched, outcome",
    "v1_fallbacks(NULL, NULL, of_upstream => %s)": "*",
    "v1_request_gaps(NULL, NULL, of_upstream => %s)": "occurred_at, client_key, model, gap",
    "v1_cache_ttl(NULL, NULL, of_upstream => %s)": "client_key, request_count, p50_minutes, p90_minutes",
    "v1_cache_hits(NULL, NULL, of_upstream => %s)": "*",
}


def test_what_comes_from_two_proxies_is_not_taken_for_the_same(books):
    found: dict[str, list[dict[str, Any]]] = {}
    for name in ("one", "other"):
        with proxy("queue", crafted()) as simulator:
            books.sync(simulator, name=name)
        for call, columns in OF_ONE_UPSTREAM.items():
            rows = books.ask(f"SELECT {columns} FROM usage_api.{call}", ["one"])
            found.setdefault(call, []).append(in_order(rows))
    for call, (alone, beside) in found.items():
        assert alone == beside, call
        assert len(alone) > 0, call
        assert books.ask(f"SELECT * FROM usage_api.{call}", ["nobody"]) != alone, call
    ((both,),) = books.ask("SELECT logical_requests FROM usage_api.v1_fallbacks(NULL, NULL)")
    ((gaps,),) = books.ask("SELECT count(*) FROM usage_api.v1_request_gaps(NULL, NULL)")
    assert both == 2 * len(found["v1_logical_requests(NULL, NULL, of_upstream => %s)"][0])
    assert gaps == 2 * len(found["v1_request_gaps(NULL, NULL, of_upstream => %s)"][0])
