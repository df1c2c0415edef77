"""What records add to the rollups, as whole numbers (pure).

Costs are in units of 1e-12 US dollars. `usage.record_measure` counts the same in SQL, and `worker verify` holds the one
against the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from operator import add, sub
from typing import NamedTuple
from zoneinfo import ZoneInfo

from worker.rollups.calendar import hour_of
from worker.storage.rows import Row
from worker.usage.measures import EXCLUSIVE_TOKENS, LATENCY_BOUNDS_MS, MEASURES, REPORTED_TOKENS, uses_something

QUARTER_S = 15 * 60

Sums = tuple[int, ...]
"""One number for each of MEASURES, in their order."""

Bucket = tuple[date, int]
"""An hour, as its first instant, or a day; and a combination of dimensions."""


class Deltas(NamedTuple):
    """What to add to the hours, and to the days."""

    hourly: dict[Bucket, Sums]
    daily: dict[Bucket, Sums]


def deltas(rows: Iterable[Row], zone: ZoneInfo) -> Deltas:
    """Sum what `rows` add to the hours, and to the days of `zone`."""
    places: dict[int, tuple[datetime, date]] = {}
    groups: defaultdict[tuple[tuple[datetime, date], int], list[Row]] = defaultdict(list)
    for row in rows:
        # Every zone's offset is a multiple of a quarter of an hour: within one, hour and day are the same for all.
        quarter = int(row.occurred_at.timestamp()) // QUARTER_S
        place = places.get(quarter)
        if place is None:
            place = places[quarter] = buckets(row.occurred_at, zone)
        groups[place, row.dimension_id].append(row)
    found = Deltas({}, {})
    for ((hour, day), dimension_id), group in groups.items():
        counted = count(group)
        _add(found.hourly, (hour, dimension_id), counted)
        _add(found.daily, (day, dimension_id), counted)
    return found


def _add(sums: dict[Bucket, Sums], bucket: Bucket, counted: Sums) -> None:
    before = sums.get(bucket)
    sums[bucket] = counted if before is None else tuple(map(add, before, counted))


def buckets(at: datetime, zone: ZoneInfo) -> tuple[datetime, date]:
    """Return the UTC hour and the day of `zone` that `at` lies in."""
    return hour_of(at.astimezone(UTC)), at.astimezone(zone).date()


def difference(new: Deltas, old: Deltas) -> Deltas:
    """Return what turns `old` into `new`: added where it comes, taken away where it was."""
    return Deltas(_less(new.hourly, old.hourly), _less(new.daily, old.daily))


def _less(new: dict[Bucket, Sums], old: dict[Bucket, Sums]) -> dict[Bucket, Sums]:
    result = dict(new)
    for bucket, less in old.items():
        result[bucket] = tuple(map(sub, result.get(bucket, NOTHING), less))
    return {bucket: changed for bucket, changed in result.items() if any(changed)}


NOTHING: Sums = (0,) * len(MEASURES)


def count(rows: Sequence[Row]) -> Sums:
    """Return what records add to each measure, in the order of MEASURES."""
    costs = [row.charge for row in rows if row.charge.cost_pico_usd is not None]
    latencies = sorted(row.latency_ms for row in rows if row.latency_ms is not None)
    ttfts = sorted(row.ttft_ms for row in rows if row.ttft_ms is not None)
    counted = {
        "requests": len(rows),
        **dict(zip(REPORTED_TOKENS, map(sum, zip(*(row.reported for row in rows), strict=True)), strict=True)),
        **dict(zip(EXCLUSIVE_TOKENS, map(sum, zip(*(row.counts for row in rows), strict=True)), strict=True)),
        "cost_usd": sum(charge.cost_pico_usd or 0 for charge in costs),
        "actual_cost_usd": sum(charge.actual_cost_pico_usd or 0 for charge in costs),
        "cache_read_cost_usd": sum(charge.cache_read_cost_pico_usd or 0 for charge in costs),
        "cache_write_cost_usd": sum(charge.cache_write_cost_pico_usd or 0 for charge in costs),
        "estimated_cost_usd": sum(charge.cost_pico_usd or 0 for charge in costs if charge.estimated),
        "priced_requests": sum(uses_something(row.charge.cost_pico_usd, row.counts) for row in rows),
        "unpriced_requests": len(rows) - len(costs),
        "latency_ms_sum": sum(latencies), "latency_samples": len(latencies), **_within("latency", latencies),
        "ttft_ms_sum": sum(ttfts), "ttft_samples": len(ttfts), **_within("ttft", ttfts),
    }  # fmt: skip
    return tuple([counted[name] for name in MEASURES])


def _within(measured: str, values: Sequence[int]) -> dict[str, int]:
    """Return how many of some sorted values lie within each bound of a histogram."""
    bounds = HISTOGRAMS[measured]
    return {name: bisect_right(values, bound) for name, bound in bounds.items()} if values else dict.fromkeys(bounds, 0)


HISTOGRAMS = {
    measured: {f"{measured}_le_{bound}": ms for bound, ms in LATENCY_BOUNDS_MS.items()}
    for measured in ("latency", "ttft")
}
"""The upper bounds of the histograms in milliseconds, by their measures."""
