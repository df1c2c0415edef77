"""Which price holds for a record, and what the record costs by it (pure).

A price names a model and may narrow itself to a channel, a provider, a service tier, a context length, a time and
hours of the day. Of several that fit, `ladder` says which goes first. Costs are exact: rates have at most six
decimals and costs twelve, so that no sum of them is ever rounded.

No price, or tokens that a price does not cover: no cost. Nothing is taken for zero that is not known to be zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Literal, NamedTuple

from worker.tokens import Normalised

Source = Literal["operator", "config", "dataset"]

RATE_DECIMALS = 6
REQUEST_DECIMALS = 12
PICO = Decimal("1e-12")
"""A cost's last decimal, in US dollars: one token at a rate of six decimals per million."""

WHOLE = Decimal(1)

EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN)
"""Arithmetic on money that rounds nowhere by itself."""

STANDARD_TIERS = ("", "auto", "default", "standard", "standard_only")
NOT_A_MODEL = ("", "unknown")

# Where a provider id of the proxy has its prices: the list of that vendor in the dataset.
VENDORS = {
    "claude": "anthropic",
    "codex": "openai",
    "openai": "openai",
    "gemini": "google",
    "gemini-cli": "google",
    "gemini-interactions": "google",
    "interactions": "google",
    "aistudio": "google",
    "vertex": "google",
    "antigravity": "google",
    "kimi": "moonshotai",
    "xai": "x-ai",
    "grok": "x-ai",
}
COMPATIBLE = re.compile(r"openai-compatible-(.+)")

# Vendors that price the models they make: where the provider has no list, its model's maker has one.
MAKERS = ("anthropic", "openai", "google", "x-ai", "moonshotai", "deepseek", "zai", "zhipuai", "minimax", "mistral",
          "meta", "cohere", "perplexity")  # fmt: skip

