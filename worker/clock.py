"""The clock on the wall. Schedules go by the monotonic one; records carry the proxy's time."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time of the clock, in UTC."""
    return datetime.now(UTC)
