"""Whether an item that tells no tokens tells them under names that no proxy uses (pure): then it is no empty record."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

USAGE = re.compile(r"(?!max_)(?=.*(?:token|usage))", re.IGNORECASE)
NAMED_MAX = 5
NAME_MAX_CHARS = 40


def foreign_usage(fields: Mapping[str, Any], known: Collection[str], known_tokens: Collection[str]) -> list[str]:
    """Return the paths under which an item has counts that nobody here reads; empty where it has none.

    Args:
        fields: the item.
        known: names of an item that are read.
        known_tokens: names of its `tokens` that are read.
    """
    tokens = fields.get("tokens")
    found = [path for name, value in fields.items() if name not in known and USAGE.match(name)
             for path in _counts(name, value)]  # fmt: skip
    if isinstance(tokens, dict):
        inner = cast("dict[str, Any]", tokens)
        found += [path for name, value in inner.items() if name not in known_tokens
                  for path in _counts(f"tokens.{name}", value)]  # fmt: skip
    return [path[:NAME_MAX_CHARS] for path in found[:NAMED_MAX]]


def _counts(path: str, value: Any, depth: int = 3) -> Iterator[str]:
    """Yield the paths of the positive numbers in a value."""
    if isinstance(value, dict):
        if depth:
            for name, inner in cast("dict[str, Any]", value).items():
                yield from _counts(f"{path}.{name}", inner, depth - 1)
    elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        yield path
