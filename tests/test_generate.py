"""The generator of migrations: one more measure, in a copy of the checkout, on a database that has records."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import Books, calls, plain_environment, proxy

from worker.db import migrations

ROOT = Path(__file__).parents[1]
LIST = ("worker/usage/measures.py", "\n)  # fmt: skip\n\nMEASURES", """
    _tokens("cache_write_1h_tokens", "Of cache_write_tokens, those that are kept for an hour."),
)  # fmt: skip

MEASURES""")  # fmt: skip
COUNTED = ("worker/rollups/deltas.py", '        "latency_ms_sum": sum(latencies)', """\
        "cache_write_1h_tokens": sum([row.details.cache_write_1h_tokens or 0 for row in rows]),
        "latency_ms_sum": sum(latencies)""")  # fmt: skip
IN_SQL = (
    "migrations/schema/rollups.sql",
    "    'requests': '1::bigint',\n",
    """\
    'requests': '1::bigint',
    'cache_write_1h_tokens': 'coalesce(r.cache_write_1h_tokens, 0)',
""",
)
KEPT_FOR_AN_HOUR = "UPDATE usage.record SET cache_write_1h_tokens = cache_write_tokens / 2 + 1"


@pytest.fixture
def checkout(tmp_path):
    copy = tmp_path / "checkout"
    for folder in ("worker", "migrations"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def python(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    found = plain_environment({"PYTHONPATH": str(checkout), **environment})
    return subprocess.run(
        [sys.executable, *arguments], env=found, cwd=checkout, check=False, capture_output=True, text=True
    )


def generate(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(checkout, "migrations/generate.py", *arguments)


def edit(checkout: Path, file: str, was: str, becomes: str) -> None:
    path = checkout / file
    text = path.read_text()
    assert text.count(was) == 1, file
    path.write_text(text.replace(was, becomes))


def sums(books: Books) -> dict[str, list[tuple[int]]]:
    shown = ("v1_daily", "v1_hourly", "v1_daily_channels", "v1_daily_keys", "v1_hourly_keys", "v1_record_measures",
             "v1_usage(NULL, NULL)", "v1_totals(NULL, NULL)", "v1_trend(NULL, NULL)")  # fmt: skip
    return {what: books.ask(f"SELECT sum(cache_write_1h_tokens)::bigint FROM usage_api.{what}") for what in shown}


def test_one_more_measure_is_three_lines_and_a_migration_that_counts_what_is_there(books, checkout):
    with proxy("queue", calls(300)) as simulator:
        books.sync(simulator)
    books.ask(KEPT_FOR_AN_HOUR)
    for change in (LIST, COUNTED, IN_SQL):
        edit(checkout, *change)
    assert generate(checkout, "--check").returncode == 1
    made = generate(checkout, "--migration", "more")
    assert made.returncode == 0, made.stderr
    assert generate(checkout, "--check").returncode == 0
    environment = books.environment()
    for command in ("migrate", "verify"):
        finished = python(checkout, "-m", "worker", command, **environment)
        assert finished.returncode == 0, (command, finished.stdout, finished.stderr)
    everything = books.ask("SELECT sum(cache_write_1h_tokens)::bigint FROM usage.record")
    assert everything[0][0] > 300
    assert {what: found for what, found in sums(books).items() if found != everything} == {}
    table = python(checkout, "-m", "worker", "report", "summary", "--json", **environment).stdout
    assert f'"cache_write_1h_tokens": {everything[0][0]}' in table


def test_what_it_cannot_make_out_is_said_and_nothing_is_written(checkout):
    before = sorted(path.name for path in (checkout / "migrations" / "versions").iterdir())
    edit(checkout, "migrations/schema/tables.sql", "    candidates text NOT NULL DEFAULT '',\n", "")
    made = generate(checkout, "--migration", "less")
    assert (made.returncode, "TABLE usage.origin is written by hand" in made.stderr) == (1, True)
    assert sorted(path.name for path in (checkout / "migrations" / "versions").iterdir()) == before
    assert f'"{migrations.HEAD}"' in (checkout / "worker" / "db" / "head.py").read_text()
