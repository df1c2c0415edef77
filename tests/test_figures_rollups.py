"""The figures from the rollups, every column of every row, against tests/figures_rollups.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import figures_rollups as figures
import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr
from support import KEY, Books, calls, proxy, utc

from worker.config import OwnPrice, Prices, Upstream
from worker.simulator.traffic import Traffic, outcome, reported
from worker.sync import run as sync

ZONES = ("UTC", "Asia/Kolkata")
PRICED = ("gpt*", "claude*", "moonshotai*", "deepseek*", "kimi*", "gemini-2.5*")
"""Models with a price: the others' requests have no cost, but for those that consumed nothing."""

RATES = {"OpenRouter": "0.5", "relay.example.net": "0"}
"""What two channels really cost, as multiples."""

SECOND = [
    replace(call, status_code=499, fail_body="context canceled") if call.failed and call.latency_ms % 2 else call
    for call in Traffic(11).generate(500)
]
"""What the second proxy served: of some calls, the client did not wait for the end."""

WINDOWS = {
    "everything": (None, None),
    "from": (utc(2026, 8, 21, 7, 13, 5), None),
    "until": (None, utc(2026, 8, 21, 7, 13, 5)),
    "days of UTC": (utc(2026, 8, 20), utc(2026, 8, 22)),
    "days of Kolkata": (utc(2026, 8, 20, 18, 30), utc(2026, 8, 22, 18, 30)),
    "hours": (utc(2026, 8, 20, 21), utc(2026, 8, 22, 3)),
    "instants": (utc(2026, 8, 20, 22, 59, 59, 999_999), utc(2026, 8, 22, 0, 0, 0, 1)),
    "minutes": (utc(2026, 8, 20, 23, 59), utc(2026, 8, 21, 0, 1)),
    "before": (utc(2026, 1, 1), utc(2026, 2, 1)),
    "nothing": (utc(2026, 8, 21), utc(2026, 8, 21)),
}
GROUPINGS: Mapping[str, tuple[str, ...]] = {
    "v1_summary": (),
    "v1_by_model": ("model",),
    "v1_by_alias": ("alias", "model"),
    "v1_by_client_key": ("upstream", "client_key"),
    "v1_by_channel": ("upstream", "channel", "channel_group", "channel_kind"),
    "v1_by_channel_and_model": ("upstream", "channel", "channel_group", "channel_kind", "model"),
    "v1_by_channel_group": ("channel_group",),
    "v1_by_endpoint": ("provider", "endpoint"),
    "v1_client_key_models": ("client_key", "model", "alias"),
}
FILTERS: Mapping[str, tuple[str, ...]] = {
    "v1_summary": ("upstream", "channel", "client_key", "model", "outcome"),
    "v1_by_model": ("upstream", "channel", "client_key", "outcome"),
    "v1_by_alias": ("upstream", "client_key", "channel", "outcome"),
    "v1_by_client_key": ("upstream", "channel", "model", "outcome"),
    "v1_by_channel": ("upstream", "model", "client_key", "outcome"),
    "v1_by_channel_and_model": ("upstream", "channel", "client_key", "model", "outcome"),
    "v1_by_channel_group": ("upstream", "client_key", "model", "outcome"),
    "v1_by_endpoint": ("upstream", "channel", "client_key", "model", "outcome"),
    "v1_client_key_models": ("client_key", "upstream", "outcome"),
}
BY = ("upstream", "channel", "channel_group", "client_key", "provider", "endpoint", "model", "alias")
PERIODS = ("today", "yesterday", "this_week", "this_month", "last_month", "last_hour", "last_24_hours", "last_7_days",
           "last_30_days", "rolling_month", "all")  # fmt: skip
CALLS = {
    **dict.fromkeys([*GROUPINGS, "v1_totals", "v1_channel_statistics", "v1_latency_percentiles"],
                    "'2026-08-20 00:00+00', '2026-08-22 00:00+00'"),
    "v1_trend": "'2026-08-20 00:00+00', '2026-08-22 00:00+00'",
    "v1_heatmap": "7, '2026-08-22'",
    "v1_dashboard": "at => '2026-08-21 12:00+00'",
    "v1_client_key_costs": "'2026-08-21 12:00+00'",
    "v1_period": "'today', '2026-08-21 12:00+00'",
}  # fmt: skip


