"""A way to PostgreSQL that can be cut without a word, as by a firewall or a machine that is gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from psycopg.conninfo import conninfo_to_dict


@dataclass
class Wire:
    """A way to the server that somebody may cut without a word: bytes are taken and never come out."""

    port: int
    dropping: threading.Event = field(default_factory=threading.Event)
    carried: list[socket.socket] = field(default_factory=list[socket.socket])

    def give_up(self) -> None:
        """Close every connection, as the operating system does once it has noticed that the other side is gone."""
        for one in self.carried:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def url(self, dsn: str) -> str:
        """The same database by this way."""
        server = conninfo_to_dict(dsn)
        password = f":{server['password']}" if server.get("password") else ""
        return f"postgresql://{server['user']}{password}@127.0.0.1:{self.port}/{server['dbname']}"


def _connected(dsn: str) -> socket.socket:
    server = conninfo_to_dict(dsn)
    host, port = str(server.get("host", "127.0.0.1")), server.get("port", 5432)
    if not host.startswith("/"):
        return socket.create_connection((host, int(port)))
    found = socket.socket(socket.AF_UNIX)
    found.connect(f"{host}/.s.PGSQL.{port}")
    return found


def _carry(one: socket.socket, other: socket.socket, dropping: threading.Event) -> None:
    """Hand on what comes from one side to the other, until either has ended."""
    with suppress(OSError):
        while data := one.recv(1 << 16):
            if not dropping.is_set():
                other.sendall(data)
    for end in (one, other):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)  # closing alone ends nothing while another thread reads from it
        end.close()


@contextmanager
def wire(dsn: str) -> Iterator[Wire]:
    """A way to the server of `dsn`."""
    listening = socket.create_server(("127.0.0.1", 0))
    made = Wire(listening.getsockname()[1])

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            if made.dropping.is_set():
                continue
            server = _connected(dsn)
            made.carried += (client, server)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=_carry, args=(*pair, made.dropping), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield made
    finally:
        listening.close()
        made.give_up()
