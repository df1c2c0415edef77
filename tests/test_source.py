"""HTTP to a proxy, over real HTTP to the simulated one: errors told apart, and a pop never repeated by mistake."""

import gzip
import io
import json
import socket
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
from support import popped, snapshot_of, wait_until

from worker.cliproxyapi.answer_errors import BAN_S, NotFoundError, ban_s, management_off, refusal
from worker.cliproxyapi.client import ProxyClient
from worker.cliproxyapi.payload import decode_queue
from worker.cliproxyapi.unpack import unpacked
from worker.config import Upstream, load
from worker.errors import (
    ConfigError,
    PossibleLossError,
    UpstreamAnswerError,
    UpstreamBanned,
    UpstreamError,
    UpstreamOff,
    UpstreamRefused,
    UpstreamUnreachable,
)
from worker.simulator.proxy import Fault, Simulator
from worker.simulator.traffic import Traffic, stamp

KEY = "EXAMPLE-management-key"
CALLS = Traffic(7).generate(60)
MANAGEMENT = "/v0/management"
STATISTICS, QUEUE, SNAPSHOT = (f"{MANAGEMENT}/{name}" for name in ("usage-statistics-enabled", "usage-queue", "usage"))


class Witness(Simulator):
    """A simulator that remembers every request whole."""

    def __init__(self, **more):
        super().__init__(key=KEY, traffic=Traffic(7), **more)
        self.seen = []

    def answer(self, request):
        self.seen.append(request)
        return super().answer(request)


@pytest.fixture
def proxy():
    with Witness() as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def _no_proxy_between(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def source(simulator, transport=None, tail="", **more):
    settings = {"url": simulator.url + tail, "key": KEY, "timeout_s": 10} | more
    # Reading the certificates of the world takes longer than a test that speaks plain HTTP.
    return ProxyClient(Upstream(**settings), transport or httpx.HTTPTransport(verify=False))


def fails_with(kind, ask, *words):
    with pytest.raises(kind) as failed:
        ask()
    assert type(failed.value) is kind or kind is UpstreamUnreachable
    assert KEY not in str(failed.value)
    for word in words:
        assert word in str(failed.value)
    return failed.value


def stamps(calls):
    return [stamp(call.timestamp_ns) for call in calls]


def read(body):
    return [item["timestamp"] for item in json.loads(body)]


# -- what is asked, and how ----------------------------------------------------------------------------------------


def test_a_pop_asks_for_so_many_and_returns_the_bytes_as_they_are(proxy):
    proxy.push(CALLS)
    with source(proxy, queue_count=25) as asks:
        bodies = [popped(asks) for _ in range(4)]
        assert asks.count == 25
        assert asks.version == "7.2.140"
    assert [len(json.loads(body)) for body in bodies] == [25, 25, 10, 0]
    assert bodies[-1] == b"[]"
    assert [t for body in bodies for t in read(body)] == stamps(CALLS)
    assert proxy.requests == [("GET", f"{QUEUE}?count=25", 200)] * 4
    assert proxy.lost == []


def test_a_snapshot_is_the_same_each_time():
    with Witness(generation="snapshot") as proxy, source(proxy) as asks:
        proxy.push(CALLS)
        first = snapshot_of(asks)
        assert json.loads(first)["usage"]["total_requests"] == len(CALLS)
        assert snapshot_of(asks) == first
        assert asks.version == "6.9.49"


@pytest.mark.parametrize("enabled", [True, False])
def test_the_switch_is_read_without_a_pop(enabled):
    with Witness(statistics_enabled=enabled) as proxy, source(proxy) as asks:
        assert asks.version == ""
        assert asks.statistics_enabled() is enabled
        assert asks.version == "7.2.140"
        assert proxy.requests == [("GET", STATISTICS, 200)]


def test_a_mapping_is_returned_as_it_is_and_none_where_the_version_has_none():
    with Witness(generation="snapshot") as proxy, source(proxy) as asks:
        assert json.loads(asks.mapping("claude-api-key")) == Traffic(7).mapping("claude-api-key")
        assert asks.mapping("xai-api-key") is None
        assert [status for _, _, status in proxy.requests] == [200, 404]


@pytest.mark.parametrize(
    ("told", "seconds"), [(3600, 3600), (61, 61), (60, 60), (0, 60), (-5, 60), (None, 60), (9999, 3600)]
)
def test_the_retention_is_what_the_proxy_makes_of_its_settings(proxy, told, seconds):
    proxy.override("config", {"api-keys": ["sk-x"], "redis-usage-queue-retention-seconds": told, "debug": True})
    with source(proxy) as asks:
        assert asks.retention_s() == seconds


def test_a_retention_is_60_where_the_settings_say_nothing_and_none_where_they_are_not_told(proxy):
    with source(proxy) as asks:
        proxy.override("config", {})
        assert asks.retention_s() == 60
        proxy.override("config", b"", 404)
        assert asks.retention_s() is None
        proxy.clear_overrides()
        assert asks.retention_s() == 60  # the simulator's


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"<html>sk-client-team-a-7Q2mX</html>", 200),
        (b'{"redis-usage-queue-retention-seconds": "sk-client-team-a-7Q2mX"}', 200),
        (b'{"api-keys": ["sk-client-team-a-7Q2mX"', 200),
        (b'{"error": "sk-client-team-a-7Q2mX"}', 500),
        (b"sk-client-team-a-7Q2mX", 202),
    ],
)
def test_settings_that_cannot_be_read_are_not_quoted(proxy, answer, status):
    proxy.override("config", answer, status)
    with source(proxy) as asks:
        error = fails_with(UpstreamAnswerError, asks.retention_s, f"config answered {status}: no settings")
    assert "sk-client" not in repr(error)
    assert error.__cause__ is None


