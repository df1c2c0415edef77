"""The results of a run as JSON, and two of them side by side."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from worker import __version__

HERE = Path(__file__).parent
FOLDER = HERE / "results"


def header(postgresql: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Say what was measured, with what, where and when."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    packages = {name: version(name) for name in ("psycopg", "msgspec", "sqlalchemy")}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": (_git("rev-parse", "--short", "HEAD") or "unknown")
        + ("+" if _git("status", "--porcelain", "worker") else ""),
        "worker": __version__,
        "python": platform.python_version(),
        "postgresql": postgresql,
        **packages,
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        **arguments,
    }


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(HERE), *arguments]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip()


def save(head: dict[str, Any], measures: dict[str, Any], folder: Path, kind: str) -> Path:
    """Write the results; return where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{head['at'][:10]}-{head['commit']}{kind}.json"
    path.write_text(json.dumps({"header": head, "measures": measures}, indent=1) + "\n")
    return path


def compare(paths: list[Path]) -> str:
    """Return two results side by side: the newest two where none are named."""
    chosen = paths or sorted(FOLDER.glob("*.json"), key=lambda p: json.loads(p.read_text())["header"]["at"])[-2:]
    if len(chosen) != len(("old", "new")):
        return f"there are no two results in {FOLDER.name}/ to compare"
    old, new = (json.loads(path.read_text()) for path in chosen)
    lines = [f"old: {chosen[0].name}", f"new: {chosen[1].name}", ""]
    lines.append(f"{'measure':52}{'old':>12}{'new':>12}{'new ÷ old':>11}")
    for name, measure in new["measures"].items():
        before = old["measures"].get(name)
        if before is not None:
            lines.append(_compared(name, before["runs"], measure["runs"]))
    return "\n".join(lines)


def _compared(name: str, old: list[float], new: list[float]) -> str:
    was, becomes = statistics.median(old), statistics.median(new)
    apart = max(old) < min(new) or max(new) < min(old)
    ratio = becomes / was if was else math.nan
    return f"{name:52}{was:12,.2f}{becomes:12,.2f}{ratio:11.2f}{'  *' if apart and len(old) > 1 else ''}"
