"""Bytes → Record: the only room that spells the field names of a usage payload (pure).

One tolerant parser for every shape a proxy, a fork or an adapter has ever answered with: snapshots, export files,
queue arrays, JSON lines. Unknown fields are ignored and everything but the timestamp is optional. What cannot be
read becomes a BadRecord with its reason, and its siblings load. Nothing is made up: no time, no count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Literal, cast

import msgspec

from worker.secret import Keyring, is_account
from worker.tokens import NOTHING, Normalised, Reported, family, normalise

Outcome = Literal["success", "failed", "warmup"]

CHUNK_RECORDS = 10_000
"""How many records of a snapshot or of a file are handed on at once."""

TEXT_MAX_CHARS = 150
"""Names longer than this are cut: four of them must fit into one index entry."""

COUNT_MAX = 10**12
"""A count above this is no count of one request's tokens: sums of such would not fit their columns."""

DURATION_MAX_MS = 10**9
"""A duration above this, eleven days, was not measured but made up by a broken clock."""

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
EARLIEST, LATEST = (
    datetime.fromisoformat("2020-01-01T00:00:00Z"),
    datetime.fromisoformat("2100-01-01T00:00:00Z"),
)
TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")
ROUTE = re.compile(r"(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) /")
ERROR_CLASS = re.compile(r"[A-Za-z][A-Za-z_]{2,63}")
HTTP_ERROR = 400
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


