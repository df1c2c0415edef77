"""The 35 cases in which a record's channel is hard to tell; docs/channels.md says the same in words."""

import itertools
import json
import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from support import KEY

from worker.channels.resolve import NOT_FOUND, resolve
from worker.cliproxyapi.directory import KEY_ENDPOINTS, UNKNOWN, BadMappingError, base_url_name, build, parse
from worker.config import Channels, Upstream
from worker.corrections.link import link as link_channels
from worker.secret import Keyring, is_account
from worker.simulator.proxy import Fault, Simulator
from worker.sync import run as sync

DOCS = Path(__file__).resolve().parents[1] / "docs" / "channels.md"
KEYRING = Keyring(b"EXAMPLE-pepper")
COMPAT = "openai-compatibility"
I1, I2, I3 = "1111111111111111", "2222222222222222", "aaaaaaaaaaaaaaaa"
K1, K2 = "sk-EXAMPLE-provider-key-0001", "sk-EXAMPLE-provider-key-0002"
ALICE, BOB = "alice@example.com", "bob@example.com"
NO_CHANNEL = ("unknown", "none")

stamps = itertools.count()


# -- what the proxy lists ------------------------------------------------------------------------------------------


def auth_file(email, index=I1, provider="codex", **more):
    name = f"{provider}-{email}.json"
    return {"id": name, "name": name, "type": provider, "email": email, "auth_index": index} | more


def key(api_key, index="", **more):
    return {"api-key": api_key, "auth-index": index} | more


def compatible(name, *keys, url="https://relay.example.net/v1", **more):
    return {"name": name, "base-url": url, "api-key-entries": list(keys)} | more


def listed(endpoint, *entries):
    found, _ = parse(endpoint, json.dumps(list(entries)).encode(), KEYRING)
    return found


def look_up(credentials, index="", source="", provider="", auth_type="", past=(), **more):
    return resolve(
        build(credentials, past),
        auth_index=index,
        source_digest=KEYRING.digest(source),
        account=source if is_account(source) else "",
        provider=provider,
        auth_type=auth_type,
        **more,
    )


def channel(credentials, *question, **more):
    found = look_up(credentials, *question, **more)
    return found.channel.name, found.rule


# -- whole passes --------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy():
    """A proxy that has nothing configured yet."""
    with Simulator(key=KEY, retention_s=3600) as simulator:
        yield simulator


def record(index="", source="", auth_type="oauth", provider="codex", **more):
    n = next(stamps)
    return {
        "timestamp": f"2026-11-20T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z", "source": source,
        "auth_index": index, "provider": provider, "model": "m-1", "alias": "m-1", "endpoint": "POST /v1/responses",
        "auth_type": auth_type, "api_key": "sk-EXAMPLE-client", "request_id": f"{n:08x}", "failed": False,
        "tokens": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
    } | more  # fmt: skip


def configure(simulator, endpoint, *entries):
    simulator.override(endpoint, {"files" if endpoint == "auth-files" else endpoint: list(entries)})


def a_pass(books, simulator, *records, match_account=False, **upstream):
    simulator.push_raw(records)
    one = Upstream(**{"url": simulator.url, "key": SecretStr(KEY), "queue_count": 500, **upstream})
    result = sync.sync_once(books.config(one, channels=Channels(match_account=match_account)), books.engine, one)
    assert (result.error, result.quarantined) == (None, 0)
    assert result.inserted == len(records)
    return result


def booked(books):
    """The channel and the rule of each record, oldest first."""
    return books.ask("SELECT channel, channel_rule FROM usage_api.v1_records ORDER BY occurred_at")


def known(books, kind="apikey"):
    return books.ask(
        "SELECT channel, configured FROM usage_api.v1_channels WHERE channel_kind = %s ORDER BY upstream, 1", [kind]
    )


def candidates(books):
    return [c for (c,) in books.ask("SELECT candidates FROM usage.origin WHERE candidates <> '' ORDER BY origin_id")]


def names_of(books, number=0):
    """Every name that one of the channels had, oldest first."""
    ids = [i for (i,) in books.ask("SELECT channel_id FROM usage.channel WHERE kind <> 'unknown' ORDER BY channel_id")]
    return books.ask(
        "SELECT name, given_by FROM usage.channel_name WHERE channel_id = %s ORDER BY since", [ids[number]]
    )


def link(books, which, to):
    ids = dict(books.ask("SELECT name, channel_id FROM usage.channel"))
    return link_channels(books.engine, "default", ids[which], ids[to])


# -- 5.1 to 5.3: the index -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (auth_file(ALICE, label="L"), f"codex/{ALICE}"),
        (auth_file("", label="L", name="f.json"), "codex/L"),
        (auth_file("", name="f.json"), "codex/f.json"),
        (auth_file("", name="", id="i.json"), "codex/i.json"),
    ],
)
def test_5_1_an_index_finds_its_auth_file_named_by_address_then_label_then_file(entry, name):
    assert channel(listed("auth-files", entry), I1) == (name, "auth_index")


