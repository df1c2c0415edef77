"""What records are charged by: the prices of the table that fit them, looked up once for each kind of record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from worker.db.database import Connection
from worker.pricing import price
from worker.pricing.price import Charge, Price, Subject
from worker.storage import channels
from worker.storage.price_table import SELECT_FITTING, SELECT_HELD, SELECT_SUBJECTS, listed, read_prices
from worker.storage.rows import Dimension
from worker.usage import money
from worker.usage.tokens import Normalised


class Tariff(NamedTuple):
    """What records of one dimension and one service tier are charged by."""

    steps: tuple[Price, ...]
    """The prices that may hold for them, the one that goes first first."""
    outcome: str
    rates: channels.Rates | None
    """The rate multipliers of their channel; None where it has none."""

    def charge(self, at: datetime, counts: Normalised, write_1h_tokens: int | None = None) -> Charge:
        """Return what a record is charged that began at `at`; the arguments are those of `price.cost`."""
        cost, read, write, price_id, estimated = price.cost(self.steps, at, counts, self.outcome, write_1h_tokens)
        actual = money.times(cost, self.rates.multiplier(at)) if cost and self.rates is not None else cost
        return Charge(cost, actual, read, write, price_id, estimated)


class Pricer:
    """Charges records by the prices in force: of the table, and of one worker's configuration.

    It looks prices up once for each combination of channel, provider, model and tier; what is entered later it
    does not see.
    """

    def __init__(self, *, use_dataset: bool, configured: Sequence[int]) -> None:
        """Take the dataset or leave it, and of configured prices those with these numbers."""
        self._use_dataset, self._configured = use_dataset, set(configured)
        self._fitting: dict[tuple[str, str, str], list[Price]] = {}
        self._by_id: dict[int, Price] = {}
        self._channels: dict[int, channels.Rates] = {}
        self._tariffs: dict[tuple[Dimension, str], Tariff] = {}

    def learn(self, connection: Connection, dimensions: Iterable[Dimension], held: Iterable[int] = ()) -> None:
        """Read all that charging records of these dimensions needs, and the prices with the numbers `held`."""
        dimensions = set(dimensions)
        channel_ids = {d.channel_id for d in dimensions} - self._channels.keys()
        if channel_ids:
            self._channels |= channels.rates(connection, channel_ids)
        new = {(d.provider, d.model, d.alias) for d in dimensions} - self._fitting.keys()
        if new:
            looked_for = {key: _all_names(Subject(*key)) for key in new}
            names = sorted(set[str]().union(*looked_for.values()))
            in_force = {"dataset": self._use_dataset, "configured": list(self._configured)}
            prices = read_prices(connection, SELECT_FITTING, {"names": names, **in_force})
            self._by_id |= {p.price_id: p for p in prices}
            for key, own_names in looked_for.items():
                self._fitting[key] = [p for p in prices if "*" in p.model or p.model.lower() in own_names]
        unknown = set(held) - self._by_id.keys()
        if unknown:
            self._by_id |= {p.price_id: p for p in read_prices(connection, SELECT_HELD, [list(unknown)])}

    def in_use(self, connection: Connection, at: datetime) -> list[Price]:
        """Return every price of an operator, and of the dataset those that hold from `at` on for models seen so far."""
        everything = listed(connection)
        lists = [p for p in everything if p.source == "dataset" and (p.valid_to is None or p.valid_to > at)]
        by_name: dict[str, list[Price]] = {}
        for p in lists if self._use_dataset else ():
            by_name.setdefault(p.model.lower(), []).append(p)
        wanted: set[tuple[str, str]] = set()
        for row in connection.execute(SELECT_SUBJECTS):
            subject = Subject(*row)
            fitting = [p for name in _all_names(subject) for p in by_name.get(name, ())]
            wanted |= {(p.vendor, p.model) for p in price.rank_prices(fitting, subject, "")[:1]}
        shown = {p.price_id for p in lists if (p.vendor, p.model) in wanted} | self._configured
        return [p for p in everything if p.source == "operator" or p.price_id in shown]

    def tariff(self, d: Dimension, service_tier: str) -> Tariff:
        """Return what records of a dimension and a tier are charged by; `learn` must have seen the dimension."""
        key = (d, service_tier)
        known = self._tariffs.get(key)
        if known is None:
            channel = self._channels.get(d.channel_id)
            subject = Subject(d.provider, d.model, d.alias, channel.names if channel else ())
            fitting = self._fitting[d.provider, d.model, d.alias]
            steps = price.rank_prices(fitting, subject, service_tier)
            known = self._tariffs[key] = Tariff(steps, d.outcome, channel if channel and channel.multipliers else None)
        return known

    def recharge(
        self,
        d: Dimension,
        service_tier: str,
        at: datetime,
        counts: Normalised,
        price_id: int | None,
        write_1h_tokens: int | None = None,
    ) -> Charge:
        """Return what a record is charged that turned out to be of dimension `d`; `learn` must have seen its price.

        The price it was charged by stays, unless that one or a fitting one is for a certain channel.
        """
        held = self._by_id.get(price_id) if price_id is not None else None
        length = price.input_tokens(counts)
        tariff = self.tariff(d, service_tier)
        fitting = price.choose(tariff.steps, at, length)
        frozen = held is not None and not held.channel and price.choose([held], at, length) is held
        if held is None or not frozen or (fitting is not None and fitting.channel):
            return tariff.charge(at, counts, write_1h_tokens)
        subject = Subject(d.provider, d.model, d.alias)
        return tariff._replace(steps=(price.marked(held, subject),)).charge(at, counts, write_1h_tokens)


def _all_names(subject: Subject) -> set[str]:
    looked_for = price.names(subject)
    return {*looked_for.sure, *looked_for.guessed}
