"""The few pages of `worker run`: /livez, /readyz and /metrics.

One thread serves every connection, so that a slow client costs a socket and nothing more; and none of them lasts.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, NamedTuple, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.errors import ConfigError

TEXT = "text/plain; charset=utf-8"
CONNECTION_S = 10.0
"""How long a connection may last: these pages are short, and whoever asks again comes again."""

CONNECTIONS_MAX = 256
"""Beyond so many the oldest goes: whoever holds connections open keeps no probe out."""

KEPT_S = 3.0
"""For how long the answer of a check is told to others, too."""

PATIENCE_S = 2.0
"""How long a probe waits for a check; Kubernetes and load balancers seldom wait longer than a few seconds."""

STOP_S = 2

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Health(NamedTuple):
    """The answer to a probe: whether all is well, and one line for each thing that is not."""

    well: bool
    text: str


class Web:
    """An HTTP server on a thread of its own. It answers GET and HEAD, and keeps no connection open."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        live: Callable[[], Health],
        ready: Callable[[], Health],
        metrics: CollectorRegistry,
    ) -> None:
        """Take the port. `live` must answer at once, `ready` may take its time.

        Raises:
            ConfigError: the port cannot be had.
        """
        self._socket = _listening(host, port)
        self.port: int = self._socket.getsockname()[1]
        pages = _Pages(live, _Shared(ready), metrics)
        config = Config(
            pages, http=_Connection, ws="none", loop="asyncio", interface="asgi3", lifespan="off", log_config=None,
            log_level="critical", access_log=False, server_header=False, timeout_graceful_shutdown=STOP_S,
        )  # fmt: skip
        self._server = Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="web", daemon=True)

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Answer what was asked, and give the port back."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except OSError as e:
        raise ConfigError(f"http.host and http.port: {host}:{port} cannot be listened on: {e.strerror}") from e
    return listening


def _opened_at(connection: _Connection) -> float:
    return connection.opened_at


class _Connection(H11Protocol):
    """One client, who has so many seconds for everything: to send headers and body, and to take the answer."""

    opened_at: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        self.opened_at = time.monotonic()
        self._end = self.loop.call_later(CONNECTION_S, transport.abort)
        if len(self.connections) > CONNECTIONS_MAX:
            ours: list[_Connection] = [one for one in self.connections if isinstance(one, _Connection)]
            oldest = min(ours, key=_opened_at)
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)


class _Shared:
    """A check on a thread of its own: one at a time, and one answer for everybody who asks within some seconds."""

    def __init__(self, check: Callable[[], Health]) -> None:
        self._check = check
        self._running: asyncio.Future[Health] | None = None
        self._found: Health | None = None
        self._found_at = 0.0

    async def __call__(self) -> Health:
        if self._found is not None and time.monotonic() - self._found_at < KEPT_S:
            return self._found
        running = self._running or self._begun()
        done, _ = await asyncio.wait([running], timeout=PATIENCE_S)
        if not done:
            return Health(well=False, text=f"the database has not answered within {PATIENCE_S:.0f} s")
        return running.result()

    def _begun(self) -> asyncio.Future[Health]:
        loop = asyncio.get_running_loop()
        running: asyncio.Future[Health] = loop.create_future()

        def finish(found: Health) -> None:
            self._found, self._found_at, self._running = found, time.monotonic(), None
            running.set_result(found)

        def work() -> None:
            try:
                found = self._check()
            except Exception as e:  # noqa: BLE001  # whatever it is: not ready, and the next check may be
                found = Health(well=False, text=f"it cannot be checked: {type(e).__name__}")
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, found)

        self._running = running
        threading.Thread(target=work, name="readiness", daemon=True).start()
        return running


class _Pages:
    """The pages, as an ASGI application."""

    def __init__(self, live: Callable[[], Health], ready: _Shared, metrics: CollectorRegistry) -> None:
        self._live = live
        self._ready = ready
        self._metrics = metrics

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        more: list[tuple[bytes, bytes]] = []
        if scope["method"] in ("GET", "HEAD"):
            status, kind, body = await self._page(scope["path"], headers.get(b"accept", b"").decode("latin-1"))
        else:
            status, kind, body = HTTPStatus.METHOD_NOT_ALLOWED, TEXT, b"only GET and HEAD\n"
            more.append((b"allow", b"GET, HEAD"))
        size = str(len(body)).encode()
        told = [(b"content-type", kind.encode()), (b"content-length", size), (b"connection", b"close"), *more]
        await send({"type": "http.response.start", "status": int(status), "headers": told})
        await send({"type": "http.response.body", "body": body})

    async def _page(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        if path in ("/livez", "/readyz"):
            health = self._live() if path == "/livez" else await self._ready()
            status = HTTPStatus.OK if health.well else HTTPStatus.SERVICE_UNAVAILABLE
            return status, TEXT, f"{health.text}\n".encode()
        if path == "/metrics":
            encode, kind = choose_encoder(accept)
            return HTTPStatus.OK, kind, encode(self._metrics)
        return HTTPStatus.NOT_FOUND, TEXT, b"/livez, /readyz and /metrics are here\n"
