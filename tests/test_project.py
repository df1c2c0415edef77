"""The project's own paperwork: locks, dependencies and the test command say the same thing everywhere."""

import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

RUNTIME = PROJECT["project"]["dependencies"]
EMBEDDED = PROJECT["project"]["optional-dependencies"]["embedded"]
DEV = PROJECT["dependency-groups"]["dev"]
BUILD = PROJECT["build-system"]["requires"]

LOCKS = {
    "requirements.lock": RUNTIME,
    "requirements-demo.lock": RUNTIME + EMBEDDED + BUILD,
    "requirements-dev.lock": RUNTIME + EMBEDDED + BUILD + DEV,
}


def names(requirements):
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def locked(lock):
    """The lock's logical lines, comments dropped: each is a requirement followed by its options."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", (ROOT / lock).read_text(encoding="utf-8"))
    return [line for line in text.replace("\\\n", " ").splitlines() if line]


def pins(lock):
    found = {}
    for line in locked(lock):
        requirement = Requirement(line.split("--hash=")[0])
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        found[canonicalize_name(requirement.name)] = pin.version
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_a_version_that_pyproject_allows_for_every_dependency(lock):
    have = pins(lock)
    for line in LOCKS[lock]:
        wanted = Requirement(line)
        assert canonicalize_name(wanted.name) in have, f"{lock} lacks {wanted.name}: make lock"
        assert have[canonicalize_name(wanted.name)] in wanted.specifier, f"{lock} breaks {line}: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_by_hash_and_names_no_place(lock):
    for line in locked(lock):
        name, *options = line.split(" --")
        assert options, f"{name} has no hash"
        for option in options:
            assert re.fullmatch(r"hash=sha256:[0-9a-f]{64}", option.strip()), f"{name}: {option}"
    text = (ROOT / lock).read_text(encoding="utf-8")
    for place in ("://", "index-url", "find-links", "file:", " @ ", "/tmp", "/home", "/root"):
        assert place not in text


def test_the_image_is_locked_without_database_and_tools():
    assert pins("requirements.lock").keys().isdisjoint(names(EMBEDDED + DEV + BUILD))


def test_the_locks_agree():
    runtime, demo, dev = (pins(lock).items() for lock in LOCKS)
    assert runtime <= demo <= dev


def test_every_direct_dependency_is_explained_and_nothing_else_is():
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"(?m)^\| ([a-z][a-z0-9-]+) \|", text)) - {"package"}
    assert rows == names(RUNTIME + EMBEDDED + DEV)


def test_ci_runs_the_readmes_commands_for_checks_and_tests():
    blocks = re.findall(r"(?ms)^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"))
    lines = "".join(blocks).splitlines()
    commands = [line.removeprefix("$ ").partition(" #")[0].strip() for line in lines]
    assert {"make check", "make test"} <= set(commands)

    script = ROOT / ".ci/run"
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    assert lines[0] == "set -euo pipefail"
    assert lines[2:] == ["make check", "exec make test"]  # the line before goes to the project's folder
    assert os.access(script, os.X_OK)


def test_the_map_names_every_package_in_the_order_of_their_imports():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    told = re.findall(r"(?m)^\| `(\w+)` \|", text)
    packages = {path.parent.name for path in (ROOT / "worker").glob("*/__init__.py")}
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    in_order = [name for layer in layers for name in layer.split(" | ") if name in packages]
    assert told == in_order
    for file in re.findall(r"`((?:worker|tests|migrations)/[\w/.]+)`", text):
        assert (ROOT / file).exists(), file
