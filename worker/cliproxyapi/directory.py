"""The proxy's mapping endpoints → Directory: which credential is which channel. Spells their field names.

Two kinds of credential serve requests: auth files (accounts) and configured API keys, the latter spread over one
endpoint for each provider. A credential that cannot be read is skipped and counted; an answer that cannot be read
is an error and never an empty list.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import msgspec

from worker.cliproxyapi.generations import AUTH_FILES
from worker.cliproxyapi.payload import TEXT_MAX_CHARS, text, whole
from worker.secret import Keyring

Kind = Literal["auth", "apikey", "unknown"]
DETAIL_MAX_CHARS = 60
K = TypeVar("K", str, bytes)

COMPATIBILITY = "openai-compatibility"
KEY_LIST = re.compile(r"([a-z0-9][a-z0-9-]{0,60})-api-key")
"""A list of keys: the family of providers, and what its name ends with."""

KEY_ENDPOINTS = (
    COMPATIBILITY,
    *(f"{name}-api-key" for name in ("gemini", "claude", "codex", "vertex", "interactions", "xai", "meta")),
)
"""The lists of keys that there have been so far; the proxy's settings name others."""

ENDPOINTS = (AUTH_FILES, *KEY_ENDPOINTS)

MORE_IDS = {"interactions": ("gemini-interactions",)}
"""Other provider ids that the credentials of a family have in usage records."""

DEFAULT_BASE_URL = {"meta": "https://api.meta.ai/v1"}
"""What v0 lists as the base URL of a key that is configured without one."""


class Channel(NamedTuple):
    """Where usage is booked. Within an upstream, `kind` and `identity` make it what it is.

    An auth file is the channel of its provider, file and account: another account in the same file is another
    channel. API keys belong to the channel of their provider's name, whichever key serves. `detail` tells apart
    channels that would have the same name.
    """

    kind: Kind
    identity: str
    name: str
    group: str
    detail: str = ""


UNKNOWN = Channel("unknown", "unknown", "unknown", "unknown")


class Credential(NamedTuple):
    """One credential that the proxy lists, without its secret.

    `providers` are the ids under which usage records may name it, joined by line feeds. `auth_index` is empty where
    the proxy tells none, `key_digest` where it has no key, `place` (its base URL as a name) where it has none.
    `accounts` are the names under which `source` may mean it, in lower case, joined by line feeds; the first is its
    e-mail address, or empty.
    """

    endpoint: str
    channel: Channel
    providers: str
    auth_index: str
    key_digest: bytes = b""
    place: str = ""
    accounts: str = ""

    @property
    def email(self) -> str:
        """The account's e-mail address in lower case; empty where it has none."""
        return self.accounts.partition("\n")[0]

    @property
    def known_by(self) -> tuple[str, ...]:
        """All by which a record may find it: what a directory has learned when this is new."""
        return (
            self.endpoint,
            self.channel.identity,
            self.providers,
            self.auth_index,
            self.key_digest.hex(),
            self.accounts,
        )


class Directory(msgspec.Struct, frozen=True):
    """All credentials of one upstream, ready to be looked up; those no longer configured stand behind."""

    by_auth_index: Mapping[str, tuple[Credential, ...]]
    by_key: Mapping[bytes, tuple[Credential, ...]]
    by_account: Mapping[str, tuple[Credential, ...]]
    past_by_auth_index: Mapping[str, tuple[Credential, ...]]
    past_by_key: Mapping[bytes, tuple[Credential, ...]]

    @property
    def endpoints(self) -> set[str]:
        """The lists in which these credentials stand."""
        maps: tuple[Mapping[Any, tuple[Credential, ...]], ...] = (self.by_auth_index, self.by_key, self.by_account)
        return {one.endpoint for by in maps for credentials in by.values() for one in credentials}


class BadMappingError(ValueError):
    """An answer of a mapping endpoint that cannot be read; the last good one stays in force."""


def build(configured: Iterable[Credential], past: Iterable[Credential] = ()) -> Directory:
    """Return the directory of these credentials. `past` ones count where no configured one fits.

    An integer index is a number within one run of the proxy, so that a past one says nothing.
    """
    current, gone = list(configured), list(past)
    return Directory(
        by_auth_index=_grouped((c.auth_index, c) for c in current),
        by_key=_grouped((c.key_digest, c) for c in current),
        by_account=_grouped((account, c) for c in current for account in dict.fromkeys(c.accounts.split("\n"))),
        past_by_auth_index=_grouped((c.auth_index, c) for c in gone if not is_counter(c.auth_index)),
        past_by_key=_grouped((c.key_digest, c) for c in gone),
    )


