"""What a proxy may answer that nobody should: too deep, too long, packed too well, cut short. Its siblings load."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from support import KEY, SEED, calls, popped, proxy, snapshot_of

from worker.cliproxyapi.client import OTHER_MAX_BYTES, ProxyClient
from worker.cliproxyapi.directory import KEY_ENDPOINTS
from worker.cliproxyapi.payload import TEXT_MAX_CHARS, decode_queue
from worker.cliproxyapi.unpack import PIECE_BYTES
from worker.config import Upstream
from worker.errors import PossibleLossError, UpstreamAnswerError
from worker.simulator import traffic
from worker.simulator.proxy import Fault
from worker.simulator.traffic import Traffic

DEEP = 100_000
NESTED = {
    "open lists": b"[" * DEEP,
    "open objects": b'{"a":' * DEEP,
    "lists": b"[" * DEEP + b"]" * DEEP,
    "objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
}
LONG = 50 << 20
ITEMS = [traffic.queue_item(call) for call in calls(40)]


def item(**more):
    return {**ITEMS[0], "timestamp": "2026-08-22T12:00:00.123Z", **more}


# -- depth ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", NESTED)
def test_a_queue_that_answers_with_something_deep_ends_the_pass_in_good_order(books, nested):
    with proxy("queue") as simulator:
        simulator.override("usage-queue", NESTED[nested])
        result = books.sync(simulator)
    assert result.exit_code == (6 if nested == "lists" else 4)  # a list holds an element, the others are no list
    assert result.quarantined >= 1
    # What is whole and holds nothing that can be read stays; what breaks off has no more in it, and is counted.
    assert [path.suffix for path in books.journal()] == [".unread"] * (nested == "objects") * 3
    assert result.possible_loss == 3 * nested.startswith("open")


@pytest.mark.parametrize("nested", ["lists", "objects"])
@pytest.mark.parametrize("where", ["an item", "an unknown field", "a field", "a text"])
def test_siblings_of_something_deep_load(books, nested, where):
    deep = NESTED[nested].decode()
    first, last = (json.dumps(one) for one in ITEMS[:2])
    odd = json.dumps(item())[:-1]
    between = {
        "an item": deep,
        "an unknown field": f'{odd}, "more": {deep}}}',
        "a field": f'{odd}, "tokens": {deep}}}',
        "a text": json.dumps(deep),
    }[where]
    with proxy("queue") as simulator:
        simulator.fail_next("usage-queue", Fault(status=200, body=f"[{first}, {between}, {last}]".encode()))
        result = books.sync(simulator)
    assert result.inserted >= 2
    assert result.inserted + result.quarantined == 3
    books.balance()


@pytest.mark.parametrize("nested", NESTED)
def test_a_snapshot_or_a_part_of_it_that_is_deep_is_told_and_costs_only_itself(books, nested):
    with proxy("snapshot", calls(20)) as simulator:
        simulator.override("usage", NESTED[nested])
        result = books.sync(simulator, mode="snapshot")
        assert (result.exit_code, result.inserted) == (4, 0)
        simulator.clear_overrides()
        if nested in ("lists", "objects"):
            whole = json.dumps(traffic.snapshot(calls(20)))
            key = json.dumps("sk-deep")
            odd = whole.replace(
                '"apis": {', f'"apis": {{{key}: {{"models": {{"m": {{"details": {NESTED[nested].decode()}}}}}}}, ', 1
            )
            assert odd != whole
            simulator.override("usage", odd.encode())
            result = books.sync(simulator, mode="snapshot")
            assert (result.inserted, result.quarantined) == (20, 1)
        books.balance()


@pytest.mark.parametrize("nested", NESTED)
def test_lists_of_credentials_that_are_deep_keep_the_last_good_ones(books, nested):
    with proxy("queue", calls(20)) as simulator:
        books.sync(simulator)
        before = books.ask("SELECT channel FROM usage_api.v1_channels WHERE configured ORDER BY 1")
        for endpoint in ("auth-files", *KEY_ENDPOINTS):
            simulator.override(endpoint, NESTED[nested])
        simulator.override("config", NESTED[nested])
        simulator.push(calls(40)[20:])
        result = books.sync(simulator)
        assert (result.exit_code, result.inserted) == (0, 20)
        assert books.ask("SELECT channel FROM usage_api.v1_channels WHERE configured ORDER BY 1") == before
        simulator.override("usage-statistics-enabled", NESTED[nested])
        assert books.sync(simulator).exit_code == 4


# -- length -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    ["model", "api_key", "request_id", "source", "alias", "endpoint", "auth_index", "timestamp", "unknown_field"],
)
def test_fifty_megabytes_in_one_field_are_cut_or_set_aside_and_siblings_load(books, field):
    long = "x" * LONG
    payload = json.dumps([ITEMS[0], item(**{field: long}), ITEMS[1]]).encode()
    with proxy("queue") as simulator:
        simulator.fail_next("usage-queue", Fault(status=200, body=payload))
        result = books.sync(simulator)
    aside = int(field == "timestamp")
    assert (result.inserted, result.quarantined, result.exit_code) == (3 - aside, aside, 6 * aside)
    for view in ("v1_records", "v1_daily"):
        ((longest,),) = books.ask(f"SELECT max(length(r::text)) FROM usage_api.{view} AS r")
        assert longest < 2000
    for ((text,),) in (books.ask("SELECT max(model) FROM usage_api.v1_records WHERE model LIKE 'xxx%%'"),):
        assert text is None or (len(text) == TEXT_MAX_CHARS and text.endswith("…"))
    for (kept,) in books.ask("SELECT payload || reason FROM usage.quarantine"):
        assert len(kept) < 10_000
    books.balance()


def test_a_snapshot_with_long_names_around_its_records_loads(books):
    whole = traffic.snapshot(calls(20))
    whole["usage"]["apis"]["k" * (5 << 20)] = {
        "models": {"m" * (5 << 20): {"details": [item(timestamp="never"), item()]}}
    }
    with proxy("snapshot") as simulator:
        simulator.override("usage", whole)
        result = books.sync(simulator, mode="snapshot")
    assert (result.inserted, result.quarantined) == (21, 1)
    ((kept,),) = books.ask("SELECT payload FROM usage.quarantine")
    assert len(kept) < 10_000
    books.balance()


def test_lists_of_credentials_with_long_names_load(books):
    entry = {"name": "n" * LONG, "provider": "codex", "email": "e" * (1 << 20), "auth_index": "9" * (1 << 20)}
    with proxy("queue", calls(20)) as simulator:
        simulator.override("auth-files", {"files": [entry]})
        assert books.sync(simulator).inserted == 20
    ((longest,),) = books.ask("SELECT max(length(c::text)) FROM usage_api.v1_channels AS c")
    assert longest < 2000


def test_an_array_of_ten_thousand_loads_though_fewer_were_asked_for(books):
    made = Traffic(SEED).generate(10_000)
    payload = json.dumps([traffic.queue_item(call) for call in made]).encode()
    with proxy("queue") as simulator:
        simulator.fail_next("usage-queue", Fault(status=200, body=payload))
        assert books.sync(simulator, queue_count=500).inserted == 10_000
    books.balance()


@pytest.mark.parametrize("element", [b"[]", b"null", b"1", b'""', b"{}"])
def test_ten_thousand_elements_that_are_nothing_are_set_aside(books, element):
    payload = b"[" + b",".join([json.dumps(ITEMS[0]).encode(), *[element] * 10_000]) + b"]"
    with proxy("queue") as simulator:
        simulator.fail_next("usage-queue", Fault(status=200, body=payload))
        result = books.sync(simulator)
    assert result.inserted == 1
    assert len(books.ask("SELECT 1 FROM usage.quarantine")) == 1  # all alike


@pytest.mark.parametrize(("field", "quarantine"), [("more", 0), ("latency_ms", 1)])
def test_a_number_without_end_costs_at_most_its_record_though_another_is_malformed(books, field, quarantine):
    odd = json.dumps(item(**{field: 0})).replace(f'"{field}": 0', f'"{field}": {"9" * 5000}')
    first, last = (json.dumps(one) for one in ITEMS[:2])
    with proxy("queue") as simulator:
        body = f"[{first}, {odd}, {json.dumps(item(more=float('nan')))}, {last}]".encode()
        simulator.fail_next("usage-queue", Fault(status=200, body=body))
        result = books.sync(simulator)
    assert (result.inserted, result.quarantined) == (4 - quarantine, quarantine)


# -- packed -----------------------------------------------------------------------------------------------------


def packed_zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(b" " * (1 << 20)) for _ in range(megabytes)]
    return b"".join([*pieces, packer.flush()])


@contextmanager
def little_memory(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def source(simulator, **more):
    return ProxyClient(Upstream(**{"url": simulator.url, "key": KEY, "timeout_s": 30, **more}))


BOMBS = {
    "gzip": lambda: packed_zeros(128),
    "deflate": lambda: zlib.compress(b" " * (128 << 20)),
    "gzip, gzip": lambda: gzip.compress(packed_zeros(256)),
}


@pytest.mark.parametrize("encoding", BOMBS)
def test_a_bomb_takes_no_more_memory_than_an_answer_may_be_long(encoding):
    bomb = BOMBS[encoding]()
    assert len(bomb) < 1 << 20
    limit = 1 << 20
    with proxy("queue") as simulator, source(simulator, max_body_bytes=limit) as asks:
        for status in (200, 500):
            simulator.fail_next("", *[Fault(status=status, body=bomb, headers={"Content-Encoding": encoding})] * 3)
            with little_memory(limit + 23 * PIECE_BYTES):
                for ask in (partial(popped, asks), partial(snapshot_of, asks), lambda: asks.mapping("auth-files")):
                    try:
                        assert len(ask()) < limit
                    except (UpstreamAnswerError, PossibleLossError) as e:
                        assert len(getattr(e, "body", b"")) <= limit + PIECE_BYTES  # noqa: PT017  # either will do


def test_what_of_a_bomb_was_unpacked_is_loaded_and_all_of_it_is_kept(books):
    payload = json.dumps(ITEMS).encode()[:-1] + b", " + b" " * (64 << 20)
    fault = Fault(status=200, body=gzip.compress(payload, 1), headers={"Content-Encoding": "gzip"})
    with proxy("queue") as simulator:
        simulator.fail_next("usage-queue", fault)
        result = books.sync(simulator, max_body_bytes=1 << 20)
    assert (result.inserted, result.possible_loss) == (len(ITEMS), 0)
    assert "longer than the limit" in result.error
    assert [path.suffix for path in books.journal()] == [".unread"]
    books.balance()


def test_a_compressed_answer_that_breaks_off_unnoticed_by_http_is_a_possible_loss_and_what_arrived_is_loaded(books):
    body = gzip.compress(json.dumps(ITEMS).encode())[:-300]
    packed = Fault(status=200, body=body, headers={"Content-Encoding": "gzip"})
    with proxy("queue") as simulator, source(simulator) as asks:
        simulator.fail_next("usage-queue", packed)
        result = books.sync(simulator)
        assert 5 < result.inserted < len(ITEMS)
        assert result.possible_loss == 1
        assert books.journal() == []
        simulator.fail_next("usage", packed)
        with pytest.raises(UpstreamAnswerError, match="breaks off"):
            snapshot_of(asks)
    books.balance()


def test_an_encoding_that_nobody_asked_for_is_handed_on_as_it_is():
    with proxy("queue") as simulator, source(simulator) as asks:
        simulator.fail_next(
            "usage-queue", Fault(status=200, body=b"\x0b\x02\x80[]\x03", headers={"Content-Encoding": "br"})
        )
        assert popped(asks) == b"\x0b\x02\x80[]\x03"


def test_what_is_no_usage_may_not_be_as_long():
    with proxy("queue") as simulator, source(simulator) as asks:
        simulator.override("auth-files", b"[" + b" " * OTHER_MAX_BYTES + b"]")
        with pytest.raises(UpstreamAnswerError, match=f"longer than any of its kind .{OTHER_MAX_BYTES}"):
            asks.mapping("auth-files")


# -- a length that is not true ----------------------------------------------------------------------------------


class Liar:
    """A server whose answers to pops have another length than they say; every other path is not there."""

    def __init__(self, announced: int, body: bytes) -> None:
        self.pops = 0
        self._pop = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (announced, body)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                while request := connection.recv(65536):
                    connection.sendall(self._answer(request))
                    if b"usage-queue" in request:
                        break

    def _answer(self, request):
        if b"usage-queue" in request:
            self.pops += 1
            return self._pop if self.pops == 1 else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
        if b"usage-statistics-enabled" in request:
            return b'HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n{"usage-statistics-enabled":true}'
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("off_by", [-1000, -1, 1, 1000])
def test_an_answer_of_another_length_than_it_says_keeps_what_arrived_of_it(books, off_by):
    body = json.dumps(ITEMS).encode()
    with Liar(len(body) + off_by, body) as server:
        result = books.sync(server, queue_count=len(ITEMS))
    whole = decode_queue(body[:off_by] if off_by < 0 else body).records
    assert result.inserted == len(whole) >= len(ITEMS) - 2
    assert result.exit_code != 0
    assert result.possible_loss + result.quarantined >= 1
    assert books.journal() == []
    books.balance()
