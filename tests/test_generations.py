"""Each version and fork of the proxy as it is today: v8 under both its paths, its keys, and forks' answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import KEY, SEED, calls, proxy

from worker import secret
from worker.cliproxyapi import generations as generation
from worker.cliproxyapi.client import ProxyClient
from worker.cliproxyapi.generations import V0, V8
from worker.cliproxyapi.key_groups import parse_groups
from worker.config import Upstream
from worker.errors import UpstreamAnswerError, UpstreamRefused
from worker.secret import Keyring
from worker.simulator.proxy import masked
from worker.simulator.traffic import CREDENTIALS, Credential, Model, Traffic
from worker.sync import queue as fetch

RENDERINGS = {"v8": "7.2.140", "v8-only": "7.2.140", "capped": "7.2.140", "envelope": "6.10.8"}
SYNC = ("sync", "--once", "--json")
META = Credential(mapping="meta-api-key", provider="meta", executor="MetaExecutor", key="mk-EXAMPLE-meta-0001",
                  base_url="https://api.meta.ai/v1", models=(Model("llama-5", "llama-5", "POST /v1/responses"),),
                  auth_index="6f5d66361012f167")  # fmt: skip
MISTRAL = replace(META, mapping="mistral-api-key", provider="mistral", key="mi-EXAMPLE-0001", base_url="",
                  auth_index="1f5d66361012f167")  # fmt: skip
CHANNELS = "SELECT channel, channel_kind, sum(requests) FROM usage_api.v1_daily_channels GROUP BY 1, 2"


def source(simulator, url="", **more):
    return ProxyClient(Upstream(url=url or simulator.url, key=KEY, timeout_s=10), **more)


def seen_by_the_database(simulator, n):
    """The calls as the queue of this version tells them."""
    told = calls(n)
    return [replace(c, client_key=masked(c.client_key)) for c in told] if simulator.offer.masked else told


# -- whole passes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", RENDERINGS)
def test_a_pass_takes_all_of_it_and_a_second_one_changes_nothing(books, version):
    with proxy(version, calls(1700)) as simulator:
        first = books.worker(simulator, *SYNC, WORKER__UPSTREAM__0__QUEUE_COUNT="1000")
        assert (first.code, first.json[0]["inserted"], simulator.queued) == (0, 1700, 0), first.stderr
        again = books.worker(simulator, *SYNC)
        assert (again.code, again.json[0]["pulled"]) == (0, 0)
        for command in (["verify"], ["resolve", "--all"], ["doctor"]):
            finished = books.worker(simulator, *command)
            assert finished.code == 0, finished.stdout + finished.stderr
    books.require_exactly(seen_by_the_database(simulator, 1700), RENDERINGS[version])


@pytest.mark.parametrize("versions", [("queue", "v8", "v8-only"), ("queue", "v8-only"), ("v8-only", "v8", "queue")])
def test_an_upgrade_in_mid_traffic_renames_no_channel_and_forgets_none(books, versions):
    wanted, before = calls(1500), []
    with proxy(versions[0]) as simulator:
        for n, version in enumerate(versions):
            simulator.become(version)
            begin, end = (len(wanted) * k // len(versions) for k in (n, n + 1))
            simulator.push(wanted[begin:end])
            assert books.worker(simulator, *SYNC).code == 0
            channels = books.ask("SELECT channel, configured FROM usage_api.v1_channels ORDER BY 1")
            assert not before or channels == before
            before = channels
    books.require_exactly(wanted)
    assert not {name for name, _ in before if name.rpartition("-")[2].isdigit()}  # as v8 makes names of groups up


@pytest.mark.parametrize("version", ["queue", "v8", "v8-only"])
def test_lists_that_no_version_had_before_are_found_by_what_the_proxy_tells(books, version):
    made = Traffic(SEED, credentials=(META, MISTRAL))
    wanted = made.generate(60)
    with proxy(version) as simulator:
        simulator.traffic = made
        simulator.push(wanted)
        assert books.worker(simulator, *SYNC).code == 0
    found = {(name, kind): int(n) for name, kind, n in books.ask(CHANNELS)}
    of_meta = sum(usage.provider == "meta" for usage in wanted)
    assert found == {("api.meta.ai", "apikey"): of_meta, ("mistral", "apikey"): 60 - of_meta}
    assert 0 < of_meta < 60


@pytest.mark.parametrize("version", ["queue", "v8-only"])
def test_a_key_without_an_index_is_found_by_itself(books, version):
    made = Traffic(SEED, credentials=(replace(META, auth_index=""),))
    with proxy(version) as simulator:
        simulator.traffic = made
        simulator.push(made.generate(20))
        assert books.worker(simulator, *SYNC).code == 0
    assert books.ask("SELECT DISTINCT channel, channel_rule FROM usage_api.v1_records") == [("api.meta.ai", "api_key")]


# -- questions --------------------------------------------------------------------------------------------------


def test_the_generation_is_found_by_the_safe_question_and_kept(books):
    with proxy("v8-only", calls(5)) as simulator:
        with source(simulator) as asks:
            assert (asks.generation, asks.statistics_enabled(), asks.generation) == (V0, True, V8)
            assert asks.retention_s() == 3600
            assert b"files" in asks.mapping("auth-files")
            with pytest.raises(UpstreamAnswerError, match="none of v8"):  # it would pass for an empty list
                asks.mapping("claude-api-key")
            assert not asks.offers_snapshot()
        asked = len(simulator.requests)
        with source(simulator, generation=V8) as asks:
            assert asks.statistics_enabled() is True
        assert [path for _, path, _ in simulator.requests[asked:]] == [
            "/v8/management/config/observability/usage/usage-statistics-enabled"
        ]
        simulator.become("queue")
        with source(simulator, generation=V8) as asks:
            assert (asks.statistics_enabled(), asks.generation) == (True, V0)


def test_what_was_never_written_is_the_proxys_default():
    with proxy("v8-only") as simulator:
        simulator.unwritten |= {generation.V8.path(generation.STATISTICS), generation.V8.path(generation.RETENTION)}
        with source(simulator) as asks:
            assert (asks.statistics_enabled(), asks.generation) == (False, V8)
            assert asks.retention_s() == 60


def test_a_wrong_key_costs_one_failed_login_whatever_is_served():
    for version in ("queue", "v8", "v8-only"):
        with proxy(version) as simulator, ProxyClient(Upstream(url=simulator.url, key="wrong")) as asks:
            with pytest.raises(UpstreamRefused):
                asks.statistics_enabled()
            assert simulator.auth_failures == 1, version


@pytest.mark.parametrize("tail", ["", "/", "/v0/management", "/v8/management/", "/behind/v8/management"])
@pytest.mark.parametrize("version", ["queue", "v8", "v8-only"])
def test_a_base_path_may_name_either_generation_or_none(books, version, tail):
    base = f"{tail.partition('/v')[0].rstrip('/')}/v0/management"
    with proxy(version, calls(20), base_path=base) as simulator:
        finished = books.worker(None, *SYNC, WORKER_UPSTREAM_URL=f"{simulator.url}{tail}", WORKER_UPSTREAM_KEY=KEY)
        assert finished.code == 0, finished.stderr
        assert simulator.queued == 0


def test_an_adapter_that_knows_no_such_question_is_asked_as_before():
    with proxy("both") as simulator:
        simulator.override("usage-statistics-enabled", b"404 page not found", 404)
        with source(simulator) as asks:
            assert (asks.statistics_enabled(), asks.generation) == (None, V0)


# -- groups of keys ---------------------------------------------------------------------------------------------

KEYRING = Keyring(b"EXAMPLE-pepper-of-thirty-two-bytes")


def test_groups_that_an_operator_named_go_by_what_v0_calls_them():
    body = b"""{"codex": [{"name": "relay-eu", "base-url": "https://codex-relay.example.net/v1", "keys": [
        {"api-key": "one", "auth_index": "e924b6c91c6bdf47"}, {"api-key": "two", "auth_index": "bc010fb073234853"}]}],
        "openai-compatibility": [{"name": "OpenRouter", "base-url": "https://openrouter.ai/api/v1", "keys": [
        {"api-key": "three", "auth_index": "a91baaa28e621b1d"}]},
        {"name": "local", "base-url": "http://10.0.0.9:8000/v1", "keys": [], "auth_index": "63d568b434a0748b"}]}"""
    listed, unread = parse_groups(body, KEYRING)
    assert unread == []
    found = {c.auth_index: (c.endpoint, c.channel.name) for credentials, _ in listed.values() for c in credentials}
    assert found == {
        "e924b6c91c6bdf47": ("codex-api-key", "codex-relay.example.net"),
        "bc010fb073234853": ("codex-api-key", "codex-relay.example.net"),
        "a91baaa28e621b1d": ("openai-compatibility", "OpenRouter"),
        "63d568b434a0748b": ("openai-compatibility", "local"),
    }


@pytest.mark.parametrize(
    ("groups", "credentials", "skipped"),
    [
        ("null", 0, 0),
        ("[]", 0, 0),
        ('[{"name": "a", "keys": null}]', 0, 0),
        ('[17, {"keys": [{"api-key": "k"}]}]', 1, 1),
        ('[{"keys": [null, "text", {"api-key": "k"}]}]', 1, 2),
        ('[{"keys": "text"}, {"keys": [{"api-key": "k"}]}]', 1, 1),
    ],
)
def test_a_group_that_cannot_be_read_costs_only_itself(groups, credentials, skipped):
    listed, unread = parse_groups(
        f'{{"claude": {groups}, "codex": [{{"keys": [{{"api-key": "x"}}]}}]}}'.encode(), KEYRING
    )
    assert (len(listed["claude-api-key"][0]), listed["claude-api-key"][1], unread) == (credentials, skipped, [])
    assert len(listed["codex-api-key"][0]) == 1


def test_a_provider_whose_groups_are_no_list_keeps_what_it_listed(books):
    with proxy("v8-only", calls(400)) as simulator:
        assert books.worker(simulator, *SYNC).code == 0
        simulator.override("config/api-keys", {"claude": "nonsense", "xai": None})
        finished = books.worker(simulator, *SYNC)
        assert finished.code == 0
        assert "claude-api-key" in finished.stderr
    configured = dict(books.ask("SELECT channel, configured FROM usage_api.v1_channels WHERE channel_kind = 'apikey'"))
    assert configured["api.x.ai"] is False
    kept = {c.base_url.removeprefix("https://") for c in CREDENTIALS if c.mapping == "claude-api-key" and c.base_url}
    assert kept
    assert all(configured[name] for name in kept if name in configured)


# -- masked keys ------------------------------------------------------------------------------------------------


def test_keys_that_a_fork_masks_are_shown_as_that_and_told_as_perhaps_several(books):
    with proxy("capped", calls(400)) as simulator:
        assert books.worker(simulator, *SYNC).code == 0
    shown = {masked(c.client_key) for c in calls(400) if c.client_key}
    found = dict(books.ask("SELECT client_key, perhaps_several FROM usage_api.v1_client_keys"))
    assert found == {**dict.fromkeys(shown, True), "(no key)": False}
    report = books.worker(None, "report", "keys").stdout
    assert all(key in report for key in shown)
    assert "the proxy masks client keys, and several may look alike" in report
    assert "several may look alike" not in books.worker(None, "report", "channels").stdout


@pytest.mark.parametrize(
    ("key", "is_mask"),
    [("sk-c***Q2mX", True), ("ab***", True), ("sk-client-***", False), ("***", False), ("a b***", False), ("", False),
     ("sk-c****Q2mX", False), ("sk-c***Q2m", False)],
)  # fmt: skip
def test_what_a_fork_shows_of_a_key_is_told_from_a_key(key, is_mask):
    assert secret.is_masked(key) == is_mask
    assert (KEYRING.label(key) == key) == is_mask


# -- one busy proxy ---------------------------------------------------------------------------------------------


def test_a_queue_that_is_never_empty_ends_a_pass_after_a_while_and_the_next_one_goes_on(books, monkeypatch):
    monkeypatch.setattr(fetch, "DRAIN_MAX_S", 0.0)
    with proxy("queue", calls(600)) as simulator:
        assert books.sync(simulator, queue_count=100).inserted < 600
        monkeypatch.undo()
        books.sync(simulator, queue_count=100)
    books.require_exactly(calls(600))
