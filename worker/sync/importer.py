"""The two other ways in: files on disk, and records that were set aside. Same pipeline, same guarantees."""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from sqlalchemy.engine import Engine

from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.unpack import unpacked
from worker.config import Config
from worker.corrections import resolve_again
from worker.db import database, migrations
from worker.errors import UsageError
from worker.loading.load import Arrival, Batch, Loader, open_loader
from worker.loading.pass_result import PassResult
from worker.storage import quarantine
from worker.sync.background import Overlap
from worker.sync.run import finalize, track_run

SNAPSHOT_MARK = re.compile(rb'"(?:apis|usage)"\s*:')
HEAD_BYTES = 1 << 16
PAGE_RECORDS = 500
FILE_MAX_BYTES = 1 << 40
"""A file is as long as it is: this is only to end what unpacks without end."""

Progress = Callable[[int], None]


def import_files(
    config: Config, engine: Engine, upstream: str, files: Sequence[Path], progress: Progress | None = None
) -> PassResult:
    """Load snapshots, export files, queue arrays or JSON lines from disk, plain or gzipped.

    Args:
        config: for time zone and pepper.
        engine: the database.
        upstream: the proxy the files come from: the same name as for its passes, or records count twice.
        files: what to load.
        progress: is told the number of records after each batch.

    Raises:
        UsageError: a file cannot be read, or holds no usage. Files before it are loaded.
    """
    result = PassResult(upstream=upstream, kind="import", mode="file")
    migrations.upgrade(engine)
    loader = open_loader(config, engine, upstream)

    def work() -> None:
        for path in files:
            try:
                with Overlap() as loading:
                    for decoded in _read_file(path):
                        loading.begin(partial(_commit_part, loader, loader.prepare(decoded), result, progress))
            except (OSError, EOFError, decode.BadValueError) as e:
                raise UsageError(f"{path}: {e}") from e
        # A pass that learned more meanwhile has looked at what was stored by then; the rest is up to us.
        if loader.names.relearn():
            result.resolved = sum(resolve_again.resolve_again(loader).moves.values())

    track_run(loader, None, result, work)
    return finalize(result)


def _commit_part(loader: Loader, batch: Batch, result: PassResult, progress: Progress | None) -> None:
    loader.commit(Arrival(uuid.uuid4().hex), batch, result)
    if progress is not None:
        progress(result.pulled)


def retry_quarantined(config: Config, engine: Engine, ids: Sequence[int]) -> list[PassResult]:
    """Read records in quarantine again, with what this version knows, and load those that can be read now.

    Args:
        config: for time zone and pepper.
        engine: the database.
        ids: which ones; all when empty.

    Returns:
        One pass for each upstream that has any; `quarantined` counts those that stay.
    """
    migrations.schema_version(engine)  # refuses one that is newer than this program
    wanted = ids or None
    with database.transaction(engine) as connection:
        upstreams = quarantine.quarantined_upstreams(connection, wanted)
    return [_retry(open_loader(config, engine, upstream), wanted) for upstream in upstreams]


def _retry(loader: Loader, ids: Sequence[int] | None) -> PassResult:
    result = PassResult(upstream=loader.target.upstream, kind="retry")

    def work() -> None:
        after = 0
        while True:
            with database.transaction(loader.target.engine) as connection:
                found = quarantine.quarantined(
                    connection, limit=PAGE_RECORDS, ids=ids, upstream=loader.target.upstream, after=after
                )
            if not found:
                return
            for kept in found:
                _retry_one(loader, kept, result)
            after = found[-1].quarantine_id

    track_run(loader, None, result, work)
    return finalize(result)


def _retry_one(loader: Loader, kept: quarantine.Quarantined, result: PassResult) -> None:
    record = decode.decode_quarantined(kept.payload) if kept.retryable else None
    if record is None:
        result.pulled += 1
        result.quarantined += 1
        return
    batch = decode.Decoded(records=[record], bad=[])
    loader.load(uuid.uuid4().hex, batch, result, released=[kept.quarantine_id])


def _read_file(path: Path) -> Iterator[decode.Decoded]:
    """Read one file, or what a pipe gives; `-` is the standard input.

    Raises:
        BadValueError: it cannot be read to its end; what could be has been handed on.
    """
    with ExitStack() as stack:
        raw = sys.stdin.buffer if str(path) == "-" else stack.enter_context(path.open("rb"))
        found = stack.enter_context(unpacked(raw, encoding="", limit_bytes=FILE_MAX_BYTES))
        head = bytes(found.body[:HEAD_BYTES])
        snapshot = head.lstrip().startswith(b"{") and SNAPSHOT_MARK.search(head)
        fault = found.fault
        read = decode.decode_snapshot(found.body) if snapshot else decode.decode_answer(found.body, lines_apart=True)
        for decoded in read:
            yield decoded
            fault = fault or decoded.fault
        if fault:
            raise decode.BadValueError(fault)