class World:
    """Two proxies' usage in one database, and its records, read once."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.zone = ZoneInfo(books.timezone)
        self.records = figures.records_of(books)
        self._connection = psycopg.connect(books.dsn, autocommit=True, row_factory=dict_row)

    def close(self) -> None:
        self._connection.close()

    def rows(self, function: str, *arguments: Any, **named: Any) -> list[figures.Row]:
        """What a function of usage_api returns."""
        given = [*["%s"] * len(arguments), *(f"{name} => %s" for name in named)]
        statement = f"SELECT * FROM usage_api.{function}({', '.join(given)})"
        return self._connection.execute(statement, [*arguments, *named.values()]).fetchall()

    def values(self, name: str) -> list[str]:
        """Each value of a dimension; the most frequent first."""
        groups = figures.grouped(self.records, lambda r: getattr(r, name))
        return sorted(groups, key=lambda value: (-len(groups[value]), value))


def load(books: Books, upstream: str, made: Any) -> None:
    prices = Prices(
        dataset=False,
        own=tuple(
            OwnPrice(
                model=model,
                input_usd_per_mtok=Decimal(2) + n,
                cache_read_usd_per_mtok=Decimal("0.25"),
                cache_write_usd_per_mtok=Decimal("2.5"),
                output_usd_per_mtok=Decimal(8),
                request_usd=Decimal("0.001"),
            )
            for n, model in enumerate(PRICED)
        ),
    )
    with proxy("queue") as simulator:
        one = Upstream(name=upstream, url=simulator.url, key=SecretStr(KEY))
        config = books.config(one, prices=prices)
        assert sync.sync_once(config, books.engine, one).exit_code == 0  # the channels are there before their usage
        for channel, rate in RATES.items():
            from_then = ("--since", "2026-08-01", "--upstream", upstream)
            done = books.worker(None, "channels", "set-rate", channel, rate, *from_then)
            assert done.code == 0, done.stderr
        simulator.push(made)
        assert sync.sync_once(config, books.engine, one).inserted == len(made)


@pytest.fixture(scope="module", params=ZONES)
def world(request, new_database, tmp_path_factory) -> Iterator[World]:
    with new_database() as url, Books(url, tmp_path_factory.mktemp("books"), request.param) as books:
        load(books, "first", calls(2200))
        load(books, "second", SECOND)
        found = World(books)
        yield found
        found.close()


def same(found: list[figures.Row], wanted: list[figures.Row], *key: str) -> None:
    """Fail unless both have the same rows, whatever their order, with the same columns in the same order."""
    for row in (*found, *wanted):
        assert list(row) == list((found or wanted)[0])
    assert len({tuple(row[name] for name in key) for row in found}) == len(found)
    expected = {tuple(row[name] for name in key): row for row in wanted}
    actual = {tuple(row[name] for name in key): row for row in found}
    assert actual.keys() == expected.keys()
    differing = {
        which: {name: (row[name], expected[which][name]) for name in row if row[name] != expected[which][name]}
        for which, row in actual.items()
        if row != expected[which]
    }
    assert differing == {}


# -- the records that all is held against ------------------------------------------------------------------------


def test_the_records_are_those_that_the_proxies_served(world):
    made = [*calls(2200), *SECOND]
    counts = figures.totals(world.records)
    for name in ("input", "output", "reasoning", "cached", "total"):
        assert counts[f"{name}_tokens"] == sum(getattr(reported(call), name) for call in made)
    assert counts["requests"] == sum(outcome(call) != "warmup" for call in made)
    assert counts["warmups"] == sum(not call.generate for call in made) > 0
    assert {r.latency_ms is None for r in world.records} == {True, False}


def test_the_records_hold_what_the_figures_must_tell_apart(world):
    assert world.values("upstream") == ["first", "second"]
    unpriced = {r.model for r in world.records if r.cost_usd is None}
    assert {"qwen3-32b", "grok-4"} < unpriced
    assert {r.cost_usd is None for r in world.records if r.model == "gpt-5.4"} == {True, False}  # by service tier
    of_openrouter = [r for r in world.records if r.channel == "OpenRouter" and r.cost_usd]
    assert {r.actual_cost_usd / r.cost_usd for r in of_openrouter} == {Decimal("0.5")}
    assert {r.actual_cost_usd for r in world.records if r.channel == "relay.example.net" and r.cost_usd} == {0}


# -- totals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", GROUPINGS)
def test_totals_of_a_window(world, function):
    names = GROUPINGS[function]
    for window in WINDOWS.values():
        within = figures.within(world.records, *window)
        found = world.rows(function, *window)
        same(found, figures.by(within, *names) if names else [figures.totals(within)], *names)
        order = [(row["client_key"] if function == "v1_client_key_models" else "", -row["requests"]) for row in found]
        assert order == sorted(order)


@pytest.mark.parametrize("function", GROUPINGS)
def test_filters_of_totals(world, function):
    names, window = GROUPINGS[function], WINDOWS["instants"]
    within = figures.within(world.records, *window)
    random = Random(function)
    for _ in range(6):
        chosen = random.sample(FILTERS[function], random.randint(1, len(FILTERS[function])))
        wanted = {name: random.choice(world.values(name)[:4]) for name in chosen}
        some = figures.of(within, **wanted)
        found = world.rows(function, *window, **{f"of_{name}": value for name, value in wanted.items()})
        same(found, figures.by(some, *names) if names else [figures.totals(some)], *names)
    assert world.rows(function, *window, of_upstream="nobody") == ([] if names else [figures.totals([])])


def test_totals_by_anything_with_any_filter(world):
    random = Random(8)
    windows = list(WINDOWS.values())
    for _ in range(60):
        window = random.choice(windows)
        grouped_by = random.sample(BY, random.choice((0, 1, 2, 3, 8)))
        filters = random.sample([*BY, "outcome"], random.choice((0, 0, 1, 2)))
        wanted = {name: random.choice(world.values(name)[:4]) for name in filters}
        named = {f"by_{name}": True for name in grouped_by} | {f"of_{name}": value for name, value in wanted.items()}
        found = world.rows("v1_totals", *window, **named)
        shown = [name for name in figures.DIMENSIONS
                 if name in grouped_by or (name == "channel_kind" and "channel" in grouped_by)]  # fmt: skip
        some = figures.of(figures.within(world.records, *window), **wanted)
        rows = figures.by(some, *shown) if shown else [figures.totals(some)]
        same(found, [{**dict.fromkeys(figures.DIMENSIONS), **row} for row in rows], *figures.DIMENSIONS)


def test_a_flag_that_is_null_asks_for_nothing(world):
    (found,) = world.rows("v1_totals", None, None, by_model=None, by_client_key=None)
    assert found == {**dict.fromkeys(figures.DIMENSIONS), **figures.totals(world.records)}


def test_statistics_of_channels(world):
    for n, window in enumerate(WINDOWS.values()):
        upstream, outcome = (None, "first", "second")[n % 3], (None, "success")[n % 2]
        within = figures.of(figures.within(world.records, *window), upstream=upstream, outcome=outcome)
        found = world.rows("v1_channel_statistics", *window, of_upstream=upstream, of_outcome=outcome)
        same(found, list(figures.channel_statistics(within)), "level", "channel_group", "channel", "model")
        levels = ["all", "group", "channel", "model"]
        order = [(levels.index(row["level"]), -row["requests"]) for row in found]
        assert order == sorted(order)


# -- series -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kathmandu", "America/New_York"])
@pytest.mark.parametrize("grain", ["day", "hour"])
def test_a_trend_has_every_day_or_hour_of_its_window(world, grain, zone):
    for since, until in (window for name, window in WINDOWS.items() if None not in window and name != "before"):
        found = world.rows("v1_trend", since, until, grain, zone)
        wanted = figures.trend(world.records, since, until, grain, ZoneInfo(zone or world.books.timezone))
        assert [row["bucket"] for row in found] == [row["bucket"] for row in wanted]
        same(found, wanted, "bucket")


def test_a_trend_of_a_part(world):
    names = ("upstream", "channel", "client_key", "model", "outcome")
    parts = [(name,) for name in names] + [("client_key", "model"), ("channel", "client_key"), ("channel", "model")]
    for part in parts:
        wanted = {name: world.values(name)[1 if len(part) == 1 else 0] for name in part}
        some = figures.of(world.records, **wanted)
        for window in ("hours", "instants", "days of UTC", "minutes"):
            since, until = WINDOWS[window]
            found = world.rows("v1_trend", since, until, **{f"of_{name}": value for name, value in wanted.items()})
            same(found, figures.trend(some, since, until, "day", world.zone), "bucket")


def test_a_trend_without_bounds_is_of_the_days_with_records(world):
    days = sorted({r.occurred_at.astimezone(world.zone).date() for r in world.records})
    since, until = (figures.day_begin(day, world.zone) for day in (days[0], days[-1] + timedelta(days=1)))
    for grain in ("day", "hour"):
        wanted = figures.trend(world.records, since, until, grain, world.zone)
        same(world.rows("v1_trend", None, None, grain), wanted, "bucket")
        same(world.rows("v1_trend", "-infinity", "infinity", grain), wanted, "bucket")


def test_a_trend_of_nothing_ends(books):
    found = World(books)
    for grain in ("day", "hour"):
        for window in ((None, None), (utc(2026, 8, 20), None), (None, utc(2026, 8, 20)), ("-infinity", "infinity")):
            assert found.rows("v1_trend", *window, grain, "Asia/Kolkata") == []
    found.close()


@pytest.mark.parametrize(
    ("zone", "since", "until"),
    [
        ("America/New_York", utc(2026, 3, 7, 5), utc(2026, 3, 10, 4)),  # 23 hours
        ("America/New_York", utc(2026, 10, 31, 4), utc(2026, 11, 3, 5)),  # 25 hours
        ("Australia/Lord_Howe", utc(2026, 4, 3, 13), utc(2026, 4, 6, 13, 30)),  # half an hour back
        ("Australia/Lord_Howe", utc(2026, 10, 2, 13, 30), utc(2026, 10, 5, 13)),  # half an hour forward
        ("America/Havana", utc(2026, 3, 7, 5), utc(2026, 3, 10, 4)),  # no midnight
        ("America/Havana", utc(2026, 10, 31, 4), utc(2026, 11, 3, 5)),  # two midnights
    ],
)
def test_a_trend_where_clocks_change(books, zone, since, until):
    found = World(books)
    for grain in ("day", "hour"):
        rows = found.rows("v1_trend", since, until, grain, zone)
        assert rows == figures.trend([], since, until, grain, ZoneInfo(zone))
    found.close()


def test_a_heat_map(world):
    for last_day, days in ((date(2026, 8, 22), 365), (date(2026, 8, 21), 2), (date(2026, 8, 30), 3)):
        found = world.rows("v1_heatmap", days, last_day)
        assert found == figures.heatmap(world.records, days, last_day, world.zone)
        for name in ("upstream", "client_key"):
            for value in world.values(name):
                some = figures.of(world.records, **{name: value})
                found = world.rows("v1_heatmap", days, last_day, **{f"of_{name}": value})
                assert found == figures.heatmap(some, days, last_day, world.zone)


def test_a_heat_map_ends_today_in_the_rollup_time_zone(world):
    before = datetime.now(world.zone).date()
    found = [row["day"] for row in world.rows("v1_heatmap")]
    after = datetime.now(world.zone).date()
    assert found[-1] in {before, after}
    assert found == [found[-1] - timedelta(days=n) for n in range(365)][::-1]


# -- pages ------------------------------------------------------------------------------------------------------

INSTANTS = (utc(2026, 8, 21), utc(2026, 8, 21, 0, 1), utc(2026, 8, 21, 20), utc(2026, 8, 22, 23, 58, 1),
            utc(2026, 9, 1))  # fmt: skip


@pytest.mark.parametrize("zone", [None, "Asia/Kathmandu"])
def test_a_dashboard(world, zone):
    of_what = [{}, *({name: world.values(name)[1]} for name in ("upstream", "client_key"))]
    for at in INSTANTS:
        for wanted in of_what:
            (found,) = world.rows("v1_dashboard", at=at, zone=zone, **{f"of_{k}": v for k, v in wanted.items()})
            some = figures.of(world.records, **wanted)
            same([found], [figures.dashboard(some, at, ZoneInfo(zone or world.books.timezone))])


def test_the_last_five_minutes_of_a_dashboard_are_of_when_calls_ended(world):
    long = [r for r in world.records if r.latency_ms and r.latency_ms > 20 * 60_000]
    ended = long[0].completed_at
    (found,) = world.rows("v1_dashboard", at=ended + timedelta(seconds=1))
    wanted = figures.dashboard(world.records, ended + timedelta(seconds=1), world.zone)
    assert found["rpm"] == wanted["rpm"] > 0
    assert found == wanted


@pytest.mark.parametrize("zone", [None, "Asia/Kathmandu"])
def test_costs_of_client_keys(world, zone):
    for at in INSTANTS:
        found = world.rows("v1_client_key_costs", at, zone)
        wanted = figures.client_key_costs(world.records, at, ZoneInfo(zone or world.books.timezone))
        same(found, wanted, "upstream", "client_key")
        costs = [row["total_actual_cost_usd"] for row in found]
        assert costs == sorted(costs, reverse=True)
        for row in wanted:
            only = {"of_upstream": row["upstream"], "of_client_key": row["client_key"]}
            assert world.rows("v1_client_key_costs", at, zone, **only) == [row]


def test_a_client_key_without_usage_costs_nothing(books):
    books.ask("INSERT INTO usage.upstream (name) VALUES ('default')")
    books.ask("INSERT INTO usage.client_key (upstream_id, digest, mask, first_seen_at, last_seen_at) "
              "SELECT upstream_id, 'x', 'a key', now(), now() FROM usage.upstream")  # fmt: skip
    found = World(books)
    names = ("today", "last_30_days", "total")
    zeros = {f"{name}_{what}": 0 for what in ("requests", "actual_cost_usd") for name in names}
    assert found.rows("v1_client_key_costs") == [{"upstream": "default", "client_key": "a key", **zeros}]
    (row,) = found.rows("v1_dashboard")
    assert (row["total_client_keys"], row["active_client_keys"], row["total_cost_usd"]) == (1, 0, 0)
    found.close()


def test_where_nothing_has_a_price_no_cost_is_known(books):
    with proxy("queue") as simulator:
        one = Upstream(name="default", url=simulator.url, key=SecretStr(KEY))
        simulator.push([call for call in calls(900) if not call.failed and call.uncached_input])
        assert sync.sync_once(books.config(one, prices=Prices(dataset=False)), books.engine, one).inserted > 500
    found = World(books)
    since, until, at = utc(2026, 8, 19), utc(2026, 8, 24), utc(2026, 8, 21, 12)
    assert found.rows("v1_summary", since, until) == [figures.totals(found.records)]
    same(found.rows("v1_trend", since, until), figures.trend(found.records, since, until, "day", found.zone), "bucket")
    heatmap = found.rows("v1_heatmap", 5, date(2026, 8, 23))
    assert heatmap == figures.heatmap(found.records, 5, date(2026, 8, 23), found.zone)
    assert [row["cost_usd"] for row in heatmap] == [0, None, None, None, 0]
    assert found.rows("v1_dashboard", at=at) == [figures.dashboard(found.records, at, found.zone)]
    costs = found.rows("v1_client_key_costs", at)
    same(costs, figures.client_key_costs(found.records, at, found.zone), "upstream", "client_key")
    assert {row["total_actual_cost_usd"] for row in costs} == {None}
    found.close()


# -- percentiles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["all", "channel", "channel_group", "model"])
def test_percentiles_lie_in_the_bounds_of_the_measured_ones(world, by):
    def name_of(record: figures.Record) -> str:
        return "all" if by == "all" else str(getattr(record, by))

    for window in WINDOWS.values():
        within = figures.within(world.records, *window)
        found = world.rows("v1_latency_percentiles", *window, by)
        same(found, list(figures.percentiles(within, name_of)), "measure", "name")
        for row in found:
            for share, part in figures.SHARES.items():
                if row["samples"]:
                    values = [v for r in within if r.outcome != "warmup" and name_of(r) == row["name"]
                              and (v := getattr(r, f"{row['measure']}_ms")) is not None]  # fmt: skip
                    exact = figures.exact_percentile(values, part)
                    begin, end = row[f"{share}_from_ms"], row[f"{share}_to_ms"]
                    assert begin < exact
                    assert end is None or exact <= end
                    assert begin <= row[f"{share}_ms"] <= (end or begin)


def test_percentiles_of_a_part(world):
    window = WINDOWS["instants"]
    within = figures.within(world.records, *window)
    for name in ("upstream", "channel", "model", "outcome"):
        value = "failed" if name == "outcome" else world.values(name)[1]
        found = world.rows("v1_latency_percentiles", *window, **{f"of_{name}": value})
        some = figures.of(within, **{name: value})
        same(found, list(figures.percentiles(some, lambda _: "all")), "measure", "name")


# -- periods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York", "America/Havana", "Australia/Lord_Howe"])
def test_periods(books, zone):
    at = utc(2026, 1, 1, 0, 30)
    while at < utc(2027, 1, 2):
        for name in PERIODS:
            (found,) = books.ask("SELECT * FROM usage_api.v1_period(%s, %s, %s)", [name, at, zone])
            assert found == figures.period(name, at, ZoneInfo(zone)), (name, at)
        at += timedelta(days=5, hours=7, minutes=11)


def test_a_period_is_one_of_the_rollup_time_zone_and_of_now_unless_said_otherwise(world):
    (found,) = world.rows("v1_period", "today")
    assert found["since"] <= datetime.now(UTC) < found["until"] + timedelta(seconds=1)
    assert found["since"] == figures.day_begin(found["since"].astimezone(world.zone).date(), world.zone)


def test_a_window_can_be_a_period(world):
    statement = (
        "SELECT s.* FROM usage_api.v1_period('yesterday', '2026-08-22 12:00+00') AS p, "
        "usage_api.v1_summary(p.since, p.until) AS s"
    )
    window = figures.period("yesterday", utc(2026, 8, 22, 12), world.zone)
    assert world._connection.execute(statement).fetchall() == [figures.totals(figures.within(world.records, *window))]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("v1_period('year')", "there is no period 'year': known are today, yesterday, this_week"),
        ("v1_period(NULL)", "there is no period NULL"),
        ("v1_trend('2026-08-20', '2026-08-21', 'week')", "'week'"),
        ("v1_latency_percentiles('2026-08-20', '2026-08-21', 'key')", "there is no grouping 'key'"),
    ],
)
def test_an_unknown_word_is_refused(books, call, said):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=said):
        books.ask(f"SELECT * FROM usage_api.{call}")


# -- what they cost ---------------------------------------------------------------------------------------------


def plan(books: Books, call: str, columns: str = "*", options: str = "COSTS OFF") -> str:
    rows = books.ask(f"EXPLAIN ({options}) SELECT {columns} FROM usage_api.{call}")
    return "\n".join(row for (row,) in rows)


def test_a_function_is_planned_as_a_part_of_the_query_that_calls_it(books):
    for function, arguments in CALLS.items():
        assert f"Function Scan on {function}" not in plan(books, f"{function}({arguments})")


@pytest.mark.parametrize(
    ("call", "read", "not_read"),
    [
        ("v1_summary({})", "daily_key", "daily_channel"),
        ("v1_summary({}, of_model => 'a model')", "daily_channel", "daily_key"),
        ("v1_by_model({})", "daily_channel", "daily_key"),
        ("v1_by_client_key({})", "daily_key", "daily_channel"),
        ("v1_summary({}, of_client_key => 'a key')", "daily_key", "daily_channel"),
        ("v1_by_client_key({}, of_model => 'a model')", "daily", "daily_(?:key|channel)"),
        ("v1_by_endpoint({})", "daily", "daily_(?:key|channel)"),
        ("v1_trend({})", "hourly_key", "(?:hourly|daily_channel)"),
        ("v1_trend({}, of_client_key => 'a key')", "hourly_key", "(?:hourly|daily_channel)"),
    ],
)
def test_the_smallest_rollup_that_knows_is_read(books, call, read, not_read):
    shown = plan(books, call.format(CALLS["v1_summary"]))
    assert re.search(rf"on {read} ", shown)
    assert not re.search(rf"on {not_read} ", shown)
    assert read == "daily" or not re.search(r"on daily ", shown)


def test_columns_that_are_not_asked_for_are_not_summed(books):
    shown = plan(books, f"v1_by_model({CALLS['v1_by_model']})", "model, requests", "VERBOSE, COSTS OFF")
    assert "requests" in shown
    for name in ("sum(used.cost_usd", "cache_read_tokens)", "latency_ms_sum)"):
        assert name not in shown
    assert "cost_usd)" in plan(books, f"v1_by_model({CALLS['v1_by_model']})", "cost_usd", "VERBOSE, COSTS OFF")


def test_a_reader_may_call_every_function(books):
    if not books.ask("SELECT 1 FROM pg_roles WHERE rolname = 'usage_reader'"):
        pytest.skip("this account may not make roles")
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator)
    books.ask("SET ROLE usage_reader")
    for function, arguments in CALLS.items():
        assert books.ask(f"SELECT * FROM usage_api.{function}({arguments})")
    assert books.ask("SELECT requests + warmups FROM usage_api.v1_summary(NULL, NULL)") == [(50,)]
