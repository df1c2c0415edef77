"""Which price holds for a record, and what the record costs by it (pure).

A price names a model and may narrow itself to a channel, a provider, a service tier, a context length, a time and
hours of the day. Of several that fit, `rank_prices` says which goes first. Costs are exact: rates have at most six
decimals and costs twelve, so that no sum of them is ever rounded.

No price, or tokens that a price does not cover: no cost. Nothing is taken for zero that is not known to be zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Literal, NamedTuple

from worker.pricing import model_names, vendors
from worker.pricing.model_names import Names
from worker.usage.money import EXACT
from worker.usage.tokens import Normalised

Source = Literal["operator", "config", "dataset"]

RATE_DECIMALS = 6
REQUEST_DECIMALS = 12

STANDARD_TIERS = ("", "auto", "default", "standard", "standard_only", "on_demand", "unspecified")
ANY_TIER = "*"
"""What an operator's price says that holds for every service tier without a price of its own."""

Estimated = Literal["", "cache_write", "all"]
"""What of a price is a deliberate guess and nobody's word: nothing, its rate for cache writes, or all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One price. Rates are US dollars per million tokens; None where none is known.

    An empty `provider` or `channel` fits all. An empty `service_tier` is the standard one, `*` any that has no price
    of its own. It holds for requests whose input is longer than `above_input_tokens`, that began in
    `[valid_from, valid_to)` and, in UTC, in `[hours_from, hours_to)`. `vendor` is whose list in the dataset it comes
    from, empty for an operator's.
    """

    price_id: int = 0
    """Its number in the table, 0 where it stands in none."""
    source: Source
    model: str
    vendor: str = ""
    provider: str = ""
    channel: str = ""
    service_tier: str = ""
    above_input_tokens: int = 0
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    hours_from: time | None = None
    hours_to: time | None = None
    input_usd_per_mtok: Decimal | None = None
    cache_read_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    request_usd: Decimal | None = None
    estimated: Estimated = ""
    cache_write_1h_usd_per_mtok: Decimal | None = None
    """For cache writes that are kept for an hour, where that is told of them; None: as for others."""
    pico_rates: tuple[int | None, ...] = field(init=False, repr=False, compare=False)
    """The rates as whole numbers of 1e-12 US dollars: for a token of each kind, the request, an hour's write."""

    def __post_init__(self) -> None:
        per_token = (self.input_usd_per_mtok, self.cache_read_usd_per_mtok, self.cache_write_usd_per_mtok,
                     self.output_usd_per_mtok)  # fmt: skip
        for_an_hour = self.cache_write_1h_usd_per_mtok
        if for_an_hour is None:
            for_an_hour = self.cache_write_usd_per_mtok
        rates = (
            *(_pico(rate, RATE_DECIMALS) for rate in per_token),
            _pico(self.request_usd, REQUEST_DECIMALS),
            _pico(for_an_hour, RATE_DECIMALS),
        )
        object.__setattr__(self, "pico_rates", rates)


def _pico(rate: Decimal | None, decimals: int) -> int | None:
    return None if rate is None else int(rate.scaleb(decimals, EXACT))


FREE = Price(
    source="dataset",
    model="*:free",
    service_tier=ANY_TIER,
    input_usd_per_mtok=Decimal(0),
    cache_read_usd_per_mtok=Decimal(0),
    cache_write_usd_per_mtok=Decimal(0),
    output_usd_per_mtok=Decimal(0),
)
"""What a model costs that its router serves for nothing. It stands in no table, and has no number."""


class Subject(NamedTuple):
    """What a price is looked for: the model that ran, its provider, and every name of the channel."""

    provider: str
    model: str
    alias: str
    channel_names: tuple[str, ...] = ()


class Parts(NamedTuple):
    """What a record's cost is made of, in units of 1e-12 US dollars; their sum is the cost."""

    input: int
    cache_read: int
    cache_write: int
    output: int
    request: int


class Cost(NamedTuple):
    """What a record costs, in units of 1e-12 US dollars, and by which price; None where it has no cost."""

    cost_pico_usd: int | None
    cache_read_cost_pico_usd: int | None
    cache_write_cost_pico_usd: int | None
    price_id: int | None
    estimated: bool = False
    """Whether the price is a deliberate guess and not a vendor's or an operator's word; false where there is none."""


class Charge(NamedTuple):
    """What a record is charged, in units of 1e-12 US dollars, and by which price."""

    cost_pico_usd: int | None
    actual_cost_pico_usd: int | None
    cache_read_cost_pico_usd: int | None
    cache_write_cost_pico_usd: int | None
    price_id: int | None
    estimated: bool = False
    """Whether the price is a deliberate guess: see `price.Cost`."""


