"""What a state of the dataset changes of the prices that are in the table (pure).

Prices hold from the day on which the vendor changed them, where the list tells it, and from the moment of the sync
where it does not. What the table says of a time before that stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from worker.pricing.price import Estimated, Price

Model = tuple[str, str]
"""A vendor, and a model of its list."""

ALWAYS = datetime.min.replace(tzinfo=UTC)


class Changes(NamedTuple):
    """What is to be done with the prices of one model."""

    ended: list[tuple[int, datetime]]
    """Numbers of prices that end, and when."""
    dropped: list[int]
    """Numbers of prices that have no time left."""
    entered: list[Price]


def by_model(prices: Iterable[Price]) -> dict[Model, list[Price]]:
    """Return prices of the dataset by whose they are."""
    found: dict[Model, list[Price]] = {}
    for p in prices:
        found.setdefault((p.vendor, p.model), []).append(p)
    return found


def changes(stored: Sequence[Price], listed: Sequence[Price], at: datetime) -> Changes:
    """Return what to do so that what is stored of a model says what the list says, at the time `at`.

    Each service tier is looked at by itself: one that is new comes with all the dates that its list tells, and one
    that the list gives up keeps its prices.
    """
    result = Changes([], [], [])
    tiers = _by_tier(stored)
    for tier, told in _by_tier(listed).items():
        before = tiers.get(tier, [])
        begun = min((p.valid_from or ALWAYS for p in before), default=None)
        if begun is None:
            result.entered.extend(told)
            continue
        result.entered.extend(_between(told, ALWAYS, begun))
        cut = _differ_from(before, told, begun, at)
        if cut is None:
            continue
        for p in before:
            if p.valid_from is not None and p.valid_from >= cut:
                result.dropped.append(p.price_id)
            elif p.valid_to is None or p.valid_to > cut:
                result.ended.append((p.price_id, cut))
        result.entered.extend(_between(told, cut, None))
    return result


def _differ_from(before: Sequence[Price], told: Sequence[Price], begun: datetime, at: datetime) -> datetime | None:
    """Return from when on the list says something else than the table; None where it does not.

    What has been is judged at the days that the list tells, and is not looked at before the table's first word.
    """
    dates = {p.valid_from for p in told if p.valid_from is not None and begun < p.valid_from <= at}
    to_come = {d for p in (*before, *told) for d in (p.valid_from, p.valid_to) if d is not None and d > at}
    return next((d for d in sorted({*dates, at, *to_come}) if _says(before, d) != _says(told, d)), None)


def _says(prices: Iterable[Price], at: datetime) -> set[Any]:
    """Return what prices say of one moment."""
    return {
        replace(p, price_id=0, valid_from=None, valid_to=None)
        for p in prices
        if (p.valid_from or ALWAYS) <= at and (p.valid_to is None or at < p.valid_to)
    }


def _between(prices: Iterable[Price], begin: datetime, end: datetime | None) -> Iterable[Price]:
    """Yield what of these prices holds in `[begin, end)`."""
    for p in prices:
        begins = max(p.valid_from or ALWAYS, begin)
        ends = min((d for d in (p.valid_to, end) if d is not None), default=None)
        if ends is None or begins < ends:
            yield replace(p, valid_from=None if begins == ALWAYS else begins, valid_to=ends)


def _by_tier(prices: Iterable[Price]) -> Mapping[str, list[Price]]:
    found: dict[str, list[Price]] = {}
    for p in prices:
        found.setdefault(p.service_tier, []).append(p)
    return found


def read_anew(p: Price, listed: Sequence[Price]) -> Price:
    """Return a stored price as this version reads lists, by what the list says of its model today.

    Earlier ones took the rate of input for that of the cache where a list had none, marked no estimates, and left
    out what an hour of a cache costs.
    """
    alike = [
        other
        for other in listed
        if (other.service_tier, other.above_input_tokens, other.hours_from, other.hours_to)
        == (p.service_tier, p.above_input_tokens, p.hours_from, p.hours_to)
    ]
    if not alike:
        return p
    no_read = p.cache_read_usd_per_mtok == p.input_usd_per_mtok and not any(a.cache_read_usd_per_mtok for a in alike)
    no_write = p.cache_write_usd_per_mtok == p.input_usd_per_mtok and not any(a.cache_write_usd_per_mtok for a in alike)
    marks: list[Estimated] = [a.estimated for a in alike]
    return replace(
        p,
        cache_read_usd_per_mtok=None if no_read else p.cache_read_usd_per_mtok,
        cache_write_usd_per_mtok=None if no_write else p.cache_write_usd_per_mtok,
        estimated=next((mark for mark in marks if mark != "all"), "all"),
        cache_write_1h_usd_per_mtok=next(
            (a.cache_write_1h_usd_per_mtok for a in alike if a.cache_write_usd_per_mtok == p.cache_write_usd_per_mtok),
            p.cache_write_1h_usd_per_mtok,
        ),
    )
