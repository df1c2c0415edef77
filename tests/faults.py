"""Runs in which something goes wrong, each chosen by its seed; then the books against the proxy's ledger.

    python tests/faults.py --runs 1000 --seed 1          # seeds 1 to 1000
    python tests/faults.py --seed 417 --verbose          # one of them again

The command runs as a process of its own, PostgreSQL as a server of its own, and the proxy remembers what exactly left
it. A run is a few commands, each with a fault; then everything is healed, and the worker runs until there is nothing
left to do. Whatever is then missing, doubled, from nowhere, or summed otherwise than the ledger is a failure.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import injected
import psycopg
from ledger import Planned, Proxy, delivered
from psycopg import sql
from pydantic import SecretStr
from support import KEY, RENDERINGS, SEED, SELECT_CONNECTED, Books, Running, calls, differing, expected
from wire import wire

from worker.cliproxyapi.client import ProxyClient
from worker.config import Upstream
from worker.db.copy import StagingTable
from worker.db.embedded import THROWAWAY, EmbeddedPostgres
from worker.db.lock import Lock, consumer
from worker.db.migrations import migrate
from worker.rollups.statements import DELTAS
from worker.rollups.tables import HOURLY
from worker.simulator.traffic import Traffic, Usage, queue_item
from worker.storage.records import RECORD_COLUMNS
from worker.sync.journal import ENTRY, UNREAD, Journal
from worker.sync.queue import RECORD_ROOM_BYTES

SETTINGS = {**THROWAWAY, "deadlock_timeout": "10ms", "synchronous_commit": "on"}
"""Of a killed server the kernel keeps what it has written; so that it has written what it said is committed."""

TEMPLATE = "faults_template"
PATIENCE_S = 60.0
TIMEOUT_S = 3
"""More than an answer takes on a busy machine: what comes later is counted as lost, and the proxy says it arrived."""
SELECT_TIMES = """
SELECT (extract(epoch FROM occurred_at) * 1000000)::bigint, outcome = 'failed' FROM usage_api.v1_records
"""
FAILING = """
CREATE SEQUENCE IF NOT EXISTS public.failed;
CREATE OR REPLACE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF nextval('public.failed') BETWEEN {first} AND {last} THEN
        RAISE EXCEPTION 'put there by the fault suite' USING ERRCODE = '{code}';
    END IF;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER fail AFTER INSERT OR UPDATE ON usage.{table}
