"""The benchmarks run, and say all that they are to say. How fast anything is, no test says."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(script, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    said = run("run.py", "--records", 2000, "--runs", 2, "--sustain-s", 2, "--results", folder)
    (path,) = folder.glob("*.json")
    return said, path


def test_every_target_is_measured(measured):
    said, path = measured
    result = json.loads(path.read_text())
    for name in ("P1", "P1b", "P2", "P3", "P4", "P7", "P8"):
        assert any(measure.endswith(f"({name})") for measure in result["measures"]), name
    for name, measure in result["measures"].items():
        assert measure["runs"], name
        assert all(math.isfinite(figure) and figure >= 0 for figure in measure["runs"]), name
        assert name in said
    assert {"commit", "python", "postgresql", "cpu", "cores", "memory_bytes", "records"} <= result["header"].keys()


def test_two_results_are_compared(measured):
    said = run("run.py", "--compare", measured[1], measured[1])
    assert "queue ÷ COPY (P1)" in said
    assert "1.00" in said


def test_what_history_costs_is_measured(tmp_path):
    said = run("scale.py", "--records", 30_000, "--days", 62, "--batches", 3, "--sustain-s", 1, "--results", tmp_path)
    (path,) = tmp_path.glob("*-scale.json")
    measures = json.loads(path.read_text())["measures"]
    assert measures["record, rows"]["runs"] == [30_000]
    wanted = (
        "many stored ÷ none (P6)",
        "p99 ms, while loading (P5)",
        "verify, s, 30,000 stored",
        "maintain, drops the",
    )
    for part in wanted:
        found = [measure["runs"][0] for name, measure in measures.items() if part in name]
        assert found, (part, said)
        assert all(map(math.isfinite, found)), said
    assert "Index" in (tmp_path / "plans.txt").read_text()
