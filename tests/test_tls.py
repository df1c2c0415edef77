"""TLS to a proxy, over real TLS to the simulated one: who is believed, who is not, and that the latter get nothing."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import trustme
from support import KEY, calls, popped, proxy, snapshot_of

from worker import doctor
from worker.cliproxyapi.client import TRIES, ProxyClient
from worker.cliproxyapi.tls import trust
from worker.config import Database, Upstream, load
from worker.errors import ConfigError, UpstreamUnreachable, UpstreamUntrusted
from worker.simulator.proxy import Simulator
from worker.sync.run import UpstreamSync

HOST = "127.0.0.1"
FILES = ("ca_file", "client_cert_file", "client_key_file")


class Witness(Simulator):
    """A simulator that remembers every request whole, and every byte that was not one."""

    def __init__(self, tls, **more):
        super().__init__(key=KEY, tls=tls, **more)
        self.seen = []

    def answer(self, request):
        self.seen.append(request)
        return super().answer(request)


@pytest.fixture(scope="module")
def ours():
    return trustme.CA()


@pytest.fixture(scope="module")
def strangers():
    return trustme.CA()


@pytest.fixture
def files(tmp_path, ours, strangers):
    """PEM files, by what they hold."""
    client = ours.issue_cert("worker@example.com")
    foreign = strangers.issue_cert("worker@example.com")
    held = {
        "ca": ours.cert_pem.bytes(),
        "strangers-ca": strangers.cert_pem.bytes(),
        "cert": client.cert_chain_pems[0].bytes(),
        "key": client.private_key_pem.bytes(),
        "both": client.private_key_and_cert_chain_pem.bytes(),
        "foreign": foreign.private_key_and_cert_chain_pem.bytes(),
        "nothing": b"",
        "text": b"no PEM at all",
        "spoilt": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    for name, content in held.items():
        (tmp_path / f"{name}.pem").write_bytes(content)
    return {name: str(tmp_path / f"{name}.pem") for name in held} | {"missing": str(tmp_path / "missing.pem")}


def serving(authority, host=HOST, clients=None):
    """A server's side: its certificate for `host`, and whose clients it takes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def upstream(simulator, **more):
    return Upstream(**{"url": simulator.url, "key": KEY, "timeout_s": 10, **more})


def refused(simulator, *words, **more):
    """Every question is refused for want of trust, and nobody reads one."""
    with ProxyClient(upstream(simulator, **more)) as asks:
        pop, read = partial(popped, asks), partial(snapshot_of, asks)
        for ask in (asks.statistics_enabled, lambda: asks.mapping("auth-files"), read, pop, asks.offers_snapshot):
            with pytest.raises(UpstreamUntrusted) as failed:
                ask()
            for word in words:
                assert word in str(failed.value)
            assert KEY not in str(failed.value)
    assert simulator.seen == []
    assert simulator.requests == []


# -- the proxy's certificate ------------------------------------------------------------------------------------


def test_a_certificate_of_nobody_known_is_refused_and_nothing_is_sent(ours):
    with Witness(serving(ours)) as simulator:
        simulator.push(calls(10))
        refused(simulator, "certificate is not trusted")
        assert simulator.queued == 10


def test_a_private_authority_is_believed_when_it_is_named(ours, files):
    with Witness(serving(ours)) as simulator, ProxyClient(upstream(simulator, ca_file=files["ca"])) as asks:
        simulator.push(calls(10))
        assert asks.statistics_enabled() is True
        assert popped(asks).count(b'"timestamp"') == 10
        assert simulator.seen[0].headers["Authorization"] == f"Bearer {KEY}"


def test_another_private_authority_is_not_believed(ours, files):
    with Witness(serving(ours)) as simulator:
        refused(simulator, "certificate is not trusted", ca_file=files["strangers-ca"])


@pytest.mark.parametrize("host", ["proxy.example.net", "127.0.0.2", "localhost"])
def test_a_certificate_for_another_host_is_refused_and_nothing_is_sent(ours, files, host):
    with Witness(serving(ours, host)) as simulator:
        refused(simulator, "certificate is not trusted", HOST, ca_file=files["ca"])


