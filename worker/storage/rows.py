"""A record as it is stored and what it names, in parts that belong together (pure).

They are flattened beside COPY and nowhere else.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from worker.pricing.price import UNCHARGED, Charge
from worker.usage.tokens import Normalised, ReportedCounts


class Origin(NamedTuple):
    """What records say of their credential."""

    auth_index: str
    source_digest: bytes
    source_label: str
    auth_type: str


class Dimension(NamedTuple):
    """One combination of the rollups' dimensions."""

    channel_id: int
    client_key_id: int
    provider: str
    endpoint: str
    model: str
    alias: str
    outcome: str


class Details(NamedTuple):
    """What a record says beside its identity and its counts, in the order of its columns."""

    status_code: int | None
    request_id: str
    service_tier: str
    response_service_tier: str
    reasoning_effort: str
    error: str | None
    execution_id: str | None
    stream: bool | None
    session_id: str | None
    parent_session_id: str | None
    response_model: str | None
    cache_write_1h_tokens: int | None


class Row(NamedTuple):
    """One record as it is stored."""

    occurred_at: datetime
    event_key: bytes
    base_key: bytes | None
    """What the event key would be without an execution id and an ordinal, where that is another one."""
    dimension_id: int
    origin_id: int
    channel_rule: str
    latency_ms: int | None
    ttft_ms: int | None
    reported: ReportedCounts
    counts: Normalised
    details: Details
    charge: Charge


NO_DETAILS = Details(None, "", "", "", "", None, None, None, None, None, None, None)


def empty_row(at: datetime, dimension_id: int, origin_id: int, event_key: bytes) -> Row:
    """Return a record that holds nothing which PostgreSQL could refuse."""
    nothing = ReportedCounts(0, 0, 0, 0, 0), Normalised(0, 0, 0, 0, 0), NO_DETAILS, UNCHARGED
    return Row(at, event_key, None, dimension_id, origin_id, "none", None, None, *nothing)


class Stored(NamedTuple):
    """A stored record with what it says of its credential."""

    row: Row
    origin: Origin
