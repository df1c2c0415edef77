"""Usage between any two instants and in any zone's hours and days: the sums of the records that lie there, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import LATENCY_BOUNDS_MS, SEED, Books, proxy, utc

from worker.config import Retention
from worker.corrections import maintain
from worker.rollups.calendar import day_bounds
from worker.simulator.traffic import Traffic
from worker.usage import measures

DIMENSIONS = ("upstream", "channel", "channel_group", "channel_kind", "client_key", "provider", "endpoint", "model",
              "alias", "outcome")  # fmt: skip
CHANNEL_DIMENSIONS = ("upstream", "channel", "channel_group", "channel_kind", "model", "outcome")
KEY_DIMENSIONS = ("upstream", "client_key", "outcome")
SUMMED = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "total_tokens",
          "uncached_input_tokens", "cache_read_tokens", "cache_write_tokens", "billed_output_tokens",
          "unclassified_tokens", "cost_usd", "actual_cost_usd", "cache_read_cost_usd",
          "cache_write_cost_usd")  # fmt: skip
COSTS = ("cost_usd", "actual_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd", "estimated_cost_usd")
MEASURES = tuple(name for name in measures.MEASURES if name != "priced_requests")
SELECT_RECORDS = f"""
SELECT occurred_at, {", ".join(DIMENSIONS)}, {", ".join(SUMMED)}, estimated_cost_usd, latency_ms, ttft_ms
FROM usage_api.v1_records
"""
FUNCTIONS = {"v1_usage": DIMENSIONS, "v1_channel_usage": CHANNEL_DIMENSIONS, "v1_key_usage": KEY_DIMENSIONS}
SERIES = {"v1_series": DIMENSIONS, "v1_key_series": KEY_DIMENSIONS}

Sums = dict[tuple[Any, ...], tuple[Any, ...]]


def measured(row: dict[str, Any]) -> list[Any]:
    """One record as MEASURES, by the words of their comments."""
    latency, ttft = row["latency_ms"], row["ttft_ms"]
    used = row["cost_usd"] or any(row[name] for name in SUMMED[5:10])
    found: dict[str, Any] = {
        "requests": 1,
        **{name: row[name] for name in SUMMED},
        **{name: row[name] if used else None for name in COSTS},
        "unpriced_requests": int(row["cost_usd"] is None),
        "latency_ms_sum": latency or 0,
        "latency_samples": int(latency is not None),
        "ttft_ms_sum": ttft or 0,
        "ttft_samples": int(ttft is not None),
    }
    for name, bound in LATENCY_BOUNDS_MS.items():
        found[name] = int(latency is not None and latency <= bound)
        found[name.replace("latency", "ttft")] = int(ttft is not None and ttft <= bound)
    return [found[name] for name in MEASURES]


def added(a: list[Any], b: list[Any]) -> list[Any]:
    """Two rows of sums as one; nothing known and something known is what is known."""
    return [x if y is None else y if x is None else x + y for x, y in zip(a, b, strict=True)]


class World:
    """A database whose records were read once: what it is asked is held against them."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.changes = False
        """Whether clocks change in it."""
        names = ("occurred_at", *DIMENSIONS, *SUMMED, "estimated_cost_usd", "latency_ms", "ttft_ms")
        self.records = [dict(zip(names, row, strict=True)) for row in books.ask(SELECT_RECORDS)]

    def expected(self, dimensions: tuple[str, ...], since: datetime | None, until: datetime | None,
                 bucket: Any = None) -> Sums:  # fmt: skip
        found: dict[tuple[Any, ...], list[Any]] = {}
        for row in self.records:
            at = row["occurred_at"]
            if (since is None or at >= since) and (until is None or at < until):
                key = (*([bucket(at)] if bucket else []), *(row[name] for name in dimensions))
                one = measured(row)
                found[key] = added(found[key], one) if key in found else one
        return {key: tuple(sums) for key, sums in found.items()}

    def asked(self, call: str, dimensions: tuple[str, ...], arguments: list[Any]) -> Sums:
        sums = ", ".join(f"sum({name})" for name in MEASURES)
        numbers = ", ".join(str(n + 1) for n in range(len(dimensions)))
        statement = f"SELECT {', '.join(dimensions)}, {sums} FROM usage_api.{call} GROUP BY {numbers}"
        return {row[: len(dimensions)]: row[len(dimensions) :] for row in self.books.ask(statement, arguments)}


