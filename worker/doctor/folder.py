"""The configuration and the data folder: where answers are kept before the database has them."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from worker.config import Config, Upstream
from worker.doctor.finding import Finding, error, ok, warning
from worker.errors import ConfigError, JournalError
from worker.sync.journal import Journal


def data_dir(config: Config) -> Finding:
    """See whether the data folder can be written, and what an earlier worker, perhaps another account's, left in it."""
    journal = config.data_dir / "journal"
    inside = [config.data_dir / "refused", journal, *(journal / upstream.name for upstream in config.upstream)]
    for folder in [_nearest(config.data_dir), *filter(_is_there, inside)]:
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as e:
            what = f"{folder} cannot be written ({e.strerror}), so no proxy was asked"
            remedy = "Give it to the account that runs the worker, or set data_dir (WORKER_DATA_DIR) to another folder."
            return error("data_dir", ConfigError, what, remedy)
    return ok("data_dir", f"{config.data_dir} can be written")


def others(config: Config, writable: Finding) -> list[Finding]:
    """Make the checks for which the data folder must be there."""
    return [disk_space(config)] if writable.level == "ok" else []


def disk_space(config: Config) -> Finding:
    """Hold the free space against what the journal may grow to."""
    free, limit = shutil.disk_usage(_nearest(config.data_dir)).free, config.journal.max_bytes
    used = sum(
        _journal(config, upstream).backlog()[1] for upstream in config.upstream if _has_journal(config, upstream)
    )
    what = f"{_mib(free)} are free; the journal may grow to {_mib(limit)}"
    if free + used < limit:
        return warning("disk_space", what, "Make room on the disk of data_dir, or lower journal.max_bytes.")
    return ok("disk_space", what)


def configured(config: Config) -> list[Finding]:
    """See whether there is a proxy to ask."""
    if not config.upstream:
        remedy = "Set WORKER_UPSTREAM_URL and WORKER_UPSTREAM_KEY, or write an [[upstream]] table."
        return [error("upstreams_configured", ConfigError, "no upstream is configured", remedy)]
    names = ", ".join(upstream.name for upstream in config.upstream)
    return [ok("upstreams_configured", names)]


def journal(config: Config, upstream: Upstream) -> Finding:
    """See whether the journal has room, and every file in it can be read."""
    if not _has_journal(config, upstream):
        return ok("journal", "it is empty", upstream.name)
    kept = _journal(config, upstream)
    entries, size = kept.backlog()
    if kept.is_full():
        what = f"it is full ({entries} answers wait, {_mib(size)}): nothing is pulled any more"
        remedy = "Bring the database back, or raise journal.max_bytes."
        return error("journal", JournalError, what, remedy, upstream.name)
    if damaged := kept.damaged():
        what = f"{len(damaged)} of its files are damaged, such as {damaged[0].name}"
        remedy = "Load what can be read of each with `worker import`, then remove it."
        return warning("journal", what, remedy, upstream.name)
    if unread := kept.unread():
        what = f"{len(unread)} of its files could not be read whole, such as {unread[0].name}"
        remedy = "They stay as they came: a version that can read them loads them. See the log for why."
        return warning("journal", what, remedy, upstream.name)
    return ok("journal", f"{entries} answers wait in it" if entries else "it is empty", upstream.name)


def _has_journal(config: Config, upstream: Upstream) -> bool:
    return _is_there(config.data_dir / "journal" / upstream.name)  # opening it would make it


def _journal(config: Config, upstream: Upstream) -> Journal:
    return Journal(config.data_dir, upstream.name, config.journal.max_bytes)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest above it that is there: where it will be made."""
    return next(path for path in (folder, *folder.parents) if _is_there(path))


def _is_there(path: Path) -> bool:
    with suppress(OSError):  # who may not look is told by trying to write
        return path.exists()
    return False


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
