"""Which channel a record belongs to, from a directory it is handed (pure).

Rule 1, `auth_index`: the credential with the record's index. Rule 2, `api_key`: the configured key that `source`
holds, for a record that is or may be an API key's. Where several channels fit, the record's provider decides;
where it does not, the channel is unknown and the rule says `ambiguous`. The first one never wins by being first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from worker.directory import UNKNOWN, Channel, Credential, Directory

Rule = Literal["auth_index", "api_key", "none", "ambiguous"]

API_KEY_AUTH_TYPES = ("apikey", "api_key", "unknown", "")
"""What a record may say of itself when an API key served it; a snapshot says nothing."""


class Resolution(NamedTuple):
    """The channel of a record, the rule that found it, and the provider ids of the credential behind it.

    `providers` is empty where no credential was found, or several that differ in it.
    """

    channel: Channel
    rule: Rule
    providers: str = ""


NOT_FOUND = Resolution(UNKNOWN, "none")
AMBIGUOUS = Resolution(UNKNOWN, "ambiguous")


def resolve(
    directory: Directory, *, auth_index: str, source_digest: bytes, provider: str, auth_type: str
) -> Resolution:
    """Return the channel for what a record says of its credential.

    Args:
        directory: the credentials of the record's upstream.
        auth_index: empty when the record has none.
        source_digest: the digest of the record's `source`.
        provider: the record's provider id, which only narrows.
        auth_type: `apikey`, `oauth`, `unknown` or empty; `oauth` rules a match by key out.
    """
    may_be_key = auth_type in API_KEY_AUTH_TYPES
    tries: tuple[tuple[Rule, Sequence[Credential]], ...] = (
        ("auth_index", directory.by_auth_index.get(auth_index, ())),
        ("api_key", directory.by_key.get(source_digest, ()) if may_be_key else ()),
        ("auth_index", directory.past_by_auth_index.get(auth_index, ())),
        ("api_key", directory.past_by_key.get(source_digest, ()) if may_be_key else ()),
    )
    ambiguous = False
    for rule, candidates in tries:
        fitting = _narrowed(candidates, provider)
        channels = {c.channel for c in fitting}
        if len(channels) == 1:
            providers = {c.providers for c in fitting}
            return Resolution(channels.pop(), rule, providers.pop() if len(providers) == 1 else "")
        ambiguous = ambiguous or len(channels) > 1
    return AMBIGUOUS if ambiguous else NOT_FOUND


def _narrowed(candidates: Sequence[Credential], provider: str) -> Sequence[Credential]:
    """Return the candidates; where they are of several channels, those that go with the record's provider."""
    if provider and len({c.channel for c in candidates}) > 1:
        return [c for c in candidates if provider.lower() in c.providers.split(" ")] or candidates
    return candidates