def test_the_secrets_among_the_settings_are_not_kept(proxy):
    with source(proxy) as asks:
        proxy.requests.clear()
        assert asks.retention_s() == 60
        assert proxy.requests == [("GET", f"{MANAGEMENT}/config", 200)]
        kept = repr(vars(asks))
    assert not [secret for secret in Traffic(7).secrets() if secret in kept]


def test_whether_there_is_a_history_is_asked_without_reading_it(proxy):
    with source(proxy) as asks:
        assert asks.offers_snapshot() is False
    with Witness(generation="snapshot") as other, source(other, max_body_bytes=1 << 16) as asks:
        other.push(Traffic(7).generate(1000))
        assert asks.offers_snapshot() is True
        fails_with(UpstreamAnswerError, partial(snapshot_of, asks), "max_body_bytes")
        other.fail_next(SNAPSHOT, Fault(status=500, body=b"oops"))
        fails_with(UpstreamAnswerError, asks.offers_snapshot, "oops")
        other.fail_next(SNAPSHOT, Fault(drop=True))
        fails_with(UpstreamUnreachable, asks.offers_snapshot)


def test_the_proxys_clock_is_the_date_of_its_last_answer(proxy):
    with source(proxy) as asks:
        assert asks.date is None
        for at in (1_700_000_000, 1_800_000_000):
            proxy.wall = lambda at=at: at + 0.9
            asks.statistics_enabled()
            assert asks.date == datetime.fromtimestamp(at, UTC)
        asks._date = "yesterday"
        assert asks.date is None


@pytest.mark.parametrize("tail", ["", "/", "/v0/management", "/v0/management/"])
def test_the_url_may_end_with_the_management_path_or_not(proxy, tail):
    with source(proxy, tail=tail) as asks:
        assert asks.statistics_enabled() is True


@pytest.mark.parametrize("path", ["/cpa/v0/management", "/cpa/management"])
def test_the_management_path_may_be_another(path):
    with Witness(base_path=path) as proxy, source(proxy, tail=path) as asks:
        assert asks.statistics_enabled() is True


def test_a_path_before_the_management_path_is_kept():
    with Witness(base_path="/behind/nginx/v0/management") as proxy, source(proxy, tail="/behind/nginx/") as asks:
        assert asks.statistics_enabled() is True


@pytest.mark.parametrize("count", [1, 100_000])
def test_the_count_is_always_sent(proxy, count):
    with source(proxy, queue_count=count) as asks:
        popped(asks)
    assert proxy.requests == [("GET", f"{QUEUE}?count={count}", 200)]


