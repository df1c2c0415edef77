"""One item of a payload → Record, whatever version of the proxy made it.

Unknown fields are ignored and everything but the timestamp is optional. Nothing is made up: no time, no count.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any, Literal, cast

import msgspec

from worker.secret import Keyring
from worker.tokens import NOTHING, Normalised, Reported, family, normalise

Outcome = Literal["success", "failed", "warmup"]

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
    """Whether the payload came with a breakdown, from v7.2.97 on: then its credential adds nothing to `normalised`."""
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
    record: Record | None = None
    """What was read, where it was the database that refused it."""

    def __repr__(self) -> str:
        """Name the reason and not the bytes: they may hold a key."""
        return f"<BadRecord {self.reason}>"


def refused(record: Record, reason: str) -> BadRecord:
    """Return a record that could be read, and that the database does not take."""
    return BadRecord(reason=reason, raw=msgspec.json.encode(record), record=record)


class BadValueError(ValueError):
    """A value without which the record means nothing is missing or wrong."""


class Tokens(msgspec.Struct):
    """What the upstream reported; the split of the cache is None before v7.0.3."""

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    reasoning_tokens: int | None = 0
    cached_tokens: int | None = 0
    total_tokens: int | None = 0
    cache_read_tokens: int | None = None
    cache_creation_tokens: int | None = None


class Input(msgspec.Struct):
    """The input side of a breakdown."""

    total_tokens: int = 0
    uncached_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Output(msgspec.Struct):
    """The output side of a breakdown."""

    total_tokens: int = 0
    non_reasoning_tokens: int = 0
    reasoning_tokens: int = 0


class Breakdown(msgspec.Struct):
    """The proxy's own accounting, from v7.2.97 on."""

    quality: str = ""
    total_tokens: int = 0
    input: Input | None = None
    output: Output | None = None
    unclassified_tokens: int = 0


class Fail(msgspec.Struct):
    """The upstream's status and, for a failure, what it said."""

    status_code: int | None = None
    body: str | None = None


class Item(msgspec.Struct):
    """A queue item or a snapshot's detail: the field names of every version in one."""

    timestamp: str | None = None
    latency_ms: int | None = None
    ttft_ms: int | None = None
    source: str | None = None
    auth_index: int | str | None = None
    tokens: Tokens | None = None
    token_breakdown: Breakdown | None = None
    failed: bool | None = None
    generate: bool | None = None
    fail: Fail | None = None
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


def get(tree: Any, name: str) -> Any:
    """Return a field of what may be an object."""
    return cast("dict[str, Any]", tree).get(name) if isinstance(tree, dict) else None


def by_item(raw: bytes, client_key: str, model: str) -> Record | BadRecord | None:
    """Read one item that the strict parser refused; None for a control object, which is no usage."""
    try:
        found: Any = loads(raw)
        if isinstance(found, str):
            found = loads(found.encode("utf-8", "surrogatepass"))
        if not isinstance(found, dict):
            raise BadValueError("not a JSON object")
        fields = cast("dict[str, Any]", found)
        if _is_control(fields):
            return None
        return record_of(_lenient(fields), client_key, model)
    except (ValueError, RecursionError) as e:
        return BadRecord(reason=str(e) or type(e).__name__, raw=raw, client_key=client_key, model=model)


def loads(raw: bytes | bytearray | msgspec.Raw) -> Any:
    """Parse with the parser that also takes lone surrogates, NaN and broken UTF-8."""
    return json.loads(bytes(raw).decode("utf-8", "replace"))


def _is_control(fields: dict[str, Any]) -> bool:
    """Tell the proxy's messages to subscribers, such as {"refresh": true}, from usage."""
    return bool(fields) and set(fields) <= {"support_refresh", "refresh"}


def _lenient(fields: dict[str, Any]) -> Item:
    """Read an item field by field: what can be done without is dropped when its type is wrong.

    Raises:
        BadValueError: the token counts cannot be read, and so the record cannot be counted.
    """
    item = Item()
    for name in Item.__struct_fields__:
        value = fields.get(name)
        if value is None:
            continue
        wanted = _HARD.get(name)
        if wanted is not None:
            try:
                setattr(item, name, msgspec.convert(_whole(value), wanted))
            except msgspec.ValidationError as e:
                raise BadValueError(f"`{name}`: {e}") from None
        else:
            setattr(item, name, soft(name, value))
    return item


_HARD: dict[str, Any] = {"timestamp": str, "tokens": Tokens, "failed": bool, "generate": bool}
_SOFT: dict[str, Any] = {
    "token_breakdown": Breakdown, "fail": Fail, "latency_ms": int, "ttft_ms": int, "auth_index": int | str,
}  # fmt: skip


def soft(name: str, value: Any) -> Any:
    """Return a field that can be done without; None where its type is wrong."""
    try:
        return msgspec.convert(_whole(value), _SOFT.get(name, str))
    except msgspec.ValidationError:
        return None


def _whole(value: Any) -> Any:
    """Return a value with every lone surrogate replaced, in names too: msgspec stops at one."""
    if isinstance(value, dict):
        return {clean(name): _whole(inner) for name, inner in cast("dict[str, Any]", value).items()}
    return clean(value) if isinstance(value, str) else value


def record_of(item: Item, client_key: str, model: str) -> Record:
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
        classified=item.token_breakdown is not None,
    )


def numbered(record: Record, siblings: dict[tuple[Any, ...], int]) -> Record:
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


def _reported(tokens: Tokens | None) -> Reported:
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


def _told(b: Breakdown | None) -> Normalised | None:
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


def _derived(item: Item, reported: Reported, model: str) -> Normalised:
    """Return exclusive counts by the arithmetic of the record's provider family."""
    if not any(count or 0 for count in reported):
        return NOTHING
    of = family(item.provider or "", item.executor_type or "", model)
    return normalise(reported, of, filled_in=item.token_breakdown is None)


def _measured(ms: int | None) -> int | None:
    """Return a duration; None for 0, which is how the proxy says that it did not measure, and for nonsense."""
    return ms if ms and 0 < ms <= DURATION_MAX_MS else None


def _error_class(fail: Fail | None, status: int | None) -> str:
    """Return the type that an error body names, else the status; never the body itself."""
    return (fail and error_word(fail)) or (f"http_{status}" if status else "failed")


def error_word(fail: Fail) -> str | None:
    """Return `error.type` or `error.code` of a JSON error body where it is a plain word."""
    try:
        error = get(json.loads(fail.body or "null"), "error")
    except (ValueError, RecursionError):
        return None
    for name in ("type", "code"):
        word = get(error, name)
        if isinstance(word, str) and ERROR_CLASS.fullmatch(word):
            return word
    return None
