"""One item of a payload → Record, whatever version of the proxy made it.

Unknown fields are ignored and everything but the timestamp is optional. Nothing is made up: no time, no count.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal, cast

import msgspec

from worker.cliproxyapi.payload.foreign import foreign_usage
from worker.json_errors import NOT_JSON
from worker.secret import Keyring
from worker.usage.tokens import Normalised, Reported, TokenConvention, convention, normalise

Outcome = Literal["success", "failed", "warmup", "cancelled"]

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
TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
ROUTE = re.compile(r"(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) /")
ERROR_CLASS = re.compile(r"[A-Za-z][A-Za-z_]{2,63}")
HTTP_ERROR = 400
CLIENT_CLOSED = 499
GO_CANCELLED = re.compile(r"(?:.*: )?context canceled", re.DOTALL)
"""What Go says of a request whose client is gone, whatever it was doing at the time."""


class Labels(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, gc=False):
    """What a record has in common with many others. `client_key` and `source` may be secrets, in clear.

    An empty string means that the payload had none.
    """

    client_key: str
    model: str
    alias: str
    provider: str
    endpoint: str
    auth_type: str
    auth_index: str
    source: str
    outcome: Outcome
    failed: bool
    convention: TokenConvention
    """Which token arithmetic the record follows by itself, whatever its credential says."""

    def __repr__(self) -> str:
        """Name them without the secrets."""
        return f"<Labels {self.model}>"

    def identity(self, upstream: str, keyring: Keyring) -> tuple[str, str]:
        """Return what the identity of a record with these labels begins with, and what follows its time.

        Provider, endpoint and request id stay out: a snapshot does not have them. Secrets enter as digests, so that
        a record set aside without its secrets keeps its identity.
        """
        key, source = keyring.digest(self.client_key).hex(), keyring.digest(self.source).hex()
        return f"{upstream}\0{key}\0{self.model}\0", f"\0{source}\0{self.auth_index}\0{self.failed:d}\0"


class Record(msgspec.Struct, frozen=True, repr_omit_defaults=True, gc=False):
    """One attempt at an upstream, as the payload told it.

    `occurred_at_ns` counts nanoseconds since 1970 UTC. None for `latency_ms`, `ttft_ms` and `status_code` means that
    it was not measured or not told.
    """

    labels: Labels
    occurred_at_ns: int
    request_id: str
    service_tier: str
    """What was asked for."""
    reasoning_effort: str
    status_code: int | None
    error: str | None
    latency_ms: int | None
    ttft_ms: int | None
    reported: Reported
    normalised: Normalised
    classified: bool = False
    """Whether the proxy kept accounts of tokens, from v7.2.97 on: then the credential adds nothing to `normalised`."""
    ordinal: int = 0
    response_service_tier: str = ""
    """The service tier that the upstream said it used."""
    execution_id: str = ""
    """What v8 gives each attempt at an upstream; what an attempt made of several models shares it."""
    stream: bool | None = None
    session_id: str = ""
    parent_session_id: str = ""
    response_model: str = ""
    """The model that the upstream said it used."""
    cache_write_1h_tokens: int | None = None
    """How many of the cache writes are kept for an hour instead of five minutes; None where that is not told."""

    def __repr__(self) -> str:
        """Name the record without its secrets."""
        return f"<Record {self.labels.model} at {self.occurred_at_ns}>"

    def identity(self, head: str, tail: str, ordinal: int | None = None) -> str:
        """Return the text whose digest is the event key: the same through the queue and through a snapshot.

        The proxy's own key, and an ordinal for siblings that share it within one payload, by default its own; `head`
        and `tail` are what its labels say of it.
        """
        r = self.reported
        return (
            f"{head}{self.occurred_at_ns}{tail}{r.input}\0{r.output}\0{r.reasoning}\0{r.cached}\0{r.total}"
            f"\0{self.ordinal if ordinal is None else ordinal}"
        )

    def execution(self, upstream: str) -> str:
        """Return the text whose digest is the event key where there is an execution id: no more than that is needed."""
        return f"{upstream}\0execution\0{self.execution_id}\0{self.labels.model}"


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


class Tokens(msgspec.Struct, gc=False):
    """What the upstream reported; the split of the cache is None before v7.0.3."""

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    reasoning_tokens: int | None = 0
    cached_tokens: int | None = 0
    total_tokens: int | None = 0
    cache_read_tokens: int | None = None
    cache_creation_tokens: int | None = None
    cache_creation_5m_tokens: int | None = None
    cache_creation_1h_tokens: int | None = None


class Input(msgspec.Struct, gc=False):
    """The input side of a breakdown."""

    total_tokens: int = 0
    uncached_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Output(msgspec.Struct, gc=False):
    """The output side of a breakdown."""

    total_tokens: int = 0
    non_reasoning_tokens: int = 0
    reasoning_tokens: int = 0


class Breakdown(msgspec.Struct, gc=False):
    """The proxy's own accounting, from v7.2.97 on."""

    quality: str = ""
    total_tokens: int = 0
    input: Input | None = None
    output: Output | None = None
    unclassified_tokens: int = 0


