"""The proxy's credentials: asked for now and then, and once more where records name one that was never seen."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from worker.cliproxyapi import credential_lists, directory
from worker.cliproxyapi.client import ProxyClient
from worker.cliproxyapi.directory import Directory
from worker.cliproxyapi.payload import Record
from worker.clock import now
from worker.db import database
from worker.db.retry import run_transaction
from worker.db.session import SHORT
from worker.errors import RefusedError, UpstreamError
from worker.loading.load import Loader
from worker.storage import credentials, dimensions
from worker.storage.rows import Origin

log: structlog.stdlib.BoundLogger = structlog.get_logger()
MISS_PAUSE_S = 60.0


def refresh(loader: Loader, source: ProxyClient, *, keep: bool = True) -> None:
    """Ask the proxy for its credentials and make the answers the directory; without `keep`, in memory only.

    An endpoint that does not answer, or answers something else, keeps what it listed last.

    Raises:
        UpstreamRefused, UpstreamBanned: the key is wrong, or the address banned: nothing more may be asked.
    """
    target = loader.target
    listed, served = credential_lists.ask(source, target.keyring, loader.names.directory.endpoints)
    if not served:
        return
    found = [credential for those in listed.values() for credential in those]

    def save(connection: database.Connection) -> Directory:
        if keep:
            credentials.save_credentials(connection, target.upstream_id, list(listed), found, now())
            return directory.build(*credentials.load_credentials(connection, target.upstream_id))
        configured, past = credentials.load_credentials(connection, target.upstream_id)
        current = [*found, *(c for c in configured if c.endpoint not in listed)]
        return directory.build(current, [*past, *configured])

    try:
        loader.use(run_transaction(target.engine, save))
    except RefusedError as e:  # whatever is in it, it must not keep usage from being pulled
        log.warning("directory.kept", endpoint=", ".join(listed), reason=str(e))


class MissingCredentials:
    """What records name and nobody has listed: it may be brand new, so the proxy is asked once more.

    At most once a minute, and never twice for the same credential: what stays unknown then is unknown.
    """

    def __init__(self, loader: Loader) -> None:
        """Nothing has been missed yet."""
        self._loader = loader
        self._missed: set[Origin] = set()
        self._forced_at = -MISS_PAUSE_S

    def ask_for(self, source: ProxyClient, records: Sequence[Record]) -> None:
        """Ask the proxy for its credentials where these records name one that was never seen."""
        loader = self._loader
        missing = loader.names.unknown_origins({r.labels for r in records}) - self._missed
        self._missed |= missing
        if not missing or time.monotonic() - self._forced_at < MISS_PAUSE_S:
            return
        with database.transaction(loader.target.engine, SHORT) as connection:
            seen = dimensions.known_origins(connection, loader.target.upstream_id, missing)
        if missing <= seen:
            return
        self._forced_at = time.monotonic()
        log.info("directory.refreshed_on_miss", credentials=len(missing - seen))
        try:
            refresh(loader, source)
        except UpstreamError as e:  # the records are here and must be loaded all the same
            log.warning("directory.kept", endpoint=e.endpoint, reason=str(e))
