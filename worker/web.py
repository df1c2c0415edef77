"""The few pages of `worker run`: /livez, /readyz and /metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.errors import ConfigError

TEXT = "text/plain; charset=utf-8"
REQUEST_TIMEOUT_S = 10.0


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
        """Take the port.

        Raises:
            ConfigError: it cannot be had.
        """
        self._pages = {"/livez": live, "/readyz": ready}
        self._metrics = metrics
        try:
            self._server = _Server((host, port), self._handler())
        except OSError as e:
            raise ConfigError(f"http.host and http.port: {host}:{port} cannot be listened on: {e.strerror}") from e
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        """Begin to answer."""
        threading.Thread(target=self._server.serve_forever, name="web", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()

    def _page(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        probe = self._pages.get(path)
        if probe is not None:
            health = probe()
            status = HTTPStatus.OK if health.well else HTTPStatus.SERVICE_UNAVAILABLE
            return status, TEXT, f"{health.text}\n".encode()
        if path == "/metrics":
            encode, kind = choose_encoder(accept)
            return HTTPStatus.OK, kind, encode(self._metrics)
        return HTTPStatus.NOT_FOUND, TEXT, b"/livez, /readyz and /metrics are here\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self._page

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_TIMEOUT_S
            server_version = "usage-worker"
            sys_version = ""

            def do_GET(self) -> None:
                status, kind, body = page(self.path.partition("?")[0], self.headers.get("Accept", ""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815  # the base class names it

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
                """Log no probe."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
