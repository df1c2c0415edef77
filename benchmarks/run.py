"""How fast a million records get from answer to committed rollups, against raw COPY of the same rows.

    make bench                                # a million records, three runs
    make bench BENCH_ARGS="--records 100000"  # quicker

Every case runs in a process of its own on a database of its own, on one embedded PostgreSQL with default
durability, so that its peak memory is its own. The limit is measured in the same run: binary COPY of the very
rows that the case stored, into the same partitioned table. These machines are noisy: read medians and ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from worker import __version__, database, decode, directory, log
from worker.config import Prices
from worker.embedded import EmbeddedPostgres
from worker.journal import Journal
from worker.load import Loader, PassResult, spare_collector
from worker.traffic import Traffic, queue_item, snapshot

SEED = 7
ANSWER_RECORDS = 10_000
UPSTREAM = "bench"
WAYS = ("queue", "unpriced", "snapshot")
PRICES = Prices()
LIMIT_QUERY = "COPY usage.record FROM STDIN (FORMAT BINARY)"


def main() -> None:
    arguments = _arguments()
    if arguments.case:
        print(json.dumps(CASES[arguments.case](arguments)))
        return
    with tempfile.TemporaryDirectory(prefix="worker-bench-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            arguments.folder = Path(folder)
            _child(arguments, "prepare", "")
            found = [_round(arguments, server, n) for n in range(arguments.runs)]
    _print(found, arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="100,000 records, one run")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.records, arguments.runs = 100_000, 1
    return arguments


def _round(arguments: argparse.Namespace, server: EmbeddedPostgres, number: int) -> dict[str, Any]:
    """Run each way once, each on a fresh database and followed by its own limit."""
    results: dict[str, Any] = {}
    for case in WAYS:
        name = f"{case}_{number}"
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
        results[case] = _child(arguments, case, server.url(name))
        results[f"{case}_limit_s"] = _limit(server.dsn(name))
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    return results


def _child(arguments: argparse.Namespace, case: str, url: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", case, "--folder", str(arguments.folder), "--url", url]
    command += ["--records", str(arguments.records)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def _limit(dsn: str) -> float:
    """Copy out what the case stored, empty the table, and time copying it in again."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        with connection.cursor().copy("COPY (SELECT * FROM usage.record) TO STDOUT (FORMAT BINARY)") as out:
            rows = b"".join(bytes(piece) for piece in out)
        connection.execute("TRUNCATE usage.record")
        connection.execute("CHECKPOINT")
        started = time.perf_counter()
        with connection.cursor().copy(LIMIT_QUERY) as copy:
            for at in range(0, len(rows), 1 << 18):
                copy.write(rows[at : at + (1 << 18)])
        return time.perf_counter() - started


def _prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the payloads of both ways, from one seeded generator."""
    usages = Traffic(SEED, start=datetime(2026, 10, 30, tzinfo=UTC)).generate(arguments.records)
    for n in range(0, len(usages), ANSWER_RECORDS):
        answer = msgspec.json.encode([queue_item(u) for u in usages[n : n + ANSWER_RECORDS]])
        (arguments.folder / f"queue-{n:09d}.json").write_bytes(answer)
    (arguments.folder / "snapshot.json").write_bytes(msgspec.json.encode(snapshot(usages)))
    return {}


def _loader(url: str, prices: Prices) -> Loader:
    log.setup("warning", "auto")
    spare_collector()  # as the command does
    database.migrate(url)
    loader = Loader(database.connect(url), UPSTREAM, pepper="", timezone="UTC", prices=prices)
    mapped = Traffic(SEED)
    found: list[directory.Credential] = []
    for endpoint in directory.ENDPOINTS:
        credentials, _ = directory.parse(endpoint, msgspec.json.encode(mapped.mapping(endpoint)), loader.keyring)
        found += credentials
    loader.use(directory.build(found))
    return loader


def _queue(arguments: argparse.Namespace, prices: Prices = PRICES) -> dict[str, Any]:
    loader, result = _loader(arguments.url, prices), PassResult(upstream=UPSTREAM)
    journal = Journal(arguments.folder, UPSTREAM, 1 << 40)
    seconds = 0.0
    for path in sorted(arguments.folder.glob("queue-*.json")):
        payload = path.read_bytes()
        started = time.perf_counter()
        entry = journal.keep(payload)
        loader.load(entry.entry_id, decode.decode_queue(payload), result)
        journal.drop(entry)
        seconds += time.perf_counter() - started
    return _measured(seconds, result, 0)


def _unpriced(arguments: argparse.Namespace) -> dict[str, Any]:
    """The queue once more, without any price: what charging costs is the difference."""
    return _queue(arguments, Prices(dataset=False))


def _snapshot(arguments: argparse.Namespace) -> dict[str, Any]:
    loader, result = _loader(arguments.url, PRICES), PassResult(upstream=UPSTREAM)
    path = arguments.folder / "snapshot.json"
    body = bytearray(path.stat().st_size)
    with path.open("rb") as file:
        file.readinto(body)
    started = time.perf_counter()
    for n, decoded in enumerate(decode.decode_snapshot(body)):
        loader.load(f"bench-{n}", decoded, result)
    return _measured(time.perf_counter() - started, result, len(body))


def _measured(seconds: float, result: PassResult, body_bytes: int) -> dict[str, Any]:
    return {"seconds": seconds, "inserted": result.inserted, "peak_bytes": _peak_bytes(), "body_bytes": body_bytes}


def _peak_bytes() -> int:
    """Return this process's peak memory. Not ru_maxrss where it can be helped: that one survives exec."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _print(found: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    versions = f"worker {__version__}, Python {platform.python_version()}"
    print(f"{versions}, {arguments.records:,} records, medians of {len(found)}")
    print(f"{'way':10}{'records/s':>12}{'seconds':>10}{'COPY s':>10}{'÷ COPY':>8}{'peak MB':>10}{'÷ body':>8}")
    for case in WAYS:
        seconds = statistics.median(f[case]["seconds"] for f in found)
        limit = statistics.median(f[f"{case}_limit_s"] for f in found)
        ratio = statistics.median(f[f"{case}_limit_s"] / f[case]["seconds"] for f in found)
        peak = max(f[case]["peak_bytes"] for f in found)
        body = found[0][case]["body_bytes"]
        share = f"{peak / body:8.2f}" if body else " " * 8
        rate = found[0][case]["inserted"] / seconds
        print(f"{case:10}{rate:12,.0f}{seconds:10.1f}{limit:10.1f}{ratio:8.2f}{peak / 1e6:10.0f}{share}")


CASES = {"prepare": _prepare, "queue": _queue, "unpriced": _unpriced, "snapshot": _snapshot}

if __name__ == "__main__":
    main()
