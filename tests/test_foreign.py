"""Usage under names that nobody knows is no empty record, and no name, however broken, costs more than itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import proxy

from worker.cliproxyapi import directory
from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.payload.foreign import foreign_usage
from worker.secret import Keyring

ITEM = {"timestamp": "2026-11-25T08:26:40Z", "provider": "codex", "model": "gpt-5.4", "failed": False}
DETAIL = {"timestamp": "2026-11-25T08:26:40Z", "source": "s", "auth_index": "0", "failed": False,
          "tokens": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}}  # fmt: skip
SHAPES = {
    "beside the record": ({"input_tokens": 1000, "output_tokens": 100}, "input_tokens, output_tokens"),
    "as OpenAI does": ({"usage": {"prompt_tokens": 7, "completion_tokens": 5}}, "usage.prompt_tokens"),
    "as Gemini does": ({"usageMetadata": {"promptTokenCount": 7}}, "usageMetadata.promptTokenCount"),
    "within a detail": ({"usage": {"prompt_tokens_details": {"cached_tokens": 3}}}, "usage.prompt_tokens_details"),
    "under other names of tokens": ({"tokens": {"input": 7, "output": 5}}, "tokens.input, tokens.output"),
}
EMPTY = [
    {},
    {"tokens": {}},
    {"tokens": {"input_tokens": 0, "total_tokens": 0, "cache_read_tokens_present": True}},
    {"max_tokens": 4096},
    {"usage": {"prompt_tokens": 0}},
    {"input_tokens": None, "usage": "none"},
    {"failed": True, "fail": {"status_code": 429, "body": "tokens per minute: 100"}},
]


def read(*items):
    (found,) = (decode.decode_queue(json.dumps(items).encode()),)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_usage_under_names_that_nobody_knows_is_set_aside_with_that_reason(shape):
    more, names = SHAPES[shape]
    found = read({**ITEM, **more}, {**ITEM, "tokens": DETAIL["tokens"]})
    assert len(found.records) == 1
    (bad,) = found.bad
    assert "under names that are not known" in bad.reason
    assert names in bad.reason


@pytest.mark.parametrize("more", EMPTY, ids=str)
def test_what_used_no_tokens_is_a_record(more):
    found = read({**ITEM, **more})
    assert (len(found.records), found.bad) == (1, [])


def test_what_is_known_is_read_whatever_else_is_there():
    (record,) = read({**ITEM, "tokens": DETAIL["tokens"], "usage": {"prompt_tokens": 7}}).records
    assert record.reported.total == 3


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner)
                    | st.dictionaries(st.text(), inner), max_leaves=20))  # fmt: skip
def test_whatever_stands_there_is_looked_through(value):
    found = foreign_usage({"usage": value, "tokens": value}, (), ())
    assert len(found) <= 5
    assert all(name.startswith(("usage", "tokens")) for name in found)


# -- names ------------------------------------------------------------------------------------------------------


def snapshot(*names):
    apis = {key: {"models": {model: {"details": [DETAIL]}}} for key, model in names}
    return json.dumps({"usage": {"apis": apis}}).encode()


BROKEN = ["\ud800", "k\udc00y", "\0", "a\ud800\udbffb", "x" * 5000, "\x1b[31m", ""]


@pytest.mark.parametrize("name", BROKEN, ids=ascii)
def test_a_broken_name_in_a_snapshot_costs_no_sibling(books, name):
    with proxy("snapshot") as simulator:
        simulator.override("usage", snapshot((name, "m"), ("key", f"m{name}"), ("other", "m")))
        result = books.sync(simulator)
    assert (result.error, result.inserted + result.quarantined) == (None, 3)
    assert result.inserted >= 1
    books.balance()


def test_lists_whose_names_look_alike_once_they_are_clean_are_both_read():
    (found,) = decode.decode_snapshot(snapshot(("k\ud800", "m"), ("k\udc00", "m")), Keyring(b"pepper"))
    assert len(found.records) == 2


@given(st.lists(st.tuples(st.text(st.characters(), max_size=6), st.text(st.characters(), max_size=6)), unique=True))
def test_names_of_a_snapshot_are_any_text(names):
    body = snapshot(*names)
    chunks = list(decode.decode_snapshot(body, Keyring(b"pepper")))
    assert sum(len(c.records) + len(c.bad) for c in chunks) == len(dict(names))
    for record in (r for c in chunks for r in c.records):
        assert all(value.encode() is not None for value in (record.labels.model, record.labels.client_key))


NAMES = st.text(st.characters(), max_size=8)
ENTRY = st.dictionaries(
    st.sampled_from(["api-key", "auth-index", "name", "base-url", "prefix", "email", "id", "provider", "type"]) | NAMES,
    NAMES | st.integers() | st.none(),
)


@given(st.sampled_from(sorted(directory.ENDPOINTS)), st.lists(ENTRY, max_size=4))
def test_names_in_a_list_of_credentials_are_any_text(endpoint, entries):
    body = json.dumps({"files" if endpoint == directory.AUTH_FILES else endpoint: entries}).encode()
    credentials, skipped = directory.parse(endpoint, body, Keyring(b"pepper"))
    assert skipped >= 0
    for credential in credentials:
        repr(credential).encode()
        assert all("\0" not in value for value in (credential.channel.identity, credential.accounts))


def test_a_broken_key_is_found_by_the_same_broken_key():
    keyring = Keyring(b"pepper")
    body = rb'{"claude-api-key":[{"api-key":"sk\ud800"}]}'
    ((credential,), _) = directory.parse("claude-api-key", body, keyring)
    (record,) = read({**ITEM, "tokens": DETAIL["tokens"], "source": "sk\ud800"}).records
    assert credential.key_digest == keyring.digest(record.labels.source)
