"""v8's groups of keys → the entries that v0 lists (pure).

A group has one base URL and several keys; for an OpenAI-compatible provider it has the provider's name. The other
groups' names are left out: v0 lists have none, and where the proxy's file is of the old layout they are made up and
change with the order. So a channel is called as it was.
"""

from __future__ import annotations

import json
from typing import Any, cast

from worker.cliproxyapi.directory import (
    COMPATIBILITY,
    DEFAULT_BASE_URL,
    BadMappingError,
    Credential,
    as_list,
    is_key_list,
    parse_entries,
)
from worker.cliproxyapi.payload import whole
from worker.secret import Keyring

Listed = dict[str, tuple[list[Credential], int]]


def parse_groups(body: bytes, keyring: Keyring) -> tuple[Listed, list[str]]:
    """Read the answer that lists the keys of all providers.

    Returns:
        By the endpoint that lists the same under v0, its credentials and how many entries could not be read; and the
        endpoints whose groups could not be read at all.

    Raises:
        BadMappingError: the answer as a whole is not what is promised.
    """
    try:
        tree: Any = whole(json.loads(body))
    except (ValueError, RecursionError) as e:
        raise BadMappingError(f"not JSON: {e}") from None
    if not isinstance(tree, dict):
        raise BadMappingError("the answer holds no providers")
    listed, unread = Listed(), list[str]()
    for provider, told in cast("dict[str, Any]", tree).items():
        endpoint = provider if provider == COMPATIBILITY else f"{provider}-api-key"
        groups = as_list(told if told is not None else [])
        if groups is None or not is_key_list(endpoint):
            unread.append(endpoint)
        else:
            listed[endpoint] = parse_entries(endpoint, _entries(endpoint, provider, groups), keyring)
    return listed, unread


def _entries(endpoint: str, provider: str, groups: list[Any]) -> list[Any]:
    if endpoint == COMPATIBILITY:
        return [_compatible(group) for group in groups]
    return [entry for group in groups for entry in _native(provider, group)]


def _compatible(group: Any) -> Any:
    if not isinstance(group, dict):
        return group
    fields = cast("dict[str, Any]", group)
    return {**fields, "api-key-entries": fields.get("keys")}


def _native(provider: str, group: Any) -> list[Any]:
    """Return an entry for each key of a group, with the group's base URL; what cannot be read stays, to be counted."""
    if not isinstance(group, dict):
        return [group]
    fields = cast("dict[str, Any]", group)
    keys = as_list(fields.get("keys") or [])
    if keys is None:
        return [None]
    base_url = fields.get("base-url") or DEFAULT_BASE_URL.get(provider, "")
    held = [cast("dict[str, Any]", key) if isinstance(key, dict) else None for key in keys]
    return [{**key, "base-url": base_url, "name": ""} if key is not None else None for key in held]
