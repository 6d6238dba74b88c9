"""From an answer that is not a success to an error of the tree. Pure: values in, an exception out.

Three forms arrive: the daemon's `{"error": {"code": "...", "message": "..."}}`, the agent's Connect form
`{"code": "not_found", "message": "..."}` and the agent's HTTP form `{"code": 404, "message": "..."}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from atoll import _errors as errors
from atoll._errors import AtollError

_BY_CODE: dict[str, type[AtollError]] = {
    kind.code: kind
    for kind in errors.all_error_types()
    if kind not in (AtollError, errors.OutputLost, errors.CommandFailed, errors.ForkFailed, errors.BuildError)
}

# Connect's names that differ from ours. `unauthenticated` from an agent means an unknown user of the sandbox: the
# key was accepted by then.
_BY_CONNECT_CODE: dict[str, type[AtollError]] = _BY_CODE | {
    "unauthenticated": errors.InvalidArgument,
    "resource_exhausted": errors.LimitExceeded,
    "aborted": errors.Conflict,
    "canceled": errors.Unavailable,
    "out_of_range": errors.InvalidArgument,
    "unknown": errors.Internal,
    "data_loss": errors.Internal,
}

_BY_STATUS: dict[int, type[AtollError]] = {
    400: errors.InvalidArgument,
    401: errors.Unauthenticated,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    405: errors.InvalidArgument,
    409: errors.Conflict,
    413: errors.InvalidArgument,
    416: errors.InvalidArgument,
    422: errors.InvalidArgument,
    429: errors.LimitExceeded,
    501: errors.Unimplemented,
    502: errors.GuestUnreachable,
    503: errors.Unavailable,
    504: errors.Timeout,
    507: errors.NoSpace,
}

_FULL_DISK = re.compile("no space left|quota exceeded", re.IGNORECASE)

MAX_MESSAGE_CHARS = 2000


def error_from_response(status: int, body: bytes, request_id: str | None = None) -> AtollError:
    """The error that an answer with this status and body stands for."""
    parsed = _parse_object(body)
    inner = parsed.get("error")
    if isinstance(inner, dict):
        return _from_daemon(status, inner, request_id)
    message = _text(parsed.get("message")) or _text(parsed.get("detail")) or _plain(status, body)
    code = parsed.get("code")
    if isinstance(code, str) and code in _BY_CONNECT_CODE:
        return _kind_of_connect(code, message)(message, request_id=request_id)
    return _kind_of_status(status)(message, request_id=request_id)


def error_from_end_frame(error: Mapping[str, object]) -> AtollError:
    """The error in a Connect stream's last frame."""
    code = _text(error.get("code"))
    message = _text(error.get("message")) or code or "the stream ended with an error"
    return _kind_of_connect(code, message)(message)


def error_from_daemon(inner: Mapping[str, object]) -> AtollError:
    """The error that `{"code": ..., "message": ...}` inside an answer of the daemon stands for."""
    return _from_daemon(500, inner, None)


class DaemonNotFound(errors.NotFound):
    """Said by the daemon itself, not by an agent: on a sandbox's own paths it means that the sandbox is gone."""


_REASONS = {
    "killed": "it was killed",
    "expired": "its timeout was over",
    "out_of_memory": "it ran out of memory",
    "crashed": "it crashed",
    "create_failed": "it never came up",
    "shutdown": "the daemon was stopped with all its sandboxes",
}


def sandbox_ended(sandbox_id: str, events: object, request_id: str | None) -> errors.SandboxEnded:
    """The error for a sandbox that did exist. `events`: what the daemon tells of it, if anything."""
    reason, message = _end_of(events)
    why = _REASONS.get(reason, "")
    text = f"sandbox {sandbox_id} is not running any more" + (f": {why}" if why else "")
    if message:
        text += f" ({message})"
    return errors.SandboxEnded(text, request_id=request_id, details={"end_reason": reason} if reason else None)


def _end_of(events: object) -> tuple[str, str]:
    items = events.get("items") if isinstance(events, dict) else None
    for event in reversed(items if isinstance(items, list) else []):
        if isinstance(event, dict) and event.get("type") == "sandbox.killed" and isinstance(event.get("data"), dict):
            data = event["data"]
            return _text(data.get("reason") or data.get("end_reason")), _text(data.get("message"))
    return "", ""


def _from_daemon(status: int, inner: Mapping[str, object], request_id: str | None) -> AtollError:
    kind = _BY_CODE.get(_text(inner.get("code"))) or _kind_of_status(status)
    if kind is errors.NotFound:
        kind = DaemonNotFound
    message = _text(inner.get("message")) or f"the daemon answered HTTP {status}"
    details = inner.get("details")
    given_id = _text(inner.get("request_id")) or request_id
    return kind(message, request_id=given_id, details=details if isinstance(details, dict) else None)


def _kind_of_connect(code: str, message: str) -> type[AtollError]:
    # Connect has one code for everything that runs out; a full disk is what callers act upon.
    if code == "resource_exhausted" and _FULL_DISK.search(message):
        return errors.NoSpace
    return _BY_CONNECT_CODE.get(code, errors.Internal)


def _kind_of_status(status: int) -> type[AtollError]:
    return _BY_STATUS.get(status, errors.InvalidArgument if 400 <= status < 500 else errors.Internal)


def _parse_object(body: bytes) -> Mapping[str, object]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _plain(status: int, body: bytes) -> str:
    text = body[:MAX_MESSAGE_CHARS].decode(errors="replace").strip()
    # What a program in the sandbox, or a proxy, says; a page or a piece of JSON is no sentence.
    is_sentence = text.isprintable() and not text.startswith(("<", "{", "["))
    return f"the answer was HTTP {status}: {text}" if text and is_sentence else f"the answer was HTTP {status}"


def _text(value: object) -> str:
    return value[:MAX_MESSAGE_CHARS] if isinstance(value, str) else ""
