"""Writes what a worker of another time made of calls.json.

    python tests/upgrades/make.py CHECKOUT > tests/upgrades/N.sql

CHECKOUT is a checkout of the last commit at that schema. With no checkout, calls.json is made anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from worker.cliproxyapi.directory import ENDPOINTS
from worker.db.embedded import THROWAWAY, EmbeddedPostgres
from worker.simulator.proxy import Simulator
from worker.simulator.traffic import Traffic, queue_item

CALLS = Path(__file__).with_name("calls.json")
KEY = "EXAMPLE-management-key"
PRICE = {"MODEL": "*", "SERVICE_TIER": "*", "INPUT_USD_PER_MTOK": "2",
         "OUTPUT_USD_PER_MTOK": "8", "REQUEST_USD": "0.001",
         "CACHE_READ_USD_PER_MTOK": "0.25", "CACHE_WRITE_USD_PER_MTOK": "2.5"}  # fmt: skip


def make_calls() -> None:
    made = Traffic(7)
    items = [queue_item(call) for call in made.generate(3000)[::50]]
    items.append({**items[0], "timestamp": "yesterday"})
    lines = ",\n".join(json.dumps(item) for item in items)
    mappings = json.dumps({endpoint: made.mapping(endpoint) for endpoint in ENDPOINTS})
    CALLS.write_text(f'{{"items": [\n{lines}\n],\n"mappings": {mappings}}}\n')


def make_dump(checkout: Path) -> str:
    world = json.loads(CALLS.read_text())
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    try:
        with EmbeddedPostgres(folder / "postgres", settings=THROWAWAY) as server, Simulator(key=KEY) as simulator:
            with psycopg.connect(server.dsn(), autocommit=True) as admin:
                admin.execute("CREATE DATABASE usage")
            url = server.url("usage").replace("+psycopg", "")
            environment = os.environ | {
                "PYTHONPATH": str(checkout), "WORKER_DATABASE_URL": url, "WORKER_DATA_DIR": str(folder / "data"),
                "WORKER_UPSTREAM_URL": simulator.url, "WORKER_UPSTREAM_KEY": KEY,
            }  # fmt: skip
            environment |= {f"WORKER__PRICES__OWN__0__{name}": value for name, value in PRICE.items()}
            environment |= {"WORKER__PRICES__DATASET": "false"}
            for endpoint, body in world["mappings"].items():
                simulator.override(endpoint, body)
            for some in (world["items"][:40], world["items"][40:]):
                simulator.push_raw(some)
                command = [sys.executable, "-m", "worker", "sync", "--once"]
                subprocess.run(command, env=environment, cwd=checkout, check=False, stdout=sys.stderr)
            return dumped(url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def dumped(url: str) -> str:
    command = ["pg_dump", "--data-only", "--column-inserts", "--rows-per-insert=1000", "--load-via-partition-root",
               "--schema=usage", "--exclude-table=usage.schema_version", url]  # fmt: skip
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    text = re.sub(r"(?m)^(--.*|\\.*|SET .*|SELECT pg_catalog.set_config.*)?\n", "", text)
    with psycopg.connect(url) as connection:
        months = connection.execute(
            "SELECT DISTINCT date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date FROM usage.record ORDER BY 1"
        )
        made = "".join(f"SELECT usage.ensure_record_partition('{month}');\n" for (month,) in months)
    return made + text


if __name__ == "__main__":
    if len(sys.argv) == 1:
        make_calls()
    else:
        sys.stdout.write(make_dump(Path(sys.argv[1]).resolve()))