def test_the_key_travels_in_one_header_and_nowhere_else(proxy):
    with source(proxy) as asks:
        asks.statistics_enabled()
        asks.mapping("auth-files")
        popped(asks)
        assert KEY not in repr(asks)
    assert len(proxy.seen) == 3
    for request in proxy.seen:
        assert KEY not in request.path + request.query
        assert request.body == b""
        carrying = [name for name, value in request.headers.items() if KEY in value]
        assert carrying == ["Authorization"]
        assert request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("spoilt", [f"{KEY}\n", f"{KEY}\r\nX: y", f"schlüssel-{KEY}", f"{KEY}\x7f", f"{KEY}\0"])
def test_a_key_that_no_header_can_carry_is_told_and_never_shown(proxy, spoilt):
    try:
        config = load(None, {"WORKER_UPSTREAM_URL": proxy.url, "WORKER_UPSTREAM_KEY": spoilt})
        with ProxyClient(config.upstream[0]) as asks:
            assert asks.statistics_enabled() is True  # taken without its line break
    except (ConfigError, UpstreamError) as e:
        assert KEY not in str(e)  # noqa: PT017  # taking it is as good


def test_connections_are_kept_and_closed(proxy):
    with source(proxy) as asks:
        for _ in range(3):
            asks.statistics_enabled()
        assert len(proxy._server._open) == 1
    asks.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="closed"):
        asks.statistics_enabled()


# -- the table of refusals -----------------------------------------------------------------------------------------

