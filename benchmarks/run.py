"""How fast records get from answer to committed rollups, against raw COPY of the same rows, and what else is promised.

    make bench                                         # a million records, three runs: about 15 minutes
    make bench BENCH_ARGS=--quick                      # 100,000 records, one run: about a minute
    make bench BENCH_ARGS="--only P1,P8 --runs 5"
    make bench-compare BENCH_ARGS="old.json new.json"  # the newest two where none are named; * beyond the spread

Every case runs in a process of its own on a database of its own, on one embedded PostgreSQL with default durability.
The limit is measured in the same run: binary COPY of the very rows that the case stored, into the same partitioned
table. These machines are noisy: read medians and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

import psycopg
import results
from cases import UPSTREAM

from worker.db import migrations
from worker.db.embedded import EmbeddedPostgres

CASES = Path(__file__).with_name("cases.py")
LIMIT_QUERY = "COPY usage.record FROM STDIN (FORMAT BINARY)"
STARTS = 7
MEASURES = {
    "P1": ("queue ÷ COPY", "≥ 0.5"),
    "P1b": ("snapshot ÷ COPY", "≥ 0.6"),
    "P2": ("sustained, records/s", "≥ 40,000"),
    "P3": ("snapshot, a thousandth new ÷ one scan", "≤ 2"),
    "P4": ("peak memory", "≤ 1.5 bodies, ≤ 150 MB"),
    "P7": ("bytes on disk a record", "≤ 300"),
    "P8": ("start to first byte asked, s", "≤ 0.7"),
}
Found = dict[str, list[float]]


def main() -> None:
    arguments = _arguments()
    if arguments.compare is not None:
        print(results.compare(arguments.compare))
        return
    with tempfile.TemporaryDirectory(prefix="worker-bench-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            arguments.folder = Path(folder)
            with psycopg.connect(server.dsn()) as connection:
                version = connection.info.parameter_status("server_version") or ""
            _child(arguments, "prepare", "")
            found: Found = {}
            for number in range(arguments.runs):
                _round(arguments, server, number, found)
            if "P2" in arguments.only:
                _sustained(arguments, server, found)
            if "P8" in arguments.only:
                _starts(arguments, server, found)
    told = {"records": arguments.records, "runs": arguments.runs, "sustain_s": arguments.sustain_s}
    head = results.header(version.split()[0], told)
    _print(head, found)
    measures = {name: {"runs": runs} for name, runs in found.items()}
    print(f"\nkept in {results.save(head, measures, arguments.results, '-quick' if arguments.quick else '').name}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sustain-s", type=float, default=300.0)
    parser.add_argument("--quick", action="store_true", help="100,000 records, one run")
    parser.add_argument("--only", default=",".join(MEASURES), help=f"some of {','.join(MEASURES)}")
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="where the JSON goes")
    parser.add_argument("--compare", type=Path, nargs="*", help="two files of results")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.records, arguments.runs, arguments.sustain_s = 100_000, 1, 15.0
    arguments.only = set(arguments.only.split(","))
    return arguments


def _round(arguments: argparse.Namespace, server: EmbeddedPostgres, number: int, found: Found) -> None:
    """Run each way once, each on a fresh database and followed by its own limit."""
    wanted = {"queue": {"P1", "P4", "P7"}, "unpriced": {"P1"}, "snapshot": {"P1b", "P3", "P4"}}
    for case, measures in wanted.items():
        if not measures & arguments.only:
            continue
        name = f"{case}_{number}"
        url = _database(server, name)
        with _Watch(server) as watch:
            told = _child(arguments, case, url)
        _note(found, f"{case}, records/s", told["records"] / told["seconds"])
        _note(found, f"{case}, worker's peak MB", told["peak_bytes"] / 1e6)
        _note(found, f"{case}, PostgreSQL's peak MB", watch.peak_bytes / 1e6)
        if case == "snapshot":
            _note(found, "snapshot, worker's peak ÷ body (P4)", told["peak_bytes"] / told["body_bytes"])
            _note(found, "snapshot, a thousandth new ÷ one scan (P3)", told["later_seconds"] / told["scan_seconds"])
        else:
            _note(found, f"{case}, bytes on disk a record (P7)", _bytes_a_record(server.dsn(name)))
        limit_s = _limit(server.dsn(name))
        _note(found, f"{case}, COPY of the same rows, records/s", told["records"] / limit_s)
        label = {"queue": "queue ÷ COPY (P1)", "snapshot": "snapshot ÷ COPY (P1b)"}.get(case, f"{case} ÷ COPY")
        _note(found, label, limit_s / told["seconds"])
        _drop(server, name)


def _note(found: Found, name: str, value: float) -> None:
    found.setdefault(name, []).append(value)


def _database(server: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    migrations.migrate(server.url(name))  # here, so that the worker that is measured is one on any day
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CHECKPOINT")
    return server.url(name)


def _drop(server: EmbeddedPostgres, name: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _command(arguments: argparse.Namespace, case: str, url: str) -> list[str]:
    return [
        sys.executable,
        str(CASES),
        case,
        str(arguments.folder),
        url,
        str(arguments.records),
        str(arguments.sustain_s),
    ]


def _child(arguments: argparse.Namespace, case: str, url: str) -> dict[str, Any]:
    done = subprocess.run(_command(arguments, case, url), check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


class _Watch:
    """The most memory that the server's processes had together, what they share counted once; sampled."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server, self._done = server, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.peak_bytes = 0

    def _look(self) -> None:
        while not self._done.wait(1.0):
            self.peak_bytes = max(self.peak_bytes, sum(_pss_bytes(pid) for pid in self._server.processes()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended meanwhile, or is not ours to look at
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _limit(dsn: str) -> float:
    """Copy out what the case stored, empty the table, and return the seconds that copying it in again takes."""
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


SELECT_BYTES = """
SELECT sum(pg_total_relation_size(inhrelid)) / (SELECT count(*) FROM usage.record)
FROM pg_inherits WHERE inhparent = 'usage.record'::regclass
"""


def _bytes_a_record(dsn: str) -> float:
    with psycopg.connect(dsn) as connection:
        return float(connection.execute(SELECT_BYTES).fetchone()[0])


def _sustained(arguments: argparse.Namespace, server: EmbeddedPostgres, found: Found) -> None:
    """Load without a pause while somebody reads dashboards."""
    url = _database(server, "sustained")
    reader = subprocess.Popen(_command(arguments, "reads", url), stdout=subprocess.PIPE)
    told = _child(arguments, "sustained", url)
    read, _ = reader.communicate()
    _note(found, "sustained, records/s (P2)", told["records"] / told["seconds"])
    _note(found, "sustained, payloads behind at the end (P2)", told["behind"])
    _note(found, "sustained, worker's peak MB", told["peak_bytes"] / 1e6)
    for name, taken in json.loads(read)["reads"].items():
        _note(found, f"read {name}, p50 ms", statistics.median(taken) * 1000)
        _note(found, f"read {name}, p99 ms", sorted(taken)[int(len(taken) * 0.99)] * 1000)
    _drop(server, "sustained")


def _starts(arguments: argparse.Namespace, server: EmbeddedPostgres, found: Found) -> None:
    """Start the command against something that listens, and time the first byte that it sends."""
    url = _database(server, "starts")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        environment = os.environ | {
            "WORKER_DATABASE_URL": url, "WORKER_DATA_DIR": str(arguments.folder / "data"),
            "WORKER_UPSTREAM_URL": f"http://127.0.0.1:{listening.getsockname()[1]}",
            "WORKER_UPSTREAM_KEY": "EXAMPLE", "WORKER_UPSTREAM_NAME": UPSTREAM,
        }  # fmt: skip
        for n in range(STARTS + 1):
            started = time.perf_counter()
            command = [sys.executable, "-m", "worker", "sync", "--once"]
            child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            connection, _ = listening.accept()
            connection.recv(1)
            taken_s = time.perf_counter() - started
            child.kill()
            child.wait()
            connection.close()
            if n:  # the first one enters prices
                _note(found, "start to first byte asked, s (P8)", taken_s)
    for _ in range(STARTS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        _note(found, "start of Python itself, s", time.perf_counter() - started)
    _drop(server, "starts")


def _print(head: dict[str, Any], found: Found) -> None:
    print(", ".join(f"{name} {value}" for name, value in head.items()))
    targets = {f"({name})": target for name, (_, target) in MEASURES.items()}
    print(f"\n{'measure':52}{'median':>12}{'lowest':>12}{'highest':>12}  target")
    for name, runs in found.items():
        target = next((target for mark, target in targets.items() if name.endswith(mark)), "")
        print(f"{name:52}{statistics.median(runs):12,.2f}{min(runs):12,.2f}{max(runs):12,.2f}  {target}")


if __name__ == "__main__":
    main()
