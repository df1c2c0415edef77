"""`worker run` for as long as you like while everything around it fails; then its books against the proxy's ledger.

    python tests/soak.py --minutes 30 --rate 200 --seed 1
    python tests/soak.py --minutes 3 --every 5 --seed 2    # denser

The proxy is the simulator, in this process, so that its ledger says what was handed out. PostgreSQL is a server of
its own with normal durability, the worker a process of its own. Every random decision comes from the seed and is
printed when it takes effect; what the machine's clock makes of it is not repeatable.

A record counts as delivered when its bytes left whole: those in the sent part of a cut answer too. Of one answer for
each kill the records may be missing: the one that was on its way or in memory when the worker died, less than RISK_S
old; a later pop proves it to be on disk. Whatever else is missing, doubled or booked elsewhere is a failure: exit 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import UTC
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self

import psycopg
from ledger import TIMEOUT_S, Delivered, Identity, Planned, Proxy, delivered, identity, planned
from wallclock import Clock

import worker
from worker.db.embedded import EmbeddedPostgres
from worker.secret import Keyring
from worker.simulator import traffic
from worker.simulator.proxy import MAPPINGS
from worker.simulator.traffic import Totals, Traffic, Usage
from worker.sync.journal import ENTRY

DATABASE, UPSTREAM, PEPPER = "soak", "default", "EXAMPLE-pepper-of-a-soak"
RISK_S = 0.5
"""How long an answer may take from the proxy's hands to the disk."""
QUIET_SHARE = 0.4
"""The last part of the time, in which the worker is not restarted, so that its memory shows."""
START_S, END_S, DRAIN_S, AIM_S = 30.0, 45.0, 180.0, 15.0
RSS_EVERY_S = 30.0
JITTER_S = 1.0
MEGABYTE = 1_000_000
OK = 200
SERVED = [name for name in MAPPINGS if name != "api-keys"]
"""The lists of credentials that the proxy serves, and a pass asks for."""

DECK = {
    "queue answers": 5, "greeting": 2, "directory": 4, "proxy unreachable": 1, "proxy restart": 1,
    "postgres restart": 2, "postgres crash": 1, "backend killed": 1, "connections terminated": 2,
    "SIGHUP": 2, "SIGTERM": 1, "SIGTERM twice": 1, "SIGKILL": 2, "clock jump": 2,
}  # fmt: skip
"""How often each kind of event comes in so many events."""
RESTARTS = ("SIGTERM", "SIGTERM twice", "SIGKILL")
CLOCKS = ("-2h", "+3650d", "-30d", "+1d", "-4000d", "+0")
"""What the worker's wall clock is set to; the database's and the proxy's stay right."""
QUEUE_FAULTS = ("cut", "cut", "500", "502", "503", "504", "429", "slow", "too slow", "dropped", "dropped late", "html",
                "garbage")  # fmt: skip
FAULTS = ("cut", "500", "502", "503", "429", "slow", "too slow", "dropped", "html", "garbage")
QUEUE, GREETING = "usage-queue", "usage-statistics-enabled"
NOT_JSON = ("html", "garbage")

DIMENSIONS = (
    "channel", "channel_group", "channel_kind", "client_key", "provider", "endpoint", "model", "alias", "outcome",
)  # fmt: skip
SUMS = tuple(f.name for f in fields(Totals))
COSTS = ("cost_usd", "actual_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd")
SELECT_IDENTITIES = """
SELECT (extract(epoch FROM occurred_at) * 1000000)::bigint, request_id, model, alias FROM usage_api.v1_records
"""
SELECT_DAILY = f"SELECT day, {', '.join(DIMENSIONS)}, {', '.join(SUMS)} FROM usage_api.v1_daily"
SELECT_COSTS = f"""
SELECT {", ".join(f"coalesce(sum({c}), 0)" for c in COSTS)}, {{}} FROM usage_api.{{}}
"""
SELECT_PASSES = """
SELECT count(*), count(*) FILTER (WHERE error IS NOT NULL), count(*) FILTER (WHERE finished_at IS NULL),
       coalesce(sum(possible_loss), 0), coalesce(sum(duplicates), 0)
FROM usage_api.v1_sync_runs
"""
SELECT_SETTLED = """
SELECT NOT EXISTS (SELECT FROM usage.upstream WHERE resolve_pending)
   AND EXISTS (SELECT FROM usage_api.v1_sync_runs WHERE started_at > now() - %s * interval '1 second'
                                                    AND finished_at IS NOT NULL AND error IS NULL)
"""
SELECT_DEAD = """
SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables
WHERE schemaname = 'usage' AND relname IN ('hourly', 'daily', 'daily_channel', 'daily_key', 'hourly_key')
"""
DEAD_MOST = 10
"""So many dead rows for each live one a rollup may have; below `DEAD_LEAST` live ones vacuum does not bother."""
DEAD_LEAST = 50
SELECT_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'usage-worker' ORDER BY 1"