UNPRICED = Cost(None, None, None, None)
NOTHING = Cost(0, 0, 0, None)
UNCHARGED = Charge(None, None, None, None, None)


# -- which price ------------------------------------------------------------------------------------------------


def names(subject: Subject) -> Names:
    """Return the names under which a model's price is looked for, the nearest first, in lower case."""
    return model_names.names(subject.provider, subject.model, subject.alias)


def charged_tier(asked: str, answered: str) -> str:
    """Return the service tier that a record is charged by: the one that the vendor says it used, else the asked one."""
    return answered or asked


def tier_of(service_tier: str) -> str:
    """Return a record's service tier as prices name it; empty for the standard one."""
    tier = service_tier.lower()
    return "" if tier in STANDARD_TIERS else tier


def rank_prices(prices: Iterable[Price], subject: Subject, service_tier: str) -> tuple[Price, ...]:
    """Return the prices that may hold for records of this kind, the one that goes first first.

    An operator's word goes before the dataset; a price for the channel before one for the provider before one for
    all; a nearer name before a farther one and any name before a wildcard, of which the one with the most literal
    characters; a price for the service tier before one for all; the later `valid_from`; one for certain hours; the
    longer context; what was entered last.

    Of the dataset only the list goes that has the model first, under the name that it has there: what this one does
    not tell, such as a service tier, is not taken from another. Where it is a guess the price is marked `estimated`.
    """
    looked_for, lists, tier = names(subject), vendors.lists(subject.provider), tier_of(service_tier)
    own: list[tuple[Rank, Price]] = []
    listed: dict[tuple[int, int], list[Price]] = {}
    for p in prices:
        if p.source == "dataset":
            if (place := _place(p, looked_for, lists)) is not None:
                listed.setdefault(place, []).append(p)
        elif (rank := _rank(p, subject, looked_for.sure, tier)) is not None:
            own.append((rank, p))
    steps = [p for _, p in sorted(own, key=lambda pair: pair[0])]
    nearest = listed[min(listed)] if listed else _free(subject, lists)
    fitting = (p for p in nearest if tier_of(p.service_tier) in (tier, ANY_TIER))
    # The hours at which the model's maker charges less are not those of another who serves it.
    at_its_hours = (marked(p, subject) for p in fitting if p.hours_from is None or p.vendor == lists.vendor)
    return (*steps, *sorted(at_its_hours, key=_within_a_list))


Rank = tuple[float, ...]


def _place(p: Price, looked_for: Names, lists: vendors.Lists) -> tuple[int, int] | None:
    """Return which list and which name a price of the dataset has, the nearest lowest; None where it does not fit."""
    in_order, by_name = (lists.vendor, *lists.others), (*looked_for.sure, *looked_for.guessed)
    name = p.model.lower()
    if name not in by_name or p.vendor not in in_order:
        return None
    return in_order.index(p.vendor), by_name.index(name)


def _free(subject: Subject, lists: vendors.Lists) -> list[Price]:
    """Return the price of a model that is served for nothing, where its name may mean that."""
    if not model_names.is_free(subject.model, subject.alias):
        return []
    if vendors.is_router(lists.vendor):
        return [replace(FREE, vendor=lists.vendor)]
    return [replace(FREE, estimated="all")] if lists.others else []


def marked(p: Price, subject: Subject) -> Price:
    """Return a price as it holds for records of this kind: marked where that it holds for them is a guess."""
    if p.source != "dataset" or p.estimated == "all" or p.model == FREE.model:
        return p
    is_word = p.vendor == vendors.lists(subject.provider).vendor and p.model.lower() in names(subject).sure
    return p if is_word else replace(p, estimated="all")


def _within_a_list(p: Price) -> Rank:
    """Return a price's place among those of one model in one list, the lowest first."""
    return (_begun(p), p.hours_from is None, -p.above_input_tokens, -p.price_id)


def _begun(p: Price) -> float:
    return -p.valid_from.timestamp() if p.valid_from else float("inf")


def _rank(p: Price, subject: Subject, looked_for: Sequence[str], tier: str) -> Rank | None:
    """Return an operator's price's place among those that fit, the lowest first; None where it does not fit."""
    named = _nearness(p.model.lower(), looked_for)
    fits = (
        p.channel in ("", *subject.channel_names)
        and p.provider.lower() in ("", subject.provider.lower())
        and tier_of(p.service_tier) in (tier, ANY_TIER)
    )
    if named is None or not fits:
        return None
    return (not p.channel, not p.provider, *named, tier_of(p.service_tier) != tier, *_within_a_list(p))


