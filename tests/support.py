"""What the end-to-end tests share: a proxy and what its calls add up to, the books, the worker as a process."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self
from zoneinfo import ZoneInfo

import psycopg
from pydantic import SecretStr

from worker.config import Config, OwnPrice, Prices, Rollup, Upstream
from worker.db import database
from worker.rollups import verify
from worker.secret import Keyring
from worker.simulator import traffic
from worker.simulator.proxy import Simulator
from worker.simulator.traffic import Rendering, Totals, Traffic, Usage
from worker.sync import run as sync

KEY = "EXAMPLE-management-key"
SEED = 7
PATIENCE_S = 20.0
QUICK = {"WORKER__SCHEDULE__INTERVAL_S": "1", "WORKER__SCHEDULE__JITTER_S": "0", "WORKER_HTTP_PORT": "0"}

RENDERINGS: Mapping[str, Rendering] = {
    "queue": "7.2.140",
    "queue-6.10.8": "6.10.8",
    "snapshot": "snapshot",
    "snapshot-int": "snapshot-int",
    "both": "6.10.8",
}
"""How the calls of each generation of the simulator come to us; of two ways, the queue is preferred."""

DIMENSIONS = (
    "channel", "channel_group", "channel_kind", "client_key", "provider", "endpoint", "model", "alias", "outcome",
)  # fmt: skip
SUMS = tuple(field.name for field in fields(Totals))
LATENCY_BOUNDS_MS = {
    "latency_le_50ms": 50, "latency_le_100ms": 100, "latency_le_250ms": 250, "latency_le_500ms": 500,
    "latency_le_1s": 1000, "latency_le_2500ms": 2500, "latency_le_5s": 5000,
    "latency_le_10s": 10_000, "latency_le_30s": 30_000, "latency_le_60s": 60_000, "latency_le_120s": 120_000,
    "latency_le_300s": 300_000, "latency_le_600s": 600_000, "latency_le_1200s": 1_200_000,
}  # fmt: skip
PRICES = Prices(
    dataset=False,
    own=(
        OwnPrice(
            model="*",
            service_tier="*",
            input_usd_per_mtok=Decimal(2),
            cache_read_usd_per_mtok=Decimal("0.25"),
            cache_write_usd_per_mtok=Decimal("2.5"),
            output_usd_per_mtok=Decimal(8),
            request_usd=Decimal("0.001"),
        ),
    ),
)
"""What every model costs where a test does not say otherwise."""

COSTS = ("cost_usd", "actual_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd", "estimated_cost_usd")
MEASURES = (*SUMS, *LATENCY_BOUNDS_MS, "unpriced_requests", *COSTS)

SELECT_DAILY = f"SELECT day, {', '.join(DIMENSIONS)}, {', '.join(MEASURES)} FROM usage_api.v1_daily"
SUM_OF_VIEW = f"""
SELECT upstream, {", ".join(DIMENSIONS)}, {", ".join(f"sum({name})" for name in MEASURES)}
FROM usage_api.{{}} GROUP BY 1, {", ".join(str(n) for n in range(2, 2 + len(DIMENSIONS)))}
"""
SELECT_CHANNELS = """
SELECT upstream, channel, channel_group, channel_kind, configured FROM usage_api.v1_channels ORDER BY 1, 2, 4
"""
SELECT_PEPPER = "SELECT value FROM usage.setting WHERE key = 'pepper'"
SELECT_WAITING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'usage-worker' AND wait_event_type = 'Lock'
"""
SELECT_CONNECTED = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'usage-worker'
"""

Sums = dict[tuple[Any, ...], tuple[Any, ...]]


# -- a proxy, and what its calls add up to ----------------------------------------------------------------------


@lru_cache(maxsize=1)
def _calls() -> tuple[Usage, ...]:
    made = Traffic(SEED).generate(3000)
    Random(SEED).shuffle(made)
    return tuple(made)


def calls(n: int = 3000) -> tuple[Usage, ...]:
    """The first `n` of the same 3000 calls of three days, in no order: any part of them is late for some day."""
    return _calls()[:n]


def proxy(generation: str = "queue", pushed: Iterable[Usage] = (), *, offset: str = "Z", **more: Any) -> Simulator:
    """A simulator that is not started yet; its queue is kept long enough for any test."""
    simulator = Simulator(
        generation=generation, key=KEY, traffic=Traffic(SEED, offset=offset), retention_s=3600, **more
    )
    simulator.push(pushed)
    return simulator


def expected(
    usages: Iterable[Usage], zone: str, rendering: Rendering, keyring: Keyring, input_usd: Decimal = Decimal(2)
) -> Sums:
    """Every row of v1_daily, from the ledger of the simulator."""
    ledger = list(usages)
    sums: Sums = {}
    histogram = _histogram(ledger, ZoneInfo(zone), rendering)
    costs = _costs(ledger, ZoneInfo(zone), rendering, input_usd)
    for key, total in traffic.totals(ledger, ZoneInfo(zone), rendering).items():
        measures = [getattr(total, name) for name in SUMS] + histogram[key]
        shown = key._replace(client_key=keyring.label(key.client_key))
        unpriced, priced, *cost = costs[key]
        sums[tuple(shown)] = (*measures, unpriced, *(cost if priced else [None] * len(COSTS)))
    return sums


def _costs(usages: Iterable[Usage], zone: ZoneInfo, rendering: Rendering, input_usd: Decimal) -> dict[Any, list[Any]]:
    """Requests without a cost, those with one that used something, and the costs by PRICES: as a receipt has them."""
    sums: dict[Any, list[Any]] = {}
    for usage in usages:
        day = datetime.fromtimestamp(usage.timestamp_ns // 10**9, zone).date()
        row = sums.setdefault(traffic.totals_key(usage, day, rendering), [0, 0, *[Decimal(0)] * len(COSTS)])
        n = traffic.normalised(usage, rendering)
        success = traffic.outcome(usage, rendering) == "success"
        if n.unclassified:
            row[0] += 1
            continue
        read, write = n.cache_read * Decimal("0.25"), n.cache_write * Decimal("2.5")
        tokens = n.uncached_input * input_usd + read + write + n.billed_output * Decimal(8)
        cost = tokens / 1_000_000 + (Decimal("0.001") if success else 0)
        row[1] += any(n) or cost > 0
        for place, amount in enumerate((cost, cost, read / 1_000_000, write / 1_000_000), start=2):
            row[place] += amount
    return sums


def _histogram(usages: Iterable[Usage], zone: ZoneInfo, rendering: Rendering) -> dict[Any, list[int]]:
    counts: dict[Any, list[int]] = {}
    for usage in usages:
        day = datetime.fromtimestamp(usage.timestamp_ns // 10**9, zone).date()
        row = counts.setdefault(traffic.totals_key(usage, day, rendering), [0] * len(LATENCY_BOUNDS_MS))
        if usage.latency_ms and rendering != "snapshot-int":
            for place, bound in enumerate(LATENCY_BOUNDS_MS.values()):
                row[place] += usage.latency_ms <= bound
    return counts


def differing(found: Sums, wanted: Sums, limit: int = 5) -> dict[Any, Any]:
    """The first keys whose two values are not the same: a short answer where two dicts are long."""
    keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    return {key: {"found": found.get(key), "wanted": wanted.get(key)} for key in keys[:limit]}


def wait_until(true: Callable[[], Any], what: str) -> None:
    """Wait for something that is sure to happen."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.002)