def filled(books: Books, start: datetime, n: int = 1500) -> World:
    made = Traffic(SEED, start=start).generate(n)
    Random(SEED).shuffle(made)
    with proxy("queue", made) as simulator:
        books.sync(simulator)
    return World(books)


def bucket_of(grain: str, zone: str) -> Any:
    """What begins the hour or day of a zone that an instant lies in, in Python's terms."""

    def hour(at: datetime) -> datetime:
        local = at.astimezone(ZoneInfo(zone))
        return at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)

    def day(at: datetime) -> datetime:
        return first_instant(at.astimezone(ZoneInfo(zone)).date(), zone)

    return {"hour": hour, "day": day}[grain]


def first_instant(day: date, zone: str) -> datetime:
    """The first instant whose local date is `day`, found by looking at every quarter of an hour."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
    while at.astimezone(ZoneInfo(zone)).date() != day:
        at += timedelta(minutes=15)
    return at


# -- any window -------------------------------------------------------------------------------------------------

# Each zone with three days of traffic in which its clocks change, where they do: in Havana at midnight, which comes
# twice in autumn and not at all in spring.
WORLDS = {
    "UTC": utc(2026, 8, 20),
    "Asia/Kolkata": utc(2026, 8, 20),
    "Asia/Kathmandu": utc(2026, 8, 20),
    "America/New_York": utc(2025, 11, 1),
    "Australia/Lord_Howe": utc(2025, 4, 4),
    "America/Havana": utc(2025, 11, 1),
    "America/Havana in spring": utc(2025, 3, 8),
}
ZONES = sorted({name.split()[0] for name in WORLDS})
HOURS = 80


@pytest.fixture(scope="module", params=WORLDS)
def world(request, new_database, tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("books")
    with new_database() as url, Books(url, folder, request.param.split()[0]) as books:
        made = filled(books, WORLDS[request.param])
        made.changes = WORLDS[request.param].year == 2025
        yield made


def instants() -> st.SearchStrategy[timedelta | None]:
    """Instants as the time since the first record's day: any, those on a quarter of an hour, and none."""
    quarters = st.builds(lambda n: timedelta(minutes=15 * n), st.integers(-16, 4 * HOURS))
    return st.one_of(st.timedeltas(timedelta(hours=-4), timedelta(hours=HOURS)), quarters, st.none())


def window(world: World, since: timedelta | None, until: timedelta | None) -> list[datetime | None]:
    first = min(row["occurred_at"] for row in world.records).replace(hour=0, minute=0, second=0, microsecond=0)
    return [None if at is None else first + at for at in (since, until)]


@settings(max_examples=40, deadline=None)
@given(since=instants(), until=instants())
@example(since=None, until=None)
@example(since=timedelta(0), until=timedelta(days=3))
def test_a_window_holds_the_sums_of_its_records(world, since, until):
    bounds = window(world, since, until)
    for function, dimensions in FUNCTIONS.items():
        found = world.asked(f"{function}(%s, %s)", dimensions, bounds)
        assert found == world.expected(dimensions, *bounds), function


@settings(max_examples=40, deadline=None)
@given(since=instants(), until=instants(), grain=st.sampled_from(["hour", "day"]), zone=st.sampled_from([*ZONES, None]))
@example(since=None, until=None, grain="hour", zone=None)
@example(since=None, until=None, grain="day", zone="Australia/Lord_Howe")
def test_a_series_holds_the_sums_of_each_hour_and_day(world, since, until, grain, zone):
    bounds = window(world, since, until)
    for function, dimensions in SERIES.items():
        found = world.asked(f"{function}(%s, %s, %s, %s)", ("bucket", *dimensions), [*bounds, grain, zone])
        assert found == world.expected(dimensions, *bounds, bucket_of(grain, zone or world.books.timezone)), function