class Fail(msgspec.Struct, gc=False):
    """The upstream's status and, for a failure, what it said."""

    status_code: int | None = None
    body: str | None = None


class Item(msgspec.Struct, gc=False):
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
    accounting_version: int | None = None
    execution_id: str | None = None
    stream: bool | None = None
    session_id: str | None = None
    parent_session_id: str | None = None
    response_model: str | None = None


_TOKENS = (*Tokens.__struct_fields__, "cache_read_tokens_present")


def get(tree: Any, name: str) -> Any:
    """Return a field of what may be an object."""
    return cast("dict[str, Any]", tree).get(name) if isinstance(tree, dict) else None


_ITEM = msgspec.json.Decoder(Item)


def read(raw: msgspec.Raw, client_key: str, model: str) -> Record | BadRecord | None:
    """Read one item: strictly, which is fast, else field by field; see `by_item`."""
    try:
        found = record_of(_ITEM.decode(raw), client_key, model)
    except (*NOT_JSON, BadValueError):
        return by_item(bytes(raw), client_key, model)
    return found if _tells_tokens(found) else by_item(bytes(raw), client_key, model)


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
        return _with_usage(record_of(_lenient(fields), client_key, model), fields)
    except (ValueError, RecursionError) as e:
        return BadRecord(reason=str(e) or type(e).__name__, raw=raw, client_key=client_key, model=model)


def _with_usage(record: Record, fields: dict[str, Any]) -> Record:
    """Return a record that has no usage only where its item has none either.

    Raises:
        BadValueError: the item tells it under names that are not known.
    """
    if not _tells_tokens(record) and (names := foreign_usage(fields, Item.__struct_fields__, _TOKENS)):
        raise BadValueError(f"its usage stands under names that are not known: {clean(', '.join(names))}")
    return record


def _tells_tokens(record: Record) -> bool:
    return any(record.reported) or any(record.normalised)


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
                setattr(item, name, msgspec.convert(whole(value), wanted))
            except msgspec.ValidationError as e:
                raise BadValueError(f"`{name}`: {e}") from None
        else:
            setattr(item, name, soft(name, value))
    return item


_HARD: dict[str, Any] = {"timestamp": str, "tokens": Tokens, "failed": bool, "generate": bool}
_SOFT: dict[str, Any] = {
    "token_breakdown": Breakdown, "fail": Fail, "latency_ms": int, "ttft_ms": int, "auth_index": int | str,
    "accounting_version": int, "stream": bool,
}  # fmt: skip


def soft(name: str, value: Any) -> Any:
    """Return a field that can be done without; None where its type is wrong."""
    try:
        return msgspec.convert(whole(value), _SOFT.get(name, str))
    except msgspec.ValidationError:
        return None


def whole(value: Any) -> Any:
    """Return a JSON value with every lone surrogate and NUL replaced, in names too: nobody else takes them."""
    if isinstance(value, dict):
        return {clean(name): whole(inner) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]  # JSON is untyped
    return clean(value) if isinstance(value, str) else value


