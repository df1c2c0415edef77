"""Answers of the mapping endpoints → credentials: every spelling, every shape, and what must not pass for a list."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.cliproxyapi.directory import (
    ENDPOINTS,
    KEY_ENDPOINTS,
    BadMappingError,
    Channel,
    Credential,
    base_url_name,
    build,
    family_of,
    parse,
    renames,
    suffixed,
)
from worker.cliproxyapi.payload import TEXT_MAX_CHARS
from worker.secret import Keyring
from worker.simulator.traffic import Traffic, channel_of

PAYLOADS = Path(__file__).parent / "payloads"
KEYRING = Keyring(b"EXAMPLE-pepper")
COMPAT = "openai-compatibility"

steady = settings(derandomize=True, deadline=None, max_examples=100)


def read(endpoint, answer):
    return parse(endpoint, json.dumps(answer).encode(), KEYRING)


def corpus(endpoint, name=None):
    return parse(endpoint, (PAYLOADS / f"{name or endpoint}.json").read_bytes(), KEYRING)


def auth(name, auth_index, file, email="", *more):
    """An auth file whose entry says no more of its account than its e-mail, its file and `more`."""
    provider = name.partition("/")[0]
    channel = Channel("auth", f"{provider}\n{file}\n{email}", name, provider, file)
    accounts = "\n".join([email, *more, *([file] if file else [])])
    return Credential("auth-files", channel, provider, auth_index, accounts=accounts)


def apikey(endpoint, channel, providers, auth_index, key, place=""):
    named = Channel("apikey", channel, channel, channel)
    return Credential(endpoint, named, providers, auth_index, KEYRING.digest(key), place)


def names(answer):
    found, _ = read("auth-files", answer)
    return [c.channel.name for c in found]


# -- the golden corpus ---------------------------------------------------------------------------------------------


def full(name, auth_index, file, project=""):
    """An auth file whose entry has everything: e-mail, account, id, file, and perhaps a project."""
    email = name.partition("/")[2]
    found = auth(name, auth_index, file, email, email, file)
    return found._replace(accounts=f"{found.accounts}\n{project}") if project else found


BOB, ALICE_PLUS = "claude-bob@example.com.json", "codex-alice@example.com-plus.json"
OPENROUTER = "openai-compatibility\nopenai-compatible-openrouter\nopenrouter"


@pytest.mark.parametrize(
    ("endpoint", "name", "expected"),
    [
        ("auth-files", "auth-files-int", [full("codex/alice@example.com", "0", "codex-alice@example.com.json")]),
        (
            "auth-files",
            "auth-files-v6.9.49",
            [
                full("claude/bob@example.com", "0fa0d75fb0864f6f", BOB),
                full("codex/alice@example.com", "66d13d85650d8873", ALICE_PLUS),
            ],
        ),
        (
            "auth-files",
            "auth-files-v7.2.140",
            [
                full(
                    "antigravity/carol@example.com",
                    "888f8df5a5721f02",
                    "antigravity-carol_example_com.json",
                    project="proj-42",
                ),
                full("claude/bob@example.com", "09888ec1434ba3fb", BOB),
                full("codex/alice@example.com", "45333f9784294f6d", ALICE_PLUS),
            ],
        ),
        (
            "gemini-api-key",
            None,
            [
                apikey(
                    "gemini-api-key",
                    "generativelanguage.googleapis.com",
                    "gemini",
                    "6fef75b16451a299",
                    "AIzaSyEXAMPLE-gemini-key-0001",
                    "generativelanguage.googleapis.com",
                ),
                apikey("gemini-api-key", "gemini", "gemini", "371d429bc7b0af0e", "AIzaSyEXAMPLE-gemini-key-0001"),
            ],
        ),
        (
            "claude-api-key",
            None,
            [
                apikey(
                    "claude-api-key",
                    "relay.example.net",
                    "claude",
                    "fa9f32422e730cb3",
                    "sk-ant-EXAMPLE-0001",
                    "relay.example.net",
                ),
                apikey("claude-api-key", "claude", "claude", "", "sk-ant-EXAMPLE-disabled"),
            ],
        ),
        (
            "codex-api-key",
            None,
            [
                apikey(
                    "codex-api-key",
                    "api.openai.com",
                    "codex",
                    "697c2a54692193a2",
                    "sk-EXAMPLE-codex-0001",
                    "api.openai.com",
                )
            ],
        ),
        (
            "vertex-api-key",
            None,
            [
                apikey(
                    "vertex-api-key",
                    "vertex-relay.example.net/api",
                    "vertex",
                    "5d1c3a7e90b24f86",
                    "vk-EXAMPLE-0001",
                    "vertex-relay.example.net/api",
                )
            ],
        ),
        (
            "interactions-api-key",
            None,
            [
                apikey(
                    "interactions-api-key",
                    "generativelanguage.googleapis.com",
                    "interactions\ngemini-interactions",
                    "91702212f5577963",
                    "AIzaSyEXAMPLE-inter-0001",
                    "generativelanguage.googleapis.com",
                )
            ],
        ),
        (
            "xai-api-key",
            None,
            [apikey("xai-api-key", "api.x.ai", "xai", "ac7a536c95aa43eb", "xai-EXAMPLE-0001", "api.x.ai")],
        ),
        (
            COMPAT,
            None,
            [
                apikey(
                    COMPAT, "OpenRouter", OPENROUTER, "a91baaa28e621b1d", "sk-or-v1-EXAMPLE-0001", "openrouter.ai/api"
                ),
                apikey(
                    COMPAT, "OpenRouter", OPENROUTER, "67a86daef1a2e2b2", "sk-or-v1-EXAMPLE-0002", "openrouter.ai/api"
                ),
                apikey(
                    COMPAT,
                    "local-vllm",
                    "openai-compatibility\nopenai-compatible-local-vllm\nlocal-vllm",
                    "c0ffee0123456789",
                    "",
                    "10.0.0.9:8000",
                ),
                apikey(
                    COMPAT, "old", "openai-compatibility\nopenai-compatible-old\nold", "", "sk-old", "old.example.net"
                ),
            ],
        ),
        ("gemini-api-key", "gemini-api-key-empty", []),
        ("codex-api-key", "codex-api-key-empty", []),
    ],
)
def test_an_answer_of_the_corpus_is_read_exactly(endpoint, name, expected):
    assert corpus(endpoint, name) == (expected, 0)


def test_no_credential_holds_a_key():
    shown = repr([corpus(e) for e in KEY_ENDPOINTS])
    for secret in ("EXAMPLE-0001", "EXAMPLE-0002", "EXAMPLE-disabled", "gemini-key", "codex-0001", "sk-old"):
        assert secret not in shown


def test_every_credential_of_made_up_traffic_gets_its_channel():
    world = Traffic(1)
    found = {}
    for endpoint in ENDPOINTS:
        listed, skipped = read(endpoint, world.mapping(endpoint))
        assert skipped == 0
        found |= {(c.auth_index, c.key_digest): c.channel for c in listed}
    mapped = [c for c in world.credentials if c.mapped]
    assert len(found) == len(mapped)
    for credential in mapped:
        name, group, kind = channel_of(credential)
        digest = b"" if credential.mapping == "auth-files" else KEYRING.digest(credential.key)
        channel = found[credential.auth_index, digest]
        assert (channel.kind, channel.name, channel.group) == (kind, name, group)
        if kind == "auth":
            assert channel.identity == f"{group}\n{credential.file}\n{credential.email}"
            assert channel.detail == credential.file
        else:
            assert (channel.identity, channel.detail) == (name, "")


# -- the list in an answer -----------------------------------------------------------------------------------------

ALICE = {"name": "codex-alice.json", "provider": "codex", "email": "alice@example.com", "auth_index": "a1"}
ALICE_READ = auth("codex/alice@example.com", "a1", "codex-alice.json", "alice@example.com")
KEY = {"api-key": "sk-EXAMPLE-0001"}


@pytest.mark.parametrize(
    "answer",
    [{"files": [ALICE]}, {"auth_files": [ALICE]}, {"auth-files": [ALICE]}, [ALICE], {"files": [ALICE], "total": 1}],
    ids=["files", "auth_files", "auth-files", "bare", "with more"],
)
def test_auth_files_are_found_in_every_wrapper(answer):
    assert read("auth-files", answer) == ([ALICE_READ], 0)


@pytest.mark.parametrize("endpoint", KEY_ENDPOINTS)
@pytest.mark.parametrize("wrapper", ["its own", "items", "data", None])
def test_keys_are_found_in_every_wrapper(endpoint, wrapper):
    own = endpoint if wrapper == "its own" else wrapper
    found, skipped = read(endpoint, {own: [KEY]} if own else [KEY])
    assert [c.key_digest for c in found] == [KEYRING.digest("sk-EXAMPLE-0001")]
    assert found[0].channel.name == family_of(endpoint)
    assert skipped == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("empty", [None, []], ids=["null", "[]"])
def test_null_and_an_empty_list_are_empty(endpoint, empty):
    own = "files" if endpoint == "auth-files" else endpoint
    assert read(endpoint, {own: empty}) == ([], 0)
    assert read(endpoint, empty) == ([], 0)


@pytest.mark.parametrize(
    ("endpoint", "answer"),
    [
        ("auth-files", {"files": [ALICE], "auth_files": []}),
        ("auth-files", {"files": None, "auth-files": [ALICE]}),
        ("gemini-api-key", {"gemini-api-key": [KEY], "items": [KEY]}),
        (COMPAT, {"items": [], "data": []}),
    ],
)
def test_wrappers_that_conflict_are_refused_rather_than_chosen_from(endpoint, answer):
    with pytest.raises(BadMappingError, match="the answer holds several lists"):
        read(endpoint, answer)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"<html>Sign in</html>", "not JSON"),
        (b'{"files": [', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "the answer holds none of "),
        (b'{"error": "core auth manager unavailable"}', "the answer holds none of "),
        (b'{"claude_api_key": []}', "the answer holds none of "),
        (b"7", "the answer holds no list"),
        (b'"[]"', "the answer holds no list"),
        (b"true", "the answer holds no list"),
    ],
    ids=["empty", "a page", "cut", "bytes", "deep", "{}", "an error", "another", "a number", "a string", "true"],
)
def test_an_answer_that_cannot_be_read_is_never_an_empty_list(endpoint, body, reason):
    with pytest.raises(BadMappingError, match=reason):
        parse(endpoint, body, KEYRING)


@pytest.mark.parametrize("wrong", [{}, {"0": ALICE}, "x", 7, True], ids=str)
def test_a_wrapper_around_something_else_than_a_list_is_refused(wrong):
    with pytest.raises(BadMappingError, match="the answer holds no list"):
        read("auth-files", {"files": wrong})
    with pytest.raises(BadMappingError, match="the answer holds no list"):
        read("xai-api-key", {"xai-api-key": wrong})


# -- entries of auth files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"name": "f.json", "provider": "codex", "email": "a@example.com", "label": "L"}, "codex/a@example.com"),
        ({"name": "f.json", "provider": "codex", "email": "", "label": "L"}, "codex/L"),
        ({"name": "f.json", "provider": "codex", "email": None, "label": "  "}, "codex/f.json"),
        ({"file_name": "f.json", "provider": "codex"}, "codex/f.json"),
        ({"id": "f.json", "provider": "codex"}, "codex/f.json"),
        ({"name": "n", "file_name": "f", "id": "i", "provider": "codex"}, "codex/n"),
        ({"name": "f.json", "type": "codex"}, "codex/f.json"),
        ({"name": "f.json", "provider": "", "type": "codex"}, "codex/f.json"),
        ({"name": "f.json", "provider": "claude", "type": "codex"}, "claude/f.json"),
        ({"email": " a@example.com ", "type": " codex "}, "codex/a@example.com"),
        ({"name": "f.json::proj", "provider": "gemini-cli", "label": "a@example.com [proj]"},
         "gemini-cli/a@example.com [proj]"),
        ({"name": "f\0.json", "provider": "codex"}, "codex/f\ufffd.json"),
    ],
)  # fmt: skip
def test_an_auth_file_is_called_by_address_then_label_then_file(entry, name):
    assert names([entry]) == [name]


def test_a_file_listed_from_disk_has_no_index():
    found, _ = read("auth-files", {"files": [{"name": "f.json", "size": 1, "type": "codex", "email": "a@example.com"}]})
    assert found == [auth("codex/a@example.com", "", "f.json", "a@example.com")]


@pytest.mark.parametrize("spelling", ["auth_index", "auth-index", "authIndex"])
@pytest.mark.parametrize(
    ("told", "index"),
    [
        ("45333f9784294f6d", "45333f9784294f6d"),
        (" a1 ", "a1"),
        (0, "0"),
        (17, "17"),
        (18446744073709551615, "18446744073709551615"),
        ("", ""),
        (None, ""),
        (True, ""),
        (False, ""),
        (1.5, ""),
        ([1], ""),
        ({}, ""),
    ],
)
def test_an_index_is_read_as_text_in_every_spelling(spelling, told, index):
    entry = {"name": "f.json", "provider": "codex", spelling: told}
    (found,), _ = read("auth-files", [entry])
    assert found.auth_index == index
    (found,), _ = read("claude-api-key", [KEY | {spelling: told}])
    assert found.auth_index == index


def test_an_empty_index_does_not_hide_one_that_is_spelt_otherwise():
    (found,), _ = read("claude-api-key", [KEY | {"auth_index": "", "auth-index": "a1"}])
    assert found.auth_index == "a1"


@pytest.mark.parametrize(
    "bad",
    [
        None, 7, "f.json", [], {}, {"provider": "codex"}, {"name": "f.json"},
        {"name": 7, "provider": "codex"}, {"name": " ", "provider": "codex"},
    ],
    ids=str,
)  # fmt: skip
def test_an_auth_file_that_cannot_be_read_is_skipped_and_counted(bad):
    assert read("auth-files", {"files": [bad, ALICE, bad]}) == ([ALICE_READ], 2)


def test_one_address_under_two_providers_is_two_accounts_without_further_names():
    assert names([ALICE, ALICE | {"provider": "claude", "name": "claude.json"}]) == [
        "codex/alice@example.com",
        "claude/alice@example.com",
    ]


def test_files_that_share_provider_and_account_are_told_apart_by_their_names():
    team = ALICE | {"name": "codex-alice-team.json", "auth_index": "a2"}
    assert names([ALICE, team, ALICE | {"email": "bob@example.com"}]) == [
        "codex/alice@example.com (codex-alice.json)",
        "codex/alice@example.com (codex-alice-team.json)",
        "codex/bob@example.com",
    ]


def test_files_of_one_account_are_told_apart_however_long_its_name():
    email = f"{'a' * 60}@{'b' * 60}.example.com"
    pair = [{"name": f"codex-{email}-{plan}.json", "type": "codex", "email": email} for plan in ("plus", "team")]
    found = names(pair)
    assert len(set(found)) == 2
    assert max(map(len, found)) <= TEXT_MAX_CHARS


def test_several_projects_of_one_file_may_share_an_index():
    projects = [
        {"id": f"f.json::{p}", "name": f"f.json::{p}", "type": "gemini-cli", "label": f"a [{p}]", "auth_index": "a1"}
        for p in ("one", "two")
    ]
    found, _ = read("auth-files", projects)
    assert [c.channel.name for c in build(found).by_auth_index["a1"]] == ["gemini-cli/a [one]", "gemini-cli/a [two]"]


# -- entries of provider keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["api-key", "apiKey", "api_key", "key"])
@pytest.mark.parametrize("endpoint", KEY_ENDPOINTS)
def test_a_key_is_found_in_every_spelling(endpoint, spelling):
    (found,), _ = read(endpoint, [{spelling: " sk-EXAMPLE-0001\n"}])
    assert found.key_digest == KEYRING.digest("sk-EXAMPLE-0001")


def test_a_key_is_never_cut():
    long = "sk-" + "x" * 1000
    (found,), _ = read("claude-api-key", [{"api-key": long}])
    assert found.key_digest == KEYRING.digest(long)


@pytest.mark.parametrize("spelling", ["base-url", "base_url", "baseURL"])
def test_a_provider_without_a_name_is_called_by_its_base_url_in_every_spelling(spelling):
    (found,), _ = read("codex-api-key", [KEY | {spelling: "https://Relay.Example.net/v1/"}])
    assert found.channel == Channel("apikey", "relay.example.net", "relay.example.net", "relay.example.net")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"name": "Mine", "base-url": "https://relay.example.net"}, "Mine"),
        ({"name": "", "base-url": "https://relay.example.net"}, "relay.example.net"),
        ({"name": None, "base-url": ""}, "claude"),
        ({"base-url": None}, "claude"),
        ({"base-url": "https://[broken"}, "claude"),
        ({"base-url": 7}, "claude"),
    ],
)
def test_a_provider_is_called_by_name_then_base_url_then_family(fields, name):
    (found,), _ = read("claude-api-key", [KEY | fields])
    assert found.channel == Channel("apikey", name, name, name)


@pytest.mark.parametrize("bad", [None, 7, "sk-EXAMPLE-0001", [], [KEY]], ids=str)
@pytest.mark.parametrize("endpoint", KEY_ENDPOINTS)
def test_a_provider_that_cannot_be_read_is_skipped_and_counted(endpoint, bad):
    found, skipped = read(endpoint, {endpoint: [bad, KEY, bad]})
    assert [c.key_digest for c in found] == [KEYRING.digest("sk-EXAMPLE-0001")]
    assert skipped == 2


@pytest.mark.parametrize("spelling", ["api-key-entries", "apiKeyEntries", "api-keys"])
def test_the_keys_of_a_compatible_provider_are_found_in_every_spelling(spelling):
    keys = [{"api-key": "sk-1", "auth-index": "a1"}, {"apiKey": "sk-2", "authIndex": 2}, "sk-3"]
    found, skipped = read(COMPAT, [{"name": "Mine", spelling: keys}])
    providers = "openai-compatibility\nopenai-compatible-mine\nmine"
    assert found == [
        apikey(COMPAT, "Mine", providers, "a1", "sk-1"),
        apikey(COMPAT, "Mine", providers, "2", "sk-2"),
        apikey(COMPAT, "Mine", providers, "", "sk-3"),
    ]
    assert skipped == 0


@pytest.mark.parametrize(
    "keys", [{}, {"api-key-entries": None}, {"api-key-entries": []}, {"api-keys": []}, {"api-key-entries": {}}], ids=str
)
def test_a_compatible_provider_without_keys_has_its_index_on_itself(keys):
    found, skipped = read(COMPAT, [{"name": "local-vllm", "auth-index": "c0ff"} | keys])
    assert found == [
        apikey(COMPAT, "local-vllm", "openai-compatibility\nopenai-compatible-local-vllm\nlocal-vllm", "c0ff", "")
    ]
    assert skipped == 0


def test_a_key_entry_that_cannot_be_read_is_skipped_and_counted():
    found, skipped = read(COMPAT, [{"name": "Mine", "api-key-entries": [7, {"api-key": "sk-1"}, None]}])
    assert [c.key_digest for c in found] == [KEYRING.digest("sk-1")]
    assert skipped == 2


def test_a_disabled_provider_can_still_be_recognised():
    (found,), _ = read(COMPAT, [{"name": "old", "disabled": True, "api-key-entries": [{"api-key": "sk-old"}]}])
    assert build([found]).by_key[KEYRING.digest("sk-old")] == (found,)


def test_a_compatible_provider_without_a_name_is_called_by_its_base_url():
    (found,), _ = read(COMPAT, [{"base-url": "https://openrouter.ai/api/v1", "api-keys": ["sk-1"]}])
    assert found.channel.name == "openrouter.ai/api"


# -- base URLs as names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "api.openai.com"),
        ("https://api.openai.com/v1/", "api.openai.com"),
        ("https://api.openai.com/", "api.openai.com"),
        ("https://API.OpenAI.com", "api.openai.com"),
        ("HTTPS://api.openai.com:443/v1", "api.openai.com"),
        ("http://10.0.0.9:80/v1", "10.0.0.9"),
        ("http://10.0.0.9:8000/v1", "10.0.0.9:8000"),
        ("http://10.0.0.9:443", "10.0.0.9:443"),
        ("https://openrouter.ai/api/v1", "openrouter.ai/api"),
        ("https://x.example.net/v1beta", "x.example.net/v1beta"),
        ("https://x.example.net/api/V1", "x.example.net/api/V1"),
        ("https://x.example.net/Path/v1/more", "x.example.net/Path/v1/more"),
        ("relay.example.net/v1", "relay.example.net"),
        ("relay.example.net:8080", "relay.example.net:8080"),
        ("https://user:EXAMPLE-password@relay.example.net/v1", "relay.example.net"),
        ("user:EXAMPLE-password@relay.example.net", "relay.example.net"),
        ("https://relay.example.net/api?key=EXAMPLE-key#EXAMPLE", "relay.example.net/api"),
        ("https://relay.example.net?key=EXAMPLE-key", "relay.example.net"),
        ("https://relay.example.net:bad/v1", ""),
        ("https://[broken", ""),
        ("https:///v1", ""),
        ("/v1", ""),
        ("", ""),
    ],
)
def test_a_base_url_is_named_by_host_and_path(url, name):
    assert base_url_name(url) == name


words = st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=%", min_size=1, max_size=20)


@steady
@given(words, words, st.sampled_from(["https://", "http://", "ws://", ""]), st.sampled_from(["", "/v1", "/api?k="]))
def test_a_name_never_shows_what_stands_before_the_host_or_after_the_path(user, password, scheme, tail):
    name = base_url_name(f"{scheme}{user}:{password}@relay.example.net{tail}{'EXAMPLE' if '?' in tail else ''}")
    assert name in ("relay.example.net", "relay.example.net/api")


@steady
@given(st.text(max_size=60))
def test_any_text_has_a_base_url_name_or_none(url):
    name = base_url_name(url)
    assert not name.endswith("/")
    assert "@" not in name.partition("/")[0]
    assert "?" not in name.partition("/")[0]


# -- the directory -------------------------------------------------------------------------------------------------


def test_a_directory_finds_credentials_by_index_and_by_key_and_keeps_all_that_share_one():
    one = apikey("codex-api-key", "one", "codex", "a1", "sk-1")
    two = apikey("codex-api-key", "two", "codex", "a1", "sk-2")
    three = apikey("claude-api-key", "three", "claude", "", "sk-1")
    four = apikey(COMPAT, "four", "openai-compatibility", "a4", "")
    directory = build([one, two, three, four])
    assert directory.by_auth_index == {"a1": (one, two), "a4": (four,)}
    assert directory.by_key == {KEYRING.digest("sk-1"): (one, three), KEYRING.digest("sk-2"): (two,)}
    assert directory.past_by_auth_index == directory.past_by_key == {}


def test_a_past_credential_stands_behind_and_its_number_counts_for_nothing():
    numbered, hashed, digits = (
        auth("codex/a@example.com", i, "a.json") for i in ("17", "45333f9784294f6d", "4533397842946123")
    )
    key = apikey("codex-api-key", "one", "codex", "3", "sk-1")
    directory = build([], past=[numbered, hashed, digits, key])
    assert directory.past_by_auth_index == {"45333f9784294f6d": (hashed,), "4533397842946123": (digits,)}
    assert directory.past_by_key == {KEYRING.digest("sk-1"): (key,)}
    assert directory.by_auth_index == directory.by_key == {}


def test_a_configured_number_counts():
    numbered = auth("codex/a@example.com", "17", "a.json")
    assert build([numbered]).by_auth_index == {"17": (numbered,)}


def test_a_directory_finds_auth_files_by_every_name_of_their_account():
    alice = auth("codex/alice@example.com", "a1", "codex-alice.json", "alice@example.com", "alice@example.com", "p-1")
    nameless = auth("codex/x", "a2", "")
    key = apikey("codex-api-key", "one", "codex", "a3", "sk-1")
    assert build([alice, nameless, key], past=[alice]).by_account == {
        "alice@example.com": (alice,),
        "p-1": (alice,),
        "codex-alice.json": (alice,),
    }


# -- what an account and a channel are -----------------------------------------------------------------------------


def test_the_names_of_an_account_are_in_lower_case_and_its_address_comes_first():
    entry = {"name": "Codex-Alice.json", "id": "Dir/Codex-Alice.json", "type": "codex", "email": "Alice@Example.com"}
    (found,), _ = read("auth-files", [entry | {"account": "ALICE", "project_id": "Proj-42", "auth_index": "a1"}])
    assert found.email == "alice@example.com"
    assert found.accounts.split("\n") == [
        "alice@example.com", "alice", "dir/codex-alice.json", "codex-alice.json", "proj-42",
    ]  # fmt: skip
    assert found.channel.name == "codex/Alice@Example.com"


def test_an_account_without_an_address_has_an_empty_one():
    (found,), _ = read("auth-files", [{"name": "f.json", "type": "codex", "label": "L"}])
    assert (found.email, found.accounts) == ("", "\nf.json")


def test_an_auth_file_is_the_channel_of_its_provider_file_and_address():
    def identity(**changed):
        (found,), _ = read("auth-files", [ALICE | changed])
        return found.channel.identity

    same = [{}, {"auth_index": "a9"}, {"label": "L"}, {"email": "ALICE@example.com"}, {"disabled": True}]
    assert len({identity(**changed) for changed in same}) == 1
    other = [{}, {"email": "bob@example.com"}, {"name": "moved.json"}, {"provider": "claude"}]
    assert len({identity(**changed) for changed in other}) == 4


def test_the_same_file_listed_twice_is_one_channel_with_a_plain_name():
    assert names([ALICE, ALICE | {"auth_index": "a2"}]) == ["codex/alice@example.com"] * 2


@pytest.mark.parametrize(
    ("name", "detail", "expected"),
    [
        ("codex/a", "f.json", "codex/a (f.json)"),
        ("n" * TEXT_MAX_CHARS, "f.json", "n" * (TEXT_MAX_CHARS - 9) + " (f.json)"),
        ("codex/a", "d" * 60, f"codex/a ({'d' * 60})"),
    ],
)
def test_a_suffix_stands_in_brackets_and_the_whole_is_no_longer_than_a_name(name, detail, expected):
    assert suffixed(name, detail) == expected


def test_a_long_suffix_is_cut_and_still_tells_apart():
    one, two = (suffixed("codex/a", "d" * 80 + end) for end in ("one", "two"))
    assert one != two
    assert len(one) == len("codex/a ()") + 60


# -- renames -------------------------------------------------------------------------------------------------------


def named(name, key="", place="", endpoint="codex-api-key"):
    return apikey(endpoint, name, "codex", "", key, place)


def followed(before, after, ever=()):
    known = {c.channel.identity for c in before} | set(ever)
    return {was: now.name for was, now in renames(before, after, known).items()}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([named("old", "sk-1")], [named("new", "sk-1")], {"old": "new"}),
        ([named("old", "sk-1", "p")], [named("new", "sk-1", "q")], {"old": "new"}),
        ([named("old", "", "p")], [named("new", "", "p")], {"old": "new"}),
        ([named("old", "sk-1"), named("old", "sk-2")], [named("new", "sk-2"), named("new", "sk-3")], {"old": "new"}),
        ([named("a", "sk-1"), named("b", "sk-2")], [named("c", "sk-1"), named("d", "sk-2")], {"a": "c", "b": "d"}),
        ([named("old", "sk-1")], [named("old", "sk-1")], {}),
        ([named("old", "sk-1", "p")], [named("new", "sk-2", "p")], {}),
        ([named("old", "", "p")], [named("new", "", "q")], {}),
        ([named("old")], [named("new")], {}),
        ([named("old", "sk-1")], [], {}),
        ([], [named("new", "sk-1")], {}),
        ([named("old", "sk-1")], [named("new", "sk-1", endpoint="claude-api-key")], {}),
    ],
    ids=[
        "same key", "key before place", "keyless by place", "one key stays", "two at once", "nothing new",
        "another key at the same place", "keyless at another place", "neither key nor place", "gone", "new",
        "another endpoint",
    ],
)  # fmt: skip
def test_a_rename_is_seen_by_the_key_or_without_one_by_the_place(before, after, expected):
    assert followed(before, after) == expected


def test_a_provider_that_is_still_listed_was_not_renamed():
    kept = [named("old", "sk-1"), named("old", "sk-2")]
    assert followed(kept, [named("old", "sk-1"), named("new", "sk-2")]) == {}


def test_a_name_that_was_another_channels_is_no_new_name():
    assert followed([named("old", "sk-1")], [named("new", "sk-1")], ever=["new"]) == {}


def test_a_split_and_a_merger_are_no_renames():
    apart = [named("a", "sk-1"), named("b", "sk-2")]
    assert followed([named("old", "sk-1"), named("old", "sk-2")], apart) == {}
    assert followed(apart, [named("new", "sk-1"), named("new", "sk-2")]) == {}


def test_auth_files_are_never_renamed_by_a_key():
    assert followed([auth("codex/a", "a1", "a.json")], [auth("codex/b", "a1", "a.json")]) == {}


# -- junk ----------------------------------------------------------------------------------------------------------


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "provider", "api-key", "api-key-entries", "api-keys", "auth-index", "base-url"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@steady
@given(st.sampled_from(ENDPOINTS), st.lists(json_values, max_size=5))
def test_one_malformed_entry_never_costs_its_siblings(endpoint, junk):
    sibling = {"name": "sibling", "provider": "codex", "api-key": "sk-EXAMPLE-0001", "auth-index": "a1"}
    found, skipped = read(endpoint, [*junk, sibling])
    assert found[-1].auth_index == "a1"
    assert "sibling" in found[-1].channel.name
    without, skipped_without = read(endpoint, junk)
    assert skipped == skipped_without
    assert len(found) == len(without) + 1