class Record(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """One attempt at an upstream, as the payload told it. `client_key` and `source` may be secrets, in clear.

    `occurred_at_ns` counts nanoseconds since 1970 UTC. An empty string means that the payload had none; None for
    `latency_ms`, `ttft_ms` and `status_code` that it was not measured or not told.
    """

    occurred_at_ns: int
    client_key: str
    model: str
    alias: str
    provider: str
    endpoint: str
    auth_type: str
    auth_index: str
    source: str
    request_id: str
    outcome: Outcome
    failed: bool
    status_code: int | None
    error: str | None
    service_tier: str
    reasoning_effort: str
    latency_ms: int | None
    ttft_ms: int | None
    reported: Reported
    normalised: Normalised
    classified: bool = False
    """Whether the payload told `normalised` itself, by a breakdown that is complete and adds up."""
    ordinal: int = 0

    def __repr__(self) -> str:
        """Name the record without its secrets."""
        return f"<Record {self.model} at {self.occurred_at_ns}>"

    def identity(self, upstream: str, keyring: Keyring) -> str:
        """Return the text whose digest is the event key: the same through the queue and through a snapshot.

        The proxy's own key, and an ordinal for siblings that share it within one payload. Provider, endpoint and
        request id stay out: a snapshot does not have them. Secrets enter as digests, so that a record set aside
        without its secrets keeps its identity.
        """
        r = self.reported
        key, source = keyring.digest(self.client_key).hex(), keyring.digest(self.source).hex()
        return (
            f"{upstream}\0{key}\0{self.model}\0{self.occurred_at_ns}\0{source}\0{self.auth_index}\0{self.failed:d}"
            f"\0{r.input}\0{r.output}\0{r.reasoning}\0{r.cached}\0{r.total}\0{self.ordinal}"
        )


class BadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be read: the reason, the bytes, and what a snapshot says of them around them."""

    reason: str
    raw: bytes
    client_key: str = ""
    model: str = ""

    def __repr__(self) -> str:
        """Name the reason and not the bytes: they may hold a key."""
        return f"<BadRecord {self.reason}>"


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """Some of a payload's records and what could not be read between them, in the payload's order."""

    records: list[Record]
    bad: list[BadRecord]
    complete: bool = True
    """False when the payload as a whole was not what its endpoint promises."""
    skipped: int = 0
    """Elements that are no usage, such as the proxy's messages to subscribers."""

    @property
    def elements(self) -> int:
        """How many elements there were, whatever became of them."""
        return len(self.records) + len(self.bad) + self.skipped


class BadValueError(ValueError):
    """A value without which the record means nothing is missing or wrong."""


class _Tokens(msgspec.Struct):
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    reasoning_tokens: int | None = 0
    cached_tokens: int | None = 0
    total_tokens: int | None = 0
    cache_read_tokens: int | None = None
    cache_creation_tokens: int | None = None


class _Input(msgspec.Struct):
    total_tokens: int = 0
    uncached_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class _Output(msgspec.Struct):
    total_tokens: int = 0
    non_reasoning_tokens: int = 0
    reasoning_tokens: int = 0


class _Breakdown(msgspec.Struct):
    quality: str = ""
    total_tokens: int = 0
    input: _Input | None = None
    output: _Output | None = None
    unclassified_tokens: int = 0


class _Fail(msgspec.Struct):
    status_code: int | None = None
    body: str | None = None


class _Item(msgspec.Struct):
    """A queue item or a snapshot's detail: the field names of every version in one."""

    timestamp: str | None = None
    latency_ms: int | None = None
    ttft_ms: int | None = None
    source: str | None = None
    auth_index: int | str | None = None
    tokens: _Tokens | None = None
    token_breakdown: _Breakdown | None = None
    failed: bool | None = None
    generate: bool | None = None
    fail: _Fail | None = None
    provider: str | None = None
    executor_type: str | None = None
    model: str | None = None
    alias: str | None = None
    endpoint: str | None = None
    auth_type: str | None = None
    api_key: str | None = None
    request_id: str | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    response_service_tier: str | None = None


class _Model(msgspec.Struct):
    details: msgspec.Raw = msgspec.Raw(b"null")


class _Api(msgspec.Struct):
    models: dict[str, _Model | None] | None = None


class _Usage(msgspec.Struct):
    apis: dict[str, _Api | None] | None = None


class _Snapshot(msgspec.Struct):
    usage: _Usage | None = None
    apis: dict[str, _Api | None] | None = None


_ITEM = msgspec.json.Decoder(_Item)
_ITEMS = msgspec.json.Decoder(list[_Item])
_RAW_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_ITEMS_OR_NULL: msgspec.json.Decoder[list[msgspec.Raw] | None] = msgspec.json.Decoder(list[msgspec.Raw] | None)
_SNAPSHOT = msgspec.json.Decoder(_Snapshot)


# -- payloads ---------------------------------------------------------------------------------------------------


def decode_queue(payload: bytes) -> Decoded:
    """Read one answer of the usage queue: a JSON array of items, some of which may be strings that hold JSON.

    An answer that broke off is read as far as it goes: whole items load, the rest is one BadRecord.
    """
    siblings: dict[tuple[Any, ...], int] = {}
    try:
        records = [_record(item, "", "") for item in _ITEMS.decode(payload)]
    except (msgspec.MsgspecError, BadValueError, UnicodeDecodeError, RecursionError):
        return _queue_by_item(payload)
    return Decoded(records=[_numbered(record, siblings) for record in records], bad=[])


def decode_snapshot(payload: bytes | bytearray, chunk: int = CHUNK_RECORDS) -> Iterator[Decoded]:
    """Read a `/usage` answer or an export file: `{"usage": {"apis": {key: {"models": {model: …}}}}}` or bare.

    Args:
        payload: the body; lists are decoded one at a time straight out of it.
        chunk: how many records to hand on at once.

    Raises:
        BadValueError: this is no snapshot at all. It can be asked for again, so nothing of it is set aside.
    """
    records: list[Record] = []
    bad: list[BadRecord] = []
    for client_key, model, details in _lists(payload):
        siblings: dict[tuple[Any, ...], int] = {}
        for outcome in _details(details, client_key, model):
            if isinstance(outcome, BadRecord):
                bad.append(outcome)
            else:
                records.append(_numbered(outcome, siblings))
            if len(records) + len(bad) >= chunk:
                yield Decoded(records=records, bad=bad)
                records, bad = [], []
    yield Decoded(records=records, bad=bad)


def decode_lines(lines: Iterator[bytes], chunk: int = CHUNK_RECORDS) -> Iterator[Decoded]:
    """Read JSON lines: each is an item, or an array of items as the queue answered it."""
    records: list[Record] = []
    bad: list[BadRecord] = []
    for line in lines:
        if not line.strip():
            continue
        decoded = decode_queue(line if line.lstrip().startswith(b"[") else b"[%b]" % line)
        records += decoded.records
        bad += decoded.bad
        if len(records) + len(bad) >= chunk:
            yield Decoded(records=records, bad=bad)
            records, bad = [], []
    yield Decoded(records=records, bad=bad)


def decode_quarantined(payload: str) -> Record | None:
    """Read a record that was set aside, its secrets replaced (see `set_aside`); None if it still cannot be read."""
    envelope = json.loads(payload)
    outcome = _by_item(json.dumps(envelope["record"]).encode(), envelope["client_key"], envelope["model"])
    return outcome if isinstance(outcome, Record) else None


def _queue_by_item(payload: bytes) -> Decoded:
    """Read the array item by item, so that a bad one costs only itself."""
    if not payload.lstrip().startswith(b"["):
        return Decoded(
            records=[], bad=[BadRecord(reason="the payload is not a JSON array", raw=payload)], complete=False
        )
    try:
        items, rest = [bytes(raw) for raw in _RAW_ITEMS.decode(payload)], b""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        items, rest = _salvage(payload)
    records: list[Record] = []
    bad: list[BadRecord] = []
    siblings: dict[tuple[Any, ...], int] = {}
    skipped = 0
    for raw in items:
        outcome = _by_item(raw, "", "")
        if isinstance(outcome, BadRecord):
            bad.append(outcome)
        elif outcome is not None:
            records.append(_numbered(outcome, siblings))
        else:
            skipped += 1
    if rest:
        bad.append(BadRecord(reason="the payload breaks off or is malformed from here on", raw=rest))
    return Decoded(records=records, bad=bad, complete=not rest, skipped=skipped)


def _salvage(payload: bytes) -> tuple[list[bytes], bytes]:
    """Split a malformed array into the items that are whole and the rest."""
    text = payload.decode("utf-8", "replace")
    reader, items, at = json.JSONDecoder(), list[bytes](), text.index("[") + 1
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if at >= len(text):
            return items, b"(the array is not closed)"
        if text[at] == "]":
            return items, text[at + 1 :].strip().encode()
        try:
            _, end = reader.raw_decode(text, at)
        except RecursionError:
            end = _end_of_deep(text, at)
        except ValueError:
            return items, text[at:].encode()
        items.append(text[at:end].encode())
        at = end


def _end_of_deep(text: str, at: int) -> int:
    """Return where an element ends that is nested too deeply to be parsed: its brackets are counted."""
    depth = 0
    for token in _BRACKET.finditer(text, at):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth <= 0:
            return token.end()
    return len(text)


def _lists(payload: bytes | bytearray) -> Iterator[tuple[str, str, msgspec.Raw | list[Any]]]:
    """Yield (client key, model, its list of details, not yet read) for everything a snapshot holds."""
    try:
        snapshot = _SNAPSHOT.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        yield from _lists_of_odd(payload)
        return
    if snapshot.usage is None and snapshot.apis is None:
        raise BadValueError("not a usage snapshot: neither `usage` nor `apis` is there")
    apis = (snapshot.usage.apis if snapshot.usage else snapshot.apis) or {}
    for client_key, api in apis.items():
        for model, stats in ((api and api.models) or {}).items():
            if stats is not None:
                yield client_key, model, stats.details


def _lists_of_odd(payload: bytes | bytearray) -> Iterator[tuple[str, str, list[Any]]]:
    """Do the same for a snapshot that the strict parser refuses: what has another shape costs only itself."""
    try:
        tree: Any = _loads(payload)
    except (ValueError, RecursionError) as e:
        raise BadValueError(f"not a usage snapshot: {e}") from None
    usage = _get(tree, "usage") or tree
    apis = _get(usage, "apis")
    if not isinstance(apis, dict):
        raise BadValueError("not a usage snapshot: `apis` is not an object")
    for client_key, api in cast("dict[str, Any]", apis).items():
        models = _get(api, "models")
        if isinstance(models, dict):
            for model, stats in cast("dict[str, Any]", models).items():
                yield client_key, model, _details_of_odd(stats)
        elif models is not None or not isinstance(api, dict | None):
            yield client_key, "", [api]  # one element that cannot be read: it is set aside with its reason


def _details_of_odd(stats: Any) -> list[Any]:
    details = _get(stats, "details") if isinstance(stats, dict) else stats
    if details is None:
        return []
    whole = isinstance(stats, dict) and isinstance(details, list)
    return details if whole else [details]  # pyright: ignore[reportUnknownVariableType]  # JSON is untyped


def _get(tree: Any, name: str) -> Any:
    return cast("dict[str, Any]", tree).get(name) if isinstance(tree, dict) else None


def _details(details: msgspec.Raw | list[Any], client_key: str, model: str) -> Iterator[Record | BadRecord]:
    """Yield what one list of a snapshot holds; a list of another shape is one BadRecord."""
    if isinstance(details, list):
        found = (_by_item(json.dumps(item).encode(), client_key, model) for item in details)
        yield from (outcome for outcome in found if outcome is not None)
        return
    try:
        items = _RAW_ITEMS_OR_NULL.decode(details) or []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:
            items = [msgspec.Raw(json.dumps(item).encode()) for item in _details_of_odd({"details": _loads(details)})]
        except (ValueError, RecursionError) as e:
            reason = f"`details` is not a list: {e}"
            yield BadRecord(reason=reason, raw=bytes(details), client_key=client_key, model=model)
            return
    for raw in items:
        try:
            yield _record(_ITEM.decode(raw), client_key, model)
        except (msgspec.MsgspecError, BadValueError, UnicodeDecodeError, RecursionError):
            outcome = _by_item(bytes(raw), client_key, model)
            if outcome is not None:
                yield outcome


# -- one record -------------------------------------------------------------------------------------------------


def _by_item(raw: bytes, client_key: str, model: str) -> Record | BadRecord | None:
    """Read one item that the strict parser refused; None for a control object, which is no usage."""
    try:
        found: Any = _loads(raw)
        if isinstance(found, str):
            found = _loads(found.encode("utf-8", "surrogatepass"))
        if not isinstance(found, dict):
            raise BadValueError("not a JSON object")
        fields = cast("dict[str, Any]", found)
        if _is_control(fields):
            return None
        return _record(_lenient(fields), client_key, model)
    except (ValueError, RecursionError) as e:
        return BadRecord(reason=str(e) or type(e).__name__, raw=raw, client_key=client_key, model=model)


def _loads(raw: bytes | bytearray | msgspec.Raw) -> Any:
    """Parse with the parser that also takes lone surrogates, NaN and broken UTF-8."""
    return json.loads(bytes(raw).decode("utf-8", "replace"))


def _is_control(fields: dict[str, Any]) -> bool:
    """Tell the proxy's messages to subscribers, such as {"refresh": true}, from usage."""
    return bool(fields) and set(fields) <= {"support_refresh", "refresh"}


def _lenient(fields: dict[str, Any]) -> _Item:
    """Read an item field by field: what can be done without is dropped when its type is wrong.

    Raises:
        BadValueError: the token counts cannot be read, and so the record cannot be counted.
    """
    item = _Item()
    for name in _Item.__struct_fields__:
        value = fields.get(name)
        if value is None:
            continue
        wanted = _HARD.get(name)
        if wanted is not None:
            try:
                setattr(item, name, msgspec.convert(value, wanted))
            except msgspec.ValidationError as e:
                raise BadValueError(f"`{name}`: {e}") from None
        else:
            setattr(item, name, _soft(name, value))
    return item


_HARD: dict[str, Any] = {"timestamp": str, "tokens": _Tokens, "failed": bool, "generate": bool}
_SOFT: dict[str, Any] = {
    "token_breakdown": _Breakdown, "fail": _Fail, "latency_ms": int, "ttft_ms": int, "auth_index": int | str,
}  # fmt: skip


def _soft(name: str, value: Any) -> Any:
    try:
        return msgspec.convert(value, _SOFT.get(name, str))
    except msgspec.ValidationError:
        return None


def _record(item: _Item, client_key: str, model: str) -> Record:
    """Make the record of an item; `client_key` and `model` are what a snapshot says around it.

    Raises:
        BadValueError: its timestamp or a count is missing or out of range.
    """
    key = client_key or item.api_key or ""
    endpoint = item.endpoint or ""
    if client_key == "unknown" or ROUTE.match(client_key):  # how a snapshot lists a client without a key
        key, endpoint = "", client_key if client_key != "unknown" else ""
    name = text(item.model or model or "unknown")
    reported, told = _reported(item.tokens), _told(item.token_breakdown)
    status = item.fail.status_code if item.fail else None
    failed = item.failed if item.failed is not None else bool(status and status >= HTTP_ERROR)
    outcome: Outcome = "warmup" if item.generate is False else "failed" if failed else "success"
    return Record(
        occurred_at_ns=timestamp_ns(item.timestamp),
        client_key=clean(key),
        model=name,
        alias=text(item.alias) or name,
        provider=text(item.provider),
        endpoint=text(endpoint),
        auth_type=text(item.auth_type),
        auth_index=text(str(item.auth_index)) if item.auth_index is not None else "",
        source=clean((item.source or "").strip()),
        request_id=text(item.request_id),
        outcome=outcome,
        failed=failed,
        status_code=status if status and 0 < status < 1000 else None,  # noqa: PLR2004  # three digits
        error=_error_class(item.fail, status) if failed else None,
        service_tier=text(item.response_service_tier or item.service_tier),
        reasoning_effort=text(item.reasoning_effort),
        latency_ms=_measured(item.latency_ms),
        ttft_ms=_measured(item.ttft_ms),
        reported=reported,
        normalised=told or _derived(item, reported, name),
        classified=told is not None,
    )


def _numbered(record: Record, siblings: dict[tuple[Any, ...], int]) -> Record:
    """Give the second and later records of one identity within a payload their ordinal: each was a request."""
    key = (record.occurred_at_ns, record.client_key, record.model, record.source, record.auth_index, record.failed,
           record.reported[:5])  # fmt: skip
    seen = siblings.get(key, 0)
    siblings[key] = seen + 1
    return msgspec.structs.replace(record, ordinal=seen) if seen else record


def timestamp_ns(value: str | None) -> int:
    """Return an RFC 3339 timestamp as nanoseconds since 1970 UTC.

    Raises:
        BadValueError: it is missing, has no offset, or lies outside 2020 to 2100.
    """
    if not value:
        raise BadValueError("`timestamp` is missing")
    match = TIMESTAMP.fullmatch(value)
    if match is None:
        raise BadValueError(f"`timestamp` {value[:40]!r} is not an RFC 3339 time with an offset")
    date, clock, fraction, offset = match.groups()
    try:
        whole = datetime.fromisoformat(f"{date}T{clock}{offset.upper()}")
    except ValueError as e:
        raise BadValueError(f"`timestamp` {value[:40]!r}: {e}") from None
    if not EARLIEST <= whole < LATEST:
        raise BadValueError(f"`timestamp` {value[:40]!r} is not between 2020 and 2100")
    seconds = (whole - EPOCH) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + (int(fraction[:9].ljust(9, "0")) if fraction else 0)


def text(value: str | None) -> str:
    """Return a name as it may be stored and indexed: clean, trimmed, and cut with an ellipsis when too long."""
    if not value:
        return ""
    value = clean(value).strip()
    return value if len(value) <= TEXT_MAX_CHARS else f"{value[: TEXT_MAX_CHARS - 1]}…"


def clean(value: str) -> str:
    """Replace what PostgreSQL refuses in text, NUL and lone surrogates, by the replacement character."""
    if value.isascii():
        return value.replace("\0", "\ufffd") if "\0" in value else value
    return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _reported(tokens: _Tokens | None) -> Reported:
    if tokens is None:
        return Reported(0, 0, 0, 0, 0, None, None)
    reported = Reported(
        tokens.input_tokens or 0, tokens.output_tokens or 0, tokens.reasoning_tokens or 0,
        tokens.cached_tokens or 0, tokens.total_tokens or 0, tokens.cache_read_tokens, tokens.cache_creation_tokens,
    )  # fmt: skip
    for name, count in zip(Reported._fields, reported, strict=True):
        if count and not 0 <= count <= COUNT_MAX:
            raise BadValueError(f"`tokens`: {name} is {count}, which is no count of tokens")
    return reported


def _told(b: _Breakdown | None) -> Normalised | None:
    """Return the proxy's own breakdown where it is complete and adds up."""
    if b is None or b.quality != "complete" or b.input is None or b.output is None:
        return None
    i, o = b.input, b.output
    counts = Normalised(i.uncached_tokens, i.cache_read_tokens, i.cache_write_tokens, o.total_tokens, 0)
    adds_up = (
        i.uncached_tokens + i.cache_read_tokens + i.cache_write_tokens == i.total_tokens
        and o.non_reasoning_tokens + o.reasoning_tokens == o.total_tokens
        and i.total_tokens + o.total_tokens == b.total_tokens
        and b.unclassified_tokens == 0
    )
    parts = (*counts, o.non_reasoning_tokens, o.reasoning_tokens)
    return counts if adds_up and all(0 <= part <= COUNT_MAX for part in parts) else None


def _derived(item: _Item, reported: Reported, model: str) -> Normalised:
    """Return exclusive counts by the arithmetic of the record's provider family."""
    if not any(count or 0 for count in reported):
        return NOTHING
    return normalise(reported, family(item.provider or "", item.executor_type or "", model))


def _measured(ms: int | None) -> int | None:
    """Return a duration; None for 0, which is how the proxy says that it did not measure, and for nonsense."""
    return ms if ms and 0 < ms <= DURATION_MAX_MS else None


def _error_class(fail: _Fail | None, status: int | None) -> str:
    """Return the type that an error body names, else the status; never the body itself."""
    return (fail and _error_word(fail)) or (f"http_{status}" if status else "failed")


def _error_word(fail: _Fail) -> str | None:
    """Return `error.type` or `error.code` of a JSON error body where it is a plain word."""
    try:
        error = _get(json.loads(fail.body or "null"), "error")
    except (ValueError, RecursionError):
        return None
    for name in ("type", "code"):
        word = _get(error, name)
        if isinstance(word, str) and ERROR_CLASS.fullmatch(word):
            return word
    return None


# -- what is set aside ------------------------------------------------------------------------------------------

_SECRET = ("api_key", "source")
_NUMBERS = {
    "tokens": _Tokens.__struct_fields__,
    "token_breakdown": ("quality", "total_tokens", "input", "output", "unclassified_tokens"),
    "input": _Input.__struct_fields__,
    "output": _Output.__struct_fields__,
    "fail": ("status_code", "body"),
}
_WORDS = {
    *_Item.__struct_fields__, *(name for names in _NUMBERS.values() for name in names), "schema_version",
    "usage", "apis", "models", "details", "total_requests", "failed_requests", "success_count", "failure_count",
    "error", "true", "false", "null",
}  # fmt: skip
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"?|[^\s{}\[\]:,"]+', re.DOTALL)
_SHORT_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,9})?")
KEPT_MAX_CHARS = 4000
QUOTED_MAX_CHARS = 60