THINKING = re.compile(r"\([^()]*\)$|-thinking(?:-\d+)?$")
# 2025-09-29, 20250929, 09-2025, 06-05, 0905 (a month and a day), 2507 (a year and a month), 002, latest.
DATED = re.compile(
    r"[-@](?:20\d\d-?(?:0[1-9]|1[0-2])-?[0-3]\d|(?:0[1-9]|1[0-2])-(?:20\d\d|[0-3]\d)|(?:0[1-9]|1[0-2])[0-3]\d"
    r"|2[3-9](?:0[1-9]|1[0-2])|00\d|latest|default)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One price. Rates are US dollars per million tokens; None where none is known.

    An empty `provider`, `channel` or `service_tier` fits all. It holds for requests whose input is longer than
    `above_input_tokens`, that began in `[valid_from, valid_to)` and, in UTC, in `[hours_from, hours_to)`.
    `vendor` is whose list in the dataset it comes from, empty for an operator's.
    """

    price_id: int = 0
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
    pico_rates: tuple[int | None, ...] = field(init=False, repr=False, compare=False)
    """The five rates as whole numbers of 1e-12 US dollars: for a token of each kind, and for the request."""

    def __post_init__(self) -> None:
        per_token = (self.input_usd_per_mtok, self.cache_read_usd_per_mtok, self.cache_write_usd_per_mtok,
                     self.output_usd_per_mtok)  # fmt: skip
        rates = (*(_pico(rate, RATE_DECIMALS) for rate in per_token), _pico(self.request_usd, REQUEST_DECIMALS))
        object.__setattr__(self, "pico_rates", rates)


def _pico(rate: Decimal | None, decimals: int) -> int | None:
    return None if rate is None else int(rate.scaleb(decimals, EXACT))


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


UNPRICED = Cost(None, None, None, None)
NOTHING = Cost(0, 0, 0, None)


# -- which price ------------------------------------------------------------------------------------------------


def names(subject: Subject) -> tuple[str, ...]:
    """Return the names under which a model's price is looked for, the nearest first, in lower case.

    As it is; without the proxy's prefix (`team-a/`) and thinking suffix (`(high)`); each of these without its date.
    The name that the client asked for stands in where the model that ran is not known.
    """
    model = subject.model if subject.model.lower() not in NOT_A_MODEL else subject.alias
    name = model.lower().strip()
    if name in NOT_A_MODEL:
        return ()
    bare = [name, *_without_prefix(name)]
    bare += [shorter for one in bare if (shorter := THINKING.sub("", one)) != one]
    dated = [shorter for one in bare if (shorter := DATED.sub("", one)) != one]
    return tuple(dict.fromkeys(one for one in (*bare, *dated) if one))


def _without_prefix(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.partition("/")[2]
        yield name


def vendors(provider: str) -> tuple[str, ...]:
    """Return whose lists of the dataset hold for a provider id of the proxy: its own, then the makers'."""
    provider = provider.lower()
    compatible = COMPATIBLE.fullmatch(provider)
    own = VENDORS.get(provider) or (compatible[1] if compatible else provider)
    return tuple(dict.fromkeys((own, *MAKERS) if own else MAKERS))


def charged_tier(asked: str, answered: str) -> str:
    """Return the service tier that a record is charged by: the one that the vendor says it used, else the asked one."""
    return answered or asked


def tier_of(service_tier: str) -> str:
    """Return a record's service tier as prices name it; empty for the standard one."""
    tier = service_tier.lower()
    return "" if tier in STANDARD_TIERS else tier


def ladder(prices: Iterable[Price], subject: Subject, service_tier: str) -> tuple[Price, ...]:
    """Return the prices that may hold for records of this kind, the one that goes first first.

    An operator's word goes before the dataset; a price for the channel before one for the provider before one for
    all; the provider's own list before the maker's; a nearer name before a farther one and any name before a
    wildcard, of which the one with the most literal characters; a price for the service tier before the standard
    one; the later `valid_from`; one for certain hours; the longer context; what was entered last.
    """
    looked_for, lists, tier = names(subject), vendors(subject.provider), tier_of(service_tier)
    ranked = [(rank, p) for p in prices if (rank := _rank(p, subject, looked_for, lists, tier)) is not None]
    return tuple(p for _, p in sorted(ranked, key=lambda pair: pair[0]))


Rank = tuple[float, ...]


def _rank(p: Price, subject: Subject, looked_for: Sequence[str], lists: Sequence[str], tier: str) -> Rank | None:
    """Return a price's place among those that fit, the lowest first; None where it does not fit."""
    named = _nearness(p.model.lower(), looked_for)
    fits = (
        named is not None
        and p.channel in ("", *subject.channel_names)
        and p.provider.lower() in ("", subject.provider.lower())
        and tier_of(p.service_tier) in ("", tier)
        and (p.source != "dataset" or p.vendor in lists)
    )
    if named is None or not fits:
        return None
    vendor = lists.index(p.vendor) if p.source == "dataset" else 0
    began = p.valid_from.timestamp() if p.valid_from else float("-inf")
    return (
        p.source == "dataset", not p.channel, not p.provider, vendor, *named, tier_of(p.service_tier) != tier,
        -began, p.hours_from is None, -p.above_input_tokens, -p.price_id,
    )  # fmt: skip


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
    """Return the first price of a ladder that holds at `at` for a request with so many input tokens."""
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


def cost(steps: Sequence[Price], at: datetime, counts: Normalised, outcome: str) -> Cost:
    """Return what a record costs by the price of its ladder that holds for it. The one rule for all costs.

    Args:
        steps: the prices that may hold, from `ladder`.
        at: when the request began.
        counts: its tokens, each in one count; reasoning is part of the output and charged once.
        outcome: `success`, `failed`, `cancelled` or `warmup`. Only a success is charged per request, and what consumed
            no token without being one costs nothing, whatever its model.
    """
    if outcome != "success" and not any(counts):
        return NOTHING
    if counts.unclassified:
        return UNPRICED
    price = choose(steps, at, input_tokens(counts))
    return UNPRICED if price is None else priced(price, counts, outcome)


def input_tokens(counts: Normalised) -> int:
    """Return the length of a request's context: all of its input, from a cache or not."""
    return counts.uncached_input + counts.cache_read + counts.cache_write


def priced(price: Price, counts: Normalised, outcome: str) -> Cost:
    """Return what a record costs by this price; no cost where it lacks a rate for some of the tokens."""
    found = parts(price, counts, outcome)
    if found is None:
        return UNPRICED
    return Cost(sum(found), found.cache_read, found.cache_write, price.price_id)


def parts(price: Price, counts: Normalised, outcome: str) -> Parts | None:
    """Return what a record's cost is made of; None where a rate is missing for tokens that are there."""
    uncached_input, cache_read, cache_write, output, _ = counts
    for_input, for_read, for_write, for_output, for_request = price.pico_rates
    if (
        (for_input is None and uncached_input)
        or (for_read is None and cache_read)
        or (for_write is None and cache_write)
        or (for_output is None and output)
    ):
        return None
    return Parts(
        uncached_input * (for_input or 0),
        cache_read * (for_read or 0),
        cache_write * (for_write or 0),
        output * (for_output or 0),
        (for_request or 0) if outcome == "success" else 0,
    )


def usd(pico: int) -> Decimal:
    """Return units of 1e-12 US dollars as US dollars."""
    return EXACT.multiply(Decimal(pico), PICO)


def pico(cost_usd: Decimal) -> int:
    """Return US dollars as units of 1e-12, of which they are a whole number."""
    return int(cost_usd.scaleb(12, EXACT))


def times(cost_pico_usd: int, rate_multiplier: Decimal) -> int:
    """Return what a cost comes to over a channel with this rate multiplier, to twelve decimals."""
    return int(EXACT.quantize(EXACT.multiply(Decimal(cost_pico_usd), rate_multiplier), WHOLE))
