"""Pages of CLIProxyAPIHome's usage records → items → records.

Home keeps what its proxies tell, in a database of its own. What it shows is the proxy's item in other words: names in
objects, the client's key masked, and a number of its own, by which each of its records is itself.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

import msgspec

from worker.cliproxyapi.payload.record import (
    EPOCH,
    BadRecord,
    BadValueError,
    Item,
    Record,
    get,
    loads,
    read,
    timestamp_ns,
)
from worker.json_errors import NOT_JSON

HIDDEN_FIELDS = (
    "id",
    "usage_id",
    "performance",
    "client",
    "credential",
    "billing",
    "runtime",
    "error",
    "original_model",
    "status_code",
)
"""What is told in other places of a queue's item, and what is Home's own: its prices and who runs what."""

API_KEY_TYPES = ("provider_api_key", "api_key")


class HomeRecord(NamedTuple):
    """One record of a page: its number, when it began as Home says it and in nanoseconds, and what was read."""

    usage_id: int
    timestamp: str
    occurred_at_ns: int
    outcome: Record | BadRecord | None


class HomePage(NamedTuple):
    """One page: its records, how many there are in the window that was asked for, and how many a page holds."""

    records: list[HomeRecord]
    total: int
    limit: int


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    total: int
    limit: int


class _Place(msgspec.Struct):
    usage_id: int
    timestamp: str


_PAGE = msgspec.json.Decoder(_Page)
_PLACE = msgspec.json.Decoder(_Place)


def decode_home(body: bytes) -> HomePage:
    """Read one page of `/usage/records`.

    Raises:
        BadValueError: it is no page, or a record in it has no number or no time, so that nothing can go on behind it.
    """
    try:
        page = _PAGE.decode(body)
        records = [_read(raw) for raw in page.items]
    except NOT_JSON as e:
        raise BadValueError(f"no page of usage records: {e}") from None
    if page.total < 0 or page.limit <= 0:
        raise BadValueError("no page of usage records: its total or its limit is no count")
    return HomePage(records, page.total, page.limit)


def _read(raw: msgspec.Raw) -> HomeRecord:
    place = _PLACE.decode(raw)
    at_ns = _place_ns(place.timestamp)
    flat = msgspec.json.encode(as_queue_item(cast("dict[str, Any]", loads(raw)), place.usage_id))
    return HomeRecord(place.usage_id, place.timestamp, at_ns, read(msgspec.Raw(flat), "", ""))


def _place_ns(timestamp: str) -> int:
    """Return a time in nanoseconds since 1970 UTC, whichever: a proxy's broken clock keeps back no other's records.

    Raises:
        BadValueError: it is no time.
    """
    try:
        return timestamp_ns(timestamp)
    except BadValueError:
        try:
            at = datetime.fromisoformat(timestamp)
            return (at - EPOCH) // timedelta(microseconds=1) * 1000
        except (ValueError, TypeError, OverflowError):
            raise BadValueError(f"the time {timestamp[:40]!r} of a record is none") from None


def as_queue_item(record: dict[str, Any], usage_id: int) -> dict[str, Any]:
    """Return one of Home's records under the names that a queue's item has; what has no other name stays."""
    credential, client, failure = (record.get(name) for name in ("credential", "client", "error"))
    kind = get(credential, "credential_type")
    told = {
        "execution_id": f"usage_id:{usage_id}",
        "latency_ms": get(record.get("performance"), "latency_ms"),
        "ttft_ms": get(record.get("performance"), "ttft_ms"),
        "auth_index": get(credential, "auth_index"),
        "auth_type": "apikey" if kind in API_KEY_TYPES else kind,
        "api_key": get(client, "api_key_masked"),
        "alias": record.get("original_model"),
        "fail": {
            "status_code": get(failure, "status_code") or record.get("upstream_status_code"),
            "body": get(failure, "body_preview"),
        },
    }
    left = {name: value for name, value in record.items() if name not in HIDDEN_FIELDS}
    return left | {name: value for name, value in told.items() if name in Item.__struct_fields__}
