"""CLIProxyAPIHome → records: what its database has more than was loaded, found by counting, read page by page.

Home forgets nothing and can be asked again, so nothing of it goes through the journal. It sorts by the time at which a
request began and tells of it when it ended, so that new records come before old ones: a cursor alone would lose them.
So how many there are is compared, by periods of ten minutes, with how many were loaded of each; where that differs,
the period is read again, and what is known changes nothing. The counts are kept once their records are committed:
killed in between, a pass reads a period twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.generations import HOME_RECORDS
from worker.cliproxyapi.payload import HomePage, HomeRecord
from worker.db import database
from worker.db.retry import run_transaction
from worker.errors import UpstreamAnswerError
from worker.loading.load import Loader
from worker.sync.credentials import MissingCredentials
from worker.sync.queue import PassContext

PAGE_RECORDS = 200
"""More is not to be had at once."""

PERIOD = timedelta(minutes=10)
BATCH_RECORDS = 2000
LATE = timedelta(hours=3)
"""Requests that took longer than this are found when everything is compared, which is not on every pass."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SELECT_NEWEST = """
SELECT max(begins_at) FILTER (WHERE begins_at <= clock_timestamp()), min(begins_at)
FROM usage.home_period
WHERE upstream_id = %s
"""
"""A record from the future, by a broken clock, hides nothing that comes before it."""

SELECT_LOADED = """
SELECT coalesce(sum(records), 0)::bigint FROM usage.home_period
WHERE upstream_id = %(upstream)s AND begins_at >= %(begin)s AND begins_at < coalesce(%(end)s, 'infinity'::timestamptz)
"""
KEEP_COUNT = """
INSERT INTO usage.home_period (upstream_id, begins_at, records) VALUES (%s, %s, %s)
ON CONFLICT (upstream_id, begins_at) DO UPDATE SET records = excluded.records
"""


class HomeReader:
    """One pass over one Home."""

    def __init__(self, loader: Loader, missing: MissingCredentials, context: PassContext) -> None:
        """Prepare; nothing is asked yet."""
        self._loader, self._missing = loader, missing
        self._context = context

    def load(self, *, everything: bool) -> None:
        """Load what Home has more than last time, or as much as there is time for.

        Args:
            everything: compare the whole of its history, not only the latest hours.

        Raises:
            NotFoundError: this is no Home.
            UpstreamError: it does not answer as it should.
            DatabaseError: what was loaded before stays.
        """
        newest, oldest = self._periods()
        first = self._first() if everything or newest is None else None
        if newest is None:
            if first is not None:
                self._compare(first, None)
            return
        self._compare(newest, None)
        begin = min(filter(None, (first, oldest)), default=newest) if everything else newest - LATE
        self._compare(begin, newest)

    def _compare(self, begin: datetime, end: datetime | None) -> None:
        """Read what differs between two times in its smallest periods; without an end, all of it."""
        if self._context.stopping.is_set() or begin == end or self._count(begin, end) == self._loaded(begin, end):
            return
        if end is None or end - begin <= PERIOD:
            self._read(begin, end)
            return
        middle = begin + (end - begin) // 2 // PERIOD * PERIOD
        middle = max(middle, begin + PERIOD)
        for part in pairwise((begin, middle, end)):
            self._compare(*part)

    # Reading.

    def _read(self, begin: datetime, end: datetime | None) -> None:
        """Load everything between two times, and keep how much it was of each period that was read to its end."""
        counts: dict[datetime, int] = {begin: 0}
        told: list[HomeRecord] = []
        period: datetime = begin
        seen: set[int] = set()
        for page in self._pages(begin, end):
            for record in page.records:
                if (of_record := _period(record.occurred_at_ns)) != period:
                    period, seen = of_record, set()
                if record.usage_id not in seen:
                    seen.add(record.usage_id)
                    told.append(record)
                counts[period] = len(seen)
            if len(told) >= BATCH_RECORDS:
                self._keep(told, {at: records for at, records in counts.items() if at != period})
                told, counts = [], {period: len(seen)}
            self._context.heartbeat()
            if self._context.stopping.is_set():
                counts.pop(period, None)
                break
        self._keep(told, counts)

    def _pages(self, begin: datetime, end: datetime | None) -> Iterator[HomePage]:
        """Yield pages, each from where the one before ended: what comes or goes meanwhile shifts nothing."""
        at, offset = begin.isoformat(), 0
        while True:
            page = self._asked(at, end, offset=offset)
            times = [record.occurred_at_ns for record in page.records]
            if any(later < earlier for earlier, later in pairwise(times)):
                raise UpstreamAnswerError("the records are not in the order of their times", endpoint=HOME_RECORDS)
            yield page
            if len(page.records) < page.limit:
                return
            last = page.records[-1].timestamp
            at, offset = (last, 0) if last != at else (at, offset + len(page.records))

    def _keep(self, told: Iterable[HomeRecord], counts: dict[datetime, int]) -> None:
        """Store records, then how many there are of their periods."""
        outcomes = [record.outcome for record in told]
        decoded = decode.Decoded(
            records=[one for one in outcomes if isinstance(one, decode.Record)],
            bad=[one for one in outcomes if isinstance(one, decode.BadRecord)],
        )
        if outcomes:
            self._missing.ask_for(self._context.source, decoded.records)
            self._loader.load(uuid.uuid4().hex, decoded, self._context.result)
        rows = [(self._loader.target.upstream_id, at, records) for at, records in counts.items()]
        run_transaction(self._loader.target.engine, lambda connection: _keep_counts(connection, rows))

    # Questions.

    def _first(self) -> datetime | None:
        """Return the period of the oldest record; None where there is none."""
        page = self._asked(limit=1)
        return _period(page.records[0].occurred_at_ns) if page.records else None

    def _count(self, begin: datetime, end: datetime | None) -> int:
        return self._asked(begin.isoformat(), end, limit=1).total

    def _asked(
        self, begin: str | None = None, end: datetime | None = None, *, offset: int = 0, limit: int = PAGE_RECORDS
    ) -> HomePage:
        window = {"from": begin, "to": end.isoformat() if end else None}
        params = {name: at for name, at in window.items() if at is not None}
        body = self._context.source.home_records(
            {"sort": "timestamp_asc", "limit": str(limit), "offset": str(offset), **params}
        )
        try:
            return decode.decode_home(body)
        except decode.BadValueError as e:
            raise UpstreamAnswerError(str(e), endpoint=HOME_RECORDS, status=200) from e

    def _periods(self) -> tuple[datetime | None, datetime | None]:
        upstream = [self._loader.target.upstream_id]
        return run_transaction(self._loader.target.engine, lambda c: c.execute(SELECT_NEWEST, upstream).fetchone()) or (
            None,
            None,
        )

    def _loaded(self, begin: datetime, end: datetime | None) -> int:
        asked = {"upstream": self._loader.target.upstream_id, "begin": begin, "end": end}
        ((records,),) = run_transaction(
            self._loader.target.engine, lambda c: c.execute(SELECT_LOADED, asked).fetchall()
        )
        return int(records)


def _keep_counts(connection: database.Connection, rows: Iterable[tuple[int, datetime, int]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(KEEP_COUNT, list(rows))


def _period(at_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_ns // 1000) // PERIOD * PERIOD
