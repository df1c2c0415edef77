"""The prices that a worker charges by: those of its configuration, and of the dataset, entered where they are new."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.engine import Engine

from worker.clock import now
from worker.config import Prices
from worker.db import database
from worker.db.retry import run_transaction
from worker.pricing import dataset
from worker.storage import price_table, pricer

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def open_pricer(engine: Engine, prices: Prices, zone: ZoneInfo) -> pricer.Pricer:
    """Return a pricer for the prices in force; enter the configured ones, and the dataset where it is newer."""

    def configured(connection: database.Connection) -> tuple[list[int], bool]:
        numbers = price_table.enter_configured(connection, prices.own, zone, now())
        return numbers, prices.dataset and price_table.behind(connection)

    numbers, behind = run_transaction(engine, configured)
    if behind:
        synced = sync_prices(engine, dataset.shipped(), newer_only=True)
        log.info("prices.synced", **synced._asdict())
    return pricer.Pricer(use_dataset=prices.dataset, configured=numbers)


def sync_prices(engine: Engine, lists: dataset.Dataset, *, newer_only: bool = False) -> price_table.Synced:
    """Bring the dataset's prices up to these lists, unless those in the table are newer and `newer_only` is said."""
    return run_transaction(engine, lambda connection: price_table.sync(connection, lists, now(), newer_only=newer_only))
