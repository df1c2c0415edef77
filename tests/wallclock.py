"""A wall clock for other processes that a test may set."""

from __future__ import annotations

import importlib.util
from pathlib import Path


class Clock:
    """The wall clock of a process: a preloaded library answers for it. The monotonic clock stays the kernel's."""

    def __init__(self, folder: Path) -> None:
        """Keep what it says in a file of `folder`; a process goes by it that has `environment`."""
        found = importlib.util.find_spec("libfaketime")
        assert found is not None, "the developers' lock brings libfaketime"
        assert found.origin is not None
        (library,) = Path(found.origin).parent.rglob("libfaketime.so.1")
        self._file = folder / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Let it be so much ahead, or behind: `-2h`, `+3650d`, `+0`."""
        new = self._file.with_suffix(".new")
        new.write_text(offset)
        new.rename(self._file)