FOR EACH STATEMENT EXECUTE FUNCTION public.fail();
"""
HEALED = """
DROP TRIGGER IF EXISTS fail ON usage.hourly; DROP TRIGGER IF EXISTS fail ON usage.daily;
DROP TRIGGER IF EXISTS fail ON usage.batch; DROP FUNCTION IF EXISTS public.fail; DROP SEQUENCE IF EXISTS public.failed;
"""
CODES = {
    "serialization failure": "40001", "deadlock": "40P01", "lock timeout": "55P03", "disk full": "53100",
    "out of memory": "53200", "statement cancelled": "57014", "server shutting down": "57P01",
}  # fmt: skip
STAGED_BEFORE = ("record_stage_4", "hourly_delta_2", "daily_delta_2")
"""What staging tables were called before their names came from their columns."""

DEAD = "postgresql://nobody@127.0.0.1:1/nothing"
MAINTAIN = {"WORKER__RETENTION__RECORDS_DAYS": "31"}
BODIES = {
    "HTML with 200": Planned(name="html", html=True),
    "garbage with 200": Planned(name="garbage", garbage=True),
    "redirect": Planned(name="redirect", status=302, headers={"Location": "http://127.0.0.2:9/elsewhere"}),
    "500": Planned(name="500", status=500),
    "503": Planned(name="503", status=503, headers={"Retry-After": "0"}),
    "429": Planned(name="429", status=429),
    "502": Planned(name="502", status=502),
    "dropped": Planned(name="dropped", drop=True),
    "dropped late": Planned(name="dropped late", drop=True, after_pop=True),
    "slow": Planned(name="slow", delay_s=0.3),
    "too slow": Planned(name="too slow", delay_s=TIMEOUT_S + 1.0),
}
POISON: tuple[object, ...] = (
    17, None, "text", {"timestamp": "yesterday", "model": "gpt-5.4"}, {"model": "gpt-5.4"}, [[[[]]]],
    {"timestamp": "2026-08-21T00:00:00Z", "tokens": {"input_tokens": -5}},
    {"timestamp": "2026-08-21T00:00:00Z", "tokens": "many", "model": "\u0000"},
)  # fmt: skip


class FaultError(AssertionError):
    """What a run must not show."""


class Command(NamedTuple):
    """A command of the worker, and what of its environment is its own."""

    arguments: tuple[str, ...]
    environment: dict[str, str] = {}  # noqa: RUF012  # never changed

    @property
    def name(self) -> str:
        return " ".join(self.arguments)


SYNC = Command(("sync", "--once"))
OTHERS = (
    Command(("resolve", "--all")),
    Command(("rebuild",)),
    Command(("reprice",)),
    Command(("maintain",)),
    Command(("quarantine", "retry")),
    Command(("verify",)),
    Command(("run",), {"WORKER_HTTP_PORT": "0", "WORKER__SCHEDULE__INTERVAL_S": "1"}),
)


@dataclass
class Tally:
    """What happened in some runs."""

    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    records: int = 0
    perhaps: int = 0
    perhaps_there: int = 0
    lost: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.faults += other.faults
        self.ends += other.ends
        self.failures += other.failures
        for name in ("runs", "records", "perhaps", "perhaps_there", "lost"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Run:
    """One run: a database, a data folder, a proxy, and a seed that chooses all else."""

    def __init__(self, seed: int, server: EmbeddedPostgres, tally: Tally, *, verbose: bool = False) -> None:
        self.rng = Random(seed)
        self.seed, self.server, self.tally, self.verbose = seed, server, tally, verbose
        self.generation = self.rng.choice(["queue"] * 7 + ["queue-6.10.8", "snapshot", "both"])
        self.calls = told_apart(calls(self.rng.randrange(100, 1200)))
        self.pushed = 0
        self.input_usd = Decimal(2)
        self.poison = 0
        self.story: list[str] = []

    # -- the story ------------------------------------------------------------------------------------------------

    def go(self) -> None:
        with ExitStack() as stack:
            self.database = stack.enter_context(fresh(self.server, migrated=self.rng.random() < 0.85))
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="worker-faults-")))
            self.state = self.folder / "window"
            self.state.write_bytes(b"\0")
            self.books = stack.enter_context(Books(self.server.url(self.database), self.folder))
            self.proxy = Proxy(generation=self.generation, key=KEY, traffic=Traffic(SEED), retention_s=3600)
            stack.enter_context(self.proxy)
            for _ in range(self.rng.randint(1, 4)):
                self._push()
                self._step()
            self._push(everything=True)
            self._heal()
            self._judge()
        self.tally.runs += 1

    def say(self, text: str) -> None:
        self.story.append(text)
        if self.verbose:
            print(f"  {text}", flush=True)

    def _push(self, *, everything: bool = False) -> None:
        n = len(self.calls) - self.pushed if everything else self.rng.randrange(0, 500)
        self.proxy.push(self.calls[self.pushed : self.pushed + n])
        self.pushed = min(self.pushed + n, len(self.calls))
        if self.proxy.offer.queue and self.rng.random() < 0.2:
            self.proxy.push_raw([self.rng.choice(POISON)])
            self.poison += 1

    def _step(self) -> None:
        command = SYNC if self.rng.random() < 0.65 or not self._migrated() else self.rng.choice(OTHERS)
        if command.name == "reprice":
            self.input_usd = Decimal(self.rng.randint(1, 9))
        if command is not SYNC and not self.books.records():
            self._run(SYNC, {}, {}, None)
        name, fault = self.rng.choice(list(FAULTS.items()))
        self.say(f"{command.name}: {name}")
        with fault(self) as more:
            plan, environment, during = more
            finished = self._run(command, plan, environment, during)
        self.tally.faults[name] += 1
        self.tally.ends[str(finished.code)] += 1
        self.say(f"→ {finished.code}, journal {len(self.books.journal())}")

    def _migrated(self) -> bool:
        return bool(self.books.ask("SELECT to_regclass('usage_api.v1_daily')")[0][0])

    def _run(
        self, command: Command, plan: dict[str, Any], environment: dict[str, str], during: Callable[[], None] | None
    ) -> Any:
        faults = {"state": str(self.state), **plan}
        with self._started(command, faults, environment) as process:
            if during is not None:
                patience = time.monotonic() + (3 if command.name == "run" else PATIENCE_S)
                while not (stopped(process.pid) or ended(process.pid)) and time.monotonic() < patience:
                    time.sleep(0.002)  # a service that has nothing to load never comes by the point
                if stopped(process.pid):
                    during()
                    os.kill(process.pid, signal.SIGCONT)
            if command.name == "run":
                until = time.monotonic() + self.rng.uniform(1.0, 2.5)
                while not ended(process.pid) and time.monotonic() < until:
                    time.sleep(0.01)
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)
            wait_until(lambda: over(process.pid), "it ends")
            finished = process.wait()
        self._note_end(finished)
        return finished

    @contextmanager
    def _started(self, command: Command, faults: dict[str, Any], environment: dict[str, str]) -> Iterator[Running]:
        more = {
            "WORKER__UPSTREAM__0__TIMEOUT_S": str(TIMEOUT_S),
            "WORKER__UPSTREAM__0__QUEUE_COUNT": str(self.rng.choice((20, 100, 500))),
            "WORKER__PRICES__OWN__0__INPUT_USD_PER_MTOK": str(self.input_usd),
            **command.environment,
            **environment,
        }
        with self.books.starting(self.proxy, *command.arguments, faults=faults, **more) as process:
            yield process

    def _note_end(self, finished: Any) -> None:
        """Take note of how it ended: what was in hand when it was killed may be lost, and nothing else."""
        self.proxy.settle()
        if finished.code in (-signal.SIGKILL, -signal.SIGXFSZ):
            self.poison += 1  # the record within which a payload that was being written ends
            if self.state.read_bytes() == b"\1" and self.proxy.pulls:
                self.proxy.pulls[-1].killed_after_s = 0.0
        elif finished.code == -signal.SIGTERM:
            self.say("ended before it minds signals")
        elif finished.code not in (0, 1, 4, 5, 6, 7, 75):
            raise FaultError(f"exit {finished.code}: {finished.stderr[-2000:]}")
        elif "Traceback" in finished.stderr:
            raise FaultError(f"a traceback: {finished.stderr[-3000:]}")
        self.state.write_bytes(b"\0")

    # -- the end --------------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.proxy.heal()
        self.proxy.clear_overrides()
        wait_until(lambda: not self.books.ask(SELECT_CONNECTED) or self._cut(), "the killed worker's connections end")
        for _ in range(4):
            finished = self.books.worker(
                self.proxy, "sync", "--once", WORKER__PRICES__OWN__0__INPUT_USD_PER_MTOK=str(self.input_usd)
            )
            waiting = [path for path in self.books.journal() if path.suffix == ENTRY]
            if finished.code in (0, 6) and not waiting and not self.proxy.queued:
                break
        else:
            raise FaultError(f"it does not come to an end: {finished.code}, {finished.stderr[-2000:]}")
        for command in (("resolve", "--all"), ("reprice",), ("verify",)):
            finished = self.books.worker(
                self.proxy, *command, WORKER__PRICES__OWN__0__INPUT_USD_PER_MTOK=str(self.input_usd)
            )
            if finished.code:
                raise FaultError(f"{command}: exit {finished.code}, {finished.stderr[-2000:]}")

    def _cut(self) -> bool:
        self.books.engine.dispose()
        return not self.books.ask(SELECT_CONNECTED)

    def _judge(self) -> None:
        stored = Counter(self.books.ask(SELECT_TIMES))
        if self.proxy.offer.queue:
            found = delivered(self.proxy.pulls)
            surely, perhaps = found.surely, found.perhaps
        else:
            surely, perhaps = self.calls[: self.pushed], []
        wanted = Counter(map(began, surely))
        surplus = stored - wanted
        there: list[Usage] = []
        for usage in perhaps:
            if surplus[began(usage)] > 0:
                surplus[began(usage)] -= 1
                there.append(usage)
        missing = wanted - stored
        if missing:
            raise FaultError(f"{missing.total()} records missing, such as {next(iter(missing))}")
        if +surplus:
            raise FaultError(f"{(+surplus).total()} records doubled or from nowhere, such as {next(iter(+surplus))}")
        rendering = RENDERINGS[self.generation]
        sums = expected([*surely, *there], "UTC", rendering, self.books.keyring(), self.input_usd)
        wrong = differing(self.books.daily(), sums)
        if wrong:
            raise FaultError(f"sums differ: {wrong}")
        self.books.balance()
        self._require_counted(stored)
        if damaged := list((self.folder / "journal").rglob("*.damaged")):
            raise FaultError(f"damaged journal files are left: {damaged}")
        unread = [path for path in self.books.journal() if path.suffix == UNREAD]
        if unread and not self.proxy.spoiled:
            raise FaultError(f"answers of a sound proxy cannot be read: {unread}")
        ((aside,),) = self.books.ask("SELECT count(*) FROM usage.quarantine WHERE reason NOT LIKE %s", ["%whole%"])
        broken = sum(1 for p in self.proxy.pulls if p.reached is not None) + self.proxy.spoiled.total()
        if aside > self.poison + broken:
            raise FaultError(f"{aside} records in quarantine, {self.poison} bad ones were handed out")
        self.tally.records += stored.total()
        self.tally.perhaps += len(perhaps)
        self.tally.perhaps_there += len(there)

    def _require_counted(self, stored: Counter[tuple[int, bool]]) -> None:
        """Require that each answer of which something is in no book has been counted."""
        items = [[began(item) for item in pull.pop.items if isinstance(item, Usage)] for pull in self.proxy.pulls]
        lost = sum(1 for times in items if not stored.keys() >= set(times))
        ((counted,),) = self.books.ask("SELECT coalesce(sum(possible_loss), 0) FROM usage.sync_run")
        self.tally.lost += lost
        if lost > counted:
            raise FaultError(f"of {lost} answers something is lost, and {counted} have been counted")


# -- the faults ---------------------------------------------------------------------------------------------------

Fault = tuple[dict[str, Any], dict[str, str], Callable[[], None] | None]


def nth(rng: Random, point: str) -> int:
    """Return which time a point is meant: some are come by a thousand times."""
    often = {"mid-COPY": 600, "statement": 60, "before commit": 12, "after commit": 12}.get(point, 4)
    return rng.randint(1, often)


@contextmanager
def killed_at_a_point(run: Run) -> Iterator[Fault]:
    point = injected.chosen(run.rng)
    run.say(point)
    run.tally.faults[f"kill -9: {point}"] += 1
    yield {"point": point, "after": nth(run.rng, point), "kill": True}, {}, None


@contextmanager
def killed_anywhere(run: Run) -> Iterator[Fault]:
    yield {"calls": int(10 ** run.rng.uniform(1.5, 4.6))}, {}, None


@contextmanager
def killed_writing(run: Run) -> Iterator[Fault]:
    with _short_files(run, kill=True) as plan:
        yield plan, {}, None


@contextmanager
def _short_files(run: Run, *, kill: bool) -> Iterator[dict[str, Any]]:
    """No file grows beyond some size: there is no room for an answer, or none for the rest of one.

    That rest has left the proxy and is nowhere: it must be counted.
    """
    expected = {"room_bytes": 4096} if run.rng.random() < 0.7 else {}
    before = len(run.proxy.pulls)
    yield {"file_bytes": int(10 ** run.rng.uniform(4.2, 5.5)), "kill": kill, **expected}
    for pull in run.proxy.pulls[before:] if expected else ():
        pull.killed_after_s = 0.0
        run.poison += 1  # the record within which it ends


@contextmanager
def disk_full(run: Run) -> Iterator[Fault]:
    with _short_files(run, kill=False) as plan:
        yield plan, {}, None


@contextmanager
def disk_read_only(run: Run) -> Iterator[Fault]:
    yield {"read_only_after": run.rng.choice((0, 0, 1, 2, 5))}, {}, None


@contextmanager
def journal_full(run: Run) -> Iterator[Fault]:
    yield {}, {"WORKER_DATABASE_URL": DEAD, "WORKER__JOURNAL__MAX_BYTES": str(1 << 20)}, None


@contextmanager
def database_away(run: Run) -> Iterator[Fault]:
    yield {}, {"WORKER_DATABASE_URL": DEAD}, None


def _stop(run: Run, *points: str) -> dict[str, Any]:
    point = run.rng.choice(points)
    return {"point": point, "after": nth(run.rng, point), "kill": False}


@contextmanager
def connections_cut(run: Run) -> Iterator[Fault]:
    def cut() -> None:
        for (pid,) in run.books.ask(SELECT_CONNECTED):
            run.books.ask("SELECT pg_terminate_backend(%s)", [pid])

    yield _stop(run, "mid-COPY", "before commit", "statement", "payload kept", "after commit"), {}, cut


def crash(server: EmbeddedPostgres) -> None:
    """Kill a server and all its processes."""
    postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
    for pid in (postmaster, *server.processes()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def postgres_crashed(run: Run) -> Iterator[Fault]:
    def crash_and_start() -> None:
        crash(run.server)
        run.books.__exit__()
        run.server.start()
        run.books.__init__(run.server.url(run.database), run.folder)  # type: ignore[misc]

    yield _stop(run, "mid-COPY", "before commit", "statement", "payload kept"), {}, crash_and_start


@contextmanager
def errors_of_the_database(run: Run) -> Iterator[Fault]:
    if not run._migrated():
        yield {}, {}, None
        return
    name = run.rng.choice(tuple(CODES))
    first = run.rng.randint(1, 4)
    table = run.rng.choice(("hourly", "daily", "batch"))
    failing = FAILING.format(first=first, last=first + run.rng.choice((0, 1, 2, 100)), code=CODES[name], table=table)
    run.tally.faults[f"SQLSTATE: {name}"] += 1
    run.say(name)
    run.books.ask(failing)
    yield {}, {}, None
    run.books.ask(HEALED)


@contextmanager
def database_read_only(run: Run) -> Iterator[Fault]:
    """As a managed database whose disk is full, or a standby."""
    run.books.ask(f"ALTER DATABASE {run.database} SET default_transaction_read_only = on")
    yield {}, {}, None
    run.books.ask(f"ALTER DATABASE {run.database} RESET default_transaction_read_only")


@contextmanager
def locked_out(run: Run) -> Iterator[Fault]:
    """Tables are locked for a while, with a lock timeout short of it: some tries fail, a later one does not."""
    if not run._migrated():
        yield {}, {}, None
        return
    held = threading.Event()
    table = run.rng.choice(("usage.daily", "usage.hourly", "usage.upstream", "usage.record", "usage.dimension"))

    def hold() -> None:
        def locked() -> None:
            with (
                suppress(psycopg.Error),
                run.books.holding("SET lock_timeout = 0", f"LOCK TABLE {table} IN EXCLUSIVE MODE"),
            ):
                held.set()
                time.sleep(run.rng.uniform(0.05, 0.6))

        threading.Thread(target=locked, daemon=True).start()
        held.wait(5)

    run.books.ask(f"ALTER DATABASE {run.database} SET lock_timeout = '50ms'")
    yield _stop(run, "payload kept", "statement", "after commit"), {}, hold
    run.books.ask(f"ALTER DATABASE {run.database} RESET lock_timeout")


@contextmanager
def rollups_locked(run: Run) -> Iterator[Fault]:
    """The rollups are locked, as by a rebuild, for as long as it takes to empty the queue meanwhile."""
    if not run._migrated():
        yield {}, {}, None
        return
    held, left = threading.Event(), [0]

    def hold() -> None:
        def locked() -> None:
            with run.books.holding("LOCK TABLE usage.daily IN ACCESS EXCLUSIVE MODE"):
                held.set()
                until = time.monotonic() + 20
                while run.proxy.queued and time.monotonic() < until:
                    time.sleep(0.01)
                left[0] = run.proxy.queued

        threading.Thread(target=locked, daemon=True).start()
        held.wait(5)

    yield {"point": "payload kept", "after": 1, "kill": False}, {}, hold
    if left[0]:
        raise FaultError(f"{left[0]} records stayed in the proxy while the rollups were locked")


@contextmanager
def packets_dropped(run: Run) -> Iterator[Fault]:
    """The way to the database dies without a word; after a while the operating system notices."""
    with wire(run.books.dsn) as way:

        def drop() -> None:
            way.dropping.set()
            threading.Timer(2, way.give_up).start()

        url = f"{way.url(run.books.dsn)}?connect_timeout=2"
        yield _stop(run, "mid-COPY", "before commit", "statement", "payload kept"), {"WORKER_DATABASE_URL": url}, drop


@contextmanager
def pooler_upgraded(run: Run) -> Iterator[Fault]:
    """As behind a pooler after an upgrade: sessions still hold the staging tables of another version."""
    older = [
        StagingTable(purpose, dict(list(columns.items())[:-1])).create.as_string()
        for purpose, columns in (("record_stage", RECORD_COLUMNS), ("hourly_delta", DELTAS[HOURLY.name].columns))
    ]
    older += [f"CREATE TEMPORARY TABLE {name} (other text)" for name in STAGED_BEFORE]
    run.books.ask(
        f"CREATE FUNCTION public.older() RETURNS event_trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN {'; '.join(older)}; END $$; CREATE EVENT TRIGGER older ON login EXECUTE FUNCTION public.older()"
    )
    yield {}, {}, None
    run.books.ask("DROP EVENT TRIGGER older; DROP FUNCTION public.older")


@contextmanager
def standing_by(run: Run) -> Iterator[Fault]:
    """Another machine has fetched while the database was away; standing by now, it loads what it holds."""
    there = {"WORKER_DATA_DIR": str(run.folder / "stand-by")}
    run._run(SYNC, {}, {**there, "WORKER_DATABASE_URL": DEAD}, None)
    yield {}, {}, None
    lock = Lock(run.books.engine, consumer("default"))
    wait_until(lock.acquire, "the killed worker's lease is free")
    finished = run._run(SYNC, {}, there, None)
    lock.release()
    if left := list((run.folder / "stand-by").rglob(f"*{ENTRY}")):
        raise FaultError(f"a stand-by that ended with {finished.code} has left {left}: {finished.stderr[-2000:]}")


@contextmanager
def deadlocked(run: Run) -> Iterator[Fault]:
    """Another transaction holds what the batch will want, and then wants what the batch holds."""
    if not run._migrated():
        yield {}, {}, None
        return

    def cross() -> None:
        def crossed() -> None:
            with suppress(psycopg.Error), psycopg.connect(run.books.dsn) as other:
                other.execute("SET deadlock_timeout = '10s'; SET lock_timeout = '3s'")
                other.execute("LOCK TABLE usage.daily IN EXCLUSIVE MODE")
                time.sleep(0.1)
                other.execute("LOCK TABLE usage.record IN EXCLUSIVE MODE")

        threading.Thread(target=crossed, daemon=True).start()
        time.sleep(0.05)

    yield _stop(run, "mid-COPY", "payload kept"), {}, cross


@contextmanager
def journal_spoiled(run: Run) -> Iterator[Fault]:
    """What waits on disk is cut short, has a bit flipped, is of another version or unreadable; healed later."""
    run._run(SYNC, {}, {"WORKER_DATABASE_URL": DEAD}, None)
    kept = {path: path.read_bytes() for path in run.books.journal() if path.suffix == ENTRY}
    for path, content in kept.items():
        spoiled = bytearray(content)
        kind = run.rng.choice(("cut short", "bit flipped", "another version", "no file"))
        run.tally.faults[f"journal: {kind}"] += 1
        if kind == "cut short":
            del spoiled[run.rng.randrange(len(spoiled)) :]
            run.poison += 1  # the record in which it ends
        elif kind == "bit flipped":
            spoiled[run.rng.randrange(len(spoiled))] ^= 1 << run.rng.randrange(8)
        elif kind == "another version":
            spoiled = bytearray(content.replace(b'"version":2', b'"version":3', 1))
        path.unlink()
        if kind == "no file":
            path.mkdir()
        else:
            path.write_bytes(spoiled)
    yield {}, {}, None
    for path, content in kept.items():
        damaged = path.with_suffix(".damaged")
        for there in (path, damaged):
            if there.is_dir():
                there.rmdir()
            else:
                there.unlink(missing_ok=True)
        path.write_bytes(content)


@contextmanager
def clock_jumps(run: Run) -> Iterator[Fault]:
    days = run.rng.choice((-4000, -30, -0.01, 0.01, 1, 400, 20_000))
    yield {"clock_days": days, "after": run.rng.randint(0, 6)}, {}, None


@contextmanager
def answer_spoiled(run: Run) -> Iterator[Fault]:
    for _ in range(run.rng.randint(1, 3)):
        name = run.rng.choice(("cut", *BODIES))
        run.tally.faults[f"answer: {name}"] += 1
        run.say(name)
        planned = Planned(name=name, cut_after_bytes=run.rng.randrange(1 << 20)) if name == "cut" else BODIES[name]
        path = run.rng.choice(("usage-queue", "usage-queue", "usage-statistics-enabled", "auth-files", "usage"))
        if path != "usage-queue" and name.startswith("too slow"):
            continue
        run.proxy.fail_next(path, planned)
    yield {}, {}, None
    run.proxy.heal()


@contextmanager
def nested_and_huge(run: Run) -> Iterator[Fault]:
    """Mapping endpoints answer what no reader should follow."""
    bodies = (
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\x1f\x8b\x08\x00",
        b'{"files": [' + b'{"id":"x"},' * 10_000 + b"{}]}",
    )
    for endpoint in ("auth-files", "openai-compatibility", "claude-api-key"):
        run.proxy.override(endpoint, run.rng.choice(bodies))
    yield {}, {}, None
    run.proxy.clear_overrides()


@contextmanager
def proxy_restarts(run: Run) -> Iterator[Fault]:
    def restart() -> None:
        run.proxy.stop()
        run.proxy.start()

    yield _stop(run, "payload kept", "payload decoded", "after commit"), {}, restart


@contextmanager
def poison_within(run: Run) -> Iterator[Fault]:
    if run.proxy.offer.queue:
        some = [run.rng.choice(POISON) for _ in range(run.rng.randint(1, 6))]
        run.proxy.push_raw(some)
        run.poison += len(some)
    yield {}, {}, None


@contextmanager
def fed_twice(run: Run) -> Iterator[Fault]:
    """What was pulled before is imported from a file as well."""
    if run.proxy.offer.queue and run.generation != "both" and run._migrated():
        seen = delivered(run.proxy.pulls).surely
        file = run.folder / "again.jsonl"
        version = RENDERINGS[run.generation]
        lines = [json.dumps(queue_item(u, version=version)) for u in run.rng.sample(seen, len(seen) // 2)]
        file.write_text("\n".join(lines))
        if lines:
            run._run(Command(("import", str(file))), {}, {}, None)
    yield {}, {}, None


FAULTS: dict[str, Callable[[Run], Any]] = {
    "kill -9 at a named point": killed_at_a_point,
    "kill -9 anywhere": killed_anywhere,
    "kill -9 in mid-write": killed_writing,
    "disk full under the journal": disk_full,
    "disk read-only under the journal": disk_read_only,
    "database read-only": database_read_only,
    "journal full": journal_full,
    "database away": database_away,
    "connections cut": connections_cut,
    "PostgreSQL kill -9": postgres_crashed,
    "errors of the database": errors_of_the_database,
    "locks and lock timeouts": locked_out,
    "rollups locked": rollups_locked,
    "packets dropped": packets_dropped,
    "pooler upgraded": pooler_upgraded,
    "stand-by": standing_by,
    "deadlock": deadlocked,
    "journal files spoiled": journal_spoiled,
    "clock jumps": clock_jumps,
    "answers spoiled": answer_spoiled,
    "absurd mapping answers": nested_and_huge,
    "proxy restarts": proxy_restarts,
    "poison": poison_within,
    "fed twice": fed_twice,
}


def began(usage: Usage) -> tuple[int, bool]:
    """Return what tells a call from every other one here: its begin in microseconds, and whether it failed."""
    return usage.timestamp_ns // 1000, usage.failed


def told_apart(usages: Iterable[Usage]) -> list[Usage]:
    """Return these calls, and of any that nothing tells apart only one."""
    return list({began(usage): usage for usage in usages}.values())


# -- the harness --------------------------------------------------------------------------------------------------


def wait_until(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise FaultError(f"never happened: {what}")
        time.sleep(0.002)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def stopped(pid: int) -> bool:
    return _state(pid) == "T"


def ended(pid: int) -> bool:
    return _state(pid) == "Z"


def over(pid: int) -> bool:
    """Say whether it has ended; one that came by its point late goes on."""
    if stopped(pid):
        os.kill(pid, signal.SIGCONT)
    return ended(pid)


@contextmanager
def fresh(server: EmbeddedPostgres, *, migrated: bool) -> Iterator[str]:
    """A database of its own."""
    name = f"run_{os.getpid()}_{time.monotonic_ns()}"
    model = TEMPLATE if migrated else "template0"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        text = "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy"
        admin.execute(sql.SQL(text).format(sql.Identifier(name), sql.Identifier(model)))
    try:
        yield name
    finally:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def a_server() -> Iterator[EmbeddedPostgres]:
    """A server with a migrated template."""
    base = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix="worker-faults-", dir=base))
    folder.chmod(0o711)
    try:
        with EmbeddedPostgres(folder / "postgres", settings=SETTINGS) as server:
            with psycopg.connect(server.dsn(), autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
            migrate(server.url(TEMPLATE))
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_seed(seed: int, server: EmbeddedPostgres, *, verbose: bool = False) -> Tally:
    """Do one run."""
    tally = Tally()
    run = Run(seed, server, tally, verbose=verbose)
    try:
        run.go()
    except Exception as e:  # noqa: BLE001  # whatever it is, it is this seed's
        why = str(e) if isinstance(e, FaultError) else traceback.format_exc(limit=-6)
        tally.failures.append(f"seed {seed}: {why} ({'; '.join(run.story)})")
    return tally


def _work(seeds: list[int], verbose: bool, results: Any) -> None:
    with a_server() as server:
        for seed in seeds:
            if verbose:
                print(f"seed {seed}", flush=True)
            results.put(run_seed(seed, server, verbose=verbose))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="the first run's")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    began = time.monotonic()
    seeds = range(arguments.seed, arguments.seed + arguments.runs)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    jobs = min(arguments.jobs, arguments.runs)
    workers = [
        context.Process(target=_work, args=(list(seeds[n::jobs]), arguments.verbose, results)) for n in range(jobs)
    ]
    for worker in workers:
        worker.start()
    total = Tally()
    for n in range(arguments.runs):
        tally = results.get(timeout=600)
        total.add(tally)
        for failure in tally.failures:
            print(f"FAILED {failure}", flush=True)
        if (n + 1) % 50 == 0:
            print(f"{n + 1} runs, {len(total.failures)} failed, {time.monotonic() - began:.0f} s", flush=True)
    for worker in workers:
        worker.join()
    _report(total, seeds, time.monotonic() - began)
    measure_window()
    sys.exit(bool(total.failures))


def measure_window(tries: int = 200) -> None:
    """Time the one window in which records are in memory alone: from a pop's request to its payload's fsync."""
    print("\nfrom asking for an answer until it is on disk, ms   median     p99     max")
    with tempfile.TemporaryDirectory(prefix="worker-window-") as folder:
        for n in (10, 100, 1000):
            simulator = Proxy(generation="queue", key=KEY, traffic=Traffic(SEED), retention_s=3600)
            journal = Journal(Path(folder), "default", 1 << 30)
            upstream = Upstream(url="http://127.0.0.1", key=SecretStr(KEY), queue_count=n)
            took: list[float] = []
            with simulator, ProxyClient(upstream.model_copy(update={"url": simulator.url})) as source:
                for _ in range(tries):
                    simulator.push(calls(n))
                    at = time.perf_counter()
                    room = journal.reserve(n * RECORD_ROOM_BYTES)
                    room.ask()
                    source.pop(room)
                    entry = room.keep()
                    took.append(1000 * (time.perf_counter() - at))
                    journal.drop(entry)
            took.sort()
            figures = "".join(f"{ms:8.1f}" for ms in (took[tries // 2], took[-1 - tries // 100], took[-1]))
            print(f"  {n:5} records, {entry.payload_bytes // 1000:4} kB{'':24}{figures}")


def _report(total: Tally, seeds: range, seconds: float) -> None:
    print(f"\nseeds {seeds[0]} to {seeds[-1]}: {total.runs} runs in {seconds:.0f} s")
    print(
        f"{total.records:,} records in the books at the end; {total.perhaps:,} were in hand when a worker was killed,"
    )
    print(f"{total.perhaps_there:,} of these are there; {total.lost:,} answers lost something, and each is counted")
    for title, counter in (("faults", total.faults), ("commands ended with", total.ends)):
        print(f"\n{title}")
        for name, n in sorted(counter.items()):
            print(f"  {name:44}{n:7,}")
    print(f"\n{len(total.failures)} failures")
    for failure in total.failures:
        print(f"  {failure.splitlines()[0]}")


if __name__ == "__main__":
    main()
