"""What is counted of records in every rollup, named once; and when a sum of costs is one (pure).

`usage.record_measure` says in SQL, and `rollup` in Python, how a record counts into each: `verify` holds the one
against the other.
"""

from __future__ import annotations

from decimal import Decimal

from worker.usage.tokens import Normalised

LATENCY_BOUNDS_MS = (50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_200_000)
"""Upper bounds of the histograms of latencies and of times to the first token, each counted with all below it."""

_AT_FIRST: tuple[str, ...] = ("500ms", "1s", "2500ms", "5s", "10s", "30s", "60s", "120s", "300s")
_FINER: tuple[str, ...] = ("50ms", "100ms", "250ms")
_LONGER: tuple[str, ...] = ("600s", "1200s")
BOUNDS = (*_FINER, *_AT_FIRST, *_LONGER)
"""What columns call the bounds, in their order."""

_LATER = (*_FINER, *_LONGER)
_FIRST_TTFT = tuple(f"ttft_le_{bound}" for bound in _AT_FIRST)
_LATER_HISTOGRAMS = (*(f"latency_le_{bound}" for bound in _LATER), *(f"ttft_le_{bound}" for bound in _LATER))

# The columns of a rollup after its key, in the order of the tables.
MEASURES: tuple[str, ...] = (
    "requests",
    "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "total_tokens",
    "uncached_input_tokens", "cache_read_tokens", "cache_write_tokens", "billed_output_tokens", "unclassified_tokens",
    "cost_usd", "actual_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd", "unpriced_requests",
    "latency_ms_sum", "latency_samples", "ttft_ms_sum", "ttft_samples",
    *(f"latency_le_{bound}" for bound in _AT_FIRST),
    *_FIRST_TTFT,
    "estimated_cost_usd",
    *_LATER_HISTOGRAMS,
    "priced_requests",
)  # fmt: skip

MAY_BE_UNKNOWN: tuple[str, ...] = (*_FIRST_TTFT, *_LATER_HISTOGRAMS)
"""Measures that are NULL where the records were dropped before they were counted."""

COSTS = frozenset(name for name in MEASURES if name.endswith("cost_usd"))


def uses_something(cost_pico_usd: int | None, counts: Normalised) -> bool:
    """Say whether a record has a cost and used something: then a sum of costs that it is part of is one."""
    return cost_pico_usd is not None and (cost_pico_usd > 0 or any(counts))


def cost_of(sum_of_costs: Decimal, *, priced: int, unpriced: int) -> Decimal | None:
    """Return the cost of several records: None when something was used and nothing of it has a price.

    Args:
        sum_of_costs: what those that have a cost add up to.
        priced: how many have a cost and used something.
        unpriced: how many have no cost.
    """
    return None if unpriced and not priced else sum_of_costs
