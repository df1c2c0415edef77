"""Settings of the proxy as remedies name them, in both layouts of its configuration."""

from __future__ import annotations

from worker.cliproxyapi.generations import RETENTION, STATISTICS


def setting(line: str, v8: str) -> str:
    """Return how a setting is told: as it stands in the old layout, and in v8's."""
    return f"{line} (in v8's layout: {v8})"


STATISTICS_ON = setting(f"{STATISTICS}: true", f"observability.usage.{STATISTICS}: true")
SECRET_KEY = setting("remote-management.secret-key", "management.secret-key")
ALLOW_REMOTE = setting("remote-management.allow-remote: true", "management.allow-remote: true")


def retention(seconds: int) -> str:
    """Return the setting that keeps a record for so long."""
    return setting(f"{RETENTION}: {seconds}", f"observability.usage.{RETENTION}: {seconds}")