@pytest.mark.parametrize("endpoint", KEY_ENDPOINTS)
def test_5_2_an_index_finds_its_provider_key_and_goes_before_the_source(endpoint):
    entries = [key(K1, I1, name="one"), key(K2, I2, name="two")]
    if endpoint == COMPAT:
        entries = [compatible("one", key(K1, I1)), compatible("two", key(K2, I2))]
    found = listed(endpoint, *entries)
    assert channel(found, I2, K1, auth_type="apikey") == ("two", "auth_index")


def test_5_3_an_auth_file_goes_before_a_provider_key_of_the_same_index():
    file, relay = listed("auth-files", auth_file(ALICE)), listed("codex-api-key", key(K1, I1, name="relay"))
    for both in (file + relay, relay + file):
        assert channel(both, I1, provider="codex") == (f"codex/{ALICE}", "auth_index")
        assert channel(both, I1) == (f"codex/{ALICE}", "auth_index")


def test_5_3_the_records_provider_goes_before_the_auth_file():
    both = listed("auth-files", auth_file(ALICE)) + listed("claude-api-key", key(K1, I1, name="relay"))
    assert channel(both, I1, provider="claude") == ("relay", "auth_index")


# -- 5.4 to 5.9: what changes in the proxy's configuration ---------------------------------------------------------


@pytest.mark.parametrize("name", ["Relay", ""], ids=["named", "named by its base URL"])
def test_5_4_a_rotated_key_stays_its_providers_channel(books, proxy, name):
    configure(proxy, COMPAT, compatible(name, key(K1, I1)))
    a_pass(books, proxy, record(I1, K1, "apikey"))
    configure(proxy, COMPAT, compatible(name, key(K2, I2)))
    a_pass(books, proxy, record(I2, K2, "apikey"), record(I1, K1, "apikey"), record("", K1, "apikey"))
    relay = name or "relay.example.net"
    assert booked(books) == [(relay, rule) for rule in ["auth_index"] * 3 + ["api_key"]]
    assert known(books) == [(relay, True)]
    assert books.ask("SELECT auth_index, configured FROM usage.credential ORDER BY 1") == [(I1, False), (I2, True)]


def test_5_4_a_key_rotated_together_with_the_name_is_another_channel_until_it_is_linked(books, proxy):
    configure(proxy, "codex-api-key", key(K1, I1, name="old"))
    a_pass(books, proxy, record(I1, K1, "apikey"))
    configure(proxy, "codex-api-key", key(K2, I2, name="new"))
    a_pass(books, proxy, record(I2, K2, "apikey"), record(I1, K1, "apikey"))
    assert booked(books) == [("old", "auth_index"), ("new", "auth_index"), ("old", "auth_index")]
    assert known(books) == [("new", True), ("old", False)]
    assert link(books, "old", "new") == 2
    a_pass(books, proxy, record(I1, K1, "apikey"))
    assert [name for name, _ in booked(books)] == ["new"] * 4
    books.balance()


def test_5_5_an_edited_base_url_leaves_a_named_provider_its_channel(books, proxy):
    configure(proxy, "codex-api-key", key(K1, I1, name="Relay", **{"base-url": "https://one.example.net"}))
    a_pass(books, proxy, record(I1, K1, "apikey"))
    configure(proxy, "codex-api-key", key(K1, I2, name="Relay", **{"base-url": "https://two.example.net"}))
    a_pass(books, proxy, record(I2, K1, "apikey"), record(I1, "", "apikey"), record(I3, K1, "apikey"))
    assert booked(books) == [("Relay", rule) for rule in ["auth_index"] * 3 + ["api_key"]]


def test_5_5_an_edited_base_url_renames_the_channel_that_is_called_by_it_and_its_history(books, proxy):
    configure(proxy, "codex-api-key", key(K1, I1, **{"base-url": "https://one.example.net/v1"}))
    a_pass(books, proxy, record(I1, K1, "apikey"))
    configure(proxy, "codex-api-key", key(K1, I2, **{"base-url": "https://two.example.net/v1"}))
    a_pass(books, proxy, record(I2, K1, "apikey"), record(I1, K1, "apikey"))
    assert {name for name, _ in booked(books)} == {"two.example.net"}
    assert known(books) == [("two.example.net", True)]
    assert names_of(books) == [("one.example.net", "proxy"), ("two.example.net", "proxy")]


def test_5_5_a_key_whose_index_nobody_lists_is_found_by_the_source():
    relay = listed("codex-api-key", key(K1, I2, name="Relay"))
    assert channel(relay, I1, K1, auth_type="apikey") == ("Relay", "api_key")


def test_5_6_a_moved_auth_file_is_another_channel_until_it_is_linked(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE, I1))
    a_pass(books, proxy, record(I1, ALICE))
    configure(proxy, "auth-files", auth_file(ALICE, I2, name="moved.json", id="moved.json"))
    a_pass(books, proxy, record(I2, ALICE), record(I1, ALICE))
    old, new = f"codex/{ALICE}", f"codex/{ALICE} (moved.json)"
    assert booked(books) == [(old, "auth_index"), (new, "auth_index"), (old, "auth_index")]
    assert known(books, "auth") == [(old, False), (new, True)]
    assert link(books, old, new) == 2
    a_pass(books, proxy, record(I1, ALICE), record(I2, ALICE))
    assert {name for name, _ in booked(books)} == {new}
    books.balance()


