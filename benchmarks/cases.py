"""What is measured, each in a process of its own, so that its peak memory is its own. Each prints one JSON object.

Every case goes through the program's own pass: the source alone is replaced by one that has its answers ready.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import data
import msgspec
import psycopg

from worker import log
from worker.cliproxyapi import directory
from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.client import Answer
from worker.cliproxyapi.generations import V0
from worker.cliproxyapi.lockout import Refusals
from worker.config import Config, Prices
from worker.db import database
from worker.loading.load import Loader
from worker.loading.pass_result import PassResult
from worker.memory import tune_gc
from worker.sync.credentials import MissingCredentials
from worker.sync.history import load_history
from worker.sync.journal import Journal
from worker.sync.journal_load import JournalLoader
from worker.sync.pass_state import PassState
from worker.sync.queue import PassContext, QueueFetcher
from worker.sync.run import load_arriving

UPSTREAM = "bench"
READ_EVERY_S = 1.0
PIECE_BYTES = 1 << 16
"""In such pieces an answer comes over the wire."""


class Canned:
    """A source that has its answers ready."""

    count = data.ANSWER_RECORDS
    version = ""
    generation = V0

    def __init__(self, answers: Iterator[bytes], snapshot: bytearray | None = None) -> None:
        self._answers, self._snapshot = answers, snapshot
        self.preparing_s = 0.0

    def pop(self, answer: Answer) -> None:
        started = time.perf_counter()
        body = memoryview(next(self._answers, b"[]"))
        self.preparing_s += time.perf_counter() - started
        answer.begin("")
        for at in range(0, len(body), PIECE_BYTES):
            answer.write(body[at : at + PIECE_BYTES])

    @contextmanager
    def snapshot(self, _: Path) -> Generator[bytearray]:
        yield self._snapshot

    def mapping(self, endpoint: str) -> bytes | None:
        return data.mapping(endpoint)

    def listed_names(self) -> list[str]:
        return []


class Bench:
    """A worker's loader on a fresh database, and the pass that it is measured in."""

    def __init__(self, folder: Path, url: str, prices: Prices) -> None:
        log.setup("warning", "auto")
        tune_gc()  # as the command does
        self.folder, self.engine = folder, database.connect(url)
        self.loader = Loader(self.engine, UPSTREAM, pepper="", timezone="UTC", prices=prices)
        self.loader.use(directory.build(data.credentials(self.loader.target.keyring)))
        config = Config.model_validate({"upstream": [{"name": UPSTREAM, "url": "http://127.0.0.1", "key": "EXAMPLE"}]})
        self.upstream = config.upstream[0]

    def context(self, source: Canned) -> PassContext:
        journal = Journal(self.folder / "data", UPSTREAM, 1 << 40)
        refusals = Refusals(self.folder / "data", self.upstream)
        result = PassResult(upstream=UPSTREAM)
        return PassContext(self.upstream, source, journal, refusals, result, threading.Event(), lambda: None)

    def drain(self, answers: Iterator[bytes]) -> tuple[float, int]:
        """Empty a queue; return seconds without what making the answers took, and how many records were new."""
        source = Canned(answers)
        context, state = self.context(source), PassState()
        entries = JournalLoader(self.loader, context, missing=None, loaded=state.progress.set)
        loading = threading.Thread(target=load_arriving, args=(entries, state))
        started = time.perf_counter()
        loading.start()
        QueueFetcher(context, arrived=state.arrived.set, more_room=state.await_room).drain()
        state.end_first_fetch()
        loading.join()
        return time.perf_counter() - started - source.preparing_s, context.result.inserted

    def load(self, answer: bytes) -> float:
        """Load one answer by itself; return the seconds."""
        result = PassResult(upstream=UPSTREAM)
        started = time.perf_counter()
        self.loader.load(uuid.uuid4().hex, decode.decode_queue(answer), result)
        return time.perf_counter() - started

    def read(self, name: str) -> tuple[float, int, int]:
        """Read a snapshot; return seconds, how many records were new, and its size in bytes."""
        path = self.folder / name
        body = bytearray(path.stat().st_size)
        with path.open("rb") as file:
            file.readinto(body)
        context = self.context(Canned(iter(()), body))
        started = time.perf_counter()
        load_history(self.loader, MissingCredentials(self.loader), context, everything=False)
        return time.perf_counter() - started, context.result.inserted, len(body)


def prepare(folder: Path, _: str, records: int, __: float) -> dict[str, Any]:
    data.write(folder, records)
    return {}


def queue(folder: Path, url: str, _: int, __: float, prices: Prices | None = None) -> dict[str, Any]:
    bench = Bench(folder, url, prices or Prices())
    before = peak_bytes()
    seconds, inserted = bench.drain(data.answers(folder))
    return {"seconds": seconds, "records": inserted, "peak_bytes": peak_bytes(), "idle_bytes": before}


def unpriced(folder: Path, url: str, records: int, sustain_s: float) -> dict[str, Any]:
    """The queue once more, without any price: what charging costs is the difference."""
    return queue(folder, url, records, sustain_s, Prices(dataset=False))


