"""How v8 of the proxy serves its management API: other paths, bare values of settings, keys in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

BASE_PATH = "/v8/management"
SAME = MappingProxyType(
    {
        "observability/usage/queue": "usage-queue",
        "observability/usage/api-keys": "api-key-usage",
        "credentials": "auth-files",
    }
)
"""Paths whose answers are those of v0, and what v0 calls them."""

STATISTICS = "config/observability/usage/usage-statistics-enabled"
RETENTION = "config/observability/usage/redis-usage-queue-retention-seconds"
KEYS = "config/api-keys"
COMPATIBILITY = "openai-compatibility"


Entry = Mapping[str, Any]


def key_groups(mapping: Callable[[str], Entry], lists: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return all groups of keys, as a file of the old layout comes to them: one for each entry, with a name made up.

    Args:
        mapping: answers what v0 lists under a name.
        lists: the names of all lists there are under v0.
    """
    names = [name for name in lists if name == COMPATIBILITY or name.endswith("-api-key")]
    listed: dict[str, list[Entry]] = {name.removesuffix("-api-key"): mapping(name)[name] or [] for name in names}
    return {
        family: [_group(family, n, entry) for n, entry in enumerate(entries, start=1)]
        for family, entries in sorted(listed.items())
        if entries
    }


def _group(family: str, number: int, entry: Entry) -> dict[str, Any]:
    group: dict[str, Any] = {"base-url": entry["base-url"]} if entry.get("base-url") else {}
    if family != COMPATIBILITY:
        return group | {"keys": [_key(entry)], "name": f"{family}-{number}"}
    entries: list[Entry] = entry.get("api-key-entries") or []
    if not entries and entry.get("auth-index"):
        group["auth_index"] = entry["auth-index"]
    return group | {"keys": [_key(key) for key in entries], "models": entry.get("models"), "name": entry["name"]}


def _key(entry: Entry) -> dict[str, Any]:
    key: dict[str, Any] = {"api-key": entry["api-key"]}
    return key | {"auth_index": entry["auth-index"]} if entry.get("auth-index") else key
