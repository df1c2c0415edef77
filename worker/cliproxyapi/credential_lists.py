"""Every list of credentials that the proxy serves, asked for by the generation of its API.

Which lists there are, the proxy tells itself: v0 by its settings, v8 in one answer. One that cannot be read keeps what
it listed last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import structlog

from worker.cliproxyapi import directory
from worker.cliproxyapi.client import ProxyClient
from worker.cliproxyapi.directory import ENDPOINTS, KEY_ENDPOINTS, BadMappingError, Credential
from worker.cliproxyapi.generations import AUTH_FILES, KEY_GROUPS, V8
from worker.cliproxyapi.key_groups import parse_groups
from worker.errors import UpstreamBanned, UpstreamError, UpstreamRefused
from worker.secret import Keyring

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Listed(NamedTuple):
    """What the proxy lists."""

    credentials: dict[str, list[Credential]]
    """By endpoint, as v0 calls it; one that could not be read is not there."""
    served: bool
    """False where no list is served at all: an adapter, or management is off. That is no empty directory."""


def ask(source: ProxyClient, keyring: Keyring, known: Iterable[str]) -> Listed:
    """Ask for every list.

    Args:
        source: the proxy; its generation has been found out.
        keyring: digests keys.
        known: endpoints that listed something before: what they no longer serve is no longer configured.

    Raises:
        UpstreamRefused, UpstreamBanned: the key is wrong, or the address banned: nothing more may be asked.
    """
    found = _Lists(source, keyring)
    if source.generation is V8:
        found.one_by_one([AUTH_FILES])
        found.groups({*KEY_ENDPOINTS, *known} - {AUTH_FILES})
    else:
        found.one_by_one(dict.fromkeys([*ENDPOINTS, *known, *_told(source)]))
    return Listed(found.credentials, found.served)


def _told(source: ProxyClient) -> Iterator[str]:
    """Yield the lists of keys that the proxy's settings name; none where they cannot be read."""
    try:
        yield from filter(directory.is_key_list, source.listed_names())
    except (UpstreamRefused, UpstreamBanned):
        raise
    except UpstreamError as e:
        log.debug("directory.lists_not_told", endpoint=e.endpoint, reason=str(e))


class _Lists:
    """What has been listed so far."""

    def __init__(self, source: ProxyClient, keyring: Keyring) -> None:
        self._source, self._keyring = source, keyring
        self.credentials: dict[str, list[Credential]] = {}
        self.served = False

    def one_by_one(self, endpoints: Iterable[str]) -> None:
        """Ask each list for itself."""
        for endpoint in endpoints:
            answered, body = self._answer(endpoint)
            if not answered:
                continue
            try:
                self._take(endpoint, *(directory.parse(endpoint, body, self._keyring) if body is not None else ([], 0)))
            except BadMappingError as e:
                _kept(endpoint, e)

    def groups(self, known: set[str]) -> None:
        """Ask for the groups of keys of all providers; one that is not among them has none."""
        answered, body = self._answer(KEY_GROUPS)
        if not answered:
            return
        try:
            listed, unread = parse_groups(body, self._keyring) if body is not None else ({}, [])
        except BadMappingError as e:
            _kept(KEY_GROUPS, e)
            return
        for endpoint in unread:
            _kept(endpoint, BadMappingError("its groups cannot be read"))
        for endpoint in {**dict.fromkeys(sorted(known)), **listed}.keys() - set(unread):
            self._take(endpoint, *listed.get(endpoint, ([], 0)))

    def _answer(self, endpoint: str) -> tuple[bool, bytes | None]:
        """Return whether a list was answered, and the answer, None where it is not served."""
        try:
            body = self._source.mapping(endpoint)
        except (UpstreamRefused, UpstreamBanned):
            raise
        except UpstreamError as e:
            _kept(endpoint, e)
            return False, None
        self.served = self.served or body is not None
        return True, body

    def _take(self, endpoint: str, credentials: list[Credential], skipped: int) -> None:
        self.credentials[endpoint] = credentials
        if skipped:
            log.warning("directory.entries_skipped", endpoint=endpoint, entries=skipped)


def _kept(endpoint: str, error: Exception) -> None:
    log.warning("directory.kept", endpoint=endpoint, reason=str(error))