def test_a_certificate_that_has_expired_is_refused(ours, files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime(2021, 1, 1, tzinfo=UTC)
    ours.issue_cert(HOST, not_after=past).configure_cert(context)
    with Witness(context) as simulator:
        refused(simulator, "expired", ca_file=files["ca"])


def test_what_a_named_authority_vouches_for_is_all_that_is_believed(files):
    context = trust(Upstream(url="https://proxy.example.net", key=KEY, ca_file=files["ca"]))
    assert context.cert_store_stats()["x509_ca"] == 1
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    usual = trust(Upstream(url="https://proxy.example.net", key=KEY))
    assert usual.cert_store_stats()["x509_ca"] > 50
    assert (usual.verify_mode, usual.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_there_is_no_way_to_switch_it_off():
    root = Path(__file__).resolve().parents[1]
    code = "".join(path.read_text(encoding="utf-8") for path in (root / "worker").rglob("*.py"))
    assert not re.search(r"CERT_NONE|verify\s*=\s*False|_create_unverified|check_hostname\s*=\s*False", code)
    assert not [key for key in Upstream.model_fields if "verify" in key or "insecure" in key]


# -- ours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"client_cert_file": "both"}, {"client_cert_file": "cert", "client_key_file": "key"}])
def test_a_certificate_that_the_proxy_asks_for_is_shown(ours, files, more):
    given = {name: files[held] for name, held in more.items()}
    with Witness(serving(ours, clients=ours)) as simulator:
        with ProxyClient(upstream(simulator, ca_file=files["ca"], **given)) as asks:
            assert asks.statistics_enabled() is True
            assert popped(asks) == b"[]"
        assert len(simulator.seen) == 2


@pytest.mark.parametrize("more", [{}, {"client_cert_file": "foreign"}], ids=["none", "foreign"])
def test_without_the_certificate_that_the_proxy_asks_for_nothing_is_read_and_nothing_is_a_loss(ours, files, more):
    given = {name: files[held] for name, held in more.items()}
    with Witness(serving(ours, clients=ours)) as simulator:
        simulator.push(calls(10))
        refused(simulator, "client certificate", ca_file=files["ca"], **given)
        assert simulator.queued == 10


# -- the files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "held", "said"),
    [
        ("ca_file", "missing", "cannot be read"),
        ("ca_file", "text", "is no PEM file with a certificate"),
        ("ca_file", "nothing", "is no PEM file with a certificate"),
        ("ca_file", "key", "is no PEM file with a certificate"),
        ("ca_file", "spoilt", "holds no certificate that can be read"),
        ("client_cert_file", "missing", "cannot be read"),
        ("client_cert_file", "text", "is no PEM file with a certificate"),
        ("client_cert_file", "cert", "is no PEM file with a private key"),
        ("client_key_file", "missing", "cannot be read"),
        ("client_key_file", "cert", "is no PEM file with a private key"),
        ("client_key_file", "foreign", "holds no key"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_key(files, key, held, said):
    given = {key: files[held]}
    if key == "client_key_file":
        given["client_cert_file"] = files["cert"]
    with pytest.raises(ConfigError) as failed:
        trust(Upstream(name="berlin", url="https://proxy.example.net", key=KEY, **given))
    assert str(failed.value).startswith(f"upstream.{key} of 'berlin': {files[held]} ")
    assert said in str(failed.value)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(files, tmp_path):
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    plain = serialization.load_pem_private_key(Path(files["key"]).read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"EXAMPLE"),
        )
    )
    given = {"client_cert_file": files["cert"], "client_key_file": str(locked)}
    with pytest.raises(ConfigError, match="without a passphrase"):
        trust(Upstream(url="https://proxy.example.net", key=KEY, **given))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"url": "http://proxy.example.net", "ca_file": "ca.pem"}, "ca_file is for an https:// URL"),
        ({"url": "https://proxy.example.net", "client_key_file": "k.pem"}, "client_key_file is the key of a"),
    ],
)
def test_files_that_could_mean_nothing_are_refused(more, said):
    environ = {f"WORKER__UPSTREAM__0__{name.upper()}": value for name, value in more.items()}
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(None, environ | {"WORKER_UPSTREAM_KEY": KEY})


def test_variables_name_the_files_and_do_not_read_them():
    environ = {f"WORKER__UPSTREAM__0__{name.upper()}": f"/etc/{name}.pem" for name in FILES}
    config = load(None, environ | {"WORKER_UPSTREAM_URL": "https://proxy.example.net", "WORKER_UPSTREAM_KEY": KEY})
    assert [getattr(config.upstream[0], name) for name in FILES] == [f"/etc/{name}.pem" for name in FILES]


# -- passes, and the doctor -------------------------------------------------------------------------------------


def upstream_sync(books, simulator, **more):
    one = upstream(simulator, queue_count=500, **more)
    config = books.config(one)
    return UpstreamSync(config.model_copy(update={"schedule": config.schedule.model_copy(update={"directory_s": 1.0})}),
                   books.engine, one)  # fmt: skip


def test_a_whole_pass_over_tls(books, ours, files):
    with proxy("queue", calls(100), tls=serving(ours, clients=ours)) as simulator:
        finished = books.worker(
            simulator, "sync", "--once", "--json",
            WORKER__UPSTREAM__0__CA_FILE=files["ca"], WORKER__UPSTREAM__0__CLIENT_CERT_FILE=files["both"],
        )  # fmt: skip
        assert (finished.code, finished.json[0]["inserted"]) == (0, 100), finished.stderr
    books.require_exactly(calls(100))