# -- the books --------------------------------------------------------------------------------------------------


class Books:
    """A database and a data folder of the worker; what it did can be read here."""

    def __init__(self, url: str, folder: Path, timezone: str = "UTC") -> None:
        self.url = url
        self.folder = folder
        self.timezone = timezone
        self.engine = database.connect(url)
        self._connection = psycopg.connect(self.dsn, autocommit=True, options="-c timezone=UTC")

    @property
    def dsn(self) -> str:
        return self.url.replace("+psycopg", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self.engine.dispose()

    def sync(self, simulator: Simulator, **upstream: Any) -> sync.PassResult:
        """One pass in this process."""
        one = Upstream(**{"url": simulator.url, "key": SecretStr(KEY), "queue_count": 500, **upstream})
        return sync.sync_once(self.config(one), self.engine, one)

    def config(self, *upstream: Upstream, **more: Any) -> Config:
        given = {"prices": PRICES, **more}
        return Config(data_dir=self.folder, upstream=upstream, rollup=Rollup(timezone=self.timezone), **given)

    def loader(self, upstream: str = "default", prices: Prices = PRICES) -> sync.Loader:
        return sync.Loader(self.engine, upstream, pepper="", timezone=self.timezone, prices=prices)

    def ask(self, statement: str, arguments: Sequence[Any] | Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement, arguments)
        return cursor.fetchall() if cursor.description else []

    def daily(self) -> Sums:
        """Every row of v1_daily, keyed as `expected` does."""
        keyed = 1 + len(DIMENSIONS)
        rows = self.ask(SELECT_DAILY)
        found = {row[:keyed]: row[keyed:] for row in rows}
        assert len(found) == len(rows), "v1_daily holds two rows of one key"
        return found

    def daily_by_upstream(self) -> dict[str, Sums]:
        """The rows of v1_daily of each upstream, keyed as `expected` does."""
        found: dict[str, Sums] = {}
        for upstream, *row in self.ask(SELECT_DAILY.replace("SELECT day", "SELECT upstream, day", 1)):
            keyed = 1 + len(DIMENSIONS)
            found.setdefault(upstream, {})[tuple(row[:keyed])] = tuple(row[keyed:])
        return found

    def expected(self, usages: Iterable[Usage], rendering: Rendering = "7.2.140") -> Sums:
        return expected(usages, self.timezone, rendering, self.keyring())

    def keyring(self) -> Keyring:
        ((pepper,),) = self.ask(SELECT_PEPPER)
        return Keyring(bytes.fromhex(pepper.removeprefix("stored:")))

    def dump(self) -> list[list[tuple[Any, ...]]]:
        """Everything that a pass without news must leave as it is."""
        views = ("v1_daily", "v1_hourly", "v1_records", "v1_client_keys")
        rows = [sorted(self.ask(f"SELECT v::text FROM usage_api.{view} AS v")) for view in views]
        # When the proxy was last seen to list a channel is news in every pass.
        return [*rows, self.ask(SELECT_CHANNELS)]

    def differences(self) -> list[verify.Difference]:
        with database.transaction(self.engine) as connection:
            return list(verify.differences(connection, ZoneInfo(self.timezone), None, None))

    def records(self) -> int:
        """How many there are; none while there is no schema."""
        if not self.ask("SELECT to_regclass('usage.record')")[0][0]:
            return 0
        return int(self.ask("SELECT count(*) FROM usage.record")[0][0])

    def balance(self) -> None:
        """Fail unless rollups are the sums of the records, and hours add up to days."""
        assert self.differences() == []
        hours, days = (sorted(self.ask(SUM_OF_VIEW.format(view))) for view in ("v1_hourly", "v1_daily"))
        assert hours == days
        ((records,),) = self.ask("SELECT count(*) FROM usage_api.v1_records")
        assert sum(row[1 + len(DIMENSIONS)] for row in days) == records

    def require_exactly(self, usages: Iterable[Usage], rendering: Rendering = "7.2.140") -> None:
        """Fail unless every daily sum is the one that these calls add up to, and nothing else is there."""
        assert differing(self.daily(), self.expected(usages, rendering)) == {}
        self.balance()

    def journal(self, upstream: str = "default") -> list[Path]:
        """What waits to be loaded, and what stays since it could not be read."""
        folder = self.folder / "journal" / upstream
        return sorted([*folder.glob("*.entry"), *folder.glob("*.unread")])

    # Locks, to hold a worker where it is.

    def is_popping(self, upstream: str = "default") -> bool:
        """Whether an answer has been asked for that is not kept yet, nor known to be empty: killed then, it counts."""
        folder = self.folder / "journal" / upstream
        return any(b'"state":"asked"' in path.read_bytes()[:512] for path in folder.glob("*.part"))

    @contextmanager
    def holding(self, *statements: str) -> Iterator[None]:
        """Hold what `statements` lock."""
        with psycopg.connect(self.dsn) as connection:
            for statement in statements:
                connection.execute(statement)
            yield
            connection.rollback()

    def wait_until_it_waits(self) -> list[int]:
        """Return the backends of the worker that wait for a lock, as soon as there are any."""
        wait_until(lambda: self.ask(SELECT_WAITING), "the worker waits for the lock")
        return [pid for (pid,) in self.ask(SELECT_WAITING)]

    def wait_until_it_left(self) -> None:
        """Wait until PostgreSQL has noticed that a killed worker is gone."""
        self.engine.dispose()  # its connections look like a worker's
        wait_until(lambda: not self.ask(SELECT_CONNECTED), "the killed worker's connections end")

    # The worker as a process.

    def environment(self, simulator: Simulator | None = None, **more: str) -> dict[str, str]:
        found = {
            "WORKER_DATABASE_URL": self.dsn,
            "WORKER_DATA_DIR": str(self.folder),
            "WORKER_TIMEZONE": self.timezone,
            "WORKER_LOG_FORMAT": "json",
            "WORKER__PRICES__DATASET": "false",
        }
        for name, value in PRICES.own[0].model_dump(mode="json", exclude_defaults=True).items():
            found[f"WORKER__PRICES__OWN__0__{name.upper()}"] = str(value)
        if simulator is not None:
            found |= {"WORKER_UPSTREAM_URL": simulator.url, "WORKER_UPSTREAM_KEY": KEY}
            found |= {"WORKER__UPSTREAM__0__QUEUE_COUNT": "500"}
        return found | more

    @contextmanager
    def starting(
        self, simulator: Simulator | None, *arguments: str, faults: Mapping[str, Any] | None = None, **environment: str
    ) -> Iterator[Running]:
        process = start(arguments, self.environment(simulator, **environment), self.folder, faults)
        try:
            yield process
        finally:
            process.kill()

    def worker(self, simulator: Simulator | None, *arguments: str, **environment: str) -> Finished:
        """Run the command line to its end."""
        return worker(arguments, self.environment(simulator, **environment), self.folder)


# -- the worker as a process ------------------------------------------------------------------------------------

# Importing the worker takes longer than most of its commands. So one process imports it, and each command is a
# fork of that: an own process with its own environment, streams, exit code, and death. (What is frozen need not be
# taken apart when it ends.)
TELLING = threading.Lock()
STILL_RUNS = 1 << 16
"""No exit code."""

NURSERY = """
import gc, importlib, json, os, pkgutil, sys
sys.path.append(sys.argv[1])
STILL_RUNS = int(sys.argv[2])
from alembic import command
from worker.cli import main as cli
for module in pkgutil.walk_packages(sys.modules["worker"].__path__, "worker."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
gc.freeze()
for line in sys.stdin:
    wanted = json.loads(line)
    if "ended" in wanted:
        pid, status = os.waitpid(wanted["ended"], os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if pid else STILL_RUNS, flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.chdir(wanted["folder"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(("stdout", "stderr"), 1):
        os.dup2(os.open(wanted[name], os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.argv = ["worker", *wanted["arguments"]]
    if wanted["faults"]:
        import injected
        injected.install(wanted["faults"])
    cli.main()
    sys.exit()
"""


class Finished(NamedTuple):
    """What a command came to."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def data(self) -> list[dict[str, Any]]:
        """The rows of a document that says which part of which figures they are."""
        return self.json["data"]

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The log lines among what stands on stderr."""
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]


