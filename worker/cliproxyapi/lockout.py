"""A refused key is not tried again: five tries ban the address, and a schedule makes them one by one.

What the proxy said is kept in a small file until the key or the URL changes here, or half an hour has gone by.
"""

from __future__ import annotations

import hmac
import os
import secrets
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from worker.cliproxyapi.generations import STATISTICS
from worker.config import Upstream
from worker.errors import UpstreamBanned, UpstreamRefused
from worker.json_errors import NOT_JSON

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _Standing(msgspec.Struct, frozen=True):
    salt: str
    mark: str
    since: datetime
    until: datetime
    reason: str


class Refusals:
    """What the proxy last said against this worker's key, if anything."""

    def __init__(self, data_dir: Path, upstream: Upstream) -> None:
        """Look at the file of one upstream; it need not be there."""
        self._path = data_dir / "refused" / f"{upstream.name}.json"
        self._credentials = f"{upstream.url}\0{upstream.key.get_secret_value()}"

    def check(self, now: datetime) -> None:
        """Raise UpstreamRefused while the same key at the same URL is still refused."""
        try:
            standing = msgspec.json.decode(self._path.read_bytes(), type=_Standing)
        except (OSError, *NOT_JSON):
            return
        # Before its begin the clock has been set back: for how long it still stands nobody knows. Asking once tells.
        if standing.since <= now < standing.until and hmac.compare_digest(standing.mark, self._mark(standing.salt)):
            raise UpstreamRefused(
                f"not asked before {standing.until:%H:%M} UTC, since it said: {standing.reason} A changed key or URL "
                f"is tried at once; so is this one when {self._path} is removed.",
                endpoint=STATISTICS,
                retry_after_s=(standing.until - now).total_seconds(),
            )

    def remember(self, error: UpstreamRefused | UpstreamBanned, now: datetime) -> None:
        """Keep a refusal until asking again does no harm."""
        pause = timedelta(seconds=error.retry_after_s)
        salt = secrets.token_hex(16)
        standing = _Standing(salt, self._mark(salt), now, now + pause, str(error))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123  # it is a descriptor, opened with its mode
                file.write(msgspec.json.encode(standing))
        except OSError as e:  # the service rests by itself; only a process that begins anew would ask again
            log.warning("refusal.not_kept", file=str(self._path), reason=e.strerror)

    def forget(self) -> None:
        """The key was taken: nothing stands against it."""
        self._path.unlink(missing_ok=True)

    def _mark(self, salt: str) -> str:
        return hmac.digest(salt.encode(), self._credentials.encode(), "sha256").hex()
