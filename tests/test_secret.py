"""What stands for a secret: nothing of it beyond four characters, and always the same."""

import re
import string
from hashlib import sha256

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from worker.secret import NO_KEY_LABEL, Keyring, is_account, mask

steady = settings(derandomize=True, deadline=None, max_examples=100)
secrets = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
KEYS = (
    "sk-client-team-a-7Q2mX",
    "sk-client-team-b-9Zk1P",
    "sk-ant-EXAMPLE-0001",
    "sk-or-v1-EXAMPLE-0001",
    "sk-or-v1-EXAMPLE-0002",
    "AIzaSyEXAMPLE-gemini-key-0001",
)


@pytest.fixture
def keyring():
    return Keyring(b"EXAMPLE-pepper")


# -- masks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("sk-client-team-a-7Q2mX", "…Q2mX"),
        ("123456789012", "…9012"),
        ("12345678901", "…"),
        ("sk-old", "…"),
        ("x", "…"),
        ("", "…"),
        ("schlüssel-längst", "…ngst"),
    ],
)
def test_a_mask_shows_four_characters_of_a_key_of_twelve_or_more_and_none_of_a_shorter_one(secret, shown):
    assert mask(secret) == shown


@steady
@given(st.text(max_size=40))
def test_a_mask_never_shows_more_than_a_third_of_a_key(secret):
    shown = mask(secret).removeprefix("…")
    assert len(shown) * 3 <= len(secret)
    assert secret.endswith(shown)


# -- digests -------------------------------------------------------------------------------------------------------


def test_a_digest_is_the_hmac_of_the_key_under_the_pepper():
    # openssl: printf 'sk-client-team-a-7Q2mX' | openssl dgst -sha256 -hmac EXAMPLE-pepper
    whole = "f0de556955e2f1752485f2a1240df79c"
    assert Keyring(b"EXAMPLE-pepper").digest("sk-client-team-a-7Q2mX").hex() == whole


def test_no_key_has_no_digest_and_a_label_of_its_own(keyring):
    assert keyring.digest("") == b""
    assert keyring.label("") == NO_KEY_LABEL == "(no key)"


