"""The price lists that the library genai-prices ships → prices with dates. Knows the library, and no database.

A model of theirs becomes one price for each of its names, dates, service tiers, context lengths and hours. Left out
is what usage records cannot tell: rates of images, sound or searches. A rate that a list lacks is not known: cached
input is not charged as input, other than by the library's own rule.

What of it is a guess is marked: cache writes where a list has another rate for those that are kept for an hour, input
and output where it has another for images, the rates of a service tier on the days before the list first told of it,
and what a model costs that is charged by the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

from worker.errors import DatasetError
from worker.pricing.price import RATE_DECIMALS, REQUEST_DECIMALS, Estimated, Price, tier_of
from worker.usage.money import EXACT

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

PACKAGE = "genai-prices"
READING = "3"
"""What `prices_of` makes of one and the same list; another when it makes something else of it than before."""
TIER_KEYS = ("service_tier", "speed", "processing")
"""What a variant of a price may depend on: all three are what records call a service tier."""

OTHER_OUTPUT = ("output_reasoning_mtok", "output_audio_mtok", "output_video_mtok")
"""Rates for kinds of output that a record does not tell apart: with one of them its output has no known rate.

What a model of images puts out is taken for images."""

PER_IMAGE_USD = {
    ("google", "imagen-3.0-fast-generate-001"): Decimal("0.02"),
    ("google", "imagen-3.0-generate-002"): Decimal("0.04"),
    ("google", "imagen-4.0-fast-generate-001"): Decimal("0.02"),
    ("google", "imagen-4.0-generate-001"): Decimal("0.04"),
    ("google", "imagen-4.0-ultra-generate-001"): Decimal("0.06"),
    ("x-ai", "grok-imagine-image"): Decimal("0.02"),
    ("x-ai", "grok-imagine-image-2.0"): Decimal("0.04"),
    ("x-ai", "grok-imagine-image-quality"): Decimal("0.05"),
}
"""What vendors charge for one image at their plainest setting; the lists have prices of tokens only.

A request is taken for one image: neither their number nor their size is in a record."""

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

    return Dataset(installed(), [*prices_of(get_snapshot().providers), *of_images()])


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
    return Dataset(f"{PACKAGE} downloaded {at:%Y-%m-%d %H:%M}Z", [*prices_of(snapshot.providers), *of_images()])


def of_images() -> Iterator[Price]:
    """Yield the prices of models that are charged by the image. Their tokens cost nothing."""
    for (vendor, model), request_usd in PER_IMAGE_USD.items():
        yield Price(
            source="dataset",
            model=model,
            vendor=vendor,
            input_usd_per_mtok=Decimal(0),
            cache_read_usd_per_mtok=Decimal(0),
            cache_write_usd_per_mtok=Decimal(0),
            output_usd_per_mtok=Decimal(0),
            request_usd=request_usd,
            estimated="all",
        )


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
        for context, told_on in _contexts(model, day):
            for hours in _hours(model):
                at = datetime.combine(told_on, hours[0] if hours else time(), UTC)
                rates = model.get_prices(at, context)
                p = Price(
                    source="dataset",
                    model=model.id,
                    vendor=vendor,
                    service_tier=next(iter(context.values()), ""),
                    valid_from=_midnight(begin),
                    valid_to=_midnight(end),
                    hours_from=hours[0] if hours else None,
                    hours_to=hours[1] if hours else None,
                    estimated="" if told_on == day else "all",
                )
                yield from (found for above in _thresholds(rates) if (found := _charged(p, rates, above)) is not None)


def _constraints(model: ModelInfo) -> list[object]:
    return [*_standard_constraints(model), *(c.constraint for c in model.price_variants or ())]


def _standard_constraints(model: ModelInfo) -> list[object]:
    return [c.constraint for c in model.prices] if isinstance(model.prices, list) else []


def _contexts(model: ModelInfo, day: date) -> Iterator[tuple[dict[str, str], date]]:
    """Yield the standard tier and each other one that has rates on `day`; with the day of the list that tells them.

    The lists tell of most tiers from the day on which somebody looked at the vendor's page, not from the day on which
    the vendor began to offer them. Before that the first rates told hold, back to the day on which the standard ones
    changed last: those of a tier change with them.
    """
    yield {}, day
    first_told: dict[str, tuple[date, dict[str, str]]] = {}
    for variant in model.price_variants or ():
        keys = set(variant.when)
        tier = next(iter(variant.when.values()))
        if len(keys) != 1 or not keys <= set(TIER_KEYS) or tier_of(tier) == "":
            continue
        told = (getattr(variant.constraint, "start_date", None) or ANY_DAY, dict(variant.when))
        first_told[tier] = min(told, first_told.get(tier, told), key=lambda pair: pair[0])
    changes = [getattr(c, "start_date", None) or ANY_DAY for c in _standard_constraints(model)]
    for first, when in first_told.values():
        if first <= day:
            yield when, day
        elif not any(day < change <= first for change in changes):
            yield when, first


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
    of_images = "input_image_mtok" in at or "output_image_mtok" in at
    guessed: Estimated = "all" if of_images else "cache_write" if "cache_write_1h_mtok" in at else ""
    output = None if any(key in at for key in OTHER_OUTPUT) else at.get("output_image_mtok", at.get("output_mtok"))
    if input_rate is None and request is None and output is None:
        return None
    return replace(
        p,
        above_input_tokens=above,
        input_usd_per_mtok=_rounded(input_rate),
        cache_read_usd_per_mtok=_rounded(at.get("cache_read_mtok")),
        cache_write_usd_per_mtok=_rounded(at.get("cache_write_mtok")),
        output_usd_per_mtok=_rounded(output),
        request_usd=None if request is None else _rounded(request / 1000, REQUEST_DECIMALS),
        estimated=p.estimated or guessed,
        cache_write_1h_usd_per_mtok=_rounded(at.get("cache_write_1h_mtok")),
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