def test_5_7_a_file_that_logs_in_again_stays_its_channel(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE, updated_at="2026-11-20T01:00:00Z"))
    a_pass(books, proxy, record(I1, ALICE, access_token_sha256="0" * 64))
    configure(proxy, "auth-files", auth_file(ALICE, updated_at="2026-11-20T02:00:00Z"))
    a_pass(books, proxy, record(I1, ALICE, access_token_sha256="f" * 64))
    assert booked(books) == [(f"codex/{ALICE}", "auth_index")] * 2
    assert books.ask("SELECT count(*) FROM usage.credential") == [(1,)]
    assert known(books, "auth") == [(f"codex/{ALICE}", True)]


def test_5_8_a_file_that_changes_hands_is_another_channel_and_late_records_go_to_their_own(books, proxy):
    file = {"name": "codex.json", "id": "codex.json"}
    configure(proxy, "auth-files", auth_file(ALICE, **file))
    a_pass(books, proxy, record(I1, ALICE))
    configure(proxy, "auth-files", auth_file(BOB, **file))
    a_pass(books, proxy, record(I1, BOB), record(I1, ALICE), record(I1, "Alice@Example.com"), record(I1))
    alice, bob = ((f"codex/{who}", "auth_index") for who in (ALICE, BOB))
    assert booked(books) == [alice, bob, alice, alice, bob]
    assert known(books, "auth") == [(alice[0], False), (bob[0], True)]


def test_5_8_a_record_of_an_account_that_was_never_listed_is_unknown_with_the_files_account_as_candidate(books, proxy):
    configure(proxy, "auth-files", auth_file(BOB))
    result = a_pass(books, proxy, record(I1, ALICE))
    assert booked(books) == [("unknown", "ambiguous")]
    assert candidates(books) == [f"codex/{BOB}"]
    assert result.unknown_channel == 1


def test_5_9_a_deleted_file_keeps_its_channel_and_is_the_same_when_it_is_restored(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE))
    a_pass(books, proxy, record(I1, ALICE))
    states = [known(books, "auth")]
    for entries in ([], [auth_file(ALICE)]):
        configure(proxy, "auth-files", *entries)
        a_pass(books, proxy, record(I1, ALICE))
        states.append(known(books, "auth"))
    name = f"codex/{ALICE}"
    assert states == [[(name, True)], [(name, False)], [(name, True)]]
    assert booked(books) == [(name, "auth_index")] * 3
    assert books.ask("SELECT count(*) FROM usage.credential") == [(1,)]
    assert names_of(books) == [(name, "proxy")]


# -- 5.10: what the proxy does not answer --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500), Fault(html=True), Fault(garbage=True), Fault(drop=True), Fault(cut_after_bytes=5),
        Fault(status=200, body=b"{}"), Fault(status=200, body=b'{"files": [], "auth_files": []}'),
    ],
    ids=["500", "a page", "garbage", "dropped", "cut", "another object", "two lists"],
)  # fmt: skip
def test_5_10_an_answer_that_cannot_be_read_leaves_the_last_good_one(books, proxy, fault):
    configure(proxy, "auth-files", auth_file(ALICE))
    a_pass(books, proxy)
    configure(proxy, "auth-files")
    proxy.fail_next("auth-files", *[fault] * 9)  # more often than it is asked again
    a_pass(books, proxy, record(I1, ALICE))
    assert known(books, "auth") == [(f"codex/{ALICE}", True)]
    assert booked(books) == [(f"codex/{ALICE}", "auth_index")]


def test_5_10_a_malformed_entry_costs_only_itself(books, proxy):
    configure(proxy, "auth-files", 7, {"name": "no provider"}, None, auth_file(ALICE))
    a_pass(books, proxy, record(I1, ALICE))
    assert booked(books) == [(f"codex/{ALICE}", "auth_index")]


def test_5_10_a_proxy_that_serves_no_list_at_all_says_nothing(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE))
    a_pass(books, proxy)
    for endpoint in ("auth-files", *KEY_ENDPOINTS):
        proxy.override(endpoint, b"404 page not found", status=404)
    a_pass(books, proxy, record(I1, ALICE))
    assert known(books, "auth") == [(f"codex/{ALICE}", True)]
    assert booked(books) == [(f"codex/{ALICE}", "auth_index")]


def test_5_10_an_endpoint_that_is_missing_or_empty_lists_nothing_and_forgets_nothing(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE, I1))
    configure(proxy, "xai-api-key", key(K1, I2, name="x"))
    a_pass(books, proxy)
    configure(proxy, "auth-files")
    proxy.override("xai-api-key", b"", status=404)
    a_pass(books, proxy, record(I1, ALICE), record(I2, K1, "apikey"))
    assert known(books, "auth") + known(books) == [(f"codex/{ALICE}", False), ("x", False)]
    assert booked(books) == [(f"codex/{ALICE}", "auth_index"), ("x", "auth_index")]


# -- 5.11 to 5.15: several that fit --------------------------------------------------------------------------------