class Feeder(threading.Thread):
    """Lets calls end at a steady rate, and none while it is paused."""

    def __init__(self, proxy: Proxy, calls: Sequence[Usage], rate: float) -> None:
        super().__init__(name="feeder", daemon=True)
        self._proxy, self._calls, self._rate = proxy, calls, rate
        self._done = threading.Event()
        self.paused = False
        self.pushed = 0

    def run(self) -> None:
        """Push what is due, twenty times a second."""
        due, last = 0.0, time.monotonic()
        while not self._done.wait(0.05):
            before, last = last, time.monotonic()
            if not self.paused:
                due = min(due + (last - before) * self._rate, len(self._calls))
                self._proxy.push(self._calls[self.pushed : int(due)])
                self.pushed = int(due)

    def end(self) -> None:
        """Stop, if it was started."""
        self._done.set()
        if self.ident is not None:
            self.join()


# -- the worker -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Life:
    """One process of the worker, from its start to its end."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    began: float
    ended: float = 0.0
    how: str = ""
    rss: list[tuple[float, int]] = field(default_factory=list)
    """(seconds of its life, bytes), once a second."""
    peak: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def sample(self) -> None:
        """Look at its memory."""
        with suppress(OSError, ValueError, IndexError):
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            figures = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)
                       if name in ("VmRSS", "VmHWM")}  # fmt: skip
            if figures:  # else it has just died
                self.rss.append((time.monotonic() - self.began, figures["VmRSS"]))
                self.peak = figures["VmHWM"]

    def started(self) -> bool:
        """Say whether it minds signals."""
        return b'"service.started"' in self.log.read_bytes()

    def each_30_s(self) -> list[tuple[float, int]]:
        """Return the samples that are half a minute apart."""
        found: list[tuple[float, int]] = []
        for at, rss in self.rss:
            if not found or at - found[-1][0] >= RSS_EVERY_S:
                found.append((at, rss))
        return found


class Sampler(threading.Thread):
    """Looks at the worker's memory, its journal and its pages, from outside."""

    def __init__(self, soak: Soak) -> None:
        super().__init__(name="sampler", daemon=True)
        self._soak = soak
        self._done = threading.Event()
        self.journal_peak = 0
        self.poll_gap = 0.0
        self.not_live: list[str] = []
        self.ready: Counter[int] = Counter()
        self.dead: dict[str, float] = {}
        """The most dead rows for each live one that a rollup has had."""

    def run(self) -> None:
        """Look, until the end."""
        turn = 0
        while not self._done.wait(0.1):
            self.journal_peak = max(self.journal_peak, self._soak.journal_bytes())
            life = self._soak.life
            if life is not None and turn % 10 == 0:
                life.sample()
            if life is not None and turn % 20 == 0:
                self._ask(life)
            if turn % 100 == 99:
                self._look_at_rollups()
            turn += 1

    def end(self) -> None:
        """Stop, if it was started."""
        self._done.set()
        if self.ident is not None:
            self.join()

    def _look_at_rollups(self) -> None:
        with suppress(psycopg.OperationalError):
            for table, dead, live in self._soak.look(SELECT_DEAD):
                if live >= DEAD_LEAST:
                    self.dead[table] = max(self.dead.get(table, 0.0), dead / live)

    def _ask(self, life: Life) -> None:
        with suppress(OSError):
            code, text = _get(f"{self._soak.pages}/livez")
            if code != OK:
                self.not_live.append(f"{code} {text.strip()}")
            code, _ = _get(f"{self._soak.pages}/readyz")
            self.ready[code] += 1
            _, text = _get(f"{self._soak.pages}/metrics")
            for line in text.splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    life.metrics[name] = float(value)
            self.poll_gap = max(self.poll_gap, _metric(life, "usage_worker_poll_gap_seconds"))


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=3) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def _metric(life: Life, prefix: str) -> float:
    return sum(value for name, value in life.metrics.items() if name.startswith(prefix))


# -- what goes wrong --------------------------------------------------------------------------------------------


class Event(NamedTuple):
    """Something that goes wrong: when, what, and every number it needs."""

    at_s: float
    kind: str
    luck: float
    """Which of several; 0 to 1."""
    down_s: float
    """For how long."""
    aim_s: float | None
    """How long after the next pull; None: at once."""
    faults: tuple[tuple[str, Planned], ...]
    """What happens to which answers."""


def plan(rng: Random, length_s: float, every_s: float, only: str) -> list[Event]:
    """Return all that will go wrong, or one kind of it. Kinds come from a shuffled deck: none stays away for long."""
    events: list[Event] = []
    deck: list[str] = []
    at = rng.expovariate(1 / every_s)
    while at < length_s:
        if not deck:
            deck = [kind for kind, n in DECK.items() for _ in range(n) if only in ("", kind)]
            rng.shuffle(deck)
        kind = deck.pop()
        aim = rng.uniform(0, 0.15) if rng.random() < 0.75 else None
        event = Event(at, kind, rng.random(), rng.uniform(1, 6), aim, tuple(_faults(kind, rng)))
        if at < length_s * (1 - QUIET_SHARE) or kind not in RESTARTS:
            events.append(event)
        at += rng.expovariate(1 / every_s)
    return events


