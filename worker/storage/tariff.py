"""The price table, and the pricer that charges records by it. Every statement on prices stands here.

Prices are ended or withdrawn, never changed: a record names the one it was charged by. No transaction begins or ends
here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from hashlib import sha256
from typing import Any, LiteralString, NamedTuple
from zoneinfo import ZoneInfo

from worker.config import OwnPrice
from worker.db import database
from worker.db.database import Connection
from worker.pricing import dataset, price, price_lists
from worker.pricing.price import Price, Subject
from worker.storage import roster
from worker.storage.register import Dimension, one
from worker.usage.tokens import Normalised

VALUES: LiteralString = (
    "source, model, vendor, provider, channel, service_tier, above_input_tokens, valid_from, valid_to, hours_from, "
    "hours_to, input_usd_per_mtok, cache_read_usd_per_mtok, cache_write_usd_per_mtok, output_usd_per_mtok, "
    "request_usd, estimated, cache_write_1h_usd_per_mtok"
)
"""The columns of the table that a Price has, but for its number."""

COLUMNS = ("price_id", *VALUES.split(", "))

DATASET_LABEL = "prices"
"""The setting that tells which state of the dataset is in the table."""

READING = "prices_reading"
"""The setting that tells how the lists were read that are in the table: `dataset.READING` of whoever read them."""

LOCK_PRICES = "SELECT pg_advisory_xact_lock(hashtextextended('usage.price', 0))"


# -- entering ---------------------------------------------------------------------------------------------------

COPY_PRICES = f"COPY usage.price ({VALUES}, origin, entered_at, fingerprint) FROM STDIN"


def _copy(connection: Connection, prices: Iterable[Price], origin: str, at: datetime) -> None:
    with connection.cursor() as cursor, cursor.copy(COPY_PRICES) as copy:
        for p in prices:
            copy.write_row((*_columns(p)[1:], origin, at, None))


def _columns(p: Price) -> tuple[Any, ...]:
    return tuple(getattr(p, name) for name in COLUMNS)


INSERT_PRICE = f"""
INSERT INTO usage.price ({VALUES}, entered_at, fingerprint)
VALUES ({"%s, " * len(COLUMNS)}%s)
ON CONFLICT (fingerprint) DO NOTHING
RETURNING price_id
"""  # noqa: S608  # a literal
SELECT_FINGERPRINTS = "SELECT fingerprint, price_id FROM usage.price WHERE fingerprint = ANY(%s)"


def add(connection: Connection, own: OwnPrice, zone: ZoneInfo, at: datetime) -> Price:
    """Enter an operator's price; return it with its number."""
    p = _own(own, "operator", zone)
    number = one(connection.execute(INSERT_PRICE, [*_columns(p)[1:], at, None]).fetchone())
    return replace(p, price_id=number)


def enter_configured(connection: Connection, own: Sequence[OwnPrice], zone: ZoneInfo, at: datetime) -> list[int]:
    """Return the numbers of a configuration's prices; enter those that were never there.

    What a configuration no longer lists stays in the table: another worker's may list it still, and each goes by
    its own.
    """
    if not own:
        return []
    prices = [_own(one_, "config", zone) for one_ in own]
    by_fingerprint = {_fingerprint(p): p for p in prices}
    known = {fingerprint for fingerprint, _ in connection.execute(SELECT_FINGERPRINTS, [list(by_fingerprint)])}
    for fingerprint, p in by_fingerprint.items():
        if fingerprint not in known:
            connection.execute(INSERT_PRICE, [*_columns(p)[1:], at, fingerprint])
    rows = connection.execute(SELECT_FINGERPRINTS, [list(by_fingerprint)]).fetchall()
    return [number for _, number in rows]


def _own(own: OwnPrice, source: price.Source, zone: ZoneInfo) -> Price:
    begins, ends = own.span_of_hours() or (None, None)
    return Price(
        source=source,
        **own.model_dump(exclude={"hours", "valid_from", "valid_to"}),
        valid_from=_midnight(own.valid_from, zone),
        valid_to=_midnight(own.valid_to, zone),
        hours_from=begins,
        hours_to=ends,
    )


def _midnight(day: date | None, zone: ZoneInfo) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), zone)


def _fingerprint(p: Price) -> str:
    """Return what tells a configured price from others; a rate that is new here is in it only where there is one."""
    last = COLUMNS.index("estimated")  # nobody estimates their own
    told = [v.normalize() if isinstance(v, Decimal) else v for v in _columns(p)[1:last]]
    if p.cache_write_1h_usd_per_mtok is not None:
        told.append(p.cache_write_1h_usd_per_mtok.normalize())
    return sha256(repr([v.timestamp() if isinstance(v, datetime) else v for v in told]).encode()).hexdigest()


