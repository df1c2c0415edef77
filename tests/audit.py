"""Asks whether what the worker is installed with has known vulnerabilities; exit 1 when it has.

    python tests/audit.py VENV

pip-audit lives in a virtual environment of its own in VENV, since it brings a good deal that nobody else here needs.
It asks a service on the network. Where that does not answer, or does not know a package, this is said and is no error.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK, TOOL = ROOT / "requirements.lock", ROOT / "requirements-audit.lock"


def installed(folder: Path) -> Path:
    """Make the tool's environment where it is missing or older than its lock; return its Python."""
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists() or stamp.stat().st_mtime < TOOL.stat().st_mtime:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, "--require-hashes", "-r", TOOL], check=True)
        stamp.touch()
    return python


def main() -> int:
    python = installed(Path(sys.argv[1]) / "audit")
    command = [python, "-m", "pip_audit", "--disable-pip", "--no-deps", "-r", LOCK, "-f", "json"]
    done = subprocess.run(
        [*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False, timeout=300
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"not audited: the vulnerability service cannot be asked ({last[:200]})")
        return 0
    return report(packages)


def report(packages: list[dict[str, Any]]) -> int:
    """Say what was found; return the exit code."""
    unknown = [p for p in packages if "skip_reason" in p]
    found = [(p["name"], p["version"], v["id"]) for p in packages for v in p.get("vulns") or []]
    for name, version, number in found:
        print(f"{name} {version}: {number}")
    print(f"audited {len(packages) - len(unknown)} of {len(packages)} packages, {len(found)} known vulnerabilities")
    if unknown:
        print(f"not audited, since the service does not know them or cannot be asked: {len(unknown)}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
