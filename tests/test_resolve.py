"""Which channel a record belongs to: the rules in their order, and never the first one for being first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.directory import UNKNOWN, Channel, Credential, build
from worker.resolve import AMBIGUOUS, NOT_FOUND, Resolution, resolve
from worker.secret import Keyring

KEYRING = Keyring(b"EXAMPLE-pepper")

steady = settings(derandomize=True, deadline=None, max_examples=200)


def account(name, auth_index, provider="codex"):
    return Credential("auth-files", Channel("auth", name, provider), provider, auth_index, b"")


def provider_key(name, key, auth_index="", providers="codex"):
    return Credential("codex-api-key", Channel("apikey", name, name), providers, auth_index, KEYRING.digest(key))


def compatible(name, key, auth_index=""):
    low = name.lower()
    return provider_key(name, key, auth_index, f"openai-compatibility openai-compatible-{low} {low}")


def look_up(configured, auth_index="", source="", provider="", auth_type="", past=()):
    return resolve(
        build(configured, past),
        auth_index=auth_index,
        source_digest=KEYRING.digest(source),
        provider=provider,
        auth_type=auth_type,
    )


def found(credential, rule):
    return Resolution(credential.channel, rule, credential.providers)


ALICE = account("codex/alice@example.com", "a1")
BOB = account("claude/bob@example.com", "b1", "claude")
RELAY = provider_key("relay.example.net", "sk-1", "c1")


# -- the rules and their order -------------------------------------------------------------------------------------


def test_an_index_finds_an_account():
    assert look_up([ALICE, BOB], auth_index="b1") == found(BOB, "auth_index")


def test_an_index_finds_a_provider_key():
    assert look_up([ALICE, RELAY], auth_index="c1", auth_type="apikey") == found(RELAY, "auth_index")


@pytest.mark.parametrize("auth_type", ["apikey", "api_key", "unknown", ""])
def test_a_key_finds_its_provider_where_the_record_may_be_a_keys(auth_type):
    assert look_up([ALICE, RELAY], source="sk-1", auth_type=auth_type) == found(RELAY, "api_key")


@pytest.mark.parametrize("auth_type", ["oauth", "OAuth", "plugin"])
def test_a_record_of_an_account_never_matches_by_key(auth_type):
    assert look_up([RELAY], source="sk-1", auth_type=auth_type) == NOT_FOUND
    assert look_up([], past=[RELAY], source="sk-1", auth_type=auth_type) == NOT_FOUND
    assert look_up([RELAY], auth_index="c1", source="sk-1", auth_type=auth_type) == found(RELAY, "auth_index")


def test_the_index_comes_before_the_key():
    assert look_up([RELAY, ALICE], auth_index="a1", source="sk-1") == found(ALICE, "auth_index")


def test_an_index_that_nobody_has_leaves_the_word_to_the_key():
    assert look_up([RELAY, ALICE], auth_index="gone", source="sk-1") == found(RELAY, "api_key")


def test_an_empty_index_and_an_empty_key_find_nothing():
    nobody = [account("codex/none", ""), compatible("keyless", "")]
    assert look_up(nobody) == NOT_FOUND
    assert look_up([], past=nobody) == NOT_FOUND


def test_what_is_not_found_is_unknown():
    assert look_up([ALICE, RELAY], auth_index="zz", source="sk-other") == NOT_FOUND == Resolution(UNKNOWN, "none", "")


def test_an_address_as_source_finds_nothing():
    assert look_up([ALICE], source="alice@example.com") == NOT_FOUND


def test_a_key_is_case_sensitive():
    assert look_up([RELAY], source="SK-1") == NOT_FOUND


# -- several that fit ----------------------------------------------------------------------------------------------

TWO = [compatible("One", "sk-1", "c1"), compatible("Two", "sk-1", "c1")]


@pytest.mark.parametrize("by", [{"auth_index": "c1"}, {"source": "sk-1"}], ids=["index", "key"])
def test_where_several_channels_fit_the_first_never_wins(by):
    for order in (TWO, TWO[::-1]):
        assert look_up(order, **by) == AMBIGUOUS == Resolution(UNKNOWN, "ambiguous", "")
        assert look_up(order, **by, provider="three") == AMBIGUOUS
        assert look_up(order, **by, provider="openai-compatibility") == AMBIGUOUS


@pytest.mark.parametrize("provider", ["openai-compatible-two", "two", "TWO", "OpenAI-Compatible-Two"])
@pytest.mark.parametrize("by", [{"auth_index": "c1"}, {"source": "sk-1"}], ids=["index", "key"])
def test_where_several_channels_fit_the_records_provider_decides(by, provider):
    rule = "auth_index" if "auth_index" in by else "api_key"
    assert look_up(TWO, **by, provider=provider) == found(TWO[1], rule)


@pytest.mark.parametrize("provider", ["openai-compatible-tw", "tw", "wo", "openai-compatible"])
def test_a_part_of_a_providers_name_does_not_decide(provider):
    assert look_up(TWO, auth_index="c1", provider=provider) == AMBIGUOUS


def test_the_provider_only_narrows_and_never_rules_out():
    assert look_up([RELAY], auth_index="c1", provider="claude") == found(RELAY, "auth_index")
    assert look_up([RELAY], source="sk-1", provider="gemini") == found(RELAY, "api_key")


def test_an_ambiguous_index_leaves_the_word_to_the_key():
    one, two = provider_key("one", "sk-1", "c1"), provider_key("two", "sk-2", "c1")
    assert look_up([one, two], auth_index="c1", source="sk-2") == found(two, "api_key")


def test_an_ambiguous_index_without_a_key_is_ambiguous_and_not_merely_unknown():
    one, two = provider_key("one", "sk-1", "c1"), provider_key("two", "sk-2", "c1")
    assert look_up([one, two], auth_index="c1", source="sk-3") == AMBIGUOUS
    assert look_up([one, two], auth_index="c1", source="sk-2", auth_type="oauth") == AMBIGUOUS


def test_several_credentials_of_one_channel_are_no_question():
    keys = [compatible("One", "sk-1", "c1"), compatible("One", "sk-2", "c1")]
    assert look_up(keys, auth_index="c1") == found(keys[0], "auth_index")


def test_several_credentials_of_one_channel_that_differ_in_provider_tell_none():
    pair = [provider_key("relay", "sk-1", "c1", "codex"), provider_key("relay", "sk-1", "c2", "claude")]
    assert look_up(pair, source="sk-1") == Resolution(pair[0].channel, "api_key", "")
    assert look_up(pair, auth_index="c2") == Resolution(pair[0].channel, "auth_index", "claude")


# -- the past ------------------------------------------------------------------------------------------------------


def test_a_past_credential_is_found_by_index_and_by_key():
    assert look_up([], past=[ALICE], auth_index="a1") == found(ALICE, "auth_index")
    assert look_up([], past=[RELAY], source="sk-1") == found(RELAY, "api_key")


@pytest.mark.parametrize("by", [{"auth_index": "c1"}, {"source": "sk-1"}], ids=["index", "key"])
def test_the_present_comes_before_the_past(by):
    now, then = provider_key("now", "sk-1", "c1"), provider_key("then", "sk-1", "c1")
    rule = "auth_index" if "auth_index" in by else "api_key"
    assert look_up([now], past=[then], **by) == found(now, rule)


def test_a_present_key_comes_before_a_past_index():
    assert look_up([RELAY], past=[ALICE], auth_index="a1", source="sk-1") == found(RELAY, "api_key")


def test_a_past_number_finds_nothing():
    old = account("codex/alice@example.com", "7")
    assert look_up([old], auth_index="7") == found(old, "auth_index")
    assert look_up([], past=[old], auth_index="7") == NOT_FOUND


def test_a_past_key_whose_index_is_a_number_is_found_by_key_alone():
    old = provider_key("relay", "sk-1", "7")
    assert look_up([], past=[old], auth_index="7") == NOT_FOUND
    assert look_up([], past=[old], auth_index="7", source="sk-1") == found(old, "api_key")


def test_a_present_ambiguity_may_be_settled_by_the_past():
    then = provider_key("then", "sk-9")
    assert look_up(TWO, past=[then], auth_index="c1", source="sk-9") == found(then, "api_key")


def test_an_ambiguous_past_is_ambiguous():
    assert look_up([], past=TWO, auth_index="c1") == AMBIGUOUS
    assert look_up([], past=TWO, auth_index="c1", provider="one") == found(TWO[0], "auth_index")


# -- what holds for all --------------------------------------------------------------------------------------------

channels = st.builds(Channel, st.just("apikey"), st.sampled_from("ABC"), st.just("g"))
credentials = st.builds(
    Credential,
    st.just("codex-api-key"),
    channels,
    st.sampled_from(["codex", "claude", "openai-compatibility x"]),
    st.sampled_from(["", "1", "i1", "i2"]),
    st.sampled_from([b"", b"k1", b"k2"]),
)
questions = st.fixed_dictionaries(
    {
        "auth_index": st.sampled_from(["", "1", "i1", "i2", "i3"]),
        "source_digest": st.sampled_from([b"", b"k1", b"k2", b"k3"]),
        "provider": st.sampled_from(["", "codex", "Claude", "x", "none"]),
        "auth_type": st.sampled_from(["", "apikey", "oauth", "unknown"]),
    }
)


@steady
@given(
    st.lists(credentials, max_size=6), st.lists(credentials, max_size=6), questions, st.randoms(use_true_random=False)
)
def test_the_order_in_which_credentials_are_listed_never_matters(configured, past, question, random):
    answer = resolve(build(configured, past), **question)
    random.shuffle(configured)
    random.shuffle(past)
    assert resolve(build(configured, past), **question) == answer


@steady
@given(st.lists(credentials, max_size=6), st.lists(credentials, max_size=6), questions)
def test_a_channel_is_only_ever_one_that_the_record_points_at(configured, past, question):
    answer = resolve(build(configured, past), **question)
    pointed_at = {
        c.channel
        for c in configured + past
        if (c.auth_index and c.auth_index == question["auth_index"])
        or (c.key_digest and c.key_digest == question["source_digest"] and question["auth_type"] != "oauth")
    }
    if answer.rule in ("none", "ambiguous"):
        assert answer.channel == UNKNOWN
    else:
        assert answer.channel in pointed_at
    if answer.rule == "ambiguous":
        assert len(pointed_at) > 1
    present = {c.channel for c in configured if c.auth_index and c.auth_index == question["auth_index"]}
    if len(present) == 1:
        assert answer.channel in present
        assert answer.rule == "auth_index"
