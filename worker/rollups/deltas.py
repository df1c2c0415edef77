"""What records add to the rollups, as whole numbers (pure).

Costs are in units of 1e-12 US dollars. `usage.record_measure` counts the same in SQL, and `worker verify` holds the one
against the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from operator import add, itemgetter, sub
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
    places: dict[int, int] = {}
    numbers: dict[tuple[datetime, date], int] = {}
    groups: defaultdict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        # Every zone's offset is a multiple of a quarter of an hour: within one, hour and day are the same for all.
        quarter = int(row.occurred_at.timestamp()) // QUARTER_S
        place = places.get(quarter)
        if place is None:
            place = places[quarter] = numbers.setdefault(buckets(row.occurred_at, zone), len(numbers))
        groups[place, row.dimension_id].append(row)
    found = Deltas({}, {})
    buckets_of = list(numbers)
    for (place, dimension_id), group in groups.items():
        hour, day = buckets_of[place]
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
    tokens = zip(*[(*row.reported, *row.counts) for row in rows], strict=True)
    latencies = sorted([row.latency_ms for row in rows if row.latency_ms is not None])
    ttfts = sorted([row.ttft_ms for row in rows if row.ttft_ms is not None])
    others = _others(rows, latencies, ttfts)
    return IN_ORDER((*map(sum, tokens), *_within(latencies), *_within(ttfts), *others.values()))


def _others(rows: Sequence[Row], latencies: Sequence[int], ttfts: Sequence[int]) -> dict[str, int]:
    """Return what is neither a count of tokens nor of a histogram, by measure; always the same ones."""
    charges = [row.charge for row in rows if row.charge.cost_pico_usd is not None]
    return {
        "requests": len(rows),
        "cost_usd": sum([charge.cost_pico_usd or 0 for charge in charges]),
        "actual_cost_usd": sum([charge.actual_cost_pico_usd or 0 for charge in charges]),
        "cache_read_cost_usd": sum([charge.cache_read_cost_pico_usd or 0 for charge in charges]),
        "cache_write_cost_usd": sum([charge.cache_write_cost_pico_usd or 0 for charge in charges]),
        "estimated_cost_usd": sum([charge.cost_pico_usd or 0 for charge in charges if charge.estimated]),
        "priced_requests": sum([uses_something(row.charge.cost_pico_usd, row.counts) for row in rows]),
        "unpriced_requests": len(rows) - len(charges),
        "latency_ms_sum": sum(latencies),
        "latency_samples": len(latencies),
        "ttft_ms_sum": sum(ttfts),
        "ttft_samples": len(ttfts),
    }


def _within(values: Sequence[int]) -> Sequence[int]:
    """Return how many of some sorted values lie within each bound of a histogram."""
    return [bisect_right(values, bound) for bound in BOUNDS_MS] if values else NONE_WITHIN


BOUNDS_MS = tuple(LATENCY_BOUNDS_MS.values())
NONE_WITHIN = (0,) * len(BOUNDS_MS)
COUNTED = (
    *REPORTED_TOKENS,
    *EXCLUSIVE_TOKENS,
    *(f"{measured}_le_{bound}" for measured in ("latency", "ttft") for bound in LATENCY_BOUNDS_MS),
    *_others([], [], []),
)
"""The measures in the order in which `count` has them."""

IN_ORDER: Callable[[Sums], Sums] = itemgetter(*map(COUNTED.index, MEASURES))
