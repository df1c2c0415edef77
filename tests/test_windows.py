"""Usage between any two instants and in any zone's hours and days: the sums of the records that lie there, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from conftest import _fresh, _text
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import Books, calls, proxy, utc

from worker import rollup

DIMENSIONS = ("upstream", "channel", "channel_group", "channel_kind", "client_key", "provider", "endpoint", "model",
              "alias", "outcome")  # fmt: skip
CHANNEL_DIMENSIONS = ("upstream", "channel", "channel_group", "channel_kind", "model", "outcome")
KEY_DIMENSIONS = ("upstream", "client_key", "outcome")
SUMMED = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "total_tokens",
          "uncached_input_tokens", "cache_read_tokens", "cache_write_tokens", "billed_output_tokens",
          "unclassified_tokens", "cost_usd", "actual_cost_usd", "cache_read_cost_usd",
          "cache_write_cost_usd")  # fmt: skip
MEASURES = rollup.MEASURES
ZONES = ("UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe", "America/Havana")
SELECT_RECORDS = f"""
SELECT occurred_at, {", ".join(DIMENSIONS)}, {", ".join(SUMMED)}, latency_ms, ttft_ms FROM usage_api.v1_records
"""
FUNCTIONS = {"v1_usage": DIMENSIONS, "v1_channel_usage": CHANNEL_DIMENSIONS, "v1_key_usage": KEY_DIMENSIONS}

Sums = dict[tuple[Any, ...], tuple[Any, ...]]


def measured(row: dict[str, Any]) -> list[Any]:
    """One record as MEASURES, by the words of their comments."""
    latency, ttft = row["latency_ms"], row["ttft_ms"]
    return [
        1,
        *(row[name] for name in SUMMED),
        int(row["cost_usd"] is None),
        latency or 0,
        int(latency is not None),
        ttft or 0,
        int(ttft is not None),
        *(int(latency is not None and latency <= bound) for bound in rollup.LATENCY_BOUNDS_MS),
        *(int(ttft is not None and ttft <= bound) for bound in rollup.LATENCY_BOUNDS_MS),
    ]


def added(a: list[Any], b: list[Any]) -> list[Any]:
    """Two rows of sums as one; nothing known and something known is what is known."""
    return [x if y is None else y if x is None else x + y for x, y in zip(a, b, strict=True)]


class World:
    """A database whose records were read once: what it is asked is held against them."""

    def __init__(self, books: Books) -> None:
        self.books = books
        names = ("occurred_at", *DIMENSIONS, *SUMMED, "latency_ms", "ttft_ms")
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


def filled(books: Books) -> World:
    with proxy("queue", calls(1500)) as simulator:
        books.sync(simulator)
    return World(books)


def bucket_of(grain: str, zone: str) -> Any:
    """What begins the hour or day of a zone that an instant lies in, in Python's terms."""

    def hour(at: datetime) -> datetime:
        local = at.astimezone(ZoneInfo(zone))
        return (
            local - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        ).astimezone(UTC)

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

BEGIN, END = utc(2026, 8, 19, 20), utc(2026, 8, 23, 4)
instants = st.one_of(
    st.datetimes(BEGIN.replace(tzinfo=None), END.replace(tzinfo=None)).map(lambda at: at.replace(tzinfo=UTC)),
    st.builds(lambda n: BEGIN + timedelta(minutes=15 * n), st.integers(0, 4 * 80)),
    st.none(),
)


@pytest.fixture(scope="module", params=ZONES)
def world(request, server_url, admin, template, tmp_path_factory) -> Iterator[World]:
    with _fresh(admin, template) as name:
        with Books(_text(server_url.set(database=name)), tmp_path_factory.mktemp("books"), request.param) as books:
            yield filled(books)


@settings(max_examples=40, deadline=None)
@given(since=instants, until=instants)
@example(since=None, until=None)
def test_a_window_holds_the_sums_of_its_records(world, since, until):
    for function, dimensions in FUNCTIONS.items():
        found = world.asked(f"{function}(%s, %s)", dimensions, [since, until])
        assert found == world.expected(dimensions, since, until), function


@settings(max_examples=40, deadline=None)
@given(since=instants, until=instants, grain=st.sampled_from(["hour", "day"]), zone=st.sampled_from([*ZONES, None]))
def test_a_series_holds_the_sums_of_each_hour_and_day(world, since, until, grain, zone):
    keys = ("bucket", *DIMENSIONS)
    found = world.asked("v1_series(%s, %s, %s, %s)", keys, [since, until, grain, zone])
    assert found == world.expected(DIMENSIONS, since, until, bucket_of(grain, zone or world.books.timezone))