def snapshot(folder: Path, url: str, _: int, __: float) -> dict[str, Any]:
    """A snapshot, then the same with a thousandth more; beside each the time to scan its JSON once."""
    bench = Bench(folder, url, Prices())
    seconds, inserted, size = bench.read("snapshot.json")
    peak = peak_bytes()
    later_s, added, _ = bench.read("later.json")
    return {
        "seconds": seconds, "records": inserted, "peak_bytes": peak, "body_bytes": size,
        "later_seconds": later_s, "added": added, "scan_seconds": _scan_s(folder / "later.json"),
    }  # fmt: skip


class _Model(msgspec.Struct):
    details: list[msgspec.Raw] = []


class _Api(msgspec.Struct):
    models: dict[str, _Model]


class _Usage(msgspec.Struct):
    apis: dict[str, _Api]


class _Snapshot(msgspec.Struct):
    usage: _Usage


def _scan_s(path: Path) -> float:
    body, taken = path.read_bytes(), []
    for _ in range(3):
        started = time.perf_counter()
        msgspec.json.decode(body, type=_Snapshot)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def sustained(folder: Path, url: str, _: int, sustain_s: float) -> dict[str, Any]:
    """Answers without end for a while, each replay some days later, dashboards being read all the time."""
    bench = Bench(folder, url, Prices())
    until = time.monotonic() + sustain_s

    def endless() -> Iterator[bytes]:
        for replay in range(10_000):
            for answer in data.answers(folder):
                if time.monotonic() > until:
                    return
                yield data.shifted(answer, replay * data.DAYS) if replay else answer

    started = time.perf_counter()
    seconds, inserted = bench.drain(endless())
    entries, _ = Journal(folder / "data", UPSTREAM, 1 << 40).backlog()
    wall_s = time.perf_counter() - started
    return {"seconds": seconds, "wall_seconds": wall_s, "records": inserted, "behind": entries,
            "peak_bytes": peak_bytes()}  # fmt: skip


def batches(folder: Path, url: str, _: int, sustain_s: float) -> dict[str, Any]:
    """Load answer after answer, then the same ones again, then some 30 days late; return the seconds of each.

    With `sustain_s`, load new ones for so long instead.
    """
    bench = Bench(folder, url, Prices())
    until = time.monotonic() + sustain_s
    found: dict[str, list[float]] = {"new": [], "again": [], "late": []}
    for replay in range(10_000 if sustain_s else 1):
        for answer in data.answers(folder):
            found["new"].append(bench.load(data.shifted(answer, replay * data.DAYS) if replay else answer))
            if sustain_s and time.monotonic() > until:
                return {"batches": found}
    for answer in data.answers(folder):
        found["again"].append(bench.load(answer))
        found["late"].append(bench.load(data.shifted(answer, -30)))
    return {"batches": found}


READS = {
    "by channel and model, 30 days": """
        SELECT channel, model, sum(requests), sum(total_tokens), sum(cost_usd) FROM usage_api.v1_daily_channels
        WHERE day > %(newest)s::date - 30 GROUP BY 1, 2""",
    "by day and channel, 30 days": """
        SELECT day, channel, sum(requests), sum(total_tokens), sum(cost_usd) FROM usage_api.v1_daily_channels
        WHERE day > %(newest)s::date - 30 GROUP BY 1, 2""",
    "totals, 30 days": """
        SELECT sum(requests), sum(total_tokens), sum(cost_usd) FROM usage_api.v1_daily_keys
        WHERE day > %(newest)s::date - 30""",
    "by hour, 24 hours": """
        SELECT hour, sum(requests), sum(cost_usd) FROM usage_api.v1_hourly_keys
        WHERE hour > %(newest)s::timestamptz - interval '24 hours' GROUP BY 1""",
    "the newest 50": "SELECT * FROM usage_api.v1_records ORDER BY occurred_at DESC, record_id LIMIT 50",
}
SELECT_NEWEST = "SELECT max(newest_record_at) FROM usage_api.v1_freshness"


def reads(_: Path, url: str, __: int, sustain_s: float) -> dict[str, Any]:
    """Read a dashboard every second; return the seconds that each read took."""
    found: dict[str, list[float]] = {name: [] for name in READS}
    until = time.monotonic() + sustain_s
    with database.connect(url).connect() as pooled:
        connection: psycopg.Connection[Any] = pooled.connection.driver_connection
        while time.monotonic() < until:
            begun = time.monotonic()
            newest = connection.execute(SELECT_NEWEST).fetchone()[0]
            for name, query in READS.items():
                started = time.perf_counter()
                connection.execute(query, {"newest": newest}).fetchall()
                found[name].append(time.perf_counter() - started)
            connection.commit()
            time.sleep(max(0.0, READ_EVERY_S - (time.monotonic() - begun)))
    return {"reads": found}


def peak_bytes() -> int:
    """Return this process's peak memory. Not ru_maxrss: that one survives exec."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


CASES = {"prepare": prepare, "queue": queue, "unpriced": unpriced, "snapshot": snapshot, "sustained": sustained,
         "batches": batches, "reads": reads}  # fmt: skip

if __name__ == "__main__":
    case, where, database_url, count, seconds_long = sys.argv[1:]
    print(json.dumps(CASES[case](Path(where), database_url, int(count), float(seconds_long))))