ASKS = {
    "statistics": lambda asks: asks.statistics_enabled(),
    "mapping": lambda asks: asks.mapping("auth-files"),
    "snapshot": snapshot_of,
    "pop": popped,
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
def test_a_wrong_key_is_refused_after_exactly_one_request(ask):
    with Witness(generation="both") as proxy, source(proxy, key="wrong-EXAMPLE") as asks:
        error = fails_with(UpstreamRefused, lambda: ask(asks), "invalid management key", "five bad tries ban")
        assert error.status == 401
        assert "wrong-EXAMPLE" not in str(error)
        assert [status for _, _, status in proxy.requests] == [401]
        assert proxy.auth_failures == 1
        assert asks.version == "6.10.8-fork"  # told before the key is looked at


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
def test_a_missing_key_is_refused_after_exactly_one_request(proxy, ask):
    proxy.fail_next("", Fault(status=401, body=b'{"error": "missing management key"}'))
    with source(proxy) as asks:
        assert fails_with(UpstreamRefused, lambda: ask(asks), "missing management key").status == 401
    assert len(proxy.requests) == 1


def test_a_key_is_not_found_wrong_on_a_path_that_is_not_there_before_v7():
    with Witness(generation="snapshot") as proxy, source(proxy, key="wrong") as asks:
        fails_with(NotFoundError, partial(popped, asks), "usage-queue answered 404", "404 page not found")
        assert proxy.auth_failures == 0
    with Witness(generation="queue") as proxy, source(proxy, key="wrong") as asks:
        fails_with(UpstreamRefused, partial(snapshot_of, asks))  # v7 asks for the key even where there is nothing


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
def test_a_ban_is_told_with_its_seconds(ask):
    with Witness(generation="both", clock=lambda: 0.0) as proxy, source(proxy) as asks:
        proxy.ban(1798)
        error = fails_with(UpstreamBanned, lambda: ask(asks), "banned for 1798 s more")
        assert (error.status, error.retry_after_s) == (403, 1798.0)
        assert len(proxy.requests) == 1


def test_five_wrong_keys_ban_and_the_right_key_does_not_help():
    with Witness(clock=lambda: 0.0) as proxy, source(proxy) as asks, source(proxy, key="wrong") as wrong:
        for _ in range(5):
            fails_with(UpstreamRefused, wrong.statistics_enabled)
        assert fails_with(UpstreamBanned, asks.statistics_enabled).retry_after_s == 1800.0


@pytest.mark.parametrize("text", ["remote management disabled", "remote management key not set"])
@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
def test_management_that_is_not_for_us_is_told_with_its_reason(proxy, ask, text):
    proxy.refuse(text)
    with source(proxy) as asks:
        error = fails_with(UpstreamOff, lambda: ask(asks), text, "remote-management.allow-remote")
        assert error.status == 403
    assert len(proxy.requests) == 1
    assert proxy.auth_failures == 0


@pytest.mark.parametrize(("body", "said"), [(b"404 page not found", "404 page not found"), (b"", "an empty answer")])
def test_what_is_not_there_is_told_apart_from_what_fails(proxy, body, said):
    proxy.fail_next("", *[Fault(status=404, body=body)] * 5)  # the first question is asked of both generations
    with source(proxy) as asks:
        assert asks.statistics_enabled() is None
        assert asks.mapping("auth-files") is None
        error = fails_with(NotFoundError, partial(snapshot_of, asks), f"usage answered 404: {said}")
        assert (error.endpoint, error.status) == ("usage", 404)
        assert fails_with(NotFoundError, partial(popped, asks), said).endpoint == "usage-queue"
    assert len(proxy.requests) == 5


def test_home_mode_answers_404_to_everything():
    with Witness(home_mode=True) as proxy, source(proxy) as asks:
        assert asks.statistics_enabled() is None
        fails_with(NotFoundError, partial(popped, asks))
        fails_with(NotFoundError, partial(snapshot_of, asks))
        assert asks.version == ""


def test_management_that_is_off_is_told_with_what_it_may_be():
    error = management_off()
    assert type(error) is UpstreamOff
    assert (error.endpoint, error.status) == ("usage-statistics-enabled", 404)
    for cause in ("no management key is set", "Home mode", "another base path"):
        assert cause in str(error)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b'{"error": "count must be a positive integer"}', "count must be a positive integer"),
        (500, b'{"error": "handler unavailable"}', "handler unavailable"),
        (405, b"<html><h1>Not  allowed</h1>\n</html>", "answered 405: Not allowed"),
        (418, b"", "an empty answer"),
        (500, b'{"error": {"code": 7}}', '{"error": {"code": 7}}'),
        (500, b"\xff\xfe", "\ufffd"),
        (500, b"[" * 1900, "[[[["),
    ],
    ids=["400", "500", "405", "empty", "object", "bytes", "deep"],
)
@pytest.mark.parametrize("ask", [ASKS["mapping"], ASKS["pop"]], ids=["mapping", "pop"])
def test_any_other_status_is_an_answer_that_was_not_promised(proxy, ask, status, body, said):
    proxy.fail_next("", Fault(status=status, body=body))
    with source(proxy) as asks:
        # After a pop nobody knows whether it took records off the queue before it failed.
        lost = ask is ASKS["pop"] and status not in (400, 405)
        error = fails_with(PossibleLossError if lost else UpstreamAnswerError, lambda: ask(asks), said)
        assert lost or error.status == status
        assert f"answered {status}" in str(error)
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("status", [408, 409, 460, 499, 500, 507, 520, 522, 524, 599])
def test_a_pop_that_failed_on_the_way_back_is_a_possible_loss(proxy, status):
    proxy.push(CALLS)
    proxy.fail_next("usage-queue", Fault(status=status, body=b"<html>timeout</html>", after_pop=True))
    with source(proxy) as asks:
        assert fails_with(PossibleLossError, partial(popped, asks), f"answered {status}: timeout").body == b""
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("status", [201, 204, 206])
def test_another_success_is_no_answer_to_what_can_be_asked_again(proxy, status):
    proxy.fail_next("", Fault(status=status, body=b"" if status == 204 else b"[]"))
    with source(proxy) as asks:
        assert fails_with(UpstreamAnswerError, partial(snapshot_of, asks)).status == status


def test_of_a_long_refusal_only_the_first_words_are_told(proxy):
    proxy.fail_next("", Fault(status=500, body=b"word " * 100_000))
    with source(proxy) as asks:
        assert len(str(fails_with(PossibleLossError, partial(popped, asks)))) < 330


