"""How CLIProxyAPIHome tells the usage that its proxies have told it: by page, masked, each record under a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

Json = dict[str, Any]

RECORDS = "usage/records"
LIMIT_DEFAULT, LIMIT_MAX = 50, 200
ORDER = {"timestamp_desc": True, "timestamp_asc": False}
MASK_MIN_CHARS = 9


class BadQueryError(ValueError):
    """A parameter that Home refuses."""


class Home:
    """Its database of usage."""

    def __init__(self) -> None:
        self._records: list[tuple[int, Json]] = []
        self._number = 0

    def store(self, item: Json) -> None:
        """Append what a proxy has told, an item as the queue has it."""
        self._number += 1
        self._records.append((_time_ns(item["timestamp"]), record(item, self._number)))

    def drop(self, usage_ids: Iterable[int]) -> None:
        """Forget these records."""
        gone = set(usage_ids)
        self._records = [(at, one) for at, one in self._records if one["usage_id"] not in gone]

    def page(self, query: Mapping[str, str]) -> Json:
        """Answer `usage/records`.

        Raises:
            BadQueryError: a parameter is not understood.
        """
        sort = query.get("sort") or "timestamp_desc"
        if sort not in ORDER:
            raise BadQueryError(f'unsupported usage sort "{sort}"')
        limit, offset = _number(query, "limit", LIMIT_DEFAULT), _number(query, "offset", 0)
        begin, end = (_time_ns(query[name]) if query.get(name) else None for name in ("from", "to"))
        found = [
            (at, one["usage_id"], one)
            for at, one in self._records
            if (begin is None or at >= begin) and (end is None or at < end)
        ]
        found.sort(key=itemgetter(0, 1), reverse=ORDER[sort])
        limit = min(limit, LIMIT_MAX)
        return {
            "items": [one for _, _, one in found[offset : offset + limit]],
            "total": len(found),
            "limit": limit,
            "offset": offset,
            "sort": sort,
            "sortable_fields": ["timestamp", "total_tokens", "total_amount", "latency_ms"],
        }


def record(item: Json, usage_id: int) -> Json:
    """Return how Home shows an item: no key in clear, and what was not told as its own defaults."""
    fail: Json = item.get("fail") or {}
    failed, is_key = bool(item["failed"]), item["auth_type"] == "apikey"
    source = item["auth_index"] if is_key else item["source"]
    tokens: Json = {name: count for name, count in item["tokens"].items() if name != "cache_read_tokens_present"}
    told = fail.get("status_code") or 0
    return {
        "id": str(usage_id),
        "usage_id": usage_id,
        "timestamp": item["timestamp"],
        "request_id": item["request_id"],
        "upstream_request_id": None,
        "event_type": "completion",
        "status": "failed" if failed else "success",
        "failed": failed,
        "status_code": told if failed else 200,
        "upstream_status_code": None,
        "source": source or None,
        "provider": item["provider"],
        "model": item["model"],
        "original_model": item["alias"] or item["model"],
        "endpoint": item["endpoint"],
        "service_tier": item.get("service_tier") or "auto",
        "reasoning_effort": item.get("reasoning_effort") or None,
        "executor_type": item.get("executor_type", ""),
        "tokens": tokens,
        "token_breakdown": item.get("token_breakdown"),
        "performance": {"latency_ms": item["latency_ms"], "ttft_ms": item.get("ttft_ms") or None, "tps": None},
        "client": {
            "api_key_id": None, "api_key_label": "", "api_key_masked": masked(item["api_key"]),
            "user_id": None, "username": "", "client_ip": item.get("client_ip"),
        },
        "credential": {
            "credential_type": "provider_api_key" if is_key else item["auth_type"],
            "credential_id": item["auth_index"], "auth_index": item["auth_index"], "provider": item["provider"],
            "label": "", "source": "usage", "status": "unknown", "api_key_preview": None,
        },
        "billing": {
            "charge_id": f"charge-{usage_id}", "amount": 0.125, "currency": "credits",
            "billing_basis": "billing_charge", "matched_price_rule": "default:zero",
            "balance_before": None, "balance_after": None,
        },
        "runtime": {
            "home_ip": "10.0.0.1", "home_port": 8327, "cpa_node_id": "node-1", "cpa_ip": "10.0.0.2", "cpa_port": 8317,
            "cpa_label": "node-1", "request_log_available": False, "log_home_ip_required": True,
        },
        "error": {"status_code": told, "message": "", "body_preview": fail.get("body", "")} if failed else None,
    }  # fmt: skip


def masked(key: str) -> str:
    """Return what Home shows of a client's key."""
    if len(key) < MASK_MIN_CHARS:
        return "****" if key else ""
    return f"{key[:4]}...{key[-4:]}"


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name) or str(default)
    if not value.isdigit() or (name == "limit" and not int(value)):
        raise BadQueryError(f"{name} must be a non-negative integer")
    return int(value)


def _time_ns(value: str) -> int:
    """Return an RFC 3339 time in nanoseconds since 1970."""
    head, _, rest = value.replace("Z", "+00:00").partition(".")
    digits = rest[: next((n for n, char in enumerate(rest) if not char.isdigit()), len(rest))]
    whole = datetime.fromisoformat(head + (rest[len(digits) :] if rest else ""))
    seconds = (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return seconds * 10**9 + int(digits.ljust(9, "0") or 0)
