"""The generations of the proxy's management API: under which path each question is asked (pure).

v0 is asked first. v8 moved every path; up to v8.0.20 the proxy serves both, with the same answers but for the
configuration: there v8 answers a bare value, and 404 for what was never written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

STATISTICS = "usage-statistics-enabled"
QUEUE = "usage-queue"
SNAPSHOT = "usage"
CONFIG = "config"
HOME_RECORDS = "usage/records"
"""What CLIProxyAPIHome keeps in its database, under both generations' paths."""

RETENTION = "redis-usage-queue-retention-seconds"
AUTH_FILES = "auth-files"
KEY_COUNTERS = "api-key-usage"
KEY_GROUPS = "api-keys"
"""All keys of all providers in one answer; what v0 calls so are the keys of clients, which nobody here asks for."""

UNSET = "not_found"
"""What v8 says with a 404 where its configuration holds nothing under a path that is served."""

BASE = re.compile(r"/v[08]/management")


class Generation(NamedTuple):
    """One generation: what its base path ends with, and where its answers are."""

    name: str
    moved: Mapping[str, str] | None
    """The path of each question; None where each has its own name."""

    @property
    def base(self) -> str:
        """What the base path ends with."""
        return f"/{self.name}/management"

    def path(self, question: str) -> str | None:
        """Return where a question is asked; None where this generation has no such."""
        return question if self.moved is None else self.moved.get(question)


V0 = Generation("v0", None)
V8 = Generation(
    "v8",
    {
        STATISTICS: "config/observability/usage/usage-statistics-enabled",
        RETENTION: "config/observability/usage/redis-usage-queue-retention-seconds",
        QUEUE: "observability/usage/queue",
        KEY_COUNTERS: "observability/usage/api-keys",
        AUTH_FILES: "credentials",
        KEY_GROUPS: "config/api-keys",
        HOME_RECORDS: HOME_RECORDS,
    },
)


def first(url: str) -> Generation:
    """Return the generation that a base URL names, v0 where it names none."""
    return V8 if V8.base in url else V0


def other(generation: Generation) -> Generation:
    """Return the one to ask where this one is not served."""
    return V0 if generation is V8 else V8


def base_url(url: str, generation: Generation) -> str:
    """Return under which URL a generation is served, for one with or without the path of either.

    A management path that names no generation, as behind a reverse proxy, is taken for that of both.
    """
    if BASE.search(url):
        return BASE.sub(generation.base, url)
    return url if "/management" in url else url + generation.base
