"""HTTP to one proxy: asks, tells its errors apart, retries what is safe. Parses no record.

A read of the queue is destructive. It is repeated only where the request cannot have left; where an answer got
lost on its way, what was in it may be lost too, and that is said (PossibleLossError) and counted. What arrives is
handed on as it comes over the wire: it is unpacked only once it is safe.
"""

from __future__ import annotations

import io
import json
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
from typing import Any, BinaryIO, Protocol, Self, TypeVar, cast

import httpx
import msgspec
import tenacity

from worker.cliproxyapi.answer_errors import (
    NotFoundError,
    PassingError,
    excerpt,
    may_have_popped,
    possible_loss,
    refusal,
    say,
    unreachable,
)
from worker.cliproxyapi.generations import (
    CONFIG,
    HOME_RECORDS,
    QUEUE,
    RETENTION,
    SNAPSHOT,
    STATISTICS,
    Generation,
    base_url,
    first,
    other,
)
from worker.cliproxyapi.tls import distrust, no_tls, trust
from worker.cliproxyapi.unpack import unpacked
from worker.config import Upstream
from worker.errors import (
    UpstreamAnswerError,
    UpstreamError,
    UpstreamUnreachable,
)
from worker.json_errors import NOT_JSON

T = TypeVar("T")
RETENTION_DEFAULT_S, RETENTION_MAX_S = 60, 3600
"""For how long the proxy keeps a queued record where its configuration says nothing, and at most."""

OTHER_MAX_BYTES = 64 << 20
"""Longest answer that is no usage: it is parsed into a tree of objects, and a list of credentials is never so long."""

EXCERPT_BYTES = 2000
TRIES = 4
RETRY_AFTER_MAX_S = 30.0
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


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