def test_5_11_one_key_under_two_providers_of_one_name_is_one_channel():
    both = listed(COMPAT, compatible("Relay", key(K1, I1)), compatible("Relay", key(K1, I2)))
    both += listed("claude-api-key", key(K1, I3, name="Relay"))
    assert channel(both, source=K1, auth_type="apikey") == ("Relay", "api_key")
    assert look_up(both, source=K1, auth_type="apikey").providers == ""
    assert look_up(both, I3).providers == "claude"


def test_5_11_names_that_differ_in_case_are_two_channels():
    both = listed(COMPAT, compatible("Relay", key(K1)), compatible("relay", key(K1)))
    assert look_up(both, source=K1).candidates == ("Relay", "relay")


TWO = listed("codex-api-key", key(K1, I1, name="one")) + listed("claude-api-key", key(K1, I2, name="two"))


@pytest.mark.parametrize("credentials", [TWO, TWO[::-1]], ids=["in order", "reversed"])
def test_5_12_one_key_under_two_names_is_told_by_index_then_provider(credentials):
    for index, provider, name in [(I1, "codex", "one"), (I2, "claude", "two")]:
        assert channel(credentials, index, K1) == (name, "auth_index")
        assert channel(credentials, "", K1, provider) == (name, "api_key")
    assert look_up(credentials, "", K1, "gemini").candidates == ("one", "two")


def test_5_12_where_nothing_tells_them_apart_it_is_unknown_and_the_candidates_are_kept(books, proxy):
    configure(proxy, "codex-api-key", key(K1, I1, name="one"))
    configure(proxy, "claude-api-key", key(K1, I2, name="two"))
    result = a_pass(books, proxy, record("", K1, "apikey", "gemini"))
    assert booked(books) == [("unknown", "ambiguous")]
    assert candidates(books) == ["one | two"]
    assert result.unknown_channel == 1


@pytest.mark.parametrize("order", [1, -1], ids=["decided last", "decided first"])
def test_5_12_candidates_are_kept_though_a_sibling_of_the_same_origin_was_decided(books, proxy, order):
    configure(proxy, "codex-api-key", key(K1, I1, name="one"))
    configure(proxy, "claude-api-key", key(K1, I2, name="two"))
    a_pass(books, proxy, *[record("", K1, "apikey", provider) for provider in ("gemini", "codex")[::order]])
    assert sorted(booked(books)) == [("one", "api_key"), ("unknown", "ambiguous")]
    assert candidates(books) == ["one | two"]
    a_pass(books, proxy, record("", K1, "apikey", "codex"))
    assert candidates(books) == ["one | two"]


@pytest.mark.parametrize("provider", ["openai-compatible-two", "two"], ids=["from v7.2.21 on", "before"])
def test_5_13_same_base_url_and_key_in_two_providers_falls_back_to_the_provider(provider):
    both = listed(COMPAT, compatible("One", key(K1, I1)), compatible("Two", key(K1, I1)))
    assert channel(both, I1, K1, provider, "apikey") == ("Two", "auth_index")


def test_5_13_without_a_telling_provider_the_same_index_is_ambiguous(books, proxy):
    configure(proxy, COMPAT, compatible("One", key(K1, I1)), compatible("Two", key(K1, I1)))
    a_pass(books, proxy, record(I1, K1, "apikey", COMPAT), record(I1, K1, "apikey", "openai-compatible-one"))
    assert booked(books) == [("unknown", "ambiguous"), ("One", "auth_index")]
    assert candidates(books) == ["One | Two"]


def test_5_14_two_keys_of_one_provider_are_one_channel_in_any_order():
    for keys in ([key(K1, I1), key(K2, I2)], [key(K2, I2), key(K1, I1)]):
        relay = listed(COMPAT, compatible("Relay", *keys))
        assert {c.channel for c in relay} == {look_up(relay, I2).channel}
        assert channel(relay, I1) == channel(relay, I2) == ("Relay", "auth_index")
        assert channel(relay, source=K2) == ("Relay", "api_key")


def test_5_15_two_providers_of_one_base_url_are_told_apart_by_their_names():
    both = listed(COMPAT, compatible("One", key(K1, I1)), compatible("Two", key(K2, I2)))
    assert (channel(both, I1)[0], channel(both, I2)[0]) == ("One", "Two")


def test_5_15_without_names_one_base_url_is_one_channel():
    both = listed(
        "codex-api-key", *(key(k, i, **{"base-url": "https://r.example.net"}) for k, i in [(K1, I1), (K2, I2)])
    )
    assert channel(both, I1) == channel(both, I2) == ("r.example.net", "auth_index")


# -- 5.16 to 5.18: names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://relay.example.net/v1", "https://Relay.EXAMPLE.net/", "https://relay.example.net:443/v1/",
        "https://user:EXAMPLE-password@relay.example.net/v1", "https://relay.example.net/v1?key=EXAMPLE#EXAMPLE",
        "relay.example.net",
    ],
)  # fmt: skip
def test_5_16_a_provider_without_a_name_is_called_by_its_base_url_and_shows_no_secret(url):
    (found,) = listed("codex-api-key", key(K1, I1, **{"base-url": url}))
    assert found.channel.name == found.place == base_url_name(url) == "relay.example.net"


def test_5_16_without_a_base_url_it_is_called_by_its_kind():
    assert channel(listed("gemini-api-key", key(K1, I1)), I1) == ("gemini", "auth_index")


