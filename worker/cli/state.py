"""What the options before the command said: which configuration holds for this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.config import Config


class State:
    """The configuration file that was named on the command line."""

    file: Path | None = None


def configured() -> Config:
    """Read the configuration and set logging up as it says."""
    from worker import config, log

    found = config.load(State.file)
    log.setup(found.log.level, found.log.format)
    return found
