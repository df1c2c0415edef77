"""The rollup tables, in one list: what a row of each is about, and what it is the sum of (pure).

Two hold every combination of dimensions, by hour and by day, and are sums of records. The summary rollups hold few
dimensions and are sums of those two, so that a year by channel, model or client key is read in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grain = Literal["hour", "day"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupTable:
    """One table of sums."""

    name: str
    """With its schema."""
    grain: Grain
    dimensions: tuple[str, ...]
    """The columns of its key behind the hour or the day."""
    description: str
    of: str = ""
    """The table whose rows it sums; none where it sums records."""

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of its key, in their order."""
        return (self.grain, *self.dimensions)

    @property
    def label(self) -> str:
        """What `worker verify` calls it."""
        return self.name.removeprefix("usage.")

    @property
    def recompute(self) -> str:
        """The function that sums it anew."""
        return f"{self.name}_from_{self.of.removeprefix('usage.') or 'records'}"


HOURLY = RollupTable(
    name="usage.hourly", grain="hour", dimensions=("dimension_id",),
    description="The hours of UTC by every combination of dimensions.",
)  # fmt: skip
DAILY = RollupTable(
    name="usage.daily", grain="day", dimensions=("dimension_id",),
    description="The days of the rollup time zone by every combination of dimensions.",
)  # fmt: skip
SUMMARIES = (
    RollupTable(
        name="usage.daily_channel", grain="day", dimensions=("channel_id", "model", "outcome"), of=DAILY.name,
        description="The days by channel, model and outcome.",
    ),
    RollupTable(
        name="usage.daily_key", grain="day", dimensions=("client_key_id", "outcome"), of=DAILY.name,
        description="The days by client key and outcome.",
    ),
    RollupTable(
        name="usage.hourly_key", grain="hour", dimensions=("client_key_id", "outcome"), of=HOURLY.name,
        description="The hours by client key and outcome.",
    ),
)  # fmt: skip
TABLES = (HOURLY, DAILY, *SUMMARIES)

COLUMN_TYPES = {
    "hour": "timestamptz", "day": "date", "dimension_id": "int4", "channel_id": "int4", "client_key_id": "int4",
    "model": "text", "outcome": "text",
}  # fmt: skip
"""The types of all columns of keys, by PostgreSQL's short names."""