def test_the_worlds_have_enough_in_them_to_tell(world):
    assert len(world.records) == 1500
    assert {row["outcome"] for row in world.records} == {"success", "failed", "warmup"}
    assert any(row["ttft_ms"] is not None for row in world.records)
    hours = {row["occurred_at"].replace(minute=0, second=0, microsecond=0) for row in world.records}
    assert len(hours) > 30
    offsets = {row["occurred_at"].astimezone(ZoneInfo(world.books.timezone)).utcoffset() for row in world.records}
    assert len(offsets) == (2 if world.changes else 1)


@pytest.mark.parametrize("function", SERIES)
@pytest.mark.parametrize(("grain", "zone", "said"), [("week", None, "the grain 'week' is not known"),
                                                     (None, None, "the grain NULL is not known"),
                                                     ("day", "Mars/Phobos", "time zone")])  # fmt: skip
def test_an_unknown_grain_or_zone_is_refused(books, function, grain, zone, said):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=said):
        books.ask(f"SELECT * FROM usage_api.{function}(NULL, NULL, %s, %s)", [grain, zone])


def test_before_the_first_pass_there_is_nothing_in_any_window_and_days_are_those_of_utc(books):
    assert books.ask("SELECT timezone, usage_api.v1_zone() FROM usage_api.v1_timezone") == [("UTC", "UTC")]
    for call in ("v1_usage(NULL, now())", "v1_key_usage(now() - interval '7 days', now())",
                 "v1_channel_usage(NULL, NULL)", "v1_series(NULL, NULL, 'hour', 'Asia/Kolkata')",
                 "v1_key_series(NULL, NULL, 'hour', 'Asia/Kolkata')"):  # fmt: skip
        assert books.ask(f"SELECT * FROM usage_api.{call}") == []


# -- edges ------------------------------------------------------------------------------------------------------

SELECT_EDGES = """
SELECT array_agg(usage_internal.edge(%s, %s, n) ORDER BY n) FROM generate_series(0, 7) AS n
"""


def edges(books: Books, since: datetime, until: datetime) -> list[datetime]:
    ((found,),) = books.ask(SELECT_EDGES, [since, until])
    return found


def test_a_window_is_cut_into_records_hours_and_days(books):
    assert edges(books, utc(2026, 8, 1, 22, 10), utc(2026, 8, 4, 1, 20)) == [
        utc(2026, 8, 1, 22, 10), utc(2026, 8, 1, 23), utc(2026, 8, 2), utc(2026, 8, 2),
        utc(2026, 8, 4), utc(2026, 8, 4), utc(2026, 8, 4, 1), utc(2026, 8, 4, 1, 20),
    ]  # fmt: skip
    assert edges(books, utc(2026, 8, 1, 10, 10), utc(2026, 8, 1, 10, 20)) == [
        utc(2026, 8, 1, 10, 10), *[utc(2026, 8, 1, 10, 20)] * 7,
    ]  # fmt: skip
    assert edges(books, utc(2026, 8, 2), utc(2026, 8, 1)) == [utc(2026, 8, 2)] * 8


@settings(max_examples=60, deadline=None)
@given(since=instants(), until=instants())
def test_edges_follow_one_another_and_lie_where_hours_and_days_begin(world, since, until):
    low, high = window(world, since or timedelta(0), until or timedelta(0))
    found = edges(world.books, low, high)
    assert found == sorted(found)
    assert (found[0], found[7]) == (low, max(low, high))
    for first, second, whole in ((1, 2, is_hour), (3, 4, begins_day(world.books.timezone)), (5, 6, is_hour)):
        if found[first] < found[second]:
            assert whole(found[first])
            assert whole(found[second])
    for first, second in ((0, 1), (2, 3), (4, 5), (6, 7)):  # what is read from records is less than an hour
        assert found[second] - found[first] < timedelta(hours=1)


