"""What an answer of the proxy that is no success means, and what a connection that fails: errors of the taxonomy.

The proxy's texts are in the `error` field of its answers; forks and reverse proxies have their own.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, cast

import httpx

from worker.cliproxyapi.generations import QUEUE, STATISTICS, UNSET
from worker.cliproxyapi.proxy_settings import ALLOW_REMOTE, SECRET_KEY
from worker.cliproxyapi.tls import distrust, no_tls
from worker.errors import (
    PossibleLossError,
    UpstreamAnswerError,
    UpstreamBanned,
    UpstreamError,
    UpstreamOff,
    UpstreamRefused,
    UpstreamUnreachable,
    UpstreamUntrusted,
)

BAN_S = 30 * 60.0
"""How long the proxy bans an address after five bad keys, where it does not say."""

PASSING = frozenset({429, 502, 503, 504})
NOT_POPPED = frozenset(
    {400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 417, 421, 426, 428, 429, 431, 501, 503, 505, 511}
)
"""What is answered before the queue is read. After any other status it may have been: reverse proxies give up waiting
for the proxy in many words, and the proxy itself may fail after it has read."""

OF_OPENSSL = re.compile(r"\[SSL[^\]]*\] ?| ?\(_ssl\.c:\d+\)")
"""Where in OpenSSL an error was found, which tells nobody anything."""

DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$")


class NotFoundError(UpstreamError):
    """The path is not served by this version of the proxy."""

    unset = False
    """Whether it is served, and what it would tell was never written."""


class PassingError(UpstreamUnreachable):
    """A server error that may pass, and how long it asked to be left alone."""

    def __init__(self, text: str, *, endpoint: str, status: int, retry_after_s: float) -> None:
        super().__init__(text, endpoint=endpoint, status=status)
        self.retry_after_s = retry_after_s


def unreachable(error: httpx.HTTPError, endpoint: str) -> UpstreamUnreachable:
    """Return the error for an endpoint that no answer came from; that it is not trusted is one of its own."""
    untrusted = distrust(error)
    return (
        UpstreamUntrusted(untrusted, endpoint=endpoint)
        if untrusted
        else UpstreamUnreachable(no_tls(error) or say(error), endpoint=endpoint)
    )


def refusal(  # noqa: PLR0911  # one return for each kind of refusal
    endpoint: str, status: int, body: bytes, retry_after: str = ""
) -> UpstreamError:
    """Return the error that an answer other than 200 means (the proxy's texts are in its `error` field)."""
    said = excerpt(body)
    if status == HTTPStatus.UNAUTHORIZED:
        return UpstreamRefused(
            f"{said}. Check the management key: the plain one, not the hash in the proxy's config.yaml. "
            "Not tried again: five bad tries ban this address for 30 minutes.",
            endpoint=endpoint,
            status=status,
        )
    if status == HTTPStatus.FORBIDDEN and "banned" in said:
        wait_s = ban_s(said)
        return UpstreamBanned(
            f"this address is banned for {wait_s:.0f} s more, after too many bad keys (from here or behind the same "
            "reverse proxy). Correct the key, then wait, or restart the proxy.",
            endpoint=endpoint,
            status=status,
            retry_after_s=wait_s,
        )
    if status == HTTPStatus.FORBIDDEN:
        return UpstreamOff(
            f"{said}. Set {ALLOW_REMOTE} and {SECRET_KEY} in the proxy's configuration.",
            endpoint=endpoint,
            status=status,
        )
    if status == HTTPStatus.NOT_FOUND:
        missing = NotFoundError(said, endpoint=endpoint, status=status)
        missing.unset = said == UNSET
        return missing
    if status in PASSING:
        return PassingError(said, endpoint=endpoint, status=status, retry_after_s=_seconds(retry_after))
    if 300 <= status < 400:  # noqa: PLR2004  # redirects
        return UpstreamAnswerError(
            "a redirect, which is not followed: the key goes to the configured host only. Put the final URL there.",
            endpoint=endpoint,
            status=status,
        )
    return UpstreamAnswerError(said, endpoint=endpoint, status=status)


def management_off() -> UpstreamOff:
    """Return the error for a proxy on which no path of the management API is served."""
    return UpstreamOff(
        "the management API is not served here: no management key is set in the proxy, or it runs in Home mode, or "
        "upstream.url has another base path",
        endpoint=STATISTICS,
        status=404,
    )


def may_have_popped(status: int) -> bool:
    """Say whether the queue may have been read before an answer to a pop got this status."""
    return not (300 <= status < 400 or status in NOT_POPPED)  # noqa: PLR2004  # redirects


def possible_loss(why: str) -> PossibleLossError:
    """Return the error for a pop whose answer did not arrive whole."""
    return PossibleLossError(f"the answer did not arrive whole ({why}); records in it may be lost", endpoint=QUEUE)


def ban_s(said: str) -> float:
    """Return the seconds in a text such as `Try again in 29m58s`; half an hour where it has none."""
    duration = DURATION.search(said.rstrip('."} \n'))
    if duration is None or not duration[0]:
        return BAN_S
    hours, minutes, seconds = (float(part or 0) for part in duration.groups())
    return hours * 3600 + minutes * 60 + seconds


def excerpt(body: bytes | bytearray) -> str:
    """Return what an error body says: its `error` field, else its first words."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    said = cast("dict[str, Any]", answer).get("error") if isinstance(answer, dict) else None
    words = said if isinstance(said, str) else re.sub(r"(?:<[^>]*>|\s)+", " ", body.decode("utf-8", "replace")).strip()
    return words[:160] or "an empty answer"


def say(error: httpx.HTTPError) -> str:
    """Return what a failed connection comes to, in words."""
    said = OF_OPENSSL.sub("", str(error))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _seconds(retry_after: str) -> float:
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        return 0.0
