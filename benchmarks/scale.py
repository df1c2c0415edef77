"""What history costs: loading, repairs and reads with tens of millions of records stored, against few or none.

    make scale                                                  # 50 million over a year: about half an hour, 25 GB
    make scale SCALE_ARGS="--records 10000000 --days 90"

On one embedded PostgreSQL with default durability. Read medians and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import figures
import fill
import psycopg
import results
from cases import READS, SELECT_NEWEST

from worker.db import migrations
from worker.db.embedded import EmbeddedPostgres

HERE = Path(__file__).parent
FEW = 1_000_000
Found = dict[str, list[float]]

TABLES = ("record", "hourly", "daily", "hourly_key", "daily_channel", "daily_key")
SIZES = """
SELECT coalesce((SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('usage.{table}')),
                pg_total_relation_size('usage.{table}')),
       (SELECT count(*) FROM usage.{table})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--batches", type=int, default=20, help="how many batches are loaded of each kind")
    parser.add_argument("--sustain-s", type=float, default=60.0, help="how long dashboards are read while loading")
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="where the JSON goes")
    arguments = parser.parse_args()
    found: Found = {}
    with tempfile.TemporaryDirectory(prefix="worker-scale-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with EmbeddedPostgres(folder / "postgres") as server:
            with psycopg.connect(server.dsn()) as connection:
                version = connection.info.parameter_status("server_version") or ""
            _case(folder, "prepare", "", arguments.batches * 10_000, 0)
            _loads(found, folder, _filled(server, "empty", 0, 0, found), "none stored")
            few = min(FEW, arguments.records // 10)
            small = _filled(server, "few", few, max(31, arguments.days * few // arguments.records), found)
            _commands(found, folder, small, f"{few:,} stored")
            many = f"{arguments.records:,} stored"
            large = _filled(server, "many", arguments.records, arguments.days, found)
            _sizes(found, large)
            _loads(found, folder, large, many)
            ratio = statistics.median(found[f"batch, new, ms, {many}"]) / statistics.median(
                found["batch, new, ms, none stored"]
            )
            found["batch of 10,000, many stored ÷ none (P6)"] = [ratio]
            _reads(found, folder, large, arguments.sustain_s)
            taken, plans = figures.measure(_dsn(large))
            found |= taken
            _keep_plans([*_plans(large), *plans], arguments.results)
            _commands(found, folder, large, many)
    told = {"records": arguments.records, "days": arguments.days}
    head = results.header(version.split()[0], told)
    _print(head, found)
    kept = results.save(head, {n: {"runs": runs} for n, runs in found.items()}, arguments.results, "-scale")
    print(f"\nkept in {kept.name}")


def _filled(server: EmbeddedPostgres, name: str, records: int, days: int, found: Found) -> str:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    migrations.migrate(server.url(name))
    started = time.perf_counter()
    if records:
        fill.fill(server.dsn(name), records, days)
        found[f"filling, s, {records:,} records"] = [time.perf_counter() - started]
    return server.url(name)


def _case(folder: Path, case: str, url: str, records: int, sustain_s: float) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "cases.py"), case, str(folder), url, str(records), str(sustain_s)]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def _loads(found: Found, folder: Path, url: str, what: str) -> None:
    for kind, taken in _case(folder, "batches", url, 0, 0)["batches"].items():
        found[f"batch, {kind}, ms, {what}"] = [s * 1000 for s in taken[2:]]  # the first ones enter names


def _sizes(found: Found, url: str) -> None:
    with psycopg.connect(_dsn(url)) as connection:
        for table in TABLES:
            size, rows = connection.execute(SIZES.format(table=table)).fetchone()
            found[f"{table}, bytes a row"] = [float(size) / rows]
            found[f"{table}, rows"] = [float(rows)]


def _reads(found: Found, folder: Path, url: str, sustain_s: float) -> None:
    """Read dashboards alone, then while another process loads batch after batch."""
    for when in ("alone", "while loading (P5)"):
        loading = None
        if when != "alone":
            command = [sys.executable, str(HERE / "cases.py"), "batches", str(folder), url, "0", str(sustain_s + 5)]
            loading = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            time.sleep(3.0)
        for name, taken in _case(folder, "reads", url, 0, sustain_s)["reads"].items():
            found[f"{name}, p50 ms, {when}"] = [statistics.median(taken) * 1000]
            found[f"{name}, p99 ms, {when}"] = [sorted(taken)[int(len(taken) * 0.99)] * 1000]
        if loading:
            loading.wait()


def _plans(url: str) -> list[str]:
    with psycopg.connect(_dsn(url)) as connection:
        newest = connection.execute(SELECT_NEWEST).fetchone()[0]
        lines: list[str] = []
        for name, query in READS.items():
            lines += ["", f"-- {name}"]
            plan = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {query}", {"newest": newest})
            lines += [line for (line,) in plan]
    return lines


def _keep_plans(lines: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.txt").write_text("\n".join(lines) + "\n")


def _dsn(url: str) -> str:
    return url.replace("+psycopg", "")


def _commands(found: Found, folder: Path, url: str, what: str) -> None:
    """Time the commands that may meet all of history, and those that must not."""
    after = fill.LAST + timedelta(days=1)
    month, days = (["--since", str(after - timedelta(days=n)), "--until", str(after)] for n in (29, 2))
    commands = {
        "status": ["status"],
        "report channels": ["report", "channels"],
        "resolve, nothing new": ["resolve", "--upstream", "filled"],
        "verify, the last month": ["verify", *month],
        "reprice, two days": ["reprice", *days],
        "verify": ["verify"],
        "maintain, drops the oldest months": ["maintain"],
    }
    environment = os.environ | {
        "WORKER_DATABASE_URL": url, "WORKER_DATA_DIR": str(folder / "data"), "WORKER_UPSTREAM_NAME": "filled",
        "WORKER_UPSTREAM_URL": "http://127.0.0.1:9", "WORKER_UPSTREAM_KEY": "EXAMPLE", "WORKER_LOG_LEVEL": "error",
        "WORKER__RETENTION__RECORDS_DAYS": "60",
    }  # fmt: skip
    for name, arguments in commands.items():
        started = time.perf_counter()
        command = [sys.executable, "-m", "worker", *arguments]
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        found[f"{name}, s, {what}"] = [time.perf_counter() - started]
        if done.returncode not in (0, 4, 6):  # the proxy does not answer, which `resolve` lives with
            print(f"{name} ended with {done.returncode}", file=sys.stderr)


def _print(head: dict[str, Any], found: Found) -> None:
    print(", ".join(f"{name} {value}" for name, value in head.items()))
    print(f"\n{'measure':66}{'median':>14}{'highest':>14}")
    for name, runs in found.items():
        print(f"{name:66}{statistics.median(runs):14,.2f}{max(runs):14,.2f}")


if __name__ == "__main__":
    main()