_said = attrgetter(
    "api_key", "model", "alias", "provider", "endpoint", "auth_type", "auth_index", "source", "failed", "generate",
    "executor_type",
)  # fmt: skip


def record_of(item: Item, client_key: str, model: str) -> Record:
    """Make the record of an item; `client_key` and `model` are what a snapshot says around it.

    Raises:
        BadValueError: its timestamp or a count is missing or out of range.
    """
    fail = item.fail
    status = fail.status_code if fail else None
    if item.failed is None:
        item.failed = bool(status and status >= HTTP_ERROR)
    cancelled = item.failed and _is_cancelled(fail, status)
    said = (client_key, model, cancelled, *_said(item))
    labels = _LABELS.get(said) or _labels(said, item, client_key, model, cancelled=cancelled)
    reported = _reported(item.tokens)
    breakdown = item.token_breakdown
    classified = breakdown is not None or bool(item.accounting_version)
    return Record(
        labels,
        timestamp_ns(item.timestamp),
        text(item.request_id),
        text(item.service_tier),
        text(item.reasoning_effort),
        status if status and 0 < status < 1000 else None,  # noqa: PLR2004  # three digits
        _error_class(fail, status) if item.failed else None,
        _measured(item.latency_ms),
        _measured(item.ttft_ms),
        reported,
        (_told(breakdown) if breakdown else None) or normalise(reported, labels.convention, filled_in=not classified),
        classified,
        response_service_tier=text(item.response_service_tier),
        execution_id=_execution_id(item.execution_id),
        stream=item.stream,
        session_id=text(item.session_id),
        parent_session_id=text(item.parent_session_id),
        response_model=text(item.response_model),
        cache_write_1h_tokens=_kept_for_an_hour(item.tokens),
    )


def _execution_id(value: str | None) -> str:
    """Return an execution id as it is; one that would have to be cut tells no attempt from another."""
    return clean(value).strip() if value and len(value) <= TEXT_MAX_CHARS else ""


def _kept_for_an_hour(tokens: Tokens | None) -> int | None:
    count = tokens.cache_creation_1h_tokens if tokens else None
    return count if count is not None and 0 <= count <= COUNT_MAX else None


_LABELS: dict[tuple[Any, ...], Labels] = {}
"""What items said of themselves not long ago, and the labels it came to: a payload has few of them many times."""

_LABELS_MAX = 1 << 14


def _labels(said: tuple[Any, ...], item: Item, client_key: str, model: str, *, cancelled: bool) -> Labels:
    """Return the labels of an item, and remember them unless a text is long: memory is not the payload's to fill."""
    key = client_key or item.api_key or ""
    endpoint = item.endpoint or ""
    if client_key == "unknown" or ROUTE.match(client_key):  # how a snapshot lists a client without a key
        key, endpoint = "", client_key if client_key != "unknown" else ""
    name = text(item.model or model or "unknown")
    labels = Labels(
        client_key=clean(key),
        model=name,
        alias=text(item.alias) or name,
        provider=text(item.provider),
        endpoint=text(endpoint),
        auth_type=text(item.auth_type),
        auth_index=text(str(item.auth_index)) if item.auth_index is not None else "",
        source=clean((item.source or "").strip()),
        outcome=_outcome(item, cancelled=cancelled),
        failed=bool(item.failed),
        convention=convention(item.provider or "", item.executor_type or "", name),
    )
    if max(len(value) for value in said if isinstance(value, str)) <= TEXT_MAX_CHARS:
        if len(_LABELS) >= _LABELS_MAX:
            _LABELS.clear()
        _LABELS[said] = labels
    return labels


def _is_cancelled(fail: Fail | None, status: int | None) -> bool:
    """Say whether it was the client that ended a failed request: the status says so, or the proxy's own error."""
    told = (fail.body or "").strip() if fail else ""
    return status == CLIENT_CLOSED or ((not status or status < HTTP_ERROR) and GO_CANCELLED.fullmatch(told) is not None)


def _outcome(item: Item, *, cancelled: bool) -> Outcome:
    if item.generate is False:
        return "warmup"
    return "cancelled" if cancelled else "failed" if item.failed else "success"