def test_a_pass_that_cannot_trust_its_proxy_fails_and_takes_nothing(books, ours):
    with proxy("queue", calls(100), tls=serving(ours)) as simulator:
        finished = books.worker(simulator, "sync", "--once")
        assert finished.code == 4
        assert "certificate is not trusted" in finished.stderr
        assert (simulator.queued, simulator.requests) == (100, [])


def test_a_file_that_is_missing_stops_the_worker_with_the_code_of_the_configuration(books, ours, files):
    with proxy("queue", tls=serving(ours)) as simulator:
        for command in (["sync", "--once"], ["run"], ["config", "check"]):
            finished = books.worker(simulator, *command, WORKER__UPSTREAM__0__CA_FILE=files["missing"])
            assert finished.code == 3, (command, finished)
            assert "upstream.ca_file" in finished.stderr


def test_certificates_that_were_replaced_are_noticed(books, ours, strangers, files, monkeypatch):
    ca = Path(files["ca"])
    later = [0.0]
    real = time.monotonic
    with Witness(serving(ours)) as simulator:
        post = upstream_sync(books, simulator, ca_file=str(ca))
        monkeypatch.setattr("worker.sync.run.time.monotonic", lambda: real() + later[0])
        try:
            assert post.run_pass().error is None
            shutil.copy(files["strangers-ca"], ca)
            assert post.run_pass().error is None  # read a moment ago
            later[0] += 2
            assert "certificate is not trusted" in (post.run_pass().error or "")
            ca.unlink()
            later[0] += 2
            assert "certificate is not trusted" in (post.run_pass().error or "")  # the last good one stays
            ca.write_bytes(ours.cert_pem.bytes())
            later[0] += 2
            assert post.run_pass().error is None
        finally:
            post.close()


def found(books, one):
    from pydantic import SecretStr  # noqa: PLC0415

    config = books.config(one, database=Database(url=SecretStr(books.dsn)))
    return {f.check: f for f in doctor.examine(config, interval_s=15.0)}


def test_the_doctor_tells_an_untrusted_certificate_from_a_proxy_that_is_not_there(books, ours, files):
    with Witness(serving(ours, "proxy.example.net")) as simulator:
        for more, said in (({}, "not trusted"), ({"ca_file": files["ca"]}, HOST)):
            finding = found(books, upstream(simulator, **more))["upstream_certificate"]
            assert (finding.level, finding.exit_code) == ("error", 4)
            assert said in finding.what
            assert "upstream.ca_file" in finding.remedy
        assert simulator.seen == []
    with Witness(serving(ours, clients=ours)) as simulator:
        finding = found(books, upstream(simulator, ca_file=files["ca"]))["upstream_certificate"]
        assert "upstream.client_cert_file" in finding.remedy
        assert simulator.seen == []
        finding = found(books, upstream(simulator, ca_file=files["missing"]))["upstream_certificate"]
        assert (finding.level, finding.exit_code) == ("error", 3)
        everything = found(books, upstream(simulator, ca_file=files["ca"], client_cert_file=files["both"]))
        assert everything["upstream_key"].level == "ok"
        assert "upstream_certificate" not in everything


def test_a_port_that_speaks_no_tls_is_unreachable(files):
    with proxy("queue") as simulator:
        url = simulator.url.replace("http:", "https:")
        with ProxyClient(Upstream(url=url, key=KEY, ca_file=files["ca"], timeout_s=5)) as asks:
            with pytest.raises(UpstreamUnreachable) as failed:
                asks.statistics_enabled()
            assert type(failed.value) is UpstreamUnreachable
        assert [path for _, path, _ in simulator.requests] == []
    assert str(failed.value) == (
        "usage-statistics-enabled: no TLS is spoken at this port: begin upstream.url with http://, "
        "or name the port for https"
    )


def test_what_openssl_says_of_its_own_inside_is_left_out(files):
    with socket.create_server((HOST, 0)) as server, ThreadPoolExecutor(1) as pool:

        def close_at_hello():
            for _ in range(TRIES):
                connection, _ = server.accept()
                with connection:
                    connection.recv(1 << 16)

        pool.submit(close_at_hello)
        url = f"https://{HOST}:{server.getsockname()[1]}"
        with ProxyClient(Upstream(url=url, key=KEY, timeout_s=5)) as asks, pytest.raises(UpstreamUnreachable) as failed:
            asks.statistics_enabled()
    assert "_ssl.c" not in str(failed.value)
    assert "[SSL" not in str(failed.value)