@pytest.mark.parametrize(
    ("status", "text", "retry_after", "kind"),
    [
        (401, '{"error": "invalid management key"}', "", UpstreamRefused),
        (403, '{"error": "IP banned due to too many failed attempts. Try again in 29m58s"}', "", UpstreamBanned),
        (403, '{"error": "remote management disabled"}', "", UpstreamOff),
        (403, "<html>Forbidden</html>", "", UpstreamOff),
        (404, "", "", NotFoundError),
        (429, "slow down", "5", UpstreamUnreachable),
        (502, "", "", UpstreamUnreachable),
        (503, "", "soon", UpstreamUnreachable),
        (504, "", "-1", UpstreamUnreachable),
        (301, "", "", UpstreamAnswerError),
        (500, "", "", UpstreamAnswerError),
    ],
)
def test_each_status_means_one_kind_of_error(status, text, retry_after, kind):
    error = refusal("usage-queue", status, text.encode(), retry_after)
    assert isinstance(error, kind)
    assert (error.endpoint, error.status, error.exit_code) == ("usage-queue", status, 4)
    assert str(error).startswith(f"usage-queue answered {status}: ")


def test_the_refusals_of_the_corpus_mean_what_they_say():
    payloads = Path(__file__).parent / "payloads"
    banned = refusal("usage", 403, (payloads / "error-403-banned.json").read_bytes())
    assert type(banned) is UpstreamBanned
    assert banned.retry_after_s == 1798.0
    refused = refusal("usage", 401, (payloads / "error-401-invalid-key.json").read_bytes())
    assert type(refused) is UpstreamRefused


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("IP banned due to too many failed attempts. Try again in 29m58s", 1798),
        ("Try again in 30m0s", 1800),
        ("Try again in 1m0s", 60),
        ("Try again in 45s", 45),
        ("Try again in 1h0m0s", 3600),
        ("Try again in 1h2m3.5s", 3723.5),
        ("Try again in 0s", 0),
        ("Try again in 29m58s.", 1798),
        ('{"error":"banned. Try again in 29m58s"}\n', 1798),
        ("banned", BAN_S),
        ("banned for long", BAN_S),
        ("Try again in 250ms", BAN_S),
        ("", BAN_S),
    ],
)
def test_the_length_of_a_ban_is_read_or_half_an_hour(said, seconds):
    assert ban_s(said) == seconds
    assert BAN_S == 1800


# -- retries of what can be asked again ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_error_that_may_pass_is_tried_again(proxy, status):
    proxy.fail_next("statistics-enabled", Fault(status=status, body=b"busy"))
    with source(proxy) as asks:
        assert asks.statistics_enabled() is True
    assert [s for _, _, s in proxy.requests] == [status, 200]


def test_a_retry_waits_as_long_as_it_was_asked_to(proxy):
    proxy.fail_next("auth-files", Fault(status=503, headers={"Retry-After": "1"}))
    with source(proxy) as asks:
        began = time.monotonic()
        assert asks.mapping("auth-files")
        assert time.monotonic() - began >= 1.0
    assert [s for _, _, s in proxy.requests] == [503, 200]


@pytest.mark.parametrize("header", ["soon", "nan", "-3"])
def test_a_retry_after_that_cannot_be_read_is_not_waited_for(proxy, header):
    proxy.fail_next("statistics-enabled", Fault(status=503, headers={"Retry-After": header}))
    with source(proxy) as asks:
        assert asks.statistics_enabled() is True
    assert len(proxy.requests) == 2


def test_what_does_not_pass_is_given_up_after_four_tries(proxy):
    proxy.fail_next("statistics-enabled", *[Fault(status=503, body=b'{"error": "starting"}')] * 9)
    with source(proxy) as asks:
        error = fails_with(UpstreamUnreachable, asks.statistics_enabled, "answered 503: starting")
    assert error.status == 503
    assert [s for _, _, s in proxy.requests] == [503] * 4


