"""What stands in the database for a secret, and for a record (pure).

A payload carries client keys and provider keys in clear. Nothing of them is stored: a key becomes a keyed
digest (HMAC-SHA256 under the database's pepper, 16 bytes), which still lets it be recognised, and a mask that
shows at most the last four characters of a key of twelve or more.
"""

from __future__ import annotations

import hmac
import re
from hashlib import blake2b, sha256

DIGEST_BYTES = 16
EVENT_KEY_BYTES = 16
MASK_MIN_LENGTH = 12
"""A key shorter than this shows none of its characters."""

REMEMBERED_MAX_CHARS = 1000
"""Digests of longer secrets are computed each time, so that none is held in memory."""

MASKED = re.compile(r"[^\s*]{4}(\*{3}|\.{3})[^\s*]{4}|[^\s*]{2}\*{3}|\*{4}")
"""A key of which a fork of the proxy, or CLIProxyAPIHome, shows no more than this: several keys may look so."""

NO_KEY_LABEL = "(no key)"

# An e-mail address, or the name of an auth file: the two kinds of `source` that are safe to show. No colon or
# slash, so that a URL with a password in it never passes for an address.
ACCOUNT = re.compile(r"[^@\s:/\\]{1,64}@[^@\s:/\\]{1,190}\.[A-Za-z]{2,24}|[\w.@+\- ]{1,190}\.json(::[\w.\-]{1,64})?")
SEALED = re.compile(r"usage-worker-sealed:([0-9a-f]{32}):(….{0,4})", re.DOTALL)


class Keyring:
    """Digests under one pepper, remembered per distinct value: a payload names few keys many times."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self._digests: dict[str, bytes] = {"": b""}
        event_pepper = sha256(b"event" + pepper).digest()
        self._event = blake2b(digest_size=EVENT_KEY_BYTES, key=event_pepper)

    def digest(self, secret: str) -> bytes:
        """Return the 16 bytes that stand for `secret`; no bytes for the empty string."""
        known = self._digests.get(secret)
        if known is None:
            if sealed := SEALED.fullmatch(secret):
                known = bytes.fromhex(sealed[1])
            else:
                known = hmac.digest(self._pepper, _bytes(secret), "sha256")[:DIGEST_BYTES]
            if len(secret) <= REMEMBERED_MAX_CHARS:
                self._digests[secret] = known
        return known

    def label(self, secret: str) -> str:
        """Return what a person sees in a key's place: `…Q2mX#3fa9c1`, the mask and six digits of the digest."""
        if not secret:
            return NO_KEY_LABEL
        if is_masked(secret):
            return secret
        sealed = SEALED.fullmatch(secret)
        return f"{sealed[2] if sealed else mask(secret)}#{self.digest(secret).hex()[:6]}"

    def sealed(self, secret: str) -> str:
        """Return a text that stands for a secret in a record set aside: it has the same digest and label."""
        return f"usage-worker-sealed:{self.digest(secret).hex()}:{mask(secret)}"

    def event_key(self, text: str) -> bytes:
        """Return the 16-byte identity of the record that `text` describes."""
        hashing = self._event.copy()
        hashing.update(_bytes(text))
        return hashing.digest()


def _bytes(text: str) -> bytes:
    """Return what a text is digested as; a lone surrogate, which UTF-8 does not have, is no error."""
    return text.encode("utf-8", "surrogatepass")


def mask(secret: str) -> str:
    """Return `…` and at most the last four characters, none of them if the key is shorter than twelve."""
    return f"…{secret[-4:]}" if len(secret) >= MASK_MIN_LENGTH else "…"


def is_masked(key: str) -> bool:
    """Say whether it is no key but what a fork of the proxy shows of one, or of several that look alike."""
    return MASKED.fullmatch(key) is not None


def is_account(source: str) -> bool:
    """Say whether `source` is an e-mail address or an auth file's name, which may be shown."""
    return ACCOUNT.fullmatch(source) is not None