def set_aside(bad: BadRecord, keyring: Keyring) -> tuple[str, bool]:
    """Return how a bad record is kept, and whether it can be read again: every secret replaced.

    An object keeps the fields that this room reads; its keys become digests, by which a later `decode_quarantined`
    still finds identity and channel. Bytes that are no object keep their structure and the names of fields only.
    """
    try:
        found: Any = _loads(bad.raw)
        if isinstance(found, str):
            found = _loads(found.encode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        shape = bad.raw[:KEPT_MAX_CHARS].decode("utf-8", "replace")
        return clean(_TOKEN.sub(_shape, shape)), False
    fields = cast("dict[str, Any]", found)
    kept = {name: _kept(name, fields[name], keyring) for name in _Item.__struct_fields__ if name in fields}
    key, model = bad.client_key, bad.model
    shown = key if key == "unknown" or ROUTE.match(key) else hidden(clean(key), keyring)
    return json.dumps({"client_key": shown, "model": clean(model), "record": kept}), True


def hidden(secret: str, keyring: Keyring) -> str:
    """Return what stands for a secret in a record that is set aside; accounts stay as they are."""
    return secret if not secret or is_account(secret) else keyring.sealed(secret)


def _kept(name: str, value: Any, keyring: Keyring) -> Any:
    """Return a field's value as it is kept: numbers, names, digests; anything else by its kind."""
    if name in _SECRET:
        text_ = value.strip() if name == "source" and isinstance(value, str) else value
        return hidden(clean(text_), keyring) if isinstance(text_, str) else _kind(text_)
    if name == "fail":
        fail = _soft("fail", value)
        word = _error_word(fail) if isinstance(fail, _Fail) else None
        status = fail.status_code if isinstance(fail, _Fail) else None
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