@steady
@given(secrets, st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_digests_differ_by_pepper_and_repeat_under_the_same(secret, one, other):
    assume(one.rstrip(b"\0") != other.rstrip(b"\0"))  # HMAC pads a key with zeros
    assert Keyring(one).digest(secret) != Keyring(other).digest(secret)
    assert Keyring(one).digest(secret) == Keyring(one).digest(secret)
    assert Keyring(one).event_key(secret) != Keyring(other).event_key(secret)


@steady
@given(st.lists(secrets, min_size=2, max_size=10, unique=True))
def test_different_keys_have_different_digests_and_labels(keys):
    keyring = Keyring(b"EXAMPLE-pepper")
    assert len({keyring.digest(key) for key in keys}) == len(keys)
    assert len({keyring.label(key) for key in keys}) == len(keys)


@steady
@given(secrets)
def test_a_digest_is_sixteen_bytes_and_not_the_bare_hash_of_the_key(secret):
    digest = Keyring(b"EXAMPLE-pepper").digest(secret)
    assert len(digest) == 16
    assert digest != sha256(secret.encode()).digest()[:16]


def test_an_event_key_is_sixteen_bytes_and_no_digest_of_a_key(keyring):
    assert len(keyring.event_key("sk-client-team-a-7Q2mX")) == 16
    assert keyring.event_key("sk-client-team-a-7Q2mX") != keyring.digest("sk-client-team-a-7Q2mX")
    assert keyring.event_key("a") != keyring.event_key("b")
    assert keyring.event_key("") != keyring.event_key("\0")


# -- labels and sealed keys ----------------------------------------------------------------------------------------


def test_a_label_is_the_mask_and_six_digits_of_the_digest(keyring):
    assert keyring.label("sk-client-team-a-7Q2mX") == "…Q2mX#f0de55"


def test_keys_with_one_mask_have_labels_that_tell_them_apart(keyring):
    alike = ["sk-ant-EXAMPLE-0001", "sk-or-v1-EXAMPLE-0001", "AIzaSyEXAMPLE-gemini-key-0001", "short", "brief"]
    assert [mask(key) for key in alike] == ["…0001"] * 3 + ["…"] * 2
    assert len({keyring.label(key) for key in alike}) == len(alike)


@steady
@given(secrets)
@example("ends in a line break\n")
@example("short")
def test_what_is_sealed_has_the_digest_and_the_label_of_the_key(secret):
    sealed = Keyring(b"EXAMPLE-pepper").sealed(secret)
    fresh = Keyring(b"EXAMPLE-pepper")  # one that has never seen the key
    known = Keyring(b"EXAMPLE-pepper")
    assert fresh.digest(sealed) == known.digest(secret)
    assert fresh.label(sealed) == known.label(secret)


@steady
@given(st.text(string.ascii_letters + string.punctuation, min_size=5, max_size=60))
def test_neither_label_nor_seal_holds_five_characters_of_the_key(secret):
    keyring = Keyring(b"EXAMPLE-pepper")
    for shown in (keyring.label(secret), keyring.sealed(secret).removeprefix("usage-worker-sealed:")):
        assert not any(secret[i : i + 5] in shown for i in range(len(secret) - 4))


@pytest.mark.parametrize(
    "forged",
    [
        "usage-worker-sealed:",
        "usage-worker-sealed:f0de556955e2f1752485f2a1240df79c",
        "usage-worker-sealed:zzde556955e2f1752485f2a1240df79c:…",
        "usage-worker-sealed:f0de556955e2f1752485f2a1240df79c:Q2mX",
        "usage-worker-sealed:f0de556955e2f1752485f2a1240df79c:…Q2mXX",
        "x-usage-worker-sealed:f0de556955e2f1752485f2a1240df79c:…Q2mX",
    ],
)
def test_a_key_that_only_resembles_a_sealed_one_is_a_key(keyring, forged):
    assert keyring.digest(forged).hex() != "f0de556955e2f1752485f2a1240df79c"
    assert keyring.label(forged) == f"{mask(forged)}#{keyring.digest(forged).hex()[:6]}"


def test_a_keyring_shows_nothing_of_its_pepper_and_keys(keyring):
    keyring.digest("sk-client-team-a-7Q2mX")
    assert not re.search("EXAMPLE|sk-client|7Q2mX", repr(keyring) + str(keyring))


# -- accounts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "alice@example.com",
        "first.last+tag@mail.example.co.uk",
        "gemini-carol@example.com-proj-42.json",
        "gemini-carol@example.com-proj-42.json::proj-42",
        "kimi-team.json",
        "Kimi Team 研究.json",
    ],
)
def test_an_address_or_the_name_of_an_auth_file_is_an_account(source):
    assert is_account(source)


@pytest.mark.parametrize(
    "source",
    [
        *KEYS,
        "",
        "sk-old",
        "proj-42",
        "https://user:EXAMPLE-password@relay.example.net",
        "https://EXAMPLE-token@relay.example.net",
        "user:EXAMPLE-password@relay.example.net",
        "//EXAMPLE-token@relay.example.net",
        "socks5://u:p@10.0.0.1:1080",
        "alice@localhost",
        "alice@example.com\n",
        "alice@example.com sk-ant-EXAMPLE-0001",
        "alice@@example.com",
        "a@b@example.com",
        "/root/.cli-proxy-api/codex.json",
        "{}.json",
        "x.json::sk ant",
        "x.json:secret",
        "codex.json.key",
        ".json" * 50,
    ],
)
def test_a_key_or_a_url_with_a_password_is_no_account(source):
    assert not is_account(source)


@steady
@given(st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=80))
def test_no_key_of_the_usual_letters_is_an_account(key):
    assert not is_account(key)
    assert not is_account(f"https://{key}:{key}@{key}.example.com")
    assert not is_account(f"{key}:{key}@example.com")