def test_5_17_a_provider_called_openai_is_called_openai():
    found = listed(
        COMPAT, compatible("openai", key(K1, I1)), compatible("openai", key(K2, I2), url="https://o.example")
    )
    assert channel(found, I1) == channel(found, I2) == ("openai", "auth_index")
    assert channel(found, source=K1, provider="openai") == ("openai", "api_key")


def test_5_18_a_prefix_names_no_channel_and_stays_in_the_model(books, proxy):
    configure(proxy, COMPAT, compatible("OpenRouter", key(K1, I1), prefix="or"))
    a_pass(books, proxy, record(I1, K1, "apikey", alias="or/kimi-k2"), record("", "or", "apikey"))
    assert booked(books) == [("OpenRouter", "auth_index"), NO_CHANNEL]
    assert books.ask("SELECT alias FROM usage_api.v1_records WHERE channel = 'OpenRouter'") == [("or/kimi-k2",)]


# -- 5.19 to 5.22: the source --------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", ["sk-E...0001", "m:sk-E...0001", "…0001", "sk-EXAMPLE-provider-key-****", "sk-"])
def test_5_19_a_masked_key_never_matches_even_if_only_one_fits(masked):
    assert look_up(listed("codex-api-key", key(K1, I1, name="Relay")), source=masked, auth_type="apikey") == NOT_FOUND


@pytest.mark.parametrize("masked", ["m:****", "****", "…", "(no key)"])
def test_5_20_a_fully_masked_source_never_matches(masked):
    relay = listed("codex-api-key", key("sk-1", I1, name="Relay"), key("", I2, name="keyless"))
    assert look_up(relay, source=masked, auth_type="apikey") == NOT_FOUND


def test_5_20_short_keys_are_told_apart_and_never_shown(books, proxy):
    configure(proxy, "codex-api-key", key("kurz-a", name="one"), key("kurz-b", name="two"))
    a_pass(books, proxy, record("", "kurz-a", "apikey"), record("", "kurz-b", "apikey"))
    assert booked(books) == [("one", "api_key"), ("two", "api_key")]
    labels = [label for (label,) in books.ask("SELECT source FROM usage_api.v1_records")]
    assert len(set(labels)) == 2
    assert all(re.fullmatch(r"…#[0-9a-f]{6}", label) for label in labels)


def test_5_21_a_key_is_matched_in_clear_and_stored_as_a_digest(books, proxy):
    configure(proxy, "codex-api-key", key(K1, name="Relay"))
    a_pass(books, proxy, record("", K1, "apikey"))
    assert booked(books) == [("Relay", "api_key")]
    for table in ("origin", "credential", "channel"):
        rows = [str(row) for row in books.ask(f"SELECT t::text FROM usage.{table} AS t")]
        assert rows
        assert not any(K1 in row or "provider-key" in row for row in rows)
    digest = books.keyring().digest(K1)
    assert books.ask("SELECT source_digest FROM usage.origin") == [(digest,)]
    assert books.ask("SELECT key_digest FROM usage.credential") == [(digest,)]


def test_5_22_blanks_around_a_key_do_not_matter_and_its_case_does(books, proxy):
    configure(proxy, "codex-api-key", key(f"  {K1}\n", name="Relay"))
    a_pass(books, proxy, record("", f"\t{K1} ", "apikey"), record("", K1.upper(), "apikey"))
    assert booked(books) == [("Relay", "api_key"), NO_CHANNEL]


def test_5_22_the_case_of_an_address_does_not_matter():
    alice = listed("auth-files", auth_file("Alice@Example.com"))
    assert channel(alice, I1, "aLICE@example.COM") == ("codex/Alice@Example.com", "auth_index")
    assert look_up(alice, source="aLICE@example.COM", match_account=True).channel == alice[0].channel


# -- 5.23 to 5.27: what a record says of itself --------------------------------------------------------------------


def test_5_23_an_address_alone_names_no_channel_unless_that_is_wanted():
    alice = listed("auth-files", auth_file(ALICE))
    assert look_up(alice, source=ALICE, provider="codex", auth_type="oauth") == NOT_FOUND
    assert look_up(alice, source=ALICE, provider="codex", match_account=True).channel == alice[0].channel


def test_5_23_an_address_of_several_files_is_told_by_the_provider_else_ambiguous():
    files = listed(
        "auth-files", auth_file(ALICE, I1), auth_file(ALICE, I2, "claude"), auth_file(ALICE, I3, name="team.json")
    )
    claude = look_up(files, source=ALICE, provider="claude", match_account=True)
    assert claude.channel.name == f"claude/{ALICE}"
    codex = look_up(files, source=ALICE, provider="codex", match_account=True)
    assert (codex.channel, codex.rule) == (UNKNOWN, "ambiguous")
    assert codex.candidates == (f"codex/{ALICE} (codex-{ALICE}.json)", f"codex/{ALICE} (team.json)")


def test_5_23_an_address_never_finds_a_file_of_another_provider():
    claude = listed("auth-files", auth_file(ALICE, provider="claude"))
    assert look_up(claude, source=ALICE, provider="codex", match_account=True).channel == UNKNOWN