def is_hour(at: datetime) -> bool:
    return (at.minute, at.second, at.microsecond) == (0, 0, 0)


def begins_day(zone: str) -> Any:
    return lambda at: first_instant(at.astimezone(ZoneInfo(zone)).date(), zone) == at


DAYS = """
SELECT count(*), count(*) FILTER (WHERE (begins AT TIME ZONE zone)::date <> day
                                     OR ((begins - interval '1 second') AT TIME ZONE zone)::date >= day)
FROM unnest(%s::date[], %s::text[]) AS t (day, zone), LATERAL (SELECT usage_api.v1_day_begin(day, zone) AS begins) AS b
"""
SELECT_ZONES = "SELECT name FROM pg_timezone_names"


def test_a_day_begins_with_its_first_instant_wherever_clocks_change(books):
    """In every zone, on the days of ten years around which its offset changes."""
    known = {name for (name,) in books.ask(SELECT_ZONES)}
    days, zones = [], []
    for zone in sorted(available_timezones() & known):
        rules, before = ZoneInfo(zone), None
        for week in range(11 * 53):
            at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(weeks=week)
            offset = at.astimezone(rules).utcoffset()
            if offset != before:
                days += [at.date() - timedelta(days=n) for n in range(-1, 9)]
                zones += [zone] * 10
            before = offset
    assert len(days) > 10_000
    assert books.ask(DAYS, [days, zones]) == [(len(days), 0)]


@pytest.mark.parametrize(
    ("zone", "day"),
    [("America/Havana", date(2021, 11, 7)), ("America/Havana", date(2022, 3, 13)), ("Asia/Beirut", date(2022, 3, 27)),
     ("Asia/Beirut", date(2021, 10, 31)), ("Africa/Cairo", date(2023, 4, 28)), ("Africa/Cairo", date(2023, 10, 27)),
     ("America/Asuncion", date(2021, 3, 28)), ("America/Asuncion", date(2021, 10, 3)),
     ("Australia/Lord_Howe", date(2023, 4, 2)), ("Australia/Lord_Howe", date(2023, 10, 1)),
     ("Asia/Kathmandu", date(2023, 4, 2)), ("UTC", date(2024, 2, 29))],
)  # fmt: skip
def test_days_begin_when_the_workers_days_do(books, zone, day):
    for each in (day - timedelta(days=1), day, day + timedelta(days=1)):
        begins = day_bounds(each, ZoneInfo(zone))[0]
        assert begins == first_instant(each, zone)
        assert books.ask("SELECT usage_api.v1_day_begin(%s, %s)", [each, zone]) == [(begins,)]


# -- where records are gone -------------------------------------------------------------------------------------

MONTH = Retention(records_days=31)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_windows_reach_behind_dropped_records_by_whole_hours_and_days_and_never_tell_less(database_url, tmp_path, zone):
    with Books(database_url, tmp_path, zone) as books:
        world = filled(books, utc(2026, 8, 20))
        first = first_instant(date(2026, 8, 21), zone)
        hour = utc(2026, 8, 21, 10)
        ragged = hour + timedelta(minutes=20)
        maintain.maintain(books.engine, MONTH)
        assert books.records() == 0
        for since, until in ((None, None), (first, first + timedelta(days=1)), (first, None), (None, first)):
            for function, dimensions in FUNCTIONS.items():
                found = world.asked(f"{function}(%s, %s)", dimensions, [since, until])
                assert found == world.expected(dimensions, since, until)
            for function, dimensions in SERIES.items():
                found = world.asked(f"{function}(%s, %s, 'day')", ("bucket", *dimensions), [since, until])
                assert found == world.expected(dimensions, since, until, bucket_of("day", zone))
        within = [hour, hour + timedelta(hours=5)]
        for function, dimensions in FUNCTIONS.items():
            assert world.asked(f"{function}(%s, %s)", dimensions, within) == world.expected(dimensions, *within)
        for bounds in ([ragged, None], [None, ragged], [ragged, ragged + timedelta(minutes=1)]):
            for function in FUNCTIONS:
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="have been dropped"):
                    books.ask(f"SELECT sum(requests) FROM usage_api.{function}(%s, %s)", bounds)
        for function in SERIES:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="have been dropped"):
                books.ask(f"SELECT sum(requests) FROM usage_api.{function}(NULL, NULL, 'hour', 'Asia/Kathmandu')")
        # Where there never was anything, nothing is missing.
        nothing = [utc(2020, 1, 1, 0, 20), utc(2026, 8, 1, 0, 20)]
        assert books.ask("SELECT * FROM usage_api.v1_usage(%s, %s)", nothing) == []