def _faults(kind: str, rng: Random) -> Iterator[tuple[str, Planned]]:
    if kind == "queue answers":
        for _ in range(rng.randint(1, 3)):
            yield QUEUE, planned(rng.choice(QUEUE_FAULTS), rng)
    elif kind == "greeting":
        name = rng.choice(FAULTS)
        for _ in range(rng.randint(1, 5)):  # four in a row are a pass that fails
            yield GREETING, planned(name, rng)
    elif kind == "directory":
        name = rng.choice(FAULTS)
        for endpoint in rng.sample(SERVED, rng.randint(1, 4)):
            for _ in range(rng.randint(1, 5)):
                yield endpoint, planned(name, rng)


# -- the whole --------------------------------------------------------------------------------------------------


class Soak:
    """Proxy, PostgreSQL, worker, and what is done to them."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, server: EmbeddedPostgres) -> None:
        self.arguments, self.folder, self.server = arguments, folder, server
        self.length_s = arguments.minutes * 60
        world = Traffic(arguments.seed)
        calls = world.generate(int(self.length_s * arguments.rate) + 1)
        self.secrets = world.secrets()
        self.proxy = Proxy(traffic=world, retention_s=arguments.retention)
        self.feeder = Feeder(self.proxy, calls, arguments.rate)
        self.sampler = Sampler(self)
        self.life: Life | None = None
        self.lives: list[Life] = []
        self.happened: Counter[str] = Counter()
        self.failures: list[str] = []
        self._down: set[str] = set()
        self._recoveries: list[tuple[float, Callable[[], None]]] = []
        self._began = self._told_at = 0.0
        self._config = folder / "config.toml"
        self._wall = Clock(folder)
        self._hangups, self._broken = 0, False
        self._port = _free_port()
        self.pages = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        with psycopg.connect(self.server.dsn(), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {DATABASE}")
        self.proxy.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.feeder.end()
        self.sampler.end()
        if self.life is not None:
            self.life.process.kill()
            self.life.process.wait()
        self.proxy.stop()
        self.server.start()  # it may be down; who leaves the block stops it

    def run(self) -> None:
        """Feed and harm for as long as was asked for; then let the worker finish, and end it."""
        events = plan(Random(self.arguments.seed), self.length_s, self.arguments.every, self.arguments.only)
        self._configure()
        self._began = time.monotonic()
        self._start_worker()
        self.feeder.start()
        self.sampler.start()
        for event in events:
            self._pass_time_until(event.at_s)
            self._happen(event)
        self._pass_time_until(self.length_s)
        self.feeder.end()
        self._drain()
        self._end_worker(signal.SIGTERM, "SIGTERM at the end")
        self.sampler.end()

    def _clock(self) -> float:
        return time.monotonic() - self._began

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(self._clock()), 60)
        print(f"[{minutes:3}:{seconds:02}] {text}", flush=True)

    def fail(self, text: str) -> None:
        """Note what must not be."""
        self.failures.append(text)
        self._say(f"FAILURE: {text}")

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        self._recoveries.append((self._clock() + seconds, work))

    def _pass_time_until(self, at_s: float) -> None:
        self._pass_time(lambda: self._clock() >= at_s)

    def _pass_time(self, enough: Callable[[], bool]) -> None:
        """Until it is enough: let recover what is due, and see that the worker lives."""
        while not enough():
            for recovery in [r for r in self._recoveries if r[0] <= self._clock()]:
                self._recoveries.remove(recovery)
                recovery[1]()
            if self.life is not None and not self.life.alive:
                self.fail(f"the worker ended by itself with {self.life.process.returncode}; see {self.life.log}")
                self._bury("by itself")
                self._start_worker()
            if self._clock() > self._told_at + RSS_EVERY_S:
                self._tell()
            time.sleep(0.002)

    def _tell(self) -> None:
        self._told_at = self._clock()
        rss = self.life.rss[-1][1] / MEGABYTE if self.life and self.life.rss else 0
        self._say(
            f"  … {self.feeder.pushed:,} pushed, {sum(len(p.pop.items) for p in self.proxy.pulls):,} pulled, "
            f"{self.proxy.queued:,} queued, journal {self.journal_bytes():,} bytes, worker {rss:.0f} MB"
        )

    def journal_bytes(self) -> int:
        """Return what waits in the journal; the room that is held for the next answer is none of it."""
        total = 0
        for path in (self.folder / "data" / "journal" / UPSTREAM).glob(f"*{ENTRY}"):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def _drain(self) -> None:
        """Bring all that is down up again, and wait until the worker has everything."""
        self._say("the feed has ended; everything is brought up again, and the worker drains")
        self._recoveries.clear()
        for what, up in (("proxy", self._proxy_up), ("postgres", self._postgres_up), ("worker", self._start_worker)):
            if what in self._down:
                up()
        self.proxy.heal()
        self._wall.set("+0")
        self._configure()
        healed, began = len(self.proxy.requests), time.monotonic()
        self._hang_up_when_started()  # another configuration, so that it asks for the directory at once
        self._pass_time(lambda: self._drained(healed, began) or time.monotonic() > began + DRAIN_S)
        if self._drained(healed, began):
            self._say(f"drained after {time.monotonic() - began:.1f} s")
        else:
            self.fail(f"not drained after {DRAIN_S:.0f} s: {self.proxy.queued} records queued, "
                      f"{self.journal_bytes()} bytes in the journal")  # fmt: skip

    def _drained(self, healed: int, began: float) -> bool:
        answered = {path.rpartition("/")[2] for _, path, status in self.proxy.requests[healed:] if status == OK}
        if self.proxy.queued or self.journal_bytes() or not answered.issuperset(SERVED):
            return False
        time.sleep(0.2)
        return bool(self.ask(SELECT_SETTLED, [time.monotonic() - began])[0][0])

    def ask(self, statement: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read the database, as soon as it has recovered from what was done to it."""
        until = time.monotonic() + START_S
        while True:
            try:
                with psycopg.connect(self.server.dsn(DATABASE), options="-c timezone=UTC") as connection:
                    return connection.execute(statement, arguments).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def look(self, statement: str) -> list[tuple[Any, ...]]:
        """Read the database as it is now."""
        with psycopg.connect(self.server.dsn(DATABASE), connect_timeout=5) as connection:
            return connection.execute(statement).fetchall()

    # The worker.

    def _configure(
        self, *, interval_s: float = 0, directory_s: float = 5, count: int = 250, broken: bool = False
    ) -> None:
        """Write the configuration; by default one that differs from all that SIGHUP brings."""
        text = f"""
            [[upstream]]
            name = "{UPSTREAM}"
            url = "{self.proxy.url}"
            key = "EXAMPLE-management-key"
            timeout_s = {TIMEOUT_S}
            queue_count = {count}
            [schedule]
            interval_s = {interval_s or self.arguments.interval}
            jitter_s = {JITTER_S}
            directory_s = {directory_s}
            backoff_max_s = 15.0
            maintain_s = 60.0
            [http]
            port = {self._port}
        """
        self._config.write_text(text + ("colour = 'blue'" if broken else ""))
        self._broken = broken

    def _environment(self) -> dict[str, str]:
        ours = ("PATH", "HOME", "LANG", "PG_BINDIR", "PG_RUN_AS")
        return {name: os.environ[name] for name in ours if name in os.environ} | {
            "PYTHONPATH": str(Path(worker.__file__).parents[1]),
            "WORKER_CONFIG": str(self._config),
            "WORKER_DATABASE_URL": self.server.url(DATABASE).replace("+psycopg", ""),
            "WORKER_DATA_DIR": str(self.folder / "data"),
            "WORKER_PEPPER": PEPPER,
            "WORKER_LOG_FORMAT": "json",
            **self._wall.environment,
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the worker to its end."""
        return subprocess.run([sys.executable, "-m", "worker", *arguments], env=self._environment(), cwd=self.folder,
                              check=False, capture_output=True, text=True)  # fmt: skip

    def _start_worker(self) -> None:
        self._down.discard("worker")
        if self._broken:
            self._configure()
        number = len(self.lives) + 1
        log = self.folder / f"worker-{number:03d}.log"
        with log.open("wb") as file:
            process = subprocess.Popen([sys.executable, "-m", "worker", "run"], env=self._environment(),
                                       cwd=self.folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file)  # fmt: skip
        self.life = Life(number, process, log, time.monotonic())
        self.lives.append(self.life)
        self._say(f"worker {number} started, pid {process.pid}")

    def _wait_until_started(self) -> bool:
        """Wait until the worker minds signals; return whether it does."""
        until = time.monotonic() + START_S
        while self.life is not None and self.life.alive:
            if self.life.started():
                return True
            if time.monotonic() > until:
                self.fail(f"worker {self.life.number} has not started within {START_S:.0f} s")
                return False
            time.sleep(0.02)
        return False

    def _end_worker(self, number: signal.Signals, how: str, again_s: float | None = None) -> bool:
        """End the worker, by one signal or two, and see how it ends; return whether it was there."""
        life = self.life
        if life is None or not (number == signal.SIGKILL or self._wait_until_started()):
            return False
        ended_at = time.monotonic()
        life.process.send_signal(number)
        if again_s is not None:
            time.sleep(again_s)
            ended_at = time.monotonic()
            life.process.send_signal(number)
        try:
            code = life.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.fail(f"worker {life.number} did not end within {END_S:.0f} s of {how}; it is killed")
            life.process.kill()
            code = life.process.wait()
        fine = {-signal.SIGKILL} if number == signal.SIGKILL else {0} if again_s is None else {0, 128 + number}
        if code not in fine:
            self.fail(f"worker {life.number} ended with {code} after {how}; see {life.log}")
        if code != 0:
            self._excuse(ended_at)
        self._say(f"worker {life.number} ended with {code}, {time.monotonic() - ended_at:.1f} s after {how}")
        self._bury(how)
        return True

    def _excuse(self, killed_at: float) -> None:
        """Note the pull that the worker had in hand when it was killed, if it had one."""
        self.proxy.settle()
        last = next((p for p in reversed(self.proxy.pulls) if p.pop.items), None)
        if last is not None and last.at > killed_at - RISK_S:
            last.killed_after_s = killed_at - last.at

    def _bury(self, how: str) -> None:
        if self.life is not None:
            self.life.how, self.life.ended = how, time.monotonic()
        self.life = None

    # What goes wrong.

    def _happen(self, event: Event) -> None:
        does = {
            "proxy unreachable": self._proxy_down, "proxy restart": self._proxy_down,
            "postgres restart": self._postgres_down, "postgres crash": self._postgres_down,
            "backend killed": self._backends, "connections terminated": self._backends,
            "SIGHUP": self._hang_up, "SIGTERM": self._worker_down, "SIGTERM twice": self._worker_down,
            "SIGKILL": self._worker_down, "clock jump": self._clock_jumps,
        }.get(event.kind, self._spoil)  # fmt: skip
        aim = ""
        if does != self._spoil and event.aim_s is not None and not self._down & {"proxy", "worker"}:
            seen, until = self.proxy.filled, self._clock() + AIM_S
            self._pass_time(lambda: self.proxy.filled > seen or self._clock() > until)
            time.sleep(event.aim_s)
            aim = f", {1000 * event.aim_s:.0f} ms after a pull"
        done = does(event)
        self.happened[event.kind] += bool(done)
        self._say(f"{event.kind}: {done or f'left out, {self._down} being down'}{aim}")

    def _spoil(self, event: Event) -> str:
        for endpoint, fault in event.faults:
            self.proxy.fail_next(endpoint, fault)
        names = Counter((endpoint, fault.name) for endpoint, fault in event.faults)
        return ", ".join(f"{n} {name} for {endpoint}" for (endpoint, name), n in names.items())

    def _clock_jumps(self, event: Event) -> str:
        offset = CLOCKS[int(event.luck * len(CLOCKS))]
        self._wall.set(offset)
        return f"the worker's wall clock is at {offset}"

    def _proxy_down(self, event: Event) -> str:
        if "proxy" in self._down:
            return ""
        self._down.add("proxy")
        self.feeder.paused = event.kind == "proxy restart"
        self.proxy.stop()
        lost = self.proxy.queued if self.feeder.paused else 0
        if self.feeder.paused:
            self.proxy.forget()
        self._after(event.down_s, self._proxy_up)
        return f"for {event.down_s:.1f} s, {lost} queued records forgotten"

    def _proxy_up(self) -> None:
        self._down.discard("proxy")
        self.proxy.start()
        self.feeder.paused = False

    def _postgres_down(self, event: Event) -> str:
        if "postgres" in self._down:
            return ""
        self._down.add("postgres")
        if event.kind == "postgres crash":
            postmaster = int((self.server.data / "postmaster.pid").read_text().split()[0])
            os.kill(postmaster, signal.SIGKILL)
        else:
            self.server.stop()
        self._after(event.down_s, self._postgres_up)
        return f"for {event.down_s:.1f} s"

    def _postgres_up(self) -> None:
        self._down.discard("postgres")
        self.server.start()

    def _backends(self, event: Event) -> str:
        if "postgres" in self._down:
            return ""
        pids = [pid for (pid,) in self.ask(SELECT_BACKENDS, [DATABASE])]
        if not pids:
            return "the worker has none"
        one = pids[int(event.luck * len(pids))]
        if event.kind == "backend killed":
            os.kill(one, signal.SIGKILL)  # and PostgreSQL ends all others, and recovers
            return f"one of {len(pids)}"
        which = [one] if event.luck < 0.5 else pids
        for pid in which:
            self.ask("SELECT pg_terminate_backend(%s)", [pid])
        return f"{len(which)} of {len(pids)}"

    def _hang_up(self, event: Event) -> str:
        kind = ("same", "broken", "other", "other")[int(event.luck * 4)]
        if kind == "broken":
            self._configure(broken=True)
            self._after(2.0, lambda: self._configure() if self._broken else None)
        elif kind == "other":
            self._hangups += 1
            interval = self.arguments.interval * (0.7, 1.5)[self._hangups % 2]
            count = 100 + 50 * int(event.down_s)
            self._configure(interval_s=max(1.0, interval), directory_s=10 + self._hangups, count=count)
        return f"{kind} configuration" if self._hang_up_when_started() else ""

    def _hang_up_when_started(self) -> bool:
        if self.life is None or not self._wait_until_started():
            return False
        self.life.process.send_signal(signal.SIGHUP)
        return True

    def _worker_down(self, event: Event) -> str:
        number = signal.SIGKILL if event.kind == "SIGKILL" else signal.SIGTERM
        again_s = event.luck / 2 if event.kind == "SIGTERM twice" else None
        if not self._end_worker(number, event.kind, again_s):
            return ""
        self._down.add("worker")
        self._after(event.down_s, lambda: self._start_worker() if "worker" in self._down else None)
        return f"started again after {event.down_s:.1f} s"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- the verdict ------------------------------------------------------------------------------------------------


def judge(soak: Soak) -> None:
    """Compare, print, and add what differs to the failures."""
    found = delivered(soak.proxy.pulls)
    stored: Counter[Identity] = Counter()
    for row in soak.ask(SELECT_IDENTITIES):
        stored[row] += 1
    wanted = Counter(map(identity, found.surely))
    missing = wanted - stored
    surplus = stored - wanted
    there: list[Usage] = []
    for usage in found.perhaps:
        if surplus[identity(usage)] > 0:
            surplus[identity(usage)] -= 1
            there.append(usage)
    surplus = +surplus
    known = {*wanted, *map(identity, found.perhaps)}
    doubled = sum(n for key, n in surplus.items() if key in known)
    strange = surplus.total() - doubled
    proxy = soak.proxy
    ledger = len(proxy.handed_out) + len(proxy.lost) + len(proxy.expired) + proxy.forgotten + proxy.queued

    title("Records")
    line("pushed", soak.feeder.pushed)
    line("handed out whole", len(proxy.handed_out))
    line("in answers that broke off", len(proxy.lost), f"{found.never:,} of them never left")
    line("delivered for sure", len(found.surely))
    line("perhaps delivered", len(found.perhaps), f"{len(there):,} are there; see Kills")
    line("in the database", stored.total())
    line("missing", missing.total())
    line("doubled", doubled)
    line("from nowhere", strange)
    line("expired in the proxy", len(proxy.expired))
    line("forgotten by restarted proxies", proxy.forgotten)
    if ledger != soak.feeder.pushed:
        soak.fail(f"the ledger does not add up: {ledger} of {soak.feeder.pushed} pushed")
    wrong = {"missing": missing.total(), "doubled": doubled, "from nowhere": strange, "still queued": proxy.queued}
    for what in filter(wrong.get, wrong):
        soak.fail(f"{wrong[what]} records {what}")
    for key in list(missing)[:3]:
        print(f"  missing: {key}")

    compare_sums(soak, [*found.surely, *there])
    compare_costs(soak)
    check_quarantine(soak)
    check_commands(soak)
    check_logs(soak)
    tell_faults(soak, found, stored)
    tell_memory(soak)


def compare_sums(soak: Soak, usages: list[Usage]) -> None:
    keyring = Keyring(PEPPER.encode())
    wanted = {
        tuple(key._replace(client_key=keyring.label(key.client_key))): tuple(getattr(total, name) for name in SUMS)
        for key, total in traffic.totals(usages, UTC).items()
    }
    keyed = 1 + len(DIMENSIONS)
    found = {row[:keyed]: row[keyed:] for row in soak.ask(SELECT_DAILY)}
    differing = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    title("Daily sums")
    line("sums compared", len(wanted) * len(SUMS), f"{len(wanted):,} rows of v1_daily")
    line("rows that differ", len(differing))
    for key in differing[:5]:
        print(f"  {key}\n    ledger {wanted.get(key)}\n    daily  {found.get(key)}")
    if differing:
        soak.fail(f"{len(differing)} rows of v1_daily differ from the ledger")


def compare_costs(soak: Soak) -> None:
    sums = {
        view: soak.ask(SELECT_COSTS.format(unpriced, view))[0]
        for view, unpriced in (
            ("v1_records", "count(*) FILTER (WHERE cost_usd IS NULL)"),
            ("v1_hourly", "sum(unpriced_requests)"),
            ("v1_daily", "sum(unpriced_requests)"),
        )
    }
    title("Costs in USD")
    for view, (cost, *_, unpriced) in sums.items():
        line(view, cost.normalize(), f"{unpriced:,} records without a price")
    if len(set(sums.values())) != 1:
        soak.fail(f"costs differ: {sums}")


def check_quarantine(soak: Soak) -> None:
    done = soak.command("quarantine", "list", "--json", "--limit", "100000")
    rows = json.loads(done.stdout) if done.returncode == 0 else []
    broken = sum(1 for p in soak.proxy.pulls if p.pop.items and not (p.pop.arrived and p.killed_after_s is None))
    odd = sum(soak.proxy.spoiled[QUEUE, name] for name in NOT_JSON)
    title("Quarantine")
    for reason, n in Counter(row["reason"] for row in rows).items():
        line(reason[:44], n)
    line("explained by faults, at most", broken + odd, f"{broken} answers broke off, {odd} were no JSON")
    if done.returncode or len(rows) > broken + odd:
        soak.fail(f"{len(rows)} records in quarantine (exit {done.returncode}), {broken + odd} explained")


def check_commands(soak: Soak) -> None:
    title("Commands")
    for arguments in (["verify"], ["status", "--max-age", "600"], ["reprice", "--dry-run", "--json"]):
        done = soak.command(*arguments)
        said = (done.stdout + done.stderr).strip().splitlines()
        note = said[-1][:80] if said else ""
        if arguments[0] == "reprice" and done.returncode == 0:
            models = json.loads(done.stdout)["models"]
            changed = sum(m["changed"] for m in models)
            note = f"{sum(m['records'] for m in models):,} records looked at, {changed} would change"
            if changed:
                soak.fail(f"reprice would change {changed} costs")
        line(f"worker {' '.join(arguments)}"[:44], f"exit {done.returncode}", note)
        if done.returncode:
            soak.fail(f"worker {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-500:]}")


def check_logs(soak: Soak) -> None:
    """Count what the worker logged; an exception or a secret in it is a failure."""
    events: Counter[tuple[str, str]] = Counter()
    unexpected: Counter[str] = Counter()
    for life in soak.lives:
        text = life.log.read_text(errors="replace")
        if leaked := sum(secret in text for secret in soak.secrets):
            soak.fail(f"{leaked} secrets stand in {life.log}")
        for said in text.splitlines():
            try:
                found = json.loads(said)
            except ValueError:
                found = {"level": "not JSON", "event": said[:60]}
            events[found.get("level", ""), found.get("event", "").partition(' "')[0][:60]] += 1
            if "exception" in found or found.get("level") == "not JSON":
                unexpected[_gist(found)] += 1
    title("Log lines")
    for (level, event), n in sorted(events.items(), key=lambda item: -item[1]):
        line(event[:44], n, level)
    for gist, n in unexpected.items():
        soak.fail(f"{n} × in the logs: {gist}")  # noqa: RUF001


def _gist(found: dict[str, Any]) -> str:
    """Return what a traceback comes to: where in the worker it was raised, on whose behalf, and what it says."""
    lines = found.get("exception", "").splitlines()
    if not lines:
        return str(found["event"])
    last = lines[max(n for n, text in enumerate(lines) if text.startswith("Traceback")) + 1 :]
    frames = [text.partition("/worker/")[2].split(", ") for text in last if "/worker/" in text]
    places = [f"{file.strip(chr(34))}:{number.removeprefix('line ')}" for file, number, *_ in frames]
    said = next((text for text in last if text and not text[0].isspace()), "")
    return f"{' → '.join(places)}: {said[:300]}"


def tell_faults(soak: Soak, found: Delivered, stored: Counter[Identity]) -> None:
    title("What went wrong")
    for kind in DECK:
        line(kind, soak.happened[kind])
    title("Answers that were spoiled")
    spoiled: Counter[str] = Counter()
    for (endpoint, name), n in soak.proxy.spoiled.items():
        spoiled[f"{name}: {endpoint if endpoint in (QUEUE, GREETING) else 'directory'}"] += n
    for name, n in sorted(spoiled.items()):
        line(name, n)

    title("Kills")
    for pull in soak.proxy.pulls:
        if pull.killed_after_s is not None:
            left = pull.pop.items if pull.reached is None else pull.pop.items[: pull.reached]
            there = sum(identity(item) in stored for item in left if isinstance(item, Usage))
            line(f"{1000 * pull.killed_after_s:.0f} ms after {len(left)} of {len(pull.pop.items)} records left", there,
                 "of them are there")  # fmt: skip

    passes, failed, unfinished, losses, duplicates = soak.ask(SELECT_PASSES)[0]
    results: Counter[str] = Counter()
    for life in soak.lives:
        for name, value in life.metrics.items():
            if name.startswith("usage_worker_passes_total"):
                results[name.partition('result="')[2].partition('"')[0]] += int(value)
    broken = sum(not p.pop.arrived for p in soak.proxy.pulls if p.pop.items)
    gaps = gaps_between_pulls(soak)
    title("Passes")
    line("worker processes", len(soak.lives), counted(Counter(x.how for x in soak.lives)))
    line("passes noted", passes, f"{failed} failed, {unfinished} never finished")
    line("passes by result", sum(results.values()), counted(results))
    line("possible losses noted in passes", losses)
    line("possible losses by metrics", int(sum(_metric(x, "usage_worker_possible_loss_total") for x in soak.lives)))
    line("answers with records that broke off", broken, f"{found.never:,} records were in the rest")
    line("duplicates", duplicates)
    line("journal peak", soak.sampler.journal_peak, "bytes")
    line("poll gap, longest", f"{max(gaps, default=0):.1f}", "s, by the ledger")
    line("poll gap, median", f"{statistics.median(gaps) if gaps else 0:.1f}", "s")
    line("poll gap by metrics, longest seen", f"{soak.sampler.poll_gap:.1f}", "s")
    tell_rollups(soak)
    line("/livez not 200", len(soak.sampler.not_live), "; ".join(soak.sampler.not_live[:2]))
    line("/readyz", "", counted(soak.sampler.ready))
    if soak.sampler.not_live:
        soak.fail(f"/livez answered {soak.sampler.not_live[0]}")


def gaps_between_pulls(soak: Soak) -> list[float]:
    """Return how many seconds lay between two pulls that emptied the queue."""
    emptied = [p.at for p in soak.proxy.pulls if p.emptied]
    gaps = [b - a for a, b in itertools.pairwise(emptied)]
    if soak.arguments.only == "clock jump" and max(gaps, default=0) > 2 * (soak.arguments.interval + JITTER_S):
        soak.fail(f"no pull for {max(gaps):.1f} s, though only clocks jumped")
    return gaps


def tell_rollups(soak: Soak) -> None:
    for table, most in soak.sampler.dead.items():
        line(f"dead rows for a live one, {table}, most", f"{most:.1f}")
        if most > DEAD_MOST:
            soak.fail(f"usage.{table} had {most:.0f} dead rows for each live one")


def tell_memory(soak: Soak) -> None:
    title("Memory of the worker, MB")
    print(f"  {'process':>9}{'seconds':>9}{'start':>8}{'middle':>8}{'end':>8}{'peak':>8}  ended by")
    for life in soak.lives:
        rss = [n / MEGABYTE for _, n in life.rss] or [0.0]
        start = rss[min(5, len(rss) - 1)]  # it has imported all by then
        seconds = life.ended - life.began
        print(f"  {life.number:9}{seconds:9.0f}{start:8.1f}{rss[len(rss) // 2]:8.1f}{rss[-1]:8.1f}"
              f"{life.peak / MEGABYTE:8.1f}  {life.how}")  # fmt: skip
    line("peak of all", f"{max(life.peak for life in soak.lives) / MEGABYTE:.1f}")
    last = soak.lives[-1]
    settled = [(at, rss) for at, rss in last.rss if at > last.rss[-1][0] / 3]  # it has met all names by then
    samples = [(at, rss) for at, rss in last.each_30_s() if (at, rss) in settled]
    if len(samples) < 4:
        samples = settled
    if len(samples) > 1:
        rss = [n / MEGABYTE for _, n in samples]
        slope = statistics.linear_regression([at / 3600 for at, _ in samples], rss).slope
        line("the last one every 30 s", "", " ".join(f"{n / MEGABYTE:.1f}" for _, n in last.each_30_s()))
        line("in the last two thirds of its life", "")
        line("  min / median / max", f"{min(rss):.1f} / {statistics.median(rss):.1f} / {max(rss):.1f}")
        line("  slope", f"{slope:+.1f}", f"MB an hour, from {len(rss)} samples")


def counted(numbers: Counter[Any]) -> str:
    return ", ".join(f"{n} {name}" for name, n in numbers.most_common())


def title(text: str) -> None:
    print(f"\n{text}")


def line(name: str, value: object, note: str = "") -> None:
    shown = f"{value:,}" if isinstance(value, int) else str(value)
    print(f"  {name:46}{shown:>14}  {note}".rstrip())


@contextmanager
def _folder(kept: list[bool]) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="worker-soak-"))
    folder.chmod(0o711)  # PostgreSQL may run under another account
    try:
        yield folder
    finally:
        if kept[0]:
            print(f"logs, journal and database stay in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=200.0, help="calls that end per second")
    parser.add_argument("--seed", type=int, default=1, help="chooses the calls and all that goes wrong")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two faults, on average")
    parser.add_argument("--interval", type=float, default=3.0, help="the worker's schedule.interval_s")
    parser.add_argument("--retention", type=float, default=60.0, help="for how long the proxy keeps records, in s")
    parser.add_argument("--only", default="", choices=DECK, metavar="KIND", help='one kind of event, as "clock jump"')
    parser.add_argument("--keep", action="store_true", help="leave the folder even if all is well")
    arguments = parser.parse_args()
    print(f"worker {worker.__version__} in {Path(worker.__file__).parent}, Python {platform.python_version()}")
    print(", ".join(f"{name} {value}" for name, value in vars(arguments).items()), flush=True)
    kept = [True]
    with _folder(kept) as folder:
        with EmbeddedPostgres(folder / "postgres") as server, Soak(arguments, folder, server) as soak:
            soak.run()
            judge(soak)
        kept[0] = arguments.keep or bool(soak.failures)
    print(f"\n{len(soak.failures)} failures")
    for failure in soak.failures:
        print(f"  {failure}")
    sys.exit(bool(soak.failures))


if __name__ == "__main__":
    main()