class ProxyClient:
    """One proxy's management API. Several threads may ask; one question is asked at a time."""

    def __init__(
        self,
        upstream: Upstream,
        transport: httpx.BaseTransport | None = None,
        stopping: threading.Event | None = None,
        trusting: ssl.SSLContext | None = None,
        generation: Generation | None = None,
    ) -> None:
        """Prepare a client; nothing is asked yet. The key travels in a header only, and to this host only.

        Args:
            upstream: the proxy.
            transport: what carries requests; httpx's own by default.
            stopping: once it is set, nothing is tried again.
            trusting: what its certificate is believed by; made anew by default.
            generation: which one of its API was served last; by default the one that the URL names.
        """
        self._stopping = stopping or threading.Event()
        self._url = upstream.url
        self._generation: Generation = generation if generation is not None else first(upstream.url)
        self._key = upstream.key.get_secret_value()
        self._max_body_bytes = upstream.max_body_bytes
        self._count = upstream.queue_count
        self._version = ""
        self._date = ""
        self._asking = threading.Lock()
        self._client = httpx.Client(
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

    @property
    def generation(self) -> Generation:
        """The generation of its API that was served last."""
        return self._generation

    def statistics_enabled(self) -> bool | None:
        """Ask whether the proxy records usage: the one safe question, by which key and reachability show.

        By it the generation of the API is found out, too: the other one is asked where this one is not served.

        Returns:
            None where the proxy does not know the question (adapters).

        Raises:
            UpstreamError: as `errors` tells them apart.
        """
        for generation in (self._generation, other(self._generation)):
            try:
                enabled = self._switch(generation)
            except NotFoundError as e:
                if not e.unset:
                    continue
                enabled = False  # it is off where nothing was written
            self._generation = generation
            return enabled
        return None

    def _switch(self, generation: Generation) -> bool | None:
        body = self._get(STATISTICS, generation)
        try:
            answer: Any = json.loads(body)
        except (ValueError, RecursionError) as e:
            said = excerpt(body.replace(self._key.encode(), b"***"))
            raise UpstreamAnswerError(f"not JSON: {said}", endpoint=STATISTICS, status=200) from e
        value = cast("dict[str, Any]", answer).get(STATISTICS) if isinstance(answer, dict) else answer
        return value if isinstance(value, bool) else None

    def mapping(self, endpoint: str) -> bytes | None:
        """Return a mapping endpoint's answer, None where this version has no such endpoint.

        Raises:
            UpstreamError: as `errors` tells them apart; also where the proxy was found to be of another generation, to
                which the endpoint does not belong.
        """
        if self._generation.path(endpoint) is None:
            raise UpstreamAnswerError(f"it is none of {self._generation.name}", endpoint=endpoint)
        try:
            return bytes(self._get(endpoint))
        except NotFoundError:
            return None

    def listed_names(self) -> list[str]:
        """Return the names of the proxy's settings, among them its lists of credentials; none where it tells none.

        Raises:
            UpstreamError: as `errors` tells them apart. It tells no setting.
        """
        return list(self._setting(CONFIG, dict[str, msgspec.Raw]) or ())

    def retention_s(self) -> int | None:
        """Return for how many seconds the proxy keeps a queued record; None where it tells nothing of its settings.

        The answer holds the proxy's secrets: nothing else of it is decoded, kept, or said in an error.

        Raises:
            UpstreamError: as `errors` tells them apart.
        """
        if self._generation.path(CONFIG) is None:
            told = self._setting(RETENTION, int, unset=0)
        else:
            settings = self._setting(CONFIG, _ProxyConfig)
            told = (settings.redis_usage_queue_retention_seconds or 0) if settings is not None else None
        if told is None:
            return None
        return min(told, RETENTION_MAX_S) if told > 0 else RETENTION_DEFAULT_S

    def _setting(self, question: str, kind: type[T], unset: T | None = None) -> T | None:
        """Return what is decoded of the proxy's settings, and say nothing else of them; None where it tells none."""
        try:
            body = self._get(question)
        except NotFoundError as e:
            return unset if e.unset else None
        except UpstreamAnswerError as e:
            raise UpstreamAnswerError("no settings that can be read", endpoint=question, status=e.status) from None
        try:
            return msgspec.json.decode(body, type=kind)
        except NOT_JSON:
            raise UpstreamAnswerError("no settings that can be read", endpoint=question, status=200) from None

    def offers_snapshot(self) -> bool:
        """Ask whether there is a history, without reading it.

        Raises:
            UpstreamError: as `errors` tells them apart.
        """
        try:
            with self._begun(SNAPSHOT) as response:
                self._accept(SNAPSHOT, response)
        except NotFoundError:
            return False
        except httpx.HTTPError as e:
            raise unreachable(e, SNAPSHOT) from e
        return True

    def offers_home_records(self) -> bool:
        """Ask whether this is a CLIProxyAPIHome, which keeps usage in a database.

        Raises:
            UpstreamError: as `errors` tells them apart.
        """
        try:
            self.home_records({"limit": "1"})
        except NotFoundError:
            return False
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

    def home_records(self, params: dict[str, str]) -> bytes:
        """Return a page of the usage records that CLIProxyAPIHome keeps; can be asked for again.

        Raises:
            NotFoundError: this is no Home.
            UpstreamError: as `errors` tells them apart.
        """
        return self._get(HOME_RECORDS, params=params)

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
                raise unreachable(e, QUEUE) from e
            raise possible_loss(say(e)) from e
        except UpstreamError as e:
            if begun.bytes or (e.status is not None and may_have_popped(e.status)):
                raise possible_loss(str(e)) from e
            raise

    def _safely_sent(self, answer: Answer) -> None:
        """Pop, again only after failures at which the request had not left."""
        try:
            for attempt in _attempts(NOT_SENT, self._stopping):
                with attempt, self._asking:
                    self._read(QUEUE, answer, self._max_body_bytes, params={"count": str(self._count)})
        except NOT_SENT as e:
            raise unreachable(e, QUEUE) from e

    def _get(self, endpoint: str, generation: Generation | None = None, params: dict[str, str] | None = None) -> bytes:
        """Ask something that can be asked again, whose answer is short."""
        limit = min(self._max_body_bytes, OTHER_MAX_BYTES)
        answer = self._asked(endpoint, io.BytesIO(), limit, generation, params)
        answer.content.seek(0)
        with unpacked(answer.content, encoding=answer.encoding, limit_bytes=limit) as found:
            if not found.whole:
                raise UpstreamAnswerError(found.fault, endpoint=endpoint, status=HTTPStatus.OK)
            return bytes(found.body)

    def _asked(
        self,
        endpoint: str,
        content: BinaryIO,
        limit: int,
        generation: Generation | None = None,
        params: dict[str, str] | None = None,
    ) -> _Repeatable:
        """Ask something that can be asked again, into `content`; return its answer as it came."""
        answer = _Repeatable(content)
        try:
            for attempt in _attempts((httpx.TransportError, UpstreamUnreachable), self._stopping):
                with attempt, self._asking:
                    answer.content.seek(0)
                    answer.content.truncate()
                    self._read(endpoint, answer, limit, params, generation)
        except httpx.HTTPError as e:
            raise unreachable(e, endpoint) from e
        return answer

    def _read(
        self,
        endpoint: str,
        answer: Answer,
        limit: int,
        params: dict[str, str] | None = None,
        generation: Generation | None = None,
    ) -> None:
        """Hand `answer` what comes, or raise what its status means."""
        with self._begun(endpoint, params, generation) as response:
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

    @contextmanager
    def _begun(
        self, question: str, params: dict[str, str] | None = None, generation: Generation | None = None
    ) -> Generator[httpx.Response]:
        """Ask a question where a generation answers it, by default the served one; yield what begins to come."""
        asked = generation or self._generation
        path = asked.path(question)
        if path is None:
            raise NotFoundError(f"{asked.name} has no such", endpoint=question, status=HTTPStatus.NOT_FOUND)
        url = f"{base_url(self._url, asked)}/{path}"
        with self._client.stream("GET", url, params=params) as response:
            yield response

    def _accept(self, endpoint: str, response: httpx.Response) -> None:
        """Note what the headers say, and raise what a status that is no success means."""
        self._version = response.headers.get("X-CPA-VERSION", self._version)
        self._date = response.headers.get("Date", self._date)
        if not response.is_success:
            excerpt = _some(response).replace(self._key.encode(), b"***")
            raise refusal(endpoint, response.status_code, excerpt, response.headers.get("Retry-After", ""))


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


def _attempts(kinds: tuple[type[Exception], ...], stopping: threading.Event) -> tenacity.Retrying:
    """Try again after these errors; one of trust, or of TLS, does not pass by itself."""
    jitter = tenacity.wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.3)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, PassingError) else 0.0
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