def test_5_23_a_record_that_finds_its_file_by_the_account_is_not_counted_as_unknown(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE))
    result = a_pass(books, proxy, record("", ALICE), match_account=True)
    assert [name for name, _ in booked(books)] == [f"codex/{ALICE}"]
    assert result.unknown_channel == 0


def test_5_24_a_project_as_source_contradicts_nothing_and_the_index_decides(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE, provider="vertex", project_id="proj-42"))
    a_pass(books, proxy, record(I1, "proj-42", provider="vertex"))
    assert booked(books) == [(f"vertex/{ALICE}", "auth_index")]


def test_5_24_a_project_as_source_finds_its_file_where_accounts_may(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE, provider="vertex", project_id="proj-42"))
    a_pass(books, proxy, record("", "proj-42", provider="vertex"), match_account=True)
    assert [name for name, _ in booked(books)] == [f"vertex/{ALICE}"]


@pytest.mark.parametrize("auth_type", ["oauth", "plugin"])
def test_5_25_a_client_key_as_source_never_finds_a_provider_unless_a_key_served(auth_type):
    relay = listed("codex-api-key", key(K1, I1, name="Relay"))
    assert look_up(relay, source=K1, auth_type=auth_type) == NOT_FOUND


def test_5_25_a_client_key_as_source_is_stored_as_a_digest(books, proxy):
    client = "sk-EXAMPLE-client-key-0001"
    configure(proxy, COMPAT, compatible("local-vllm", **{"auth-index": I1}))
    a_pass(books, proxy, *(record(i, client, "apikey", "local-vllm", api_key=client) for i in (I1, "")))
    assert booked(books) == [("local-vllm", "auth_index"), NO_CHANNEL]
    assert not any(client in str(row) for row in books.ask("SELECT o::text FROM usage.origin AS o"))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (0, ("codex/zero@example.com", "auth_index")),
        ("0", ("codex/zero@example.com", "auth_index")),
        (17, ("codex/alice@example.com", "auth_index")),
        ("17", ("codex/alice@example.com", "auth_index")),
        (True, ("Relay", "api_key")),
        (17.5, ("Relay", "api_key")),
        ({"index": 17}, ("Relay", "api_key")),
        ([17], ("Relay", "api_key")),
        (None, ("Relay", "api_key")),
    ],
    ids=str,
)
def test_5_26_an_index_may_be_number_or_text_and_anything_else_costs_only_itself(books, proxy, told, expected):
    configure(proxy, "auth-files", auth_file("zero@example.com", 0), auth_file(ALICE, "17"))
    configure(proxy, "codex-api-key", key(K1, name="Relay"))
    a_pass(books, proxy, record(told, K1, "apikey"))
    assert booked(books) == [expected]


@pytest.mark.parametrize("index", ["", "0"], ids=["none", "0"])
def test_5_27_without_an_index_that_is_listed_the_key_decides_else_it_is_unknown(books, proxy, index):
    configure(proxy, "codex-api-key", key(K1, name="Relay"))
    a_pass(books, proxy, record(index, K1, "apikey"), record(index, K2, "apikey"), record(index))
    assert booked(books) == [("Relay", "api_key"), NO_CHANNEL, NO_CHANNEL]


# -- 5.28 and 5.29: what entries look like -------------------------------------------------------------------------


def test_5_28_a_provider_that_is_disabled_or_has_no_key_or_no_index_is_found_by_what_it_has():
    found = listed(
        COMPAT,
        compatible("disabled", key(K1), disabled=True),
        compatible("keyless", **{"auth-index": I1}),
        compatible("keys of null", **{"auth-index": I2, "api-key-entries": None}),
        compatible("neither", key("")),
    )
    assert [c.channel.name for c in found] == ["disabled", "keyless", "keys of null", "neither"]
    assert channel(found, "", K1, auth_type="apikey") == ("disabled", "api_key")
    assert channel(found, I1) == ("keyless", "auth_index")
    assert channel(found, I2) == ("keys of null", "auth_index")
    assert look_up(found) == NOT_FOUND


def test_5_28_a_disabled_auth_file_is_found_too():
    files = listed("auth-files", auth_file(ALICE, disabled=True, status="disabled"))
    assert channel(files, I1) == (f"codex/{ALICE}", "auth_index")


@pytest.mark.parametrize("wrapper", ["files", "auth_files", "auth-files", None])
@pytest.mark.parametrize("file", ["name", "file_name", "id"])
@pytest.mark.parametrize("index", ["auth_index", "auth-index", "authIndex"])
def test_5_29_auth_files_are_read_in_every_spelling(wrapper, file, index):
    entries = [{file: "f.json", "type": "codex", index: I1}]
    body = json.dumps({wrapper: entries} if wrapper else entries).encode()
    found, skipped = parse("auth-files", body, KEYRING)
    assert (channel(found, I1), skipped) == (("codex/f.json", "auth_index"), 0)