@pytest.mark.parametrize(
    "fault",
    [Fault(drop=True), Fault(cut_after_bytes=5), Fault(delay_s=30.0)],
    ids=["dropped", "cut", "late"],
)
def test_an_answer_that_got_lost_is_asked_for_again(fault):
    with Witness(generation="snapshot") as proxy, source(proxy, timeout_s=0.25) as asks:
        whole = asks.mapping("auth-files")
        proxy.fail_next("auth-files", fault)
        assert asks.mapping("auth-files") == whole
        wait_until(lambda: len(proxy.requests) == 3, "the proxy notices that nobody waits for its late answer")


def test_half_an_answer_never_stands_before_the_whole_one():
    with Witness(generation="snapshot") as proxy, source(proxy) as asks:
        proxy.push(CALLS)
        proxy.fail_next("usage", Fault(cut_after_bytes=2000))
        assert json.loads(snapshot_of(asks))["usage"]["total_requests"] == len(CALLS)


def test_a_proxy_that_does_not_listen_is_unreachable():
    proxy = Witness()
    proxy.start()
    proxy.stop()
    with source(proxy) as asks:
        error = fails_with(UpstreamUnreachable, asks.statistics_enabled, "usage-statistics-enabled: ConnectError")
        assert error.status is None
        assert type(error) is UpstreamUnreachable


def test_an_answer_that_is_no_http_at_all_is_a_possible_loss():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def talk():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"-ERR unknown command\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with ProxyClient(Upstream(url=url, key=KEY, timeout_s=5)) as asks:
            assert fails_with(PossibleLossError, partial(popped, asks), "RemoteProtocolError").body == b""
        thread.join(10)
        assert not thread.is_alive()


# -- pops ----------------------------------------------------------------------------------------------------------


class OnceRefused(httpx.HTTPTransport):
    """Real connections; when one is refused, `then` happens before anybody hears of it."""

    def __init__(self, then):
        super().__init__()
        self.then = then
        self.refused = 0

    def handle_request(self, request):
        try:
            return super().handle_request(request)
        except httpx.ConnectError:
            self.refused += 1
            if self.then:
                self.then()
            raise


def test_a_pop_that_never_left_is_tried_again():
    proxy = Witness()
    proxy.start()
    proxy.stop()
    proxy.push(CALLS)
    transport = OnceRefused(proxy.start)
    try:
        with source(proxy, transport) as asks:
            assert read(popped(asks)) == stamps(CALLS)
    finally:
        proxy.stop()
    assert transport.refused == 1
    assert proxy.requests == [("GET", f"{QUEUE}?count=1000", 200)]


def test_a_pop_that_can_never_leave_is_unreachable_and_loses_nothing():
    proxy = Witness()
    proxy.start()
    proxy.stop()
    proxy.push(CALLS)
    transport = OnceRefused(None)
    with source(proxy, transport) as asks:
        error = fails_with(UpstreamUnreachable, partial(popped, asks), "usage-queue: ConnectError")
    assert type(error) is UpstreamUnreachable
    assert transport.refused == 4
    assert proxy.queued == len(CALLS)


@pytest.mark.parametrize("cut", [0, 1, 2000, 20_000])
def test_a_pop_whose_answer_is_cut_is_a_possible_loss_that_keeps_what_arrived(proxy, cut):
    proxy.push(CALLS)
    proxy.fail_next("usage-queue", Fault(cut_after_bytes=cut))
    with source(proxy) as asks:
        error = fails_with(
            PossibleLossError, partial(popped, asks), "did not arrive whole", "RemoteProtocolError", "may be lost"
        )
    assert len(error.body) == cut
    kept = decode_queue(error.body).records
    assert [r.occurred_at_ns for r in kept] == [call.timestamp_ns for call in CALLS[: len(kept)]]
    assert (len(kept) > 5) == (cut == 20_000)
    assert len(proxy.requests) == 1
    assert proxy.lost == CALLS
    assert proxy.queued == 0


@pytest.mark.parametrize("after_pop", [True, False])
def test_a_pop_without_any_answer_is_a_possible_loss_and_never_repeated(proxy, after_pop):
    proxy.push(CALLS)
    proxy.fail_next("usage-queue", Fault(drop=True, after_pop=after_pop))
    with source(proxy) as asks:
        error = fails_with(PossibleLossError, partial(popped, asks))
    assert error.body == b""
    assert (error.endpoint, error.status) == ("usage-queue", None)
    assert len(proxy.requests) == 1
    assert proxy.queued == (0 if after_pop else len(CALLS))