def parse(endpoint: str, body: bytes, keyring: Keyring) -> tuple[list[Credential], int]:
    """Read one mapping endpoint's answer.

    Returns:
        Its credentials, and how many entries could not be read.

    Raises:
        BadMappingError: the answer as a whole is not what the endpoint promises.
    """
    entries = _entries(endpoint, body)
    return _auth_files(entries) if endpoint == AUTH_FILES else parse_entries(endpoint, entries, keyring)


def parse_entries(endpoint: str, entries: Iterable[Any], keyring: Keyring) -> tuple[list[Credential], int]:
    """Read the entries of a list of keys; return its credentials, and how many entries could not be read."""
    found: list[Credential] = []
    skipped = 0
    for entry in entries:
        if isinstance(entry, dict):
            read, unread = _provider(endpoint, cast("dict[str, Any]", entry), keyring)
            found += read
            skipped += unread
        else:
            skipped += 1
    return found, skipped


# -- answers ----------------------------------------------------------------------------------------------------


def _entries(endpoint: str, body: bytes) -> list[Any]:
    """Return the list in an answer: bare, or under its name; null is an empty one."""
    try:
        tree: Any = whole(json.loads(body))
    except (ValueError, RecursionError) as e:
        raise BadMappingError(f"not JSON: {e}") from None
    names = ("files", "auth_files", "auth-files") if endpoint == AUTH_FILES else (endpoint, "items", "data")
    if isinstance(tree, dict):
        fields = cast("dict[str, Any]", tree)
        lists = [fields[name] for name in names if name in fields]
        if len(lists) != 1:
            what = "several lists" if lists else f"none of {', '.join(names)}"
            raise BadMappingError(f"the answer holds {what}")
        tree = lists[0]
    entries = as_list(tree if tree is not None else [])
    if entries is None:
        raise BadMappingError("the answer holds no list")
    return entries


def _auth_files(entries: list[Any]) -> tuple[list[Credential], int]:
    found: list[Credential] = []
    for entry in entries:
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        file = _text(fields, "name", "file_name", "id")
        provider = _text(fields, "provider", "type").lower()
        email = _text(fields, "email").lower()
        account = _text(fields, "email") or _text(fields, "label") or file
        if account and provider:
            names = (email, _text(fields, "account"), _text(fields, "id"), file, _text(fields, "project_id"))
            found.append(
                Credential(
                    endpoint=AUTH_FILES,
                    channel=Channel(
                        "auth", f"{provider}\n{file}\n{email}", text(f"{provider}/{account}"), provider, file
                    ),
                    providers=provider,
                    auth_index=_index(fields),
                    accounts="\n".join([email, *(name.lower() for name in names[1:] if name)]),
                )
            )
    return _told_apart(found), len(entries) - len(found)


def _told_apart(found: list[Credential]) -> list[Credential]:
    """Give auth files of one name their file's name beside it."""
    files = Counter(name for name, _ in {(c.channel.name, c.channel.identity) for c in found})
    return [
        c._replace(channel=c.channel._replace(name=suffixed(c.channel.name, c.channel.detail)))
        if files[c.channel.name] > 1
        else c
        for c in found
    ]


def suffixed(name: str, detail: str) -> str:
    """Return `name (detail)`, no longer than a name may be; a long detail keeps its begin and a digest of the whole."""
    if len(detail) > DETAIL_MAX_CHARS:
        detail = f"{detail[: DETAIL_MAX_CHARS - 9]}…{sha256(detail.encode()).hexdigest()[:8]}"
    return f"{name[: TEXT_MAX_CHARS - len(detail) - 3]} ({detail})"


def _provider(endpoint: str, fields: dict[str, Any], keyring: Keyring) -> tuple[list[Credential], int]:
    """Read one entry of a provider-key endpoint: a key, or an OpenAI-compatible provider with its keys."""
    place = text(base_url_name(_text(fields, "base-url", "base_url", "baseURL")))
    name = _text(fields, "name") or place or family_of(endpoint)
    channel = Channel("apikey", name, name, name)
    providers = _provider_ids(endpoint, channel.name)
    holders: list[Any] = [fields]
    if endpoint == COMPATIBILITY:
        keys = next((fields[n] for n in ("api-key-entries", "apiKeyEntries", "api-keys") if fields.get(n)), None)
        holders = as_list(keys) or [fields]
    found: list[Credential] = []
    for holder in holders:
        held: dict[str, Any] = {"api-key": holder} if isinstance(holder, str) else holder
        if isinstance(held, dict):  # pyright: ignore[reportUnnecessaryIsInstance] # the element is unchecked JSON
            key = _text(held, "api-key", "apiKey", "api_key", "key", cut=False)
            found.append(Credential(endpoint, channel, providers, _index(held), keyring.digest(key), place))
    return found, len(holders) - len(found)