DROP_PRICE = """
UPDATE usage.price SET dropped_at = %s WHERE price_id = %s AND source = 'operator' AND dropped_at IS NULL
"""


def drop(connection: Connection, price_id: int, at: datetime) -> bool:
    """Withdraw an operator's price; return whether there was one. Records keep what they were charged by it."""
    return connection.execute(DROP_PRICE, [at, price_id]).rowcount == 1


# -- looking ----------------------------------------------------------------------------------------------------

SELECT_ALL = f"""
SELECT price_id, {VALUES}
FROM usage.price
WHERE dropped_at IS NULL
ORDER BY source DESC, vendor, model, provider, channel, service_tier, valid_from NULLS FIRST, above_input_tokens,
         hours_from, price_id
"""  # noqa: S608  # a literal
SELECT_SUBJECTS = "SELECT DISTINCT provider, model, alias FROM usage.dimension ORDER BY 2, 1, 3"


def listed(connection: Connection) -> list[Price]:
    """Return every price that is not withdrawn."""
    return _prices(connection, SELECT_ALL, None)


def seen(connection: Connection, p: Price) -> list[str]:
    """Return the models seen so far that a price fits."""
    subjects = (Subject(*row)._replace(channel_names=(p.channel,)) for row in connection.execute(SELECT_SUBJECTS))
    return sorted({subject.model for subject in subjects if price.ladder([p], subject, p.service_tier)})


# -- the dataset ------------------------------------------------------------------------------------------------


class Synced(NamedTuple):
    """What a sync with the dataset did, counted in models of a vendor's list."""

    dataset: str
    added: int
    changed: int
    unchanged: int
    rows: int
    """Prices entered."""


SELECT_DATASET = f"""
SELECT price_id, {VALUES}
FROM usage.price
WHERE source = 'dataset' AND dropped_at IS NULL
"""  # noqa: S608  # a literal
END_PRICES = """
UPDATE usage.price AS p SET valid_to = ends.at
FROM unnest(%(ids)s::int[], %(ats)s::timestamptz[]) AS ends (price_id, at)
WHERE p.price_id = ends.price_id
"""
DROP_PRICES = "UPDATE usage.price SET dropped_at = %(at)s WHERE price_id = ANY(%(ids)s)"


def sync(connection: Connection, lists: dataset.Dataset, at: datetime, *, newer_only: bool = False) -> Synced:
    """Bring the dataset's prices up to these lists; records keep what they were charged.

    A model or a service tier that is new comes with all the dates its list tells. Of one that is there already, what
    differs holds from the date that the list tells, or from `at` on where it tells none. A model that a list no longer
    has keeps its price. An operator's prices are not looked at.

    `newer_only` leaves the prices of newer lists as they are; only what an earlier version of this program read
    otherwise out of its lists is corrected.
    """
    connection.execute(LOCK_PRICES)
    listed = price_lists.by_model(lists.prices)
    if database.setting(connection, READING) != dataset.READING:
        _read_anew(connection, listed, at)
        database.change_setting(connection, READING, dataset.READING)
    label = database.setting(connection, DATASET_LABEL)
    if newer_only and label is not None and _version(label) > _version(lists.label):
        return Synced(label, 0, 0, len(listed), 0)
    stored = price_lists.by_model(_prices(connection, SELECT_DATASET, None))
    changed = {
        model: changes
        for model, prices in listed.items()
        if any(changes := price_lists.changes(stored.get(model, []), prices, at))
    }
    _write(connection, changed.values(), lists.label, at)
    database.change_setting(connection, DATASET_LABEL, lists.label)
    added = len(listed.keys() - stored.keys())
    rows = sum(len(c.entered) for c in changed.values())
    return Synced(lists.label, added, len(changed) - added, len(listed) - len(changed), rows)


def _write(connection: Connection, changes: Collection[price_lists.Changes], label: str, at: datetime) -> None:
    ended = [pair for c in changes for pair in c.ended]
    connection.execute(END_PRICES, {"ids": [number for number, _ in ended], "ats": [end for _, end in ended]})
    connection.execute(DROP_PRICES, {"ids": [number for c in changes for number in c.dropped], "at": at})
    _copy(connection, [p for c in changes for p in c.entered], label, at)