def _nearness(pattern: str, looked_for: Sequence[str]) -> tuple[int, int] | None:
    if "*" not in pattern:
        return (0, looked_for.index(pattern)) if pattern in looked_for else None
    if any(_matcher(pattern).fullmatch(name) for name in looked_for):
        return (1, pattern.count("*") - len(pattern))
    return None


def named(pattern: str, model: str) -> bool:
    """Say whether a pattern, in which `*` stands for any characters, means this model."""
    return _matcher(pattern.lower()).fullmatch(model.lower()) is not None


@lru_cache(maxsize=4096)
def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(literal) for literal in pattern.split("*")), re.DOTALL)


def choose(steps: Sequence[Price], at: datetime, input_tokens: int) -> Price | None:
    """Return the first price of a ranking that holds at `at` for a request with so many input tokens."""
    for p in steps:
        if (
            (p.above_input_tokens == 0 or input_tokens > p.above_input_tokens)
            and (p.valid_from is None or p.valid_from <= at)
            and (p.valid_to is None or at < p.valid_to)
            and (p.hours_from is None or p.hours_to is None or _within(at, p.hours_from, p.hours_to))
        ):
            return p
    return None


def _within(at: datetime, begins: time, ends: time) -> bool:
    clock = at.astimezone(UTC).time()
    return begins <= clock < ends if begins < ends else clock >= begins or clock < ends


# -- what it costs ----------------------------------------------------------------------------------------------


def cost(
    steps: Sequence[Price], at: datetime, counts: Normalised, outcome: str, write_1h_tokens: int | None = None
) -> Cost:
    """Return what a record costs by the first price of its ranking that holds for it. The one rule for all costs.

    Args:
        steps: the prices that may hold, from `rank_prices`.
        at: when the request began.
        counts: its tokens, each in one count; reasoning is part of the output and charged once.
        outcome: `success`, `failed`, `cancelled` or `warmup`. Only a success is charged per request, and what consumed
            no token without being one costs nothing, whatever its model.
        write_1h_tokens: how many of its cache writes are kept for an hour; None where that is not told.
    """
    if outcome != "success" and not any(counts):
        return NOTHING
    if counts.unclassified:
        return UNPRICED
    price = choose(steps, at, input_tokens(counts))
    return UNPRICED if price is None else priced(price, counts, outcome, write_1h_tokens)


def input_tokens(counts: Normalised) -> int:
    """Return the length of a request's context: all of its input, from a cache or not."""
    return counts.uncached_input + counts.cache_read + counts.cache_write


def priced(price: Price, counts: Normalised, outcome: str, write_1h_tokens: int | None = None) -> Cost:
    """Return what a record costs by this price; no cost where it lacks a rate for some of the tokens."""
    found = parts(price, counts, outcome, write_1h_tokens)
    if found is None:
        return UNPRICED
    estimated = price.estimated == "all" or (
        price.estimated == "cache_write" and _writes_guessed(price, counts, write_1h_tokens)
    )
    return Cost(sum(found), found.cache_read, found.cache_write, price.price_id or None, estimated)


def _writes_guessed(price: Price, counts: Normalised, write_1h_tokens: int | None) -> bool:
    """Say whether the rate of some cache writes is a guess: for how long they are kept, or what an hour costs."""
    if write_1h_tokens is None or write_1h_tokens > counts.cache_write:
        return counts.cache_write > 0
    return write_1h_tokens > 0 and price.cache_write_1h_usd_per_mtok is None


def parts(price: Price, counts: Normalised, outcome: str, write_1h_tokens: int | None = None) -> Parts | None:
    """Return what a record's cost is made of; None where a rate is missing for tokens that are there.

    What is told of the hour is left aside where it cannot be: more than all cache writes.
    """
    uncached_input, cache_read, cache_write, output, _ = counts
    for_input, for_read, for_write, for_output, for_request, for_write_1h = price.pico_rates
    write_1h = write_1h_tokens if write_1h_tokens and write_1h_tokens <= cache_write else 0
    write_5m = cache_write - write_1h
    if (
        (for_input is None and uncached_input)
        or (for_read is None and cache_read)
        or (for_write is None and write_5m)
        or (for_write_1h is None and write_1h)
        or (for_output is None and output)
    ):
        return None
    return Parts(
        uncached_input * (for_input or 0),
        cache_read * (for_read or 0),
        write_5m * (for_write or 0) + write_1h * (for_write_1h or 0),
        output * (for_output or 0),
        (for_request or 0) if outcome == "success" else 0,
    )