def test_a_pop_whose_answer_is_late_is_a_possible_loss_and_never_repeated(proxy):
    proxy.push(CALLS)
    proxy.fail_next("usage-queue", Fault(delay_s=30.0))
    with source(proxy, timeout_s=0.2) as asks:
        error = fails_with(PossibleLossError, partial(popped, asks), "ReadTimeout")
        assert error.body == b""
        assert popped(asks) == b"[]"  # the next one is another
    wait_until(lambda: len(proxy.requests) == 2, "the proxy notices that nobody waits for its late answer")
    assert proxy.lost == CALLS


@pytest.mark.parametrize("status", [502, 504])
def test_a_pop_that_failed_behind_a_reverse_proxy_is_a_possible_loss(proxy, status):
    proxy.fail_next("usage-queue", Fault(status=status, body=b"<html>Bad Gateway</html>"))
    with source(proxy) as asks:
        error = fails_with(PossibleLossError, partial(popped, asks), f"answered {status}", "Bad Gateway")
    assert error.body == b""
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_pop_that_was_turned_away_is_not_repeated_and_no_loss(proxy, status):
    proxy.push(CALLS)
    proxy.fail_next("usage-queue", Fault(status=status, body=b"busy", headers={"Retry-After": "1"}))
    with source(proxy) as asks:
        fails_with(UpstreamUnreachable, partial(popped, asks), f"answered {status}: busy")
    assert len(proxy.requests) == 1
    assert proxy.queued == len(CALLS)


@pytest.mark.parametrize("status", [201, 203, 206])
def test_a_pop_that_was_answered_with_another_success_keeps_its_bytes(proxy, status):
    proxy.fail_next("usage-queue", Fault(status=status, body=b'[{"timestamp": "2026-08-22T12:00:00Z"}]'))
    with source(proxy) as asks:
        try:
            body = popped(asks)
        except PossibleLossError as e:
            body = e.body
    assert body == b'[{"timestamp": "2026-08-22T12:00:00Z"}]'


# -- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["queue", "snapshot"])
def test_a_compressed_answer_is_read(generation):
    with Witness(generation=generation, gzip=True) as proxy, source(proxy) as asks:
        proxy.push(CALLS)
        assert "gzip" in asks._client.headers["Accept-Encoding"]
        if generation == "queue":
            raw = popped(asks)  # as it came
            assert len(raw) < 20_000
            assert read(gzip.decompress(raw)) == stamps(CALLS)
        else:
            assert json.loads(snapshot_of(asks))["usage"]["total_requests"] == len(CALLS)
        assert "gzip" in proxy.seen[0].headers["Accept-Encoding"]


def test_a_compressed_answer_that_is_cut_keeps_what_could_be_unpacked():
    with Witness(gzip=True) as proxy, source(proxy) as asks:
        proxy.push(CALLS)
        proxy.fail_next("usage-queue", Fault(cut_after_bytes=4000))
        error = fails_with(PossibleLossError, partial(popped, asks))
        assert len(error.body) == 4000
        with unpacked(io.BytesIO(error.body), encoding="gzip", limit_bytes=1 << 20) as found:
            assert found[1:] == (False, "what is packed as gzip breaks off", True)
            kept = decode_queue(bytes(found.body)).records
        assert 0 < len(kept) < len(CALLS)
        assert [r.occurred_at_ns for r in kept] == [call.timestamp_ns for call in CALLS[: len(kept)]]


def test_a_compressed_answer_that_is_damaged_is_handed_on_as_it_came_or_told(proxy):
    spoilt = gzip.compress(b"[]")[:10] + b"\xff" * 100
    proxy.fail_next("", *[Fault(status=200, body=spoilt, headers={"Content-Encoding": "gzip"})] * 5)
    with source(proxy) as asks:
        assert popped(asks) == spoilt  # nothing of it is anywhere else
        fails_with(UpstreamAnswerError, partial(snapshot_of, asks), "packed as gzip is damaged")


