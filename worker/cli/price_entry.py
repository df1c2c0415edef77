"""A price of one's own: what is entered, and how prices are told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from sqlalchemy.engine import Engine

from worker.cli.options import OPTIONS, RATE_OPTIONS, RATES
from worker.config import Config, OwnPrice
from worker.db import database
from worker.db.settings import setting
from worker.errors import UsageError
from worker.pricing.price import Price, named
from worker.storage import channels, price_table


def zone(engine: Engine, settings: Config) -> ZoneInfo:
    """Return the zone of the days: the database's, else the one its first pass will decide."""
    with database.transaction(engine) as connection:
        return ZoneInfo(setting(connection, "timezone") or settings.rollup.timezone)


def own_price(**given: Any) -> OwnPrice:
    """Return a price of the values that options gave.

    Raises:
        UsageError: a value does not hold, or there is no rate.
    """
    try:
        own = OwnPrice(**given)
    except ValidationError as e:
        problem = e.errors(include_url=False, include_context=False)[0]
        name = OPTIONS.get(str(problem["loc"][0]), str(problem["loc"][0])) if problem["loc"] else "price"
        raise UsageError(f"{name}: {problem['msg'].removeprefix('Value error, ')}") from None
    if all(getattr(own, name) is None for name in RATES):
        raise UsageError(f"a price needs at least one of {', '.join(RATE_OPTIONS.values())}")
    return own


def channel_of(connection: database.Connection, which: str) -> str:
    """Return the name of the channel that a price is for; empty for all."""
    if not which:
        return ""
    found = channels.listed(connection, which=which)
    names = {c.configured_name for c in found}
    if len(names) != 1:
        raise UsageError(f"{'no' if not found else 'more than one'} channel is {which!r}: see `worker channels list`")
    return names.pop()


def advice(p: Price, fitting: Sequence[str]) -> list[str]:
    """Return what an operator should know of a price that was just entered."""
    shown = ", ".join(fitting[:5]) + (f" and {len(fitting) - 5} more" if len(fitting) > 5 else "")  # noqa: PLR2004
    lines = [f"it fits {shown}" if fitting else "it fits no model seen so far"]
    missing = [OPTIONS[name] for name in RATES[:4] if getattr(p, name) is None]
    if missing:
        lines.append(f"without {', '.join(missing)}: requests with such tokens have no cost")
    if fitting:
        lines.append("requests that are here already keep their cost until `worker reprice`")
    return lines


def means(pattern: str, p: Price) -> bool:
    """Return whether a price is for what `pattern` names."""
    return pattern.lower() == p.model.lower() or named(pattern, p.model)


def rates_of(p: Price) -> dict[str, str]:
    """Return the rates that a price has, in US dollars as text."""
    return {name: format(rate.normalize(), "f") for name in RATES if (rate := getattr(p, name)) is not None}


def told(p: Price) -> dict[str, Any]:
    """Return a price as a row for programs."""
    return {name: getattr(p, name) for name in price_table.COLUMNS}


def shown(p: Price) -> dict[str, Any]:
    """Return a price as a row for people."""
    return {
        "price": str(p.price_id),
        "model": p.model,
        "from": p.vendor or p.source,
        "provider": p.provider,
        "channel": p.channel,
        "tier": p.service_tier,
        "above": p.above_input_tokens or None,
        "since": _day(p.valid_from),
        "until": _day(p.valid_to),
        "hours": f"{p.hours_from:%H:%M}-{p.hours_to:%H:%M}" if p.hours_from and p.hours_to else "",
        **{name: _plain(getattr(p, name)) for name in RATES},
    }


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""


def _plain(rate: Decimal | None) -> str:
    return "" if rate is None else format(rate.normalize(), "f")