@pytest.mark.parametrize("spelling", ["api-key", "apiKey", "api_key", "key"])
@pytest.mark.parametrize("url", ["base-url", "base_url", "baseURL"])
@pytest.mark.parametrize("keys", ["api-key-entries", "apiKeyEntries", "api-keys"])
def test_5_29_provider_keys_are_read_in_every_spelling(spelling, url, keys):
    (single,) = listed("claude-api-key", {spelling: K1, url: "https://r.example.net/v1"})
    assert channel([single], source=K1) == ("r.example.net", "api_key")
    several = listed(COMPAT, {"name": "Relay", keys: [{spelling: K1, "authIndex": 7}, K2]})
    assert channel(several, "7") == ("Relay", "auth_index")
    assert channel(several, source=K2) == ("Relay", "api_key")


def test_5_29_lists_that_contradict_each_other_are_an_error_and_no_answer():
    with pytest.raises(BadMappingError, match="several lists"):
        parse("auth-files", json.dumps({"files": [auth_file(ALICE)], "auth_files": []}).encode(), KEYRING)


# -- 5.30 to 5.33: records and lists that miss each other ----------------------------------------------------------


def test_5_30_a_record_of_a_principal_that_nothing_lists_counts_all_the_same(books, proxy):
    a_pass(books, proxy, record(I1, "plugin-principal", "plugin", "some-plugin"), record("", "", "oauth"))
    assert booked(books) == [NO_CHANNEL] * 2
    assert books.ask("SELECT channel, channel_kind, sum(requests) FROM usage_api.v1_daily GROUP BY 1, 2") == [
        ("unknown", "unknown", 2)
    ]
    books.balance()


def listings(simulator, endpoint="auth-files"):
    return sum(path.endswith(endpoint) for _, path, _ in simulator.requests)


def test_5_31_a_record_before_its_metadata_asks_the_proxy_once_more(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE))
    proxy.fail_next("auth-files", Fault(status=200, body=b'{"files": []}'))
    result = a_pass(books, proxy, record(I1, ALICE), record(I1, ALICE))
    assert booked(books) == [(f"codex/{ALICE}", "auth_index")] * 2
    assert (listings(proxy), result.unknown_channel) == (2, 0)


def test_5_31_what_stays_unknown_is_not_asked_for_again_and_is_corrected_when_it_is_listed(books, proxy):
    assert a_pass(books, proxy, record(I1, ALICE)).unknown_channel == 1
    assert listings(proxy) == 2
    a_pass(books, proxy, record(I1, ALICE))
    assert listings(proxy) == 3
    assert booked(books) == [NO_CHANNEL] * 2
    configure(proxy, "auth-files", auth_file(ALICE))
    assert a_pass(books, proxy).resolved == 2
    assert booked(books) == [(f"codex/{ALICE}", "auth_index")] * 2
    books.balance()


def test_5_31_an_ambiguous_record_is_corrected_when_its_account_is_listed(books, proxy):
    configure(proxy, "auth-files", auth_file(BOB, name="codex.json"))
    a_pass(books, proxy, record(I1, ALICE))
    configure(proxy, "auth-files", auth_file(ALICE, name="codex.json"))
    assert a_pass(books, proxy).resolved == 1
    assert booked(books) == [(f"codex/{ALICE}", "auth_index")]


def test_5_32_a_record_of_a_key_that_is_gone_finds_it_in_the_past(books, proxy):
    configure(proxy, "codex-api-key", key(K1, I1, name="short-lived"))
    a_pass(books, proxy)
    configure(proxy, "codex-api-key")
    a_pass(books, proxy)
    a_pass(books, proxy, record(I1, K1, "apikey"), record("", K1, "apikey"))
    assert booked(books) == [("short-lived", "auth_index"), ("short-lived", "api_key")]
    assert known(books) == [("short-lived", False)]


def test_5_32_a_past_number_finds_nothing_by_itself():
    past = listed("auth-files", auth_file(ALICE, 17))
    assert look_up([], "17", past=past) == NOT_FOUND


def test_5_33_one_index_on_two_proxies_is_two_channels(books, proxy):
    with Simulator(key=KEY, retention_s=3600) as other:
        configure(proxy, "auth-files", auth_file(ALICE))
        configure(other, "auth-files", auth_file(BOB))
        a_pass(books, proxy, record(I1), name="one")
        a_pass(books, other, record(I1), name="two")
    found = books.ask("SELECT upstream, channel FROM usage_api.v1_records ORDER BY 1")
    assert found == [("one", f"codex/{ALICE}"), ("two", f"codex/{BOB}")]
    assert known(books, "auth") == [(f"codex/{ALICE}", True), (f"codex/{BOB}", True)]


def test_5_33_the_same_account_on_two_proxies_is_two_channels_of_one_name(books, proxy):
    configure(proxy, "auth-files", auth_file(ALICE))
    for name in ("one", "two"):
        a_pass(books, proxy, record(I1, ALICE), name=name)
    assert known(books, "auth") == [(f"codex/{ALICE}", True)] * 2


# -- 5.34 and 5.35: names ------------------------------------------------------------------------------------------


def test_5_34_characters_that_postgresql_refuses_cost_no_record(books, proxy):
    bad = record(I1, "SOURCE", "apikey", model="m\0odel", alias="al\0ias")
    body = json.dumps([bad, record(I1)]).replace("SOURCE", r"sk-\ud800\u0000-EXAMPLE").encode()
    assert rb"\u0000" in body
    proxy.override("usage-queue", body)
    configure(proxy, "auth-files", auth_file("", name="f\0.json"))
    assert books.sync(proxy).inserted == 2
    assert booked(books) == [("codex/f�.json", "auth_index")] * 2
    assert books.ask("SELECT model, alias FROM usage_api.v1_records ORDER BY occurred_at LIMIT 1") == [
        ("m�odel", "al�ias")
    ]


