"""Which channel a record belongs to: the rules in their order, and never the first one for being first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.channels.resolve import NOT_FOUND, Resolution, resolve
from worker.cliproxyapi.directory import UNKNOWN, Channel, Credential, build
from worker.secret import Keyring, is_account

KEYRING = Keyring(b"EXAMPLE-pepper")

steady = settings(derandomize=True, deadline=None, max_examples=200)


def account(name, auth_index, provider="codex", accounts=None):
    names = name.partition("/")[2] if accounts is None else accounts
    channel = Channel("auth", f"{provider}\n{auth_index}.json\n{names}", name, provider, f"{auth_index}.json")
    return Credential("auth-files", channel, provider, auth_index, accounts=names)


def provider_key(name, key, auth_index="", providers="codex"):
    channel = Channel("apikey", name, name, name)
    return Credential("codex-api-key", channel, providers, auth_index, KEYRING.digest(key))


def compatible(name, key, auth_index=""):
    low = name.lower()
    return provider_key(name, key, auth_index, f"openai-compatibility\nopenai-compatible-{low}\n{low}")


def look_up(configured, auth_index="", source="", provider="", auth_type="", past=(), **more):
    return resolve(
        build(configured, past),
        auth_index=auth_index,
        source_digest=KEYRING.digest(source),
        account=source if is_account(source) else "",
        provider=provider,
        auth_type=auth_type,
        **more,
    )


def ambiguous(*credentials):
    """Nothing decides between the channels of these credentials."""
    return Resolution(UNKNOWN, "ambiguous", candidates=tuple(c.channel.name for c in credentials))


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
        assert look_up(order, **by) == ambiguous(*TWO) == Resolution(UNKNOWN, "ambiguous", "", ("One", "Two"))
        assert look_up(order, **by, provider="three") == ambiguous(*TWO)
        assert look_up(order, **by, provider="openai-compatibility") == ambiguous(*TWO)


@pytest.mark.parametrize("provider", ["openai-compatible-two", "two", "TWO", "OpenAI-Compatible-Two"])
@pytest.mark.parametrize("by", [{"auth_index": "c1"}, {"source": "sk-1"}], ids=["index", "key"])
def test_where_several_channels_fit_the_records_provider_decides(by, provider):
    rule = "auth_index" if "auth_index" in by else "api_key"
    assert look_up(TWO, **by, provider=provider) == found(TWO[1], rule)


@pytest.mark.parametrize("provider", ["openai-compatible-tw", "tw", "wo", "openai-compatible"])
def test_a_part_of_a_providers_name_does_not_decide(provider):
    assert look_up(TWO, auth_index="c1", provider=provider) == ambiguous(*TWO)


def test_the_provider_only_narrows_and_never_rules_out():
    assert look_up([RELAY], auth_index="c1", provider="claude") == found(RELAY, "auth_index")
    assert look_up([RELAY], source="sk-1", provider="gemini") == found(RELAY, "api_key")


def test_an_ambiguous_index_leaves_the_word_to_the_key():
    one, two = provider_key("one", "sk-1", "c1"), provider_key("two", "sk-2", "c1")
    assert look_up([one, two], auth_index="c1", source="sk-2") == found(two, "api_key")


def test_an_ambiguous_index_without_a_key_is_ambiguous_and_not_merely_unknown():
    one, two = provider_key("one", "sk-1", "c1"), provider_key("two", "sk-2", "c1")
    assert look_up([one, two], auth_index="c1", source="sk-3") == ambiguous(one, two)
    assert look_up([one, two], auth_index="c1", source="sk-2", auth_type="oauth") == ambiguous(one, two)


def test_several_credentials_of_one_channel_are_no_question():
    keys = [compatible("One", "sk-1", "c1"), compatible("One", "sk-2", "c1")]
    assert look_up(keys, auth_index="c1") == found(keys[0], "auth_index")


def test_several_credentials_of_one_channel_that_differ_in_provider_tell_none():
    pair = [provider_key("relay", "sk-1", "c1", "codex"), provider_key("relay", "sk-1", "c2", "claude")]
    assert look_up(pair, source="sk-1") == Resolution(pair[0].channel, "api_key", "")
    assert look_up(pair, auth_index="c2") == Resolution(pair[0].channel, "auth_index", "claude")


def test_the_candidates_are_those_of_every_rule_each_once():
    one, two, three = (provider_key(name, key, "c1") for name, key in (("1", "sk-1"), ("2", "sk-2"), ("3", "sk-2")))
    assert look_up([one, two, three], auth_index="c1", source="sk-2") == ambiguous(one, two, three)
    found_by_key_alone = [provider_key("2", "sk-2"), provider_key("4", "sk-2")]
    assert look_up([one, two, *found_by_key_alone], auth_index="c1", source="sk-2") == ambiguous(
        one, two, found_by_key_alone[1]
    )


# -- auth files and keys of one index ------------------------------------------------------------------------------


def test_an_auth_file_goes_before_a_key_of_the_same_index():
    file, key = account("codex/alice@example.com", "x1"), provider_key("relay", "sk-1", "x1")
    for order in ([file, key], [key, file]):
        assert look_up(order, auth_index="x1") == found(file, "auth_index")
        assert look_up([], past=order, auth_index="x1") == found(file, "auth_index")


def test_the_records_provider_goes_before_the_kind_of_credential():
    file, key = account("codex/alice@example.com", "x1"), provider_key("relay", "sk-1", "x1", "claude")
    assert look_up([file, key], auth_index="x1", provider="claude") == found(key, "auth_index")
    assert look_up([file, key], auth_index="x1", provider="gemini") == found(file, "auth_index")


def test_of_two_auth_files_and_a_key_none_goes_first():
    files = [account("codex/alice", "x1", accounts=""), account("codex/bob", "x1", accounts="")]
    files[1] = files[1]._replace(channel=files[1].channel._replace(identity="codex\nbob.json\n"))
    key = provider_key("relay", "sk-1", "x1")
    assert look_up([*files, key], auth_index="x1") == ambiguous(*files, key)


# -- files that have changed hands ---------------------------------------------------------------------------------


def test_an_index_says_nothing_when_the_record_names_another_address():
    assert look_up([ALICE], auth_index="a1", source="bob@example.com") == ambiguous(ALICE)
    assert look_up([ALICE], auth_index="a1", source="alice@example.com") == found(ALICE, "auth_index")
    assert look_up([ALICE], auth_index="a1", source="Alice@Example.COM") == found(ALICE, "auth_index")


@pytest.mark.parametrize("source", ["", "proj-42", "sk-other", "bob@example.com.json", "bob.json", "bob"])
def test_only_another_address_contradicts(source):
    assert look_up([ALICE], auth_index="a1", source=source) == found(ALICE, "auth_index")


def test_nothing_contradicts_an_auth_file_without_an_address():
    nameless = account("codex/f.json", "a1", accounts="\nf.json")
    assert look_up([nameless], auth_index="a1", source="bob@example.com") == found(nameless, "auth_index")


def test_a_record_of_the_account_before_finds_it_among_the_past():
    before = account("codex/bob@example.com", "a1")
    assert look_up([ALICE], past=[before], auth_index="a1", source="bob@example.com") == found(before, "auth_index")
    assert look_up([ALICE], past=[before], auth_index="a1", source="alice@example.com") == found(ALICE, "auth_index")
    assert look_up([ALICE], past=[before], auth_index="a1") == found(ALICE, "auth_index")


# -- integer indexes of an earlier run -----------------------------------------------------------------------------

NUMBERED = account("codex/alice@example.com", "7", accounts="alice@example.com\nalice.json")


def test_a_number_of_an_earlier_run_says_nothing_unless_the_account_agrees():
    assert look_up([NUMBERED], auth_index="7") == found(NUMBERED, "auth_index")
    assert look_up([NUMBERED], auth_index="7", fresh=False) == ambiguous(NUMBERED)
    for source in ("alice@example.com", "ALICE@example.com", "alice.json"):
        assert look_up([NUMBERED], auth_index="7", source=source, fresh=False) == found(NUMBERED, "auth_index")
    assert look_up([NUMBERED], auth_index="7", source="bob.json", fresh=False) == ambiguous(NUMBERED)


def test_a_hash_says_the_same_in_every_run():
    assert look_up([ALICE], auth_index="a1", fresh=False) == found(ALICE, "auth_index")
    digits = account("codex/alice@example.com", "4533397842946123")
    assert look_up([digits], auth_index="4533397842946123", fresh=False) == found(digits, "auth_index")


# -- accounts ------------------------------------------------------------------------------------------------------


def by_account(configured, source, **more):
    return look_up(configured, source=source, match_account=True, **more)


def test_an_account_finds_its_only_auth_file_where_that_is_wanted():
    assert by_account([ALICE, BOB], "Bob@example.com").channel == BOB.channel
    assert by_account([NUMBERED], "alice.json").channel == NUMBERED.channel
    assert by_account([ALICE, BOB], "carol@example.com") == NOT_FOUND
    assert by_account([ALICE], "") == NOT_FOUND


def test_an_account_of_several_files_is_ambiguous_unless_the_provider_decides():
    other = account("claude/alice@example.com", "a9", "claude")
    assert by_account([ALICE, other], "alice@example.com") == ambiguous(other, ALICE)
    assert by_account([ALICE, other], "alice@example.com", provider="claude").channel == other.channel
    team = account("codex/alice@example.com (team)", "a8", accounts="alice@example.com")
    assert by_account([ALICE, team], "alice@example.com", provider="codex") == ambiguous(ALICE, team)


def test_an_account_does_not_find_another_providers_file():
    assert by_account([BOB], "bob@example.com", provider="codex").channel == UNKNOWN


def test_an_account_comes_last_and_past_files_are_not_found_by_it():
    assert by_account([ALICE, RELAY], "alice@example.com", auth_index="c1").channel == RELAY.channel
    assert by_account([], "alice@example.com", past=[ALICE]) == NOT_FOUND


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
    assert look_up([], past=TWO, auth_index="c1") == ambiguous(*TWO)
    assert look_up([], past=TWO, auth_index="c1", provider="one") == found(TWO[0], "auth_index")


# -- what holds for all --------------------------------------------------------------------------------------------

channels = st.sampled_from([Channel(kind, name, name, "g") for kind in ("apikey", "auth") for name in "ABC"])
credentials = st.builds(
    Credential,
    st.just("codex-api-key"),
    channels,
    st.sampled_from(["codex", "claude", "openai-compatibility x"]),
    st.sampled_from(["", "1", "i1", "i2"]),
    st.sampled_from([b"", b"k1", b"k2"]),
    st.just(""),
    st.sampled_from(["", "a@example.com", "b@example.com\nb.json", "\nc.json"]),
)
questions = st.fixed_dictionaries(
    {
        "auth_index": st.sampled_from(["", "1", "i1", "i2", "i3"]),
        "source_digest": st.sampled_from([b"", b"k1", b"k2", b"k3"]),
        "account": st.sampled_from(["", "", "A@example.com", "b@example.com", "b.json"]),
        "provider": st.sampled_from(["", "codex", "Claude", "x", "none"]),
        "auth_type": st.sampled_from(["", "apikey", "oauth", "unknown"]),
        "fresh": st.booleans(),
        "match_account": st.booleans(),
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
    account = question["account"].lower()
    contradicts = {c for c in configured + past if "@" in account and c.email not in ("", account)}
    pointed_at = {
        c.channel
        for c in configured + past
        if (c.auth_index and c.auth_index == question["auth_index"] and c not in contradicts)
        or (c.key_digest and c.key_digest == question["source_digest"] and question["auth_type"] != "oauth")
        or (question["match_account"] and account and account in c.accounts.split("\n"))
    }
    assert (answer.channel == UNKNOWN) == (answer.channel not in pointed_at)
    assert bool(answer.candidates) == (answer.rule == "ambiguous")
    if answer.rule == "ambiguous":
        assert answer.channel == UNKNOWN
        indexed = {c.channel for c in configured if c.auth_index and c.auth_index == question["auth_index"]}
        assert set(answer.candidates) <= {c.name for c in pointed_at | indexed}
    if answer.rule == "none" and not question["match_account"]:
        assert answer == NOT_FOUND
    present = [c for c in configured if c.auth_index and c.auth_index == question["auth_index"]]
    if len({c.channel for c in present}) == 1 and question["fresh"] and not contradicts & set(present):
        assert answer.channel == present[0].channel
        assert answer.rule == "auth_index"
