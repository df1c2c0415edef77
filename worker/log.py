"""Logs to stderr: readable on a terminal, JSON lines elsewhere. No event ever carries a payload or a key.

Nor does a text from outside that is in one end a line or steer a terminal: JSON escapes it, and for people it is made
visible.
"""

from __future__ import annotations

import logging
import sys
from typing import cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from worker import safe_text

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def setup(level: str, style: str) -> None:
    """Send structlog and the standard library's loggers to stderr.

    Args:
        level: debug, info, warning or error.
        style: `console`, `json`, or `auto`, which is console on a terminal.
    """
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if console:
        visible = structlog.processors.ExceptionRenderer(_traceback_of)
        rendered = [visible, _make_visible, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    # Libraries speak up from warning on: httpx would otherwise log each URL, Alembic each step.
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[handler], force=True)


def _traceback_of(exc_info: ExcInfo) -> str:
    return safe_text.traceback_of(*exc_info)


def _make_visible(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Leave nothing in an event that ends a line or steers a terminal; a traceback is a marked block already."""
    traceback, stack = event.pop("exception", None), event.pop("stack", None)
    shown = cast("EventDict", safe_text.log_value(event))
    if stack is not None:
        shown["stack"] = safe_text.block(str(stack))
    if traceback is not None:
        shown["exception"] = traceback
    return shown