def test_5_35_files_of_one_name_in_two_folders_are_two_channels_named_by_their_files(books, proxy):
    name = f"codex-{ALICE}.json"
    configure(proxy, "auth-files", auth_file(ALICE, I1), auth_file(ALICE, I2, name=f"team/{name}"))
    a_pass(books, proxy, record(I1, ALICE), record(I2, ALICE))
    assert [channel for channel, _ in booked(books)] == [f"codex/{ALICE} ({name})", f"codex/{ALICE} (team/{name})"]


def test_5_35_one_address_under_two_providers_is_two_channels():
    files = listed("auth-files", auth_file(ALICE, I1), auth_file(ALICE, I2, "claude"))
    assert (channel(files, I1)[0], channel(files, I2)[0]) == (f"codex/{ALICE}", f"claude/{ALICE}")


def test_5_35_names_stay_as_they_are_from_pass_to_pass(books, proxy):
    twins = [auth_file("", i, name="f.json", id=f"{i}/f.json", label=label) for i, label in [(I1, "A"), (I2, "B")]]
    configure(proxy, "auth-files", *twins)
    for _ in range(3):
        a_pass(books, proxy, record(I1), record(I2))
    assert len(names_of(books)) == 1


# -- renames in the proxy's configuration --------------------------------------------------------------------------


def test_a_renamed_provider_is_the_same_channel_and_its_past_goes_by_the_new_name(books, proxy):
    configure(proxy, COMPAT, compatible("Old", key(K1, I1)))
    a_pass(books, proxy, record(I1, K1, "apikey"))
    configure(proxy, COMPAT, compatible("New", key(K1, I1)))
    a_pass(books, proxy, record(I1, K1, "apikey"))
    assert booked(books) == [("New", "auth_index")] * 2
    assert books.ask("SELECT DISTINCT channel, channel_group FROM usage_api.v1_daily") == [("New", "New")]
    assert known(books) == [("New", True)]
    configure(proxy, COMPAT, compatible("Old", key(K1, I1)))
    a_pass(books, proxy, record(I1, K1, "apikey"))
    assert booked(books) == [("Old", "auth_index")] * 3
    assert names_of(books) == [("Old", "proxy"), ("New", "proxy"), ("Old", "proxy")]


def test_a_renamed_label_renames_the_auth_file_that_is_called_by_it(books, proxy):
    for label in ("Team A", "Team B"):
        configure(proxy, "auth-files", auth_file("", name="f.json", label=label))
        a_pass(books, proxy, record(I1))
    assert booked(books) == [("codex/Team B", "auth_index")] * 2
    assert names_of(books) == [("codex/Team A", "proxy"), ("codex/Team B", "proxy")]


def test_two_providers_that_swap_names_swap_no_history(books, proxy):
    configure(proxy, COMPAT, compatible("A", key(K1, I1)), compatible("B", key(K2, I2)))
    a_pass(books, proxy, record(I1, K1, "apikey"))
    configure(proxy, COMPAT, compatible("B", key(K1, I1)), compatible("A", key(K2, I2)))
    a_pass(books, proxy, record(I1, K1, "apikey"))
    assert booked(books) == [("A", "auth_index"), ("B", "auth_index")]


def test_a_name_that_another_endpoint_may_still_list_is_not_renamed(books, proxy):
    configure(proxy, "codex-api-key", key(K1, I1, name="Relay"))
    configure(proxy, "claude-api-key", key(K2, I2, name="Relay"))
    a_pass(books, proxy, record(I2, K2, "apikey"))
    configure(proxy, "codex-api-key", key(K1, I1, name="Codex relay"))
    proxy.override("claude-api-key", b"", status=500)
    a_pass(books, proxy, record(I2, K2, "apikey"))
    assert booked(books) == [("Relay", "auth_index")] * 2
    assert known(books) == [("Codex relay", True), ("Relay", True)]


# -- the table -----------------------------------------------------------------------------------------------------


def cases():
    """The rows of the table of cases: (case, what happens, the names of its tests)."""
    rows = re.findall(r"(?m)^\| (5\.\d+) \| (.+) \| (.+) \| (.+) \|$", DOCS.read_text(encoding="utf-8"))
    return [(case, re.findall(r"`(test_\w+)`", tests)) for case, _, _, tests in rows]


def test_the_table_has_all_35_cases_in_order():
    assert [case for case, _ in cases()] == [f"5.{n}" for n in range(1, 36)]


def test_every_test_in_the_table_exists_and_begins_with_its_case():
    for case, tests in cases():
        assert tests, case
        for name in tests:
            assert callable(globals().get(name)), name
            assert name.startswith(f"test_{case.replace('.', '_')}_"), name


def test_every_test_of_a_case_is_in_the_table():
    here = {name for name in globals() if re.match(r"test_5_\d", name)}
    assert here == {name for _, tests in cases() for name in tests}
