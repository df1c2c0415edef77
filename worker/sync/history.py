"""Snapshot or Home → database: what can be asked for again, and so goes past the journal."""

from __future__ import annotations

import uuid
from functools import partial

from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.answer_errors import NotFoundError, management_off
from worker.cliproxyapi.generations import SNAPSHOT
from worker.db import database
from worker.db.session import SHORT
from worker.errors import JournalError, UpstreamAnswerError, UpstreamError, UpstreamUnsupported
from worker.loading.load import Arrival, Loader
from worker.storage import upstreams
from worker.sync.background import Overlap
from worker.sync.credentials import MissingCredentials
from worker.sync.home import HomeReader
from worker.sync.queue import PassContext


def load_history(loader: Loader, missing: MissingCredentials, context: PassContext, *, everything: bool) -> None:
    """Load what the proxy's history has more than last time, or as much as there is time for.

    Args:
        loader: what stores it.
        missing: asks for credentials that records name and nobody has listed.
        context: the pass; its upstream's mode says which kind of history is meant.
        everything: look for changes in all of Home's history, not only in its latest hours.

    Raises:
        UpstreamError: there is no such history, or it cannot be read.
    """
    try:
        if context.upstream.mode == "home":
            context.result.mode = "home"
            HomeReader(loader, missing, context).load(everything=everything)
        else:
            _load_snapshot(loader, missing, context)
    except NotFoundError as e:
        raise not_offered(context, e) from e


def _load_snapshot(loader: Loader, missing: MissingCredentials, context: PassContext) -> None:
    target = loader.target
    with database.transaction(target.engine, SHORT) as connection:
        cursors = upstreams.snapshot_cursors(connection, target.upstream_id)
    try:
        with context.source.snapshot(context.journal.folder) as body, Overlap() as loading:
            context.result.mode = "snapshot"
            for decoded in decode.decode_snapshot(body, target.keyring, cursors):
                if context.stopping.is_set():
                    return
                missing.ask_for(context.source, decoded.records)
                batch = loader.prepare(decoded)
                loading.begin(partial(loader.commit, Arrival(uuid.uuid4().hex), batch, context.result))
                context.heartbeat()
    except decode.BadValueError as e:
        raise UpstreamAnswerError(str(e), endpoint=SNAPSHOT, status=200) from e
    except OSError as e:
        raise JournalError(f"the history has no place in {context.journal.folder}: {e.strerror}") from e


def not_offered(context: PassContext, error: NotFoundError) -> UpstreamError:
    """Return what a 404 means where usage was asked for."""
    if context.result.statistics_enabled is None:
        return management_off()
    version = f" (it says {context.source.version})" if context.source.version else ""
    if context.upstream.mode == "home":
        what = f'this is no CLIProxyAPIHome{version}: it keeps no usage records. Set upstream.mode to "auto".'
    else:
        what = (
            f"this proxy{version} does not offer it. Usage is read over the queue from v6.10.8 on and as a snapshot up "
            "to v6.9.49; v6.10.0 to v6.10.7 offer neither over HTTP: update the proxy."
        )
    return UpstreamUnsupported(what, endpoint=error.endpoint, status=404)
