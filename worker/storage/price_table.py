"""The price table: every statement on prices. They are ended or withdrawn, never changed.

A record names the price that it was charged by. No transaction begins or ends here.
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
from worker.db import settings
from worker.db.database import Connection, one
from worker.pricing import dataset, price, price_lists
from worker.pricing.price import Price, Subject

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
    return read_prices(connection, SELECT_ALL, None)


def seen(connection: Connection, p: Price) -> list[str]:
    """Return the models seen so far that a price fits."""
    subjects = (Subject(*row)._replace(channel_names=(p.channel,)) for row in connection.execute(SELECT_SUBJECTS))
    return sorted({subject.model for subject in subjects if price.rank_prices([p], subject, p.service_tier)})


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
    if settings.setting(connection, READING) != dataset.READING:
        _read_anew(connection, listed, at)
        settings.change_setting(connection, READING, dataset.READING)
    label = settings.setting(connection, DATASET_LABEL)
    if newer_only and label is not None and _version(label) > _version(lists.label):
        return Synced(label, 0, 0, len(listed), 0)
    stored = price_lists.by_model(read_prices(connection, SELECT_DATASET, None))
    changed = {
        model: changes
        for model, prices in listed.items()
        if any(changes := price_lists.changes(stored.get(model, []), prices, at))
    }
    _write(connection, changed.values(), lists.label, at)
    settings.change_setting(connection, DATASET_LABEL, lists.label)
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
    stored = read_prices(connection, SELECT_DATASET, None)
    pairs = [(p, price_lists.read_anew(p, listed.get((p.vendor, p.model), []))) for p in stored]
    wrong = [(p, right) for p, right in pairs if p != right]
    connection.execute(DROP_PRICES, {"ids": [p.price_id for p, _ in wrong], "at": at})
    _copy(connection, [right for _, right in wrong], settings.setting(connection, DATASET_LABEL) or "", at)


def read_prices(connection: Connection, query: LiteralString, arguments: Any) -> list[Price]:
    """Return the prices that a query answers, whose columns are COLUMNS."""
    return [Price(**dict(zip(COLUMNS, row, strict=True))) for row in connection.execute(query, arguments)]


def behind(connection: Connection) -> bool:
    """Say whether the lists installed with this program are newer than what is in the table, or read otherwise.

    Lists that were downloaded are never followed by installed ones unasked.
    """
    stored = settings.setting(connection, DATASET_LABEL)
    read_otherwise = settings.setting(connection, READING) != dataset.READING
    return stored is None or read_otherwise or _version(stored) < _version(dataset.installed())


def _version(label: str) -> tuple[float, ...]:
    numbers = label.removeprefix(dataset.PACKAGE).strip().split(".")
    return tuple(int(n) for n in numbers) if all(n.isdigit() for n in numbers) else (float("inf"),)


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
