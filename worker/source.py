"""HTTP to one proxy: asks, tells its errors apart, retries what is safe. Parses no record.

A read of the queue is destructive. It is repeated only where the request cannot have left; where an answer got
lost on its way, what was in it may be lost too, and that is said (PossibleLossError) and counted. What arrives is
handed on as it comes over the wire: it is unpacked only once it is safe.
"""

from __future__ import annotations

import io
import json
import re
import ssl
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, cast

import httpx
import msgspec
import tenacity

from worker.config import Upstream
from worker.errors import (
    PossibleLossError,
    UpstreamAnswerError,
    UpstreamBanned,
    UpstreamError,
    UpstreamOff,
    UpstreamRefused,
    UpstreamUnreachable,
    UpstreamUntrusted,
)
from worker.json_errors import NOT_JSON
from worker.trust import distrust, no_tls, trust
from worker.unpack import unpacked

MANAGEMENT = "/v0/management"
STATISTICS = "usage-statistics-enabled"
QUEUE = "usage-queue"
SNAPSHOT = "usage"
CONFIG = "config"

RETENTION_DEFAULT_S, RETENTION_MAX_S = 60, 3600
"""For how long the proxy keeps a queued record where its configuration says nothing, and at most."""

BAN_S = 30 * 60.0
"""How long the proxy bans an address after five bad keys, where it does not say."""

OTHER_MAX_BYTES = 64 << 20
"""Longest answer that is no usage: it is parsed into a tree of objects, and a list of credentials is never so long."""

EXCERPT_BYTES = 2000
TRIES = 4
RETRY_AFTER_MAX_S = 30.0
PASSING = frozenset({429, 502, 503, 504})
NOT_POPPED = frozenset(
    {400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 417, 421, 426, 428, 429, 431, 501, 503, 505, 511}
)
"""What is answered before the queue is read. After any other status it may have been: reverse proxies give up waiting
for the proxy in many words, and the proxy itself may fail after it has read."""

OF_OPENSSL = re.compile(r"\[SSL[^\]]*\] ?| ?\(_ssl\.c:\d+\)")
"""Where in OpenSSL an error was found, which tells nobody anything."""

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$")


class NotFoundError(UpstreamError):
    """The path is not served by this version of the proxy."""


class Answer(Protocol):
    """What takes an answer as it comes over the wire."""

    def begin(self, encoding: str) -> None:
        """Take note of how it is packed: its Content-Encoding."""

    def write(self, piece: bytes) -> None:
        """Take the next bytes of it."""


class _Repeatable:
    """An answer that can be asked for again: a short one in memory, a long one in a file."""

    def __init__(self, content: BinaryIO) -> None:
        self.encoding, self.content = "", content

    def begin(self, encoding: str) -> None:
        self.encoding = encoding

    def write(self, piece: bytes) -> None:
        self.content.write(piece)


class _ProxyConfig(msgspec.Struct, frozen=True, rename="kebab"):
    """The one field that is ours to know; the others hold the proxy's secrets and are not even decoded."""

    redis_usage_queue_retention_seconds: int | None = None