class DuplicateNumbering:
    """Numbers the records of one payload: the second and later ones of one identity get an ordinal, each was a request.

    Few share an instant to the nanosecond, and only those are compared.
    """

    def __init__(self) -> None:
        # Hashes of 64 bits, not the records: those of a long list would all stay until its end.
        self._first: dict[int, int] = {}
        self._seen: dict[tuple[int, int], int] = {}

    def numbered(self, record: Record) -> Record:
        """Return the record with its ordinal."""
        if record.execution_id:  # told again, it is the same one
            return record
        ns, identity = record.occurred_at_ns, _identity(record)
        first = self._first.get(ns)
        if first is None:
            self._first[ns] = identity
            return record
        self._seen.setdefault((ns, first), 1)
        ordinal = self._seen.get((ns, identity), 0)
        self._seen[ns, identity] = ordinal + 1
        return msgspec.structs.replace(record, ordinal=ordinal) if ordinal else record


def _identity(r: Record) -> int:
    labels = r.labels
    told = (labels.client_key, labels.model, labels.source, labels.auth_index, labels.failed)
    return hash((told, r.reported[:5]))


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
    minute, second, fraction, offset = match.groups()
    try:
        begins_s = _minute_s(minute, offset)
    except ValueError as e:
        raise BadValueError(f"`timestamp` {value[:40]!r}{e}") from None
    if second > "59":
        raise BadValueError(f"`timestamp` {value[:40]!r}: second must be in 0..59")
    return (begins_s + int(second)) * 1_000_000_000 + (int(fraction[:9].ljust(9, "0")) if fraction else 0)


@lru_cache(maxsize=4096)
def _minute_s(minute: str, offset: str) -> int:
    """Return the seconds since 1970 UTC at which a minute begins.

    Raises:
        ValueError: there is no such minute, or none between 2020 and 2100.
    """
    try:
        begins = datetime.fromisoformat(f"{minute}{offset.upper()}")
    except ValueError as e:
        raise ValueError(f": {e}") from None
    if not EARLIEST <= begins < LATEST:
        raise ValueError(" is not between 2020 and 2100")
    return (begins - EPOCH) // timedelta(seconds=1)


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


_counted = attrgetter(*(name for name in Tokens.__struct_fields__ if not name.endswith(("_5m_tokens", "_1h_tokens"))))


def _reported(tokens: Tokens | None) -> Reported:
    if tokens is None:
        return Reported(0, 0, 0, 0, 0, None, None)
    of_input, output, reasoning, cached, total, read, write = _counted(tokens)
    reported = Reported(of_input or 0, output or 0, reasoning or 0, cached or 0, total or 0, read, write)
    # All bits of all counts: negative when one of them is, and below the limit only when all of them are.
    bits = reported[0] | reported[1] | reported[2] | reported[3] | reported[4] | (read or 0) | (write or 0)
    if not 0 <= bits <= COUNT_MAX:
        for name, count in zip(Reported._fields, reported, strict=True):
            if count and not 0 <= count <= COUNT_MAX:
                raise BadValueError(f"`tokens`: {name} is {count}, which is no count of tokens")
    return reported


_told_input = attrgetter("uncached_tokens", "cache_read_tokens", "cache_write_tokens", "total_tokens")
_told_output = attrgetter("non_reasoning_tokens", "reasoning_tokens", "total_tokens")


def _told(b: Breakdown) -> Normalised | None:
    """Return the proxy's own breakdown where it is complete and adds up."""
    if b.quality != "complete" or b.input is None or b.output is None or b.unclassified_tokens:
        return None
    uncached, read, write, of_input = _told_input(b.input)
    plain, reasoning, of_output = _told_output(b.output)
    adds_up = (
        uncached + read + write == of_input
        and plain + reasoning == of_output
        and of_input + of_output == b.total_tokens <= COUNT_MAX
        and uncached | read | write | plain | reasoning >= 0
    )
    return Normalised(uncached, read, write, of_output, 0) if adds_up else None


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