def test_a_redirect_is_not_followed(proxy):
    with Witness() as elsewhere:
        to = {"Location": f"{elsewhere.url}{QUEUE}?count=1000"}
        for status in (301, 302, 307, 308):
            proxy.fail_next("", *[Fault(status=status, headers=to)] * 2)
            with source(proxy) as asks:
                fails_with(
                    UpstreamAnswerError, partial(popped, asks), f"answered {status}: a redirect", "is not followed"
                )
                fails_with(UpstreamAnswerError, asks.statistics_enabled, "Put the final URL there")
        assert len(proxy.requests) == 8
        assert elsewhere.seen == []


def test_an_answer_that_is_too_long_is_not_read_to_its_end():
    with Witness(generation="snapshot") as proxy, source(proxy, max_body_bytes=1 << 16) as asks:
        proxy.push(Traffic(1).generate(1500))
        fails_with(UpstreamAnswerError, partial(snapshot_of, asks), "longer than max_body_bytes (65536)")
        assert len(proxy.requests) == 1


def test_a_pop_that_is_too_long_is_a_possible_loss_that_keeps_what_was_read(proxy):
    calls = Traffic(1).generate(1500)
    proxy.push(calls)
    with source(proxy, max_body_bytes=1 << 16, queue_count=5000) as asks:
        error = fails_with(PossibleLossError, partial(popped, asks), "longer than max_body_bytes (65536)")
    assert 1 << 16 < len(error.body) < 1 << 18
    kept = decode_queue(error.body).records
    assert len(kept) > 40
    assert [r.occurred_at_ns for r in kept] == [call.timestamp_ns for call in calls[: len(kept)]]
    assert len(proxy.requests) == 1


def test_a_bomb_of_zeros_is_stopped_at_the_limit(proxy):
    bomb = gzip.compress(b" " * (64 << 20), compresslevel=1)
    proxy.fail_next("", Fault(status=200, body=bomb, headers={"Content-Encoding": "gzip"}))
    with source(proxy, max_body_bytes=1 << 20) as asks:
        fails_with(UpstreamAnswerError, partial(snapshot_of, asks), "longer than the limit", "max_body_bytes: 1048576")


def test_an_answer_of_exactly_the_limit_is_read(proxy):
    exact = b"[" + b" " * ((1 << 16) - 2) + b"]"
    proxy.fail_next("", Fault(status=200, body=exact), Fault(status=200, body=exact + b" "))
    with source(proxy, max_body_bytes=1 << 16) as asks:
        assert popped(asks) == exact
        assert fails_with(PossibleLossError, partial(popped, asks)).body == exact + b" "


def test_a_page_instead_of_an_answer_is_told_or_handed_on_as_it_is(proxy):
    proxy.fail_next("", *[Fault(html=True)] * 4)
    with source(proxy) as asks:
        fails_with(UpstreamAnswerError, asks.statistics_enabled, "not JSON: Sign in Welcome")
        assert b"Sign in" in asks.mapping("auth-files")
        assert b"Sign in" in snapshot_of(asks)
        page = popped(asks)
    assert not decode_queue(page).complete
    assert len(proxy.requests) == 4


def test_bytes_that_are_no_text_are_handed_on_as_they_are(proxy):
    proxy.fail_next("usage-queue", Fault(garbage=True))
    with source(proxy) as asks:
        assert popped(asks) == b'[{"timestamp": \xff\xfe'


@pytest.mark.parametrize(
    "answer",
    [b"{}", b"[]", b"null", b"1", b'{"usage-statistics-enabled": "yes"}', b'{"usage-statistics-enabled": 1}'],
)
def test_a_switch_that_is_none_is_not_known(proxy, answer):
    proxy.override("usage-statistics-enabled", answer)
    with source(proxy) as asks:
        assert asks.statistics_enabled() is None


@pytest.mark.parametrize("answer", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"])
def test_a_switch_that_is_no_json_is_told(proxy, answer):
    proxy.override("usage-statistics-enabled", answer)
    with source(proxy) as asks:
        fails_with(UpstreamAnswerError, asks.statistics_enabled, "not JSON")
