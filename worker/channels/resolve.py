"""Which channel a record belongs to, from a directory it is handed (pure).

Rule 1, `auth_index`: the credential with the record's index. Rule 2, `api_key`: the configured key that `source`
holds, for a record that is or may be an API key's. What the proxy lists today goes before what it listed once.
Where several channels fit, the record's provider decides, then an auth file goes before a key; where neither
does, the channel is unknown, the rule says `ambiguous`, and the candidates are kept. None wins by being first.

An index says nothing when the record names another account than the credential: the file has changed hands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from worker.cliproxyapi.directory import UNKNOWN, Channel, Credential, Directory, is_counter

Rule = Literal["auth_index", "api_key", "account", "none", "ambiguous"]

API_KEY_AUTH_TYPES = ("apikey", "api_key", "unknown", "")
"""What a record may say of itself when an API key served it; a snapshot says nothing."""


class Resolution(NamedTuple):
    """The channel of a record, the rule that found it, and the provider ids of the credential behind it.

    `providers` is empty where no credential was found, or several that differ in it. `candidates` are the names of
    the channels between which nothing decides.
    """

    channel: Channel
    rule: Rule
    providers: str = ""
    candidates: tuple[str, ...] = ()


NOT_FOUND = Resolution(UNKNOWN, "none")


def resolve(
    directory: Directory,
    *,
    auth_index: str,
    source_digest: bytes,
    account: str,
    provider: str,
    auth_type: str,
    fresh: bool = True,
    match_account: bool = False,
) -> Resolution:
    """Return the channel for what a record says of its credential.

    Args:
        directory: the credentials of the record's upstream.
        auth_index: empty when the record has none.
        source_digest: the digest of the record's `source`.
        account: `source` where it is an e-mail address or a file's name, else empty.
        provider: the record's provider id, which only narrows.
        auth_type: `apikey`, `oauth`, `unknown` or empty; `oauth` rules a match by key out.
        fresh: whether the record is of this run of the proxy. The integer indexes of old versions are dealt out anew
            by each, so that of an earlier record such an index says nothing unless the account agrees.
        match_account: whether `account` alone may name an auth file, when exactly one fits.
    """
    may_be_key = auth_type in API_KEY_AUTH_TYPES
    listed = _of_account(directory.by_auth_index.get(auth_index, ()), account)
    if not fresh and is_counter(auth_index):
        listed = [c for c in listed if account and account.lower() in c.accounts.split("\n")]
    tries: tuple[tuple[Rule, Sequence[Credential]], ...] = (
        ("auth_index", listed),
        ("api_key", directory.by_key.get(source_digest, ()) if may_be_key else ()),
        ("auth_index", _of_account(directory.past_by_auth_index.get(auth_index, ()), account)),
        ("api_key", directory.past_by_key.get(source_digest, ()) if may_be_key else ()),
        ("account", _of_provider(directory.by_account.get(account.lower(), ()), provider) if match_account else ()),
    )
    candidates: dict[str, None] = {}
    for rule, credentials in tries:
        fitting = _narrowed(credentials, provider)
        channels = {c.channel for c in fitting}
        if len(channels) == 1:
            providers = {c.providers for c in fitting}
            return Resolution(channels.pop(), rule, providers.pop() if len(providers) == 1 else "")
        candidates |= dict.fromkeys(sorted(c.name for c in channels))
    contradicted = {c.channel.name for c in directory.by_auth_index.get(auth_index, ())}
    if candidates or contradicted:
        return Resolution(UNKNOWN, "ambiguous", candidates=tuple(candidates) or tuple(sorted(contradicted)))
    return NOT_FOUND


def _of_account(credentials: Sequence[Credential], account: str) -> Sequence[Credential]:
    """Return the credentials without those whose e-mail address is another one than the record's."""
    if "@" not in account or account.endswith(".json"):
        return credentials
    return [c for c in credentials if c.email in ("", account.lower())]


def _of_provider(credentials: Sequence[Credential], provider: str) -> Sequence[Credential]:
    """Return the credentials of the record's provider: an account alone says too little to go against it."""
    return [c for c in credentials if not provider or provider.lower() in c.providers.split("\n")]


def _narrowed(credentials: Sequence[Credential], provider: str) -> Sequence[Credential]:
    """Return the credentials; where they are of several channels, those of the record's provider, then auth files."""
    if len({c.channel for c in credentials}) > 1 and provider:
        credentials = [c for c in credentials if provider.lower() in c.providers.split("\n")] or credentials
    if len({c.channel for c in credentials}) > 1:
        files = [c for c in credentials if c.channel.kind == "auth"]
        return files if len({c.channel for c in files}) == 1 else credentials
    return credentials
