"""What the options before the command said: which configuration holds for this process."""

from __future__ import annotations

from pathlib import Path

from worker import config, log


class State:
    """The configuration file that was named on the command line."""

    file: Path | None = None


def configured() -> config.Config:
    """Read the configuration and set logging up as it says."""
    found = config.load(State.file)
    log.setup(found.log.level, found.log.format)
    return found
