"""What becomes of a record that cannot be read: kept without its secrets, in a form that can be read again."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import msgspec

from worker.cliproxyapi.payload.record import (
    ROUTE,
    BadRecord,
    Fail,
    Input,
    Item,
    Output,
    Record,
    Tokens,
    by_item,
    clean,
    error_word,
    loads,
    soft,
    text,
)
from worker.secret import Keyring, is_account, is_masked

_SECRET = ("api_key", "source")
_NUMBERS = {
    "tokens": Tokens.__struct_fields__,
    "token_breakdown": ("quality", "total_tokens", "input", "output", "unclassified_tokens"),
    "input": Input.__struct_fields__,
    "output": Output.__struct_fields__,
    "fail": ("status_code", "body"),
}
_WORDS = {
    *Item.__struct_fields__, *(name for names in _NUMBERS.values() for name in names), "schema_version",
    "usage", "apis", "models", "details", "total_requests", "failed_requests", "success_count", "failure_count",
    "error", "true", "false", "null",
}  # fmt: skip
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"?|[^\s{}\[\]:,"]+', re.DOTALL)
_SHORT_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,9})?")
KEPT_MAX_CHARS = 4000


def quarantine(bad: BadRecord, keyring: Keyring) -> tuple[str, bool]:
    """Return how a bad record is kept, and whether it can be read again: every secret replaced.

    An object keeps the fields that this room reads; its keys become digests, by which a later `decode_quarantined`
    still finds identity and channel. Bytes that are no object keep their structure and the names of fields only.
    """
    if bad.record is not None:
        labels = bad.record.labels
        key, source = hidden(labels.client_key, keyring), hidden(labels.source, keyring)
        sealed = msgspec.structs.replace(
            bad.record, labels=msgspec.structs.replace(labels, client_key=key, source=source)
        )
        return json.dumps({"decoded": msgspec.to_builtins(sealed)}), True
    try:
        found: Any = loads(bad.raw)
        if isinstance(found, str):
            found = loads(found.encode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        shape = bad.raw[:KEPT_MAX_CHARS].decode("utf-8", "replace")
        return clean(_TOKEN.sub(_shape, shape)), False
    fields = cast("dict[str, Any]", found)
    kept = {name: _kept(name, fields[name], keyring) for name in Item.__struct_fields__ if name in fields}
    key, model = bad.client_key, bad.model
    shown = text(key) if key == "unknown" or ROUTE.match(key) else hidden(clean(key), keyring)
    return json.dumps({"client_key": shown, "model": text(model), "record": kept}), True


def hidden(secret: str, keyring: Keyring) -> str:
    """Return what stands for a secret in a record that is set aside; accounts stay as they are."""
    return secret if not secret or is_account(secret) or is_masked(secret) else keyring.sealed(secret)


def _kept(name: str, value: Any, keyring: Keyring) -> Any:
    """Return a field's value as it is kept: numbers, names, digests; anything else by its kind."""
    if name in _SECRET:
        if not isinstance(value, str):
            return _kind(value)
        return hidden(clean(value.strip() if name == "source" else value), keyring)
    if name == "fail":
        fail = soft("fail", value)
        word = error_word(fail) if isinstance(fail, Fail) else None
        status = fail.status_code if isinstance(fail, Fail) else None
        return {"status_code": status, "body": json.dumps({"error": {"type": word}}) if word else ""}
    if name in _NUMBERS and isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        return {
            n: _kept(n, inner[n], keyring) if n in _NUMBERS else _plain(inner[n]) for n in _NUMBERS[name] if n in inner
        }
    if isinstance(value, str) and name not in _NUMBERS:
        return text(value)
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return a number or a truth value as it is, a short number's text too, anything else by its kind."""
    if value is None or isinstance(value, (bool, int, float)) or value in ("complete", "inconsistent", "unclassified"):
        return value
    return value if isinstance(value, str) and _SHORT_NUMBER.fullmatch(value) else _kind(value)


def _kind(value: Any) -> Any:
    return None if value is None else f"({type(value).__name__})"


def _shape(match: re.Match[str]) -> str:
    """Keep the name of a field and a number, blank any other word."""
    word = match[1] if match[1] is not None else match[0]
    if word in _WORDS or _SHORT_NUMBER.fullmatch(word):
        return match[0]
    return f'"({len(word)} characters)"'


def decode_quarantined(payload: str) -> Record | None:
    """Read a record that was set aside, its secrets replaced (see `quarantine`); None if it still cannot be read."""
    envelope = json.loads(payload)
    if "decoded" in envelope:
        return msgspec.convert(envelope["decoded"], Record)
    outcome = by_item(json.dumps(envelope["record"]).encode(), envelope["client_key"], envelope["model"])
    return outcome if isinstance(outcome, Record) else None
