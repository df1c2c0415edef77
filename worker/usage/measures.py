"""Every measure of the rollups, named once; and when a sum of costs is one (pure).

From this list come the tables, views and functions that hold or show measures (`migrations/generate.py`), the
statements that add, compare and rebuild them (`worker.rollups`), and the columns of reports. Two things are written
beside it, independently of each other, and `worker verify` holds the one against the other: how Python counts a record
(`worker.rollups.deltas`) and how SQL does (`usage.record_measure`, in `migrations/schema/rollups.sql`).

A new measure goes to the end of the list: views and types of `usage_api` only grow at their end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from worker.usage.tokens import Normalised, ReportedCounts

LATENCY_BOUNDS_MS = {
    "50ms": 50, "100ms": 100, "250ms": 250, "500ms": 500, "1s": 1000, "2500ms": 2500, "5s": 5000, "10s": 10_000,
    "30s": 30_000, "60s": 60_000, "120s": 120_000, "300s": 300_000, "600s": 600_000, "1200s": 1_200_000,
}  # fmt: skip
"""Upper bounds of the histograms of latencies and of times to the first token, each counted with all below it."""

Unit = Literal["requests", "tokens", "usd", "ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One sum that a rollup holds."""

    name: str
    unit: Unit
    description: str
    """What it is, as the comment of its column says it."""
    published: bool = True
    """Whether views show it; the others are there for the arithmetic of those that are shown."""
    bound: str = ""
    """Of a histogram, which of LATENCY_BOUNDS_MS it counts up to."""

    @property
    def sql_type(self) -> str:
        """The type of its column."""
        return "numeric" if self.unit == "usd" else "bigint"


def _tokens(name: str, description: str) -> Measure:
    return Measure(name=name, unit="tokens", description=description)


def _cost(name: str, description: str) -> Measure:
    return Measure(name=name, unit="usd", description=description)


def _histograms(*bounds: str) -> Iterator[Measure]:
    for measured, words in (("latency", "Requests measured at"), ("ttft", "Requests whose first token came after")):
        for bound in bounds:
            ms = LATENCY_BOUNDS_MS[bound]
            said = f"{ms / 1000:g} s" if ms >= 1000 else f"{ms} ms"  # noqa: PLR2004  # a second
            text = f"{words} {said} or less (cumulative)."
            yield Measure(name=f"{measured}_le_{bound}", unit="requests", description=text, bound=bound)


_LISTED = (
    Measure(name="requests", unit="requests", description="Number of records: one for each attempt at an upstream."),
    _tokens("input_tokens", "Input tokens as reported; what they include differs by provider."),
    _tokens("output_tokens", "Output tokens as reported; what they include differs by provider."),
    _tokens("reasoning_tokens", "Reasoning tokens as reported."),
    _tokens("cached_tokens", "Cached tokens as reported."),
    _tokens("total_tokens", "Total tokens as reported."),
    _tokens("uncached_input_tokens", "Input tokens neither read from nor written to a cache. This and the next four "
                                     "exclude one another."),
    _tokens("cache_read_tokens", "Input tokens read from a cache."),
    _tokens("cache_write_tokens", "Input tokens written to a cache."),
    _tokens("billed_output_tokens", "Output tokens, reasoning included once."),
    _tokens("unclassified_tokens", "Tokens that could not be told apart as input or output."),
    _cost("cost_usd", "Cost in US dollars of the priced requests; NULL when none that used something has a price: so "
                      "costs can be added up by sum()."),
    _cost("actual_cost_usd", "Cost times the channel's rate multiplier, in US dollars; NULL as cost_usd."),
    _cost("cache_read_cost_usd", "The part of cost_usd for cache reads; NULL as cost_usd."),
    _cost("cache_write_cost_usd", "The part of cost_usd for cache writes; NULL as cost_usd."),
    Measure(name="unpriced_requests", unit="requests",
            description="Requests without a price: they are not in the costs."),
    Measure(name="latency_ms_sum", unit="ms", description="Sum of the measured latencies, in milliseconds."),
    Measure(name="latency_samples", unit="requests", description="Number of requests with a measured latency."),
    Measure(name="ttft_ms_sum", unit="ms",
            description="Sum of the measured times to the first token, in milliseconds."),
    Measure(name="ttft_samples", unit="requests",
            description="Number of requests with a measured time to the first token."),
    *_histograms("500ms", "1s", "2500ms", "5s", "10s", "30s", "60s", "120s", "300s"),
    _cost("estimated_cost_usd", "The part of cost_usd that is an estimate, by a price that is a guess and no vendor's "
                                "or operator's word; NULL as cost_usd."),
    *_histograms("50ms", "100ms", "250ms", "600s", "1200s"),
    Measure(name="priced_requests", unit="requests", published=False,
            description="Requests with a cost that used something."),
)  # fmt: skip

MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _LISTED}
"""The columns of every rollup after its key, in the order of the tables."""

ADDED = tuple(MEASURES)[tuple(MEASURES).index("priced_requests") + 1 :]
"""Those that came after the first release: at the end wherever measures are listed."""

COSTS = frozenset(name for name, measure in MEASURES.items() if measure.unit == "usd")

REPORTED_TOKENS = tuple(f"{kind}_tokens" for kind in ReportedCounts._fields)
"""The token counts as payloads report them."""

EXCLUSIVE_TOKENS = tuple(f"{kind}_tokens" for kind in Normalised._fields)
"""Those of which each token is in exactly one."""


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
