"""The price lists that the library genai-prices ships → prices with dates. Knows the library, and no database.

A model of theirs becomes one price for each of its names, dates, service tiers, context lengths and hours. Left out
is what usage records cannot tell: rates of batches of images, sound or searches. Where a list has no rate of its own
for cached input it is charged as input, which is the library's own rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

from worker.errors import DatasetError
from worker.price import EXACT, RATE_DECIMALS, REQUEST_DECIMALS, Price, tier_of

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

PACKAGE = "genai-prices"
TIER_KEYS = ("service_tier", "speed", "processing")
"""What a variant of a price may depend on: all three are what records call a service tier."""

OTHER_OUTPUT = ("output_reasoning_mtok", "output_image_mtok", "output_audio_mtok", "output_video_mtok")
"""Rates for kinds of output that a record does not tell apart: with one of them its output has no known rate."""

ANY_DAY = date(2020, 1, 1)


class Dataset(NamedTuple):
    """All prices of one state of the lists, and what that state is called."""

    label: str
    prices: Sequence[Price]


def installed() -> str:
    """Return what the lists that are installed with this program are called."""
    return f"{PACKAGE} {version(PACKAGE)}"


def shipped() -> Dataset:
    """Return the prices that are installed with this program. Needs no network."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415  # a quarter of a second, wanted seldom

    return Dataset(installed(), list(prices_of(get_snapshot().providers)))


def downloaded(url: str, at: datetime) -> Dataset:
    """Fetch the lists as they are today, from where the library has them unless `url` names another place.

    Raises:
        DatasetError: the address does not answer, or not with price lists.
    """
    from genai_prices import UpdatePrices  # noqa: PLC0415  # as above

    try:
        snapshot = (UpdatePrices(url=url) if url else UpdatePrices()).fetch()
    except Exception as e:  # whatever HTTP and validation raise: neither is named by the library's interface
        raise DatasetError(f"no price lists from {url or PACKAGE}: {e}") from e
    if snapshot is None:
        raise DatasetError(f"no price lists from {url or PACKAGE}")
    return Dataset(f"{PACKAGE} downloaded {at:%Y-%m-%d %H:%M}Z", list(prices_of(snapshot.providers)))


def prices_of(providers: Iterable[Provider]) -> Iterator[Price]:
    """Yield the prices of all models; of two models with one name, those of the first, as the library does."""
    for provider in providers:
        taken: set[str] = set()
        for model in provider.models:
            own = [name for name in dict.fromkeys(_names(model)) if name not in taken]
            taken.update(own)
            found = list(_statements(model, provider.id))
            for name in own:
                yield from (replace(price, model=name) for price in found)


def _names(model: ModelInfo) -> Iterator[str]:
    """Yield the names of a model: its id, and what its rules spell out. What they leave open names nothing."""
    yield model.id.lower()
    yield from (name for name in _literals(model.match) if name[-1:].isalnum())


def _literals(clause: object) -> Iterator[str]:
    for attribute in ("or_", "and_"):
        for inner in getattr(clause, attribute, ()):
            yield from _literals(inner)
    for attribute in ("equals", "starts_with", "ends_with", "contains"):
        literal = getattr(clause, attribute, None)
        if literal:
            yield str(literal).lower()


def _statements(model: ModelInfo, vendor: str) -> Iterator[Price]:
    """Yield a model's prices, each for its dates, hours, service tier and context length."""
    dates = sorted({d for c in _constraints(model) if (d := getattr(c, "start_date", None)) is not None})
    begins: list[date | None] = [None, *dates]
    ends: list[date | None] = [*dates, None]
    for begin, end in zip(begins, ends, strict=True):
        day = begin or (end - timedelta(days=1) if end else ANY_DAY)
        for context in _contexts(model, day):
            for hours in _hours(model):
                rates = model.get_prices(datetime.combine(day, hours[0] if hours else time(), UTC), context)
                p = Price(
                    source="dataset",
                    model=model.id,
                    vendor=vendor,
                    service_tier=next(iter(context.values()), ""),
                    valid_from=_midnight(begin),
                    valid_to=_midnight(end),
                    hours_from=hours[0] if hours else None,
                    hours_to=hours[1] if hours else None,
                )
                yield from (found for above in _thresholds(rates) if (found := _charged(p, rates, above)) is not None)


def _constraints(model: ModelInfo) -> list[object]:
    conditional = model.prices if isinstance(model.prices, list) else []
    return [c.constraint for c in (*conditional, *(model.price_variants or ()))]


def _contexts(model: ModelInfo, day: date) -> Iterator[dict[str, str]]:
    """Yield the standard tier, and each tier for which rates of its own hold on `day`."""
    yield {}
    seen: set[str] = set()
    for variant in model.price_variants or ():
        keys = set(variant.when)
        tier = next(iter(variant.when.values()))
        started = getattr(variant.constraint, "start_date", None)
        own = len(keys) == 1 and keys <= set(TIER_KEYS) and tier_of(tier) != ""
        if own and tier not in seen and (started is None or started <= day):
            seen.add(tier)
            yield dict(variant.when)


def _hours(model: ModelInfo) -> list[tuple[time, time] | None]:
    """Return the parts of the day between which prices change; None stands for the whole of it."""
    bounds = {
        _utc(at)
        for c in _constraints(model)
        for at in (getattr(c, "start_time", None), getattr(c, "end_time", None))
        if at is not None
    }
    ordered = sorted(bounds)
    return list(zip(ordered, [*ordered[1:], *ordered[:1]], strict=True)) or [None]


def _utc(at: time) -> time:
    return datetime.combine(ANY_DAY, at).astimezone(UTC).time() if at.tzinfo else at


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), UTC)


def _thresholds(rates: ModelPrice) -> list[int]:
    """Return the context lengths above which other rates hold, from 0 on."""
    found = {0}
    for rate in _rates(rates).values():
        found |= {tier.start for tier in getattr(rate, "tiers", ())}
    return sorted(found)


def _charged(p: Price, rates: ModelPrice, above: int) -> Price | None:
    """Return `p` with the rates that hold above a context length; None where records cannot be charged by any."""
    at = {key: _rate(rate, above) for key, rate in _rates(rates).items()}
    input_rate, request = at.get("input_mtok"), at.get("requests_kcount")
    output = None if any(key in at for key in OTHER_OUTPUT) else at.get("output_mtok")
    if input_rate is None and request is None and output is None:
        return None
    return replace(
        p,
        above_input_tokens=above,
        input_usd_per_mtok=_rounded(input_rate),
        cache_read_usd_per_mtok=_rounded(at.get("cache_read_mtok", input_rate)),
        cache_write_usd_per_mtok=_rounded(at.get("cache_write_mtok", input_rate)),
        output_usd_per_mtok=_rounded(output),
        request_usd=None if request is None else _rounded(request / 1000, REQUEST_DECIMALS),
    )


def _rates(rates: ModelPrice) -> Mapping[str, Decimal | TieredPrices]:
    return {key: rate for key, rate in vars(rates).items() if rate is not None and not key.startswith("_")}


def _rate(rate: Decimal | TieredPrices, above: int) -> Decimal:
    if isinstance(rate, Decimal):
        return rate
    return next((tier.price for tier in reversed(rate.tiers) if tier.start <= above), rate.base)


def _rounded(rate: Decimal | None, decimals: int = RATE_DECIMALS) -> Decimal | None:
    """Return a rate to the decimals that prices have; more of them are noise of a float, or less than a cent a year."""
    return None if rate is None else EXACT.normalize(EXACT.quantize(rate, Decimal(1).scaleb(-decimals)))
