"""What a pass, an import or a retry comes to."""

from __future__ import annotations

from typing import Literal

import msgspec

from worker.errors import UpstreamBanned, UpstreamRefused, WorkerError


class PassResult(msgspec.Struct, kw_only=True):
    """What a pass came to, counted in records unless said otherwise."""

    upstream: str
    kind: Literal["sync", "import", "retry"] = "sync"
    mode: str | None = None
    pulled: int = 0
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    too_old: int = 0
    """Not taken: records of their time have been dropped, and these may have been among them."""
    unknown_channel: int = 0
    resolved: int = 0
    """Records of earlier passes whose channel was unknown and is known now."""
    possible_loss: int = 0
    """Pops whose answer never arrived whole."""
    replayed: int = 0
    """Journal entries that turned out to be loaded already."""
    statistics_enabled: bool | None = None
    refused: int = 0
    """Journal entries that PostgreSQL takes nothing of though no record is at fault: they stay."""
    journal_entries: int = 0
    journal_bytes: int = 0
    error: str | None = None
    exit_code: int = 0
    retry_after_s: float = 0.0
    """For how long the proxy is to be left alone, since it refuses the key."""

    def failed(self, error: WorkerError) -> None:
        """Note an error; the first one decides the exit code."""
        self.error = f"{self.error}; {error}" if self.error else str(error)
        self.exit_code = self.exit_code or error.exit_code
        if isinstance(error, (UpstreamRefused, UpstreamBanned)):
            self.retry_after_s = error.retry_after_s
