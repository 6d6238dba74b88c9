"""The daemon's log: one JSON object a line, or text for a terminal; with the request's and the sandbox's id.

Code logs through the standard library with `extra={...}` for fields. Keys, tokens, environment values and file contents
are never given to it; the last processor is only a net below that rule.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal

import structlog

from atolld.api.entry import current_request

REDACTED = "[redacted]"
_SECRET = re.compile(r"\b(e2b_|atoll_)[0-9a-f]{20,}")
_SECRET_NAMES = re.compile(r"token|secret|password|authorization|api_?key|^envs?$", re.IGNORECASE)

EventDict = MutableMapping[str, Any]


def to_file(path: Path, max_bytes: int) -> logging.Handler:
    """A handler that appends to `path`; at `max_bytes` the file becomes `<path>.1` and a new one begins."""
    return RotatingFileHandler(path, maxBytes=max_bytes, backupCount=1, encoding="utf-8", errors="backslashreplace")


def configure(format: Literal["auto", "json", "console"], level: str, handler: logging.Handler | None = None) -> None:
    """Send every logger's records to `handler`, default stderr; `auto` is text on a terminal and JSON elsewhere."""
    terminal = handler is None and sys.stderr.isatty()
    console = format == "console" or (format == "auto" and terminal)
    renderer: Any = structlog.dev.ConsoleRenderer(colors=terminal) if console else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _bind_request,
        structlog.processors.format_exc_info,
        redact,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _rename, renderer],
    )
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn.access", "sqlalchemy.engine", "aiosqlite", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Take secrets out: fields whose name says so, and anything that looks like a key of ours."""
    for name, value in list(event.items()):
        if _SECRET_NAMES.search(name):
            event[name] = REDACTED
        elif isinstance(value, str):
            event[name] = _SECRET.sub(lambda found: found[1] + REDACTED, value)
    return event


def _bind_request(_logger: object, _method: str, event: EventDict) -> EventDict:
    request_id = current_request.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


def _rename(_logger: object, _method: str, event: EventDict) -> EventDict:
    event["message"] = event.pop("event", "")
    return event