# -- plans ------------------------------------------------------------------------------------------------------


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def plan_of(books: Books, call: str) -> list[dict[str, Any]]:
    """The nodes that ran; a table of a few pages would be read as a whole, so that is made dear."""
    books.ask("ANALYZE")
    books.ask("SET enable_seqscan = off")
    ((((plan,),),),) = [books.ask(f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT sum(requests) FROM usage_api.{call}")]
    return [node for node in nodes(plan["Plan"]) if node["Actual Loops"]]


@pytest.mark.parametrize(
    ("call", "days", "hours"),
    [("v1_usage({})", "daily", "hourly"), ("v1_channel_usage({})", "daily_channel", "hourly"),
     ("v1_key_usage({})", "daily_key", "hourly_key"), ("v1_series({}, 'day')", "daily", "hourly"),
     ("v1_key_series({}, 'day')", "daily_key", "hourly_key"), ("v1_key_series({}, 'hour')", "", "hourly_key"),
     ("v1_key_series({}, 'day', 'America/New_York')", "", "hourly_key"),
     ("v1_trend({}, 'day')", "daily_key", "hourly_key"), ("v1_trend({}, 'hour')", "", "hourly_key"),
     ("v1_trend({}, 'hour', 'America/New_York', of_client_key => '(no key)')", "", "hourly_key"),
     ("v1_trend({}, 'day', of_model => 'gpt-5.4')", "daily_channel", "hourly")],
)  # fmt: skip
def test_whole_days_and_hours_are_read_through_their_keys_and_no_record_is(books, call, days, hours):
    filled(books, utc(2026, 8, 20))
    ran = plan_of(books, call.format("'2026-08-20', '2026-08-22 05:00'"))
    assert not [node for node in ran if node.get("Relation Name", "").startswith("record")]
    rollups = {"daily", "daily_channel", "daily_key", "hourly", "hourly_key"}
    # Rows are told for each loop, and up to PostgreSQL 17 as a whole number: a few of many loops round to none.
    some = [node for node in ran if node["Actual Rows"] or node["Actual Loops"] > 1]
    read = [node for node in some if node.get("Relation Name") in rollups]
    assert {node["Relation Name"] for node in read} == {days, hours} - {""}
    assert not [node for node in read if node["Node Type"] == "Seq Scan"]
    conditions = {node["Index Name"]: node.get("Index Cond", "") for node in ran if "Index Name" in node}
    assert not days or "edge_day" in conditions[f"{days}_pkey"]
    assert "edge" in conditions[f"{hours}_pkey"]


def test_of_the_records_only_those_of_the_ragged_ends_are_read(books):
    world = filled(books, utc(2026, 8, 20))
    ran = plan_of(books, "v1_usage('2026-08-20 23:40', '2026-08-22 00:00')")
    ((found),) = [node for node in ran if node.get("Relation Name", "").startswith("record") and node["Actual Rows"]]
    wanted = [r for r in world.records if utc(2026, 8, 20, 23, 40) <= r["occurred_at"] < utc(2026, 8, 21)]
    assert found["Actual Rows"] == len(wanted) > 0
    assert found["Node Type"] in ("Index Scan", "Bitmap Heap Scan")