class Source:
    """One proxy's management API. Several threads may ask; one question is asked at a time."""

    def __init__(
        self,
        upstream: Upstream,
        transport: httpx.BaseTransport | None = None,
        stopping: threading.Event | None = None,
        trusting: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare a client; nothing is asked yet. The key travels in a header only, and to this host only.

        Args:
            upstream: the proxy.
            transport: what carries requests; httpx's own by default.
            stopping: once it is set, nothing is tried again.
            trusting: what its certificate is believed by; made anew by default.
        """
        self._stopping = stopping or threading.Event()
        base = (
            upstream.url if MANAGEMENT in upstream.url or "/management" in upstream.url else upstream.url + MANAGEMENT
        )
        self._key = upstream.key.get_secret_value()
        self._max_body_bytes = upstream.max_body_bytes
        self._count = upstream.queue_count
        self._version = ""
        self._date = ""
        self._asking = threading.Lock()
        self._client = httpx.Client(
            base_url=base,
            headers={
                "Authorization": f"Bearer {upstream.key.get_secret_value()}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
            },
            timeout=httpx.Timeout(upstream.timeout_s, connect=min(10.0, upstream.timeout_s)),
            follow_redirects=False,
            verify=trusting or trust(upstream),
            transport=transport,
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def version(self) -> str:
        """What the proxy last said of its version; empty when it has not."""
        return self._version

    @property
    def date(self) -> datetime | None:
        """What the proxy's clock last said, in whole seconds; None when it has not."""
        with suppress(ValueError):
            return parsedate_to_datetime(self._date).astimezone(UTC)
        return None

    @property
    def count(self) -> int:
        """How many records one pop asks for."""
        return self._count

    def statistics_enabled(self) -> bool | None:
        """Ask whether the proxy records usage: the one safe question, by which key and reachability show.

        Returns:
            None where the proxy does not know the question (adapters).

        Raises:
            UpstreamError: as `errors` tells them apart.
        """
        try:
            body = self._get(STATISTICS)
        except NotFoundError:
            return None
        try:
            answer: Any = json.loads(body)
        except (ValueError, RecursionError) as e:
            said = _excerpt(body.replace(self._key.encode(), b"***"))
            raise UpstreamAnswerError(f"not JSON: {said}", endpoint=STATISTICS, status=200) from e
        value = cast("dict[str, Any]", answer).get(STATISTICS) if isinstance(answer, dict) else None
        return value if isinstance(value, bool) else None

    def mapping(self, endpoint: str) -> bytes | None:
        """Return a mapping endpoint's answer, None where this version has no such endpoint."""
        try:
            return bytes(self._get(endpoint))
        except NotFoundError:
            return None

    def retention_s(self) -> int | None:
        """Return for how many seconds the proxy keeps a queued record; None where it tells nothing of its settings.

        The answer holds the proxy's secrets: nothing else of it is decoded, kept, or said in an error.

        Raises:
            UpstreamError: as `errors` tells them apart.
        """
        try:
            body = self._get(CONFIG)
        except NotFoundError:
            return None
        except UpstreamAnswerError as e:
            raise UpstreamAnswerError("no settings that can be read", endpoint=CONFIG, status=e.status) from None
        try:
            told = msgspec.json.decode(body, type=_ProxyConfig).redis_usage_queue_retention_seconds or 0
        except NOT_JSON:
            raise UpstreamAnswerError("no settings that can be read", endpoint=CONFIG, status=200) from None
        return min(told, RETENTION_MAX_S) if told > 0 else RETENTION_DEFAULT_S

    def offers_snapshot(self) -> bool:
        """Ask whether there is a history, without reading it.

        Raises:
            UpstreamError: as `errors` tells them apart.
        """
        try:
            with self._client.stream("GET", f"/{SNAPSHOT}") as response:
                self._accept(SNAPSHOT, response)
        except NotFoundError:
            return False
        except httpx.HTTPError as e:
            raise _unreachable(e, SNAPSHOT) from e
        return True

    @contextmanager
    def snapshot(self, folder: Path | None = None) -> Generator[bytes | memoryview]:
        """Yield the whole history as the proxy tells it; can be asked for again.

        Args:
            folder: where it lies meanwhile, as it may be long.

        Raises:
            NotFoundError: this version has none.
            UpstreamAnswerError: it cannot be unpacked.
        """
        with tempfile.TemporaryFile(dir=folder) as file:
            answer = self._asked(SNAPSHOT, file, self._max_body_bytes)
            file.seek(0)
            found = unpacked(file, encoding=answer.encoding, limit_bytes=self._max_body_bytes, folder=folder)
            with found as history:
                if not history.whole:
                    why = f"{history.fault} (max_body_bytes: {self._max_body_bytes})"
                    raise UpstreamAnswerError(why, endpoint=SNAPSHOT, status=HTTPStatus.OK)
                yield history.body

    def pop(self, answer: Answer) -> None:
        """Take up to `count` records off the queue into `answer`. What it takes exists nowhere else.

        Raises:
            NotFoundError: this version has no queue over HTTP.
            PossibleLossError: the request left and its answer did not arrive whole; `answer` has what did.
            UpstreamUnreachable: the request never left, or was refused before the queue was read.
            JournalError: the disk does not take it.
        """
        begun = _Begun(answer)
        try:
            self._safely_sent(begun)
        except httpx.HTTPError as e:
            if not begun.bytes and distrust(e):  # a server says it before it reads a request
                raise _unreachable(e, QUEUE) from e
            raise _possible_loss(_say(e)) from e
        except UpstreamError as e:
            if begun.bytes or (e.status is not None and _may_have_popped(e.status)):
                raise _possible_loss(str(e)) from e
            raise

    def _safely_sent(self, answer: Answer) -> None:
        """Pop, again only after failures at which the request had not left."""
        try:
            for attempt in _attempts(NOT_SENT, self._stopping):
                with attempt, self._asking:
                    self._read(QUEUE, answer, self._max_body_bytes, params={"count": str(self._count)})
        except NOT_SENT as e:
            raise _unreachable(e, QUEUE) from e

    def _get(self, endpoint: str) -> bytes:
        """Ask something that can be asked again, whose answer is short."""
        limit = min(self._max_body_bytes, OTHER_MAX_BYTES)
        answer = self._asked(endpoint, io.BytesIO(), limit)
        answer.content.seek(0)
        with unpacked(answer.content, encoding=answer.encoding, limit_bytes=limit) as found:
            if not found.whole:
                raise UpstreamAnswerError(found.fault, endpoint=endpoint, status=HTTPStatus.OK)
            return bytes(found.body)

    def _asked(self, endpoint: str, content: BinaryIO, limit: int) -> _Repeatable:
        """Ask something that can be asked again, into `content`; return its answer as it came."""
        answer = _Repeatable(content)
        try:
            for attempt in _attempts((httpx.TransportError, UpstreamUnreachable), self._stopping):
                with attempt, self._asking:
                    answer.content.seek(0)
                    answer.content.truncate()
                    self._read(endpoint, answer, limit)
        except httpx.HTTPError as e:
            raise _unreachable(e, endpoint) from e
        return answer

    def _read(self, endpoint: str, answer: Answer, limit: int, params: dict[str, str] | None = None) -> None:
        """Hand `answer` what comes, or raise what its status means."""
        with self._client.stream("GET", f"/{endpoint}", params=params) as response:
            self._accept(endpoint, response)
            answer.begin(response.headers.get("Content-Encoding", ""))
            size = 0
            for piece in response.iter_raw():
                answer.write(piece)
                size += len(piece)
                if size > limit:
                    name = "max_body_bytes" if limit == self._max_body_bytes else "any of its kind"
                    raise UpstreamAnswerError(f"the answer is longer than {name} ({limit})", endpoint=endpoint)
            if response.status_code != HTTPStatus.OK:  # what came is kept: off a queue, it is nowhere else
                raise UpstreamAnswerError(
                    "not the answer of 200 that was expected", endpoint=endpoint, status=response.status_code
                )

    def _accept(self, endpoint: str, response: httpx.Response) -> None:
        """Note what the headers say, and raise what a status that is no success means."""
        self._version = response.headers.get("X-CPA-VERSION", self._version)
        self._date = response.headers.get("Date", self._date)
        if not response.is_success:
            excerpt = _some(response).replace(self._key.encode(), b"***")
            raise refusal(endpoint, response.status_code, excerpt, response.headers.get("Retry-After", ""))


def refusal(  # noqa: PLR0911  # one return for each kind of refusal
    endpoint: str, status: int, body: bytes, retry_after: str = ""
) -> UpstreamError:
    """Return the error that an answer other than 200 means (the proxy's texts are in its `error` field)."""
    said = _excerpt(body)
    if status == HTTPStatus.UNAUTHORIZED:
        return UpstreamRefused(
            f"{said}. Check the management key: the plain one, not the hash in the proxy's config.yaml. "
            "Not tried again: five bad tries ban this address for 30 minutes.",
            endpoint=endpoint,
            status=status,
        )
    if status == HTTPStatus.FORBIDDEN and "banned" in said:
        wait_s = ban_s(said)
        return UpstreamBanned(
            f"this address is banned for {wait_s:.0f} s more, after too many bad keys (from here or behind the same "
            "reverse proxy). Correct the key, then wait, or restart the proxy.",
            endpoint=endpoint,
            status=status,
            retry_after_s=wait_s,
        )
    if status == HTTPStatus.FORBIDDEN:
        return UpstreamOff(
            f"{said}. Set remote-management.allow-remote and a secret-key in the proxy's configuration.",
            endpoint=endpoint,
            status=status,
        )
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(said, endpoint=endpoint, status=status)
    if status in PASSING:
        return _Passing(said, endpoint=endpoint, status=status, retry_after_s=_seconds(retry_after))
    if 300 <= status < 400:  # noqa: PLR2004  # redirects
        return UpstreamAnswerError(
            "a redirect, which is not followed: the key goes to the configured host only. Put the final URL there.",
            endpoint=endpoint,
            status=status,
        )
    return UpstreamAnswerError(said, endpoint=endpoint, status=status)


def management_off() -> UpstreamOff:
    """Return the error for a proxy on which no path of the management API is served."""
    return UpstreamOff(
        "the management API is not served here: no management key is set in the proxy, or it runs in Home mode, or "
        "upstream.url has another base path",
        endpoint=STATISTICS,
        status=404,
    )


class _Begun:
    """An answer, and how much of it has come."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.bytes = 0

    def begin(self, encoding: str) -> None:
        self._answer.begin(encoding)

    def write(self, piece: bytes) -> None:
        self.bytes += len(piece)
        self._answer.write(piece)


def _may_have_popped(status: int) -> bool:
    return not (300 <= status < 400 or status in NOT_POPPED)  # noqa: PLR2004  # redirects


def _possible_loss(why: str) -> PossibleLossError:
    return PossibleLossError(f"the answer did not arrive whole ({why}); records in it may be lost", endpoint=QUEUE)


def ban_s(said: str) -> float:
    """Return the seconds in a text such as `Try again in 29m58s`; half an hour where it has none."""
    duration = DURATION.search(said.rstrip('."} \n'))
    if duration is None or not duration[0]:
        return BAN_S
    hours, minutes, seconds = (float(part or 0) for part in duration.groups())
    return hours * 3600 + minutes * 60 + seconds


class _Passing(UpstreamUnreachable):
    """A server error that may pass, and how long it asked to be left alone."""

    def __init__(self, text: str, *, endpoint: str, status: int, retry_after_s: float) -> None:
        super().__init__(text, endpoint=endpoint, status=status)
        self.retry_after_s = retry_after_s


def _unreachable(error: httpx.HTTPError, endpoint: str) -> UpstreamUnreachable:
    untrusted = distrust(error)
    return (
        UpstreamUntrusted(untrusted, endpoint=endpoint)
        if untrusted
        else UpstreamUnreachable(no_tls(error) or _say(error), endpoint=endpoint)
    )


def _attempts(kinds: tuple[type[Exception], ...], stopping: threading.Event) -> tenacity.Retrying:
    """Try again after these errors; one of trust, or of TLS, does not pass by itself."""
    jitter = tenacity.wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.3)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, _Passing) else 0.0
        return max(jitter(state), min(asked, RETRY_AFTER_MAX_S))

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, kinds) and distrust(e) is None and no_tls(e) is None),
        stop=tenacity.stop_any(tenacity.stop_after_attempt(TRIES), tenacity.stop_when_event_set(stopping)),
        wait=wait,
        sleep=tenacity.sleep_using_event(stopping),
        reraise=True,
    )


def _some(response: httpx.Response) -> bytes:
    """Read the begin of an error's body; the rest of a long one is nobody's business."""
    begin = io.BytesIO()
    for piece in response.iter_raw():
        begin.write(piece)
        if begin.tell() >= EXCERPT_BYTES:
            break
    begin.seek(0)
    with unpacked(begin, encoding=response.headers.get("Content-Encoding", ""), limit_bytes=EXCERPT_BYTES) as found:
        return bytes(found.body) or begin.getvalue()  # what cannot be unpacked is told as it is


def _excerpt(body: bytes | bytearray) -> str:
    """Return what an error body says: its `error` field, else its first words."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    said = cast("dict[str, Any]", answer).get("error") if isinstance(answer, dict) else None
    words = said if isinstance(said, str) else re.sub(r"(?:<[^>]*>|\s)+", " ", body.decode("utf-8", "replace")).strip()
    return words[:160] or "an empty answer"


def _say(error: httpx.HTTPError) -> str:
    said = OF_OPENSSL.sub("", str(error))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _seconds(retry_after: str) -> float:
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        return 0.0
