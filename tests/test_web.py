"""The pages over real sockets: slow clients, a database that hangs, a client that hangs up."""

import socket
import threading
import time
from contextlib import ExitStack

from prometheus_client import CollectorRegistry, Gauge
from support import QUICK, SELECT_WAITING, free_port, proxy, said, wait_until
from test_service import get, metric

from worker.service import web
from worker.service.web import Health, Web

OK = Health(well=True, text="ok")


def pages(ready=lambda: OK, live=lambda: OK):
    registry = CollectorRegistry()
    Gauge("usage_worker_something", "Something.", registry=registry).set(1)
    return Web("127.0.0.1", 0, live=live, ready=ready, metrics=registry)


def sent(port, request):
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(request)
    return client


def answer(client):
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def is_closed(client):
    """Wait until the server has ended the connection."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_two_hundred_slow_clients_hold_no_thread_and_keep_no_probe_out():
    with pages() as served, ExitStack() as stack:
        before = threading.active_count()
        for _ in range(200):
            stack.enter_context(sent(served.port, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "))
        begun = time.monotonic()
        assert [get(served.port, page) for page in ("/livez", "/readyz")] == [(200, "ok\n")] * 2
        assert time.monotonic() - begun < 2
        assert threading.active_count() <= before + 1


def test_more_clients_than_there_are_connections_for_close_the_oldest(monkeypatch):
    monkeypatch.setattr(web, "CONNECTIONS_MAX", 5)
    with pages() as served, ExitStack() as stack:
        slow = [stack.enter_context(sent(served.port, b"GET /livez HTTP/1.1\r\n")) for _ in range(8)]
        assert get(served.port, "/livez") == (200, "ok\n")
        assert is_closed(slow[0])


def test_a_client_that_never_ends_its_request_is_let_go(monkeypatch):
    monkeypatch.setattr(web, "CONNECTION_S", 0.2)
    with pages() as served, sent(served.port, b"POST /livez HTTP/1.1\r\nHost: x\r\nX: ") as client:
        assert is_closed(client)


def test_a_client_that_hangs_up_and_one_that_speaks_no_http_leave_no_trace(capfd):
    with pages() as served:
        for request in (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01 no http\r\n\r\n"):
            client = sent(served.port, request)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
            client.close()
        assert get(served.port, "/livez") == (200, "ok\n")
    assert capfd.readouterr() == ("", "")


def test_head_other_methods_and_other_paths():
    with pages() as served:
        head = answer(sent(served.port, b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 200")
        assert head.endswith(b"\r\n\r\n")
        assert get(served.port, "/elsewhere") == (404, "/livez, /readyz and /metrics are here\n")
        assert get(served.port, "/livez?verbose") == (200, "ok\n")
        assert get(served.port, "/livez", "POST")[0] == 405
        wanted = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n"
        assert b"application/openmetrics-text" in answer(sent(served.port, wanted))


def test_one_check_serves_everybody_and_one_that_hangs_is_told_in_time(monkeypatch):
    monkeypatch.setattr(web, "PATIENCE_S", 0.2)
    checks, hanging = [], threading.Event()

    def ready():
        checks.append(threading.current_thread().name)
        hanging.wait(20)
        return OK

    with pages(ready) as served:
        found = [None] * 20
        askers = [
            threading.Thread(target=lambda n=n: found.__setitem__(n, get(served.port, "/readyz"))) for n in range(20)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert {status for status, _ in found} == {503}
        assert len(checks) == 1
        assert get(served.port, "/livez") == (200, "ok\n")
        hanging.set()
        wait_until(lambda: get(served.port, "/readyz") == (200, "ok\n"), "it is ready once the check has ended")
        assert get(served.port, "/readyz") == (200, "ok\n")
        assert len(checks) == 1


def test_a_check_that_fails_is_not_ready():
    def ready():
        raise ZeroDivisionError

    with pages(ready) as served:
        assert get(served.port, "/readyz") == (503, "it cannot be checked: ZeroDivisionError\n")


def test_probes_of_readiness_share_one_connection(books):
    port = free_port()
    environment = {**QUICK, "WORKER_HTTP_PORT": str(port)}
    with proxy("queue") as simulator, books.starting(simulator, "run", **environment) as process:
        wait_until(lambda: '"service.started"' in said(process), "it is at work")
        for job in ("maintain", "doctor"):  # they look at the schema, too
            wait_until(lambda job=job: f'"{job}"' in str(metric(port, "jobs_total")), f"{job} has been done")
        with books.holding("LOCK TABLE usage.schema_version IN ACCESS EXCLUSIVE MODE"):
            wait_until(lambda: get(port, "/readyz")[0] == 503, "the answer that was kept is told no longer")
            askers = [threading.Thread(target=get, args=(port, "/readyz")) for _ in range(60)]
            for asker in askers:
                asker.start()
            waiting = set()
            while any(asker.is_alive() for asker in askers):
                waiting |= set(books.ask(SELECT_WAITING))
            assert len(waiting) == 1
            assert get(port, "/livez") == (200, "ok\n")
        wait_until(lambda: get(port, "/readyz")[0] == 200, "it is ready again")