@dataclass
class Running:
    """A command that runs."""

    pid: int
    stdout: Path
    stderr: Path
    code: int | None = None

    def kill(self) -> None:
        """Kill it as no program can prevent; it is over when this returns."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self) -> Finished:
        while self.code is None:
            code = _tell({"ended": self.pid})
            if code == STILL_RUNS:
                time.sleep(0.002)
            else:
                self.code = code
        return Finished(self.code, self.stdout.read_text(), self.stderr.read_text())


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    faults: Mapping[str, Any] | None = None,
) -> Running:
    """Start a command that knows nothing of this process's environment; `faults` is a plan of injected.py."""
    said = folder / "said"
    said.mkdir(exist_ok=True)
    name = uuid.uuid4().hex
    stdout, stderr = said / f"{name}.stdout", said / f"{name}.stderr"
    wanted = {"arguments": arguments, "environment": plain_environment(environment), "folder": str(folder)}
    wanted["faults"] = faults or {}
    return Running(_tell({**wanted, "stdout": str(stdout), "stderr": str(stderr)}), stdout, stderr)


def worker(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Finished:
    """Run a command to its end."""
    return start(arguments, environment, folder).wait()


def plain_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a login would have set, and nothing of ours but `environment`."""
    ours = {name: value for name in ("PATH", "HOME", "LANG", "PG_BINDIR", "PG_RUN_AS") if (value := os.getenv(name))}
    return {**ours, **environment}


@lru_cache(maxsize=1)
def _nursery() -> subprocess.Popen[str]:
    # A warning of the worker is an error here too.
    command = [sys.executable, "-W", "error", "-c", NURSERY, str(Path(__file__).parent), str(STILL_RUNS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @atexit.register
    def _end() -> None:
        process.communicate()

    return process


def _tell(wanted: Mapping[str, Any]) -> int:
    with TELLING:
        nursery = _nursery()
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        nursery.stdin.write(json.dumps(wanted) + "\n")
        nursery.stdin.flush()
        return int(nursery.stdout.readline())


def utc(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)


def said(process: Running) -> str:
    """What it has written to stderr so far."""
    return process.stderr.read_text() if process.stderr.exists() else ""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Received:
    """An answer as it came over the wire, in memory."""

    def __init__(self):
        self.encoding, self.body = "", b""

    def begin(self, encoding):
        self.encoding = encoding

    def write(self, piece):
        self.body += piece


def keep(journal, payload):
    """Keep an answer in a journal, as a pass does."""
    room = journal.reserve(len(payload))
    room.ask()
    room.write(payload)
    return room.keep()


def popped(source):
    """Take an answer off the queue; what arrived of a broken one is the error's `body`."""
    answer = Received()
    try:
        source.pop(answer)
    except Exception as e:
        e.body = answer.body
        raise
    return answer.body


def snapshot_of(source):
    """Read the whole history."""
    with source.snapshot() as body:
        return bytes(body)