def _read_anew(connection: Connection, listed: Mapping[price_lists.Model, list[Price]], at: datetime) -> None:
    """Put in place of what an earlier version read out of its lists what this one reads there."""
    stored = _prices(connection, SELECT_DATASET, None)
    pairs = [(p, price_lists.read_anew(p, listed.get((p.vendor, p.model), []))) for p in stored]
    wrong = [(p, right) for p, right in pairs if p != right]
    connection.execute(DROP_PRICES, {"ids": [p.price_id for p, _ in wrong], "at": at})
    _copy(connection, [right for _, right in wrong], database.setting(connection, DATASET_LABEL) or "", at)


def _prices(connection: Connection, query: LiteralString, arguments: Any) -> list[Price]:
    return [Price(**dict(zip(COLUMNS, row, strict=True))) for row in connection.execute(query, arguments)]


def behind(connection: Connection) -> bool:
    """Say whether the lists installed with this program are newer than what is in the table, or read otherwise.

    Lists that were downloaded are never followed by installed ones unasked.
    """
    stored = database.setting(connection, DATASET_LABEL)
    read_otherwise = database.setting(connection, READING) != dataset.READING
    return stored is None or read_otherwise or _version(stored) < _version(dataset.installed())


def _version(label: str) -> tuple[float, ...]:
    numbers = label.removeprefix(dataset.PACKAGE).strip().split(".")
    return tuple(int(n) for n in numbers) if all(n.isdigit() for n in numbers) else (float("inf"),)


# -- charging ---------------------------------------------------------------------------------------------------


class Tariff(NamedTuple):
    """What records of one dimension and one service tier are charged by."""

    steps: tuple[Price, ...]
    """The prices that may hold for them, the one that goes first first."""
    outcome: str
    rates: roster.Rates | None
    """The rate multipliers of their channel; None where it has none."""

    def charge(self, at: datetime, counts: Normalised, write_1h_tokens: int | None = None) -> Charge:
        """Return what a record is charged that began at `at`; the arguments are those of `price.cost`."""
        cost, read, write, price_id, estimated = price.cost(self.steps, at, counts, self.outcome, write_1h_tokens)
        actual = price.times(cost, self.rates.multiplier(at)) if cost and self.rates is not None else cost
        return Charge(cost, actual, read, write, price_id, estimated)


class Charge(NamedTuple):
    """What a record is charged, in units of 1e-12 US dollars, and by which price."""

    cost_pico_usd: int | None
    actual_cost_pico_usd: int | None
    cache_read_cost_pico_usd: int | None
    cache_write_cost_pico_usd: int | None
    price_id: int | None
    estimated: bool = False
    """Whether the price is a deliberate guess: see `price.Cost`."""


SELECT_FITTING = f"""
SELECT price_id, {VALUES}
FROM usage.price
WHERE dropped_at IS NULL AND (lower(model) = ANY(%(names)s) OR position('*' IN model) > 0)
  AND (source = 'operator' OR (source = 'dataset' AND %(dataset)s) OR price_id = ANY(%(configured)s))
"""  # noqa: S608  # a literal
SELECT_HELD = f"""
SELECT price_id, {VALUES}
FROM usage.price
WHERE price_id = ANY(%s)
"""  # noqa: S608  # a literal


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
        self._channels: dict[int, roster.Rates] = {}
        self._tariffs: dict[tuple[Dimension, str], Tariff] = {}

    def learn(self, connection: Connection, dimensions: Iterable[Dimension], held: Iterable[int] = ()) -> None:
        """Read all that charging records of these dimensions needs, and the prices with the numbers `held`."""
        dimensions = set(dimensions)
        channel_ids = {d.channel_id for d in dimensions} - self._channels.keys()
        if channel_ids:
            self._channels |= roster.rates(connection, channel_ids)
        new = {(d.provider, d.model, d.alias) for d in dimensions} - self._fitting.keys()
        if new:
            looked_for = {key: _all_names(Subject(*key)) for key in new}
            names = sorted(set[str]().union(*looked_for.values()))
            in_force = {"dataset": self._use_dataset, "configured": list(self._configured)}
            prices = _prices(connection, SELECT_FITTING, {"names": names, **in_force})
            self._by_id |= {p.price_id: p for p in prices}
            for key, own_names in looked_for.items():
                self._fitting[key] = [p for p in prices if "*" in p.model or p.model.lower() in own_names]
        unknown = set(held) - self._by_id.keys()
        if unknown:
            self._by_id |= {p.price_id: p for p in _prices(connection, SELECT_HELD, [list(unknown)])}

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
            wanted |= {(p.vendor, p.model) for p in price.ladder(fitting, subject, "")[:1]}
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
            steps = price.ladder(fitting, subject, service_tier)
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
