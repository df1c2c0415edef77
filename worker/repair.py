"""Rollups made anew from the records behind them, each repair one transaction."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from worker import database, rollup, store
from worker.errors import UsageError
from worker.load import run


class Rebuilt(NamedTuple):
    """What a rebuild did: the days it summed, and the sums that were different before."""

    days: list[date]
    skipped: list[date]
    """Days that were left alone, since some of their records are no longer here."""
    timezone: str
    differences: list[rollup.Difference]


def rebuild(
    engine: Engine,
    *,
    since: date | None = None,
    until: date | None = None,
    timezone: str | None = None,
    dry_run: bool = False,
) -> Rebuilt:
    """Sum the rollups of the days `[since, until)` anew from their records.

    Args:
        engine: the database.
        since: the first day; from the beginning when None.
        until: the day after the last; to the end when None.
        timezone: cut all days by this zone from now on; only for all of history at once.
        dry_run: only say what would change.

    Raises:
        UsageError: another time zone is asked for while records of some days are gone, or for a part of history.
    """
    if timezone is not None and (since or until):
        raise UsageError("--timezone cuts every day anew: leave out --since and --until")

    def work(connection: database.Connection) -> Rebuilt:
        rollup.lock(connection)
        zone = ZoneInfo(timezone or database.setting(connection, "timezone") or "UTC")
        complete_from = store.records_complete_from(connection)
        if timezone is not None and complete_from is not None:
            raise UsageError(f"records before {complete_from} are gone: their days cannot be cut by another time zone")
        days = rollup.covered_days(connection, zone, since, until)
        whole = [day for day in days if complete_from is None or day >= complete_from]
        found = list(rollup.differences(connection, zone, whole[0], until)) if whole else []
        if not dry_run:
            _replace(connection, zone, whole, everything=timezone is not None)
        return Rebuilt(whole, [day for day in days if day not in whole], zone.key, found)

    return run(engine, work)


def _replace(connection: database.Connection, zone: ZoneInfo, days: list[date], *, everything: bool) -> None:
    if everything:
        database.change_setting(connection, "timezone", zone.key)
    rollup.rebuild(connection, zone, days)