def base_url_name(url: str) -> str:
    """Return a base URL as a name: host in lower case and path, without scheme, userinfo, query and `/v1`."""
    if not url:
        return ""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    default = {"http": 80, "https": 443}.get(parts.scheme)
    place = host if port in (None, default) else f"{host}:{port}"
    return re.sub(r"/v1$", "", (place + parts.path).rstrip("/")).rstrip("/")


def is_key_list(endpoint: str) -> bool:
    """Say whether an endpoint, or a setting of the proxy, is called as lists of keys are."""
    return endpoint == COMPATIBILITY or KEY_LIST.fullmatch(endpoint) is not None


def family_of(endpoint: str) -> str:
    """Return the family of providers whose keys an endpoint lists."""
    return endpoint.removesuffix("-api-key")


def _provider_ids(endpoint: str, name: str) -> str:
    family = family_of(endpoint)
    ids = [family, *MORE_IDS.get(family, ())]
    if endpoint == COMPATIBILITY:  # v7.2.21 and later, and before
        ids += [f"openai-compatible-{name.lower()}", name.lower()]
    return "\n".join(ids)


def as_list(value: Any) -> list[Any] | None:
    """Return a list of unchecked JSON; None for anything else."""
    return value if isinstance(value, list) else None  # pyright: ignore[reportUnknownVariableType]  # JSON is untyped


# -- fields -----------------------------------------------------------------------------------------------------


def _text(fields: dict[str, Any], *names: str, cut: bool = True) -> str:
    """Return the first of the fields that is a text with something in it."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return text(value) if cut else value.strip()
    return ""


def _index(fields: dict[str, Any]) -> str:
    """Return the credential's index as text; it is a number up to v6.6.55 and 16 hex digits after."""
    for name in ("auth_index", "auth-index", "authIndex"):
        value = fields.get(name)
        if (isinstance(value, str) and value.strip()) or (isinstance(value, int) and not isinstance(value, bool)):
            return text(str(value))
    return ""


def is_counter(auth_index: str) -> bool:
    """Say whether an index is one of the integers of v6.6.55 and before; a hash may have no letter, but 16 digits."""
    return auth_index.isdigit() and len(auth_index) != 16  # noqa: PLR2004  # hex digits of the proxy's hash


def _grouped(pairs: Iterable[tuple[K, Credential]]) -> dict[K, tuple[Credential, ...]]:
    grouped: dict[K, tuple[Credential, ...]] = {}
    for pair in pairs:
        key: K = pair[0]
        if key:
            grouped[key] = (*grouped.get(key, ()), pair[1])
    return grouped


# -- history ----------------------------------------------------------------------------------------------------


def renames(before: Iterable[Credential], after: Iterable[Credential], ever: Container[str]) -> dict[str, Channel]:
    """Return which API-key providers were renamed in the proxy: the old identity, and the new channel.

    A name that is gone and a name that never was are one provider where a key they share, or for a provider
    without keys its base URL, says so, and says it of these two alone.

    Args:
        before: what the endpoints listed so far.
        after: what they list now.
        ever: the identities of all API-key channels so far.
    """
    old, new = _by_fingerprint(before), _by_fingerprint(after)
    now_listed = {c.identity for c in _channels(new)}
    pairs = {
        (was.identity, now)
        for fingerprint, was_channels in old.items()
        for was in was_channels
        for now in new.get(fingerprint, ())
        if was.identity not in now_listed and now.identity not in ever
    }
    sources = [was for was, _ in pairs]
    targets = [now for _, now in pairs]
    return {was: now for was, now in pairs if sources.count(was) == 1 and targets.count(now) == 1}


def _by_fingerprint(credentials: Iterable[Credential]) -> dict[tuple[str, bytes | str], set[Channel]]:
    """Return the API-key channels by what stays when a provider is renamed."""
    found: dict[tuple[str, bytes | str], set[Channel]] = {}
    for c in credentials:
        fingerprint = c.key_digest or c.place
        if c.channel.kind == "apikey" and fingerprint:
            found.setdefault((c.endpoint, fingerprint), set()).add(c.channel)
    return found


def _channels(by_fingerprint: Mapping[Any, set[Channel]]) -> Iterator[Channel]:
    for channels in by_fingerprint.values():
        yield from channels
