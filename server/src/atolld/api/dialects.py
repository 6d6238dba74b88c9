"""Which application answers a request, by its path, and in which form faults before it are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from typing import Any

from atolld.api.app import create_app
from atolld.api.e2b.app import create_e2b_app
from atolld.api.e2b.builds import max_body_bytes
from atolld.api.e2b.options import E2bOptions
from atolld.api.e2b.templatefiles import is_upload
from atolld.api.errors import Renderer, render, render_e2b
from atolld.api.native.archives import is_stream
from atolld.api.native.builds import IMAGE_PATH, is_build_stream
from atolld.api.native.images import PULL_PATH, is_image_stream
from atolld.api.services import Services
from atolld.api.streams import MAX_BODY_BYTES
from atolld.foundation.units import MIB

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

# A Dockerfile of a megabyte as JSON, with heredocs and secrets.
MAX_BUILD_BYTES = 8 * MIB
_NATIVE_PATHS = frozenset(("/health", "/metrics", "/v1"))


def _is_stream(method: str, path: str) -> bool:
    return is_stream(method, path) or is_image_stream(method, path) or is_build_stream(method, path)


def _max_body_bytes(method: str, path: str) -> int:
    builds = path == IMAGE_PATH or (path.startswith("/v1/templates/") and "/builds/" in path)
    return MAX_BUILD_BYTES if method == "POST" and builds else MAX_BODY_BYTES


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API. `creates`: paths whose POST makes a sandbox that nobody knows of when the client goes away.
    `is_stream(method, path)`: requests whose bodies are not read ahead, however long they are. `endless`: paths whose
    POST is answered over a long time, until its client goes away. `max_body_bytes(method, path)`: of those that are."""

    app: App
    render: Renderer = render
    creates: frozenset[str] = frozenset()
    is_stream: Callable[[str, str], bool] = lambda method, path: False
    endless: frozenset[str] = frozenset()
    max_body_bytes: Callable[[str, str], int] = lambda method, path: MAX_BODY_BYTES


class Dialects:
    """The native API below `/v1`, E2B's everywhere else."""

    def __init__(self, services: Services, e2b: E2bOptions) -> None:
        self._native = Dialect(
            create_app(services),
            render,
            frozenset(("/v1/sandboxes",)),
            _is_stream,
            frozenset((PULL_PATH, IMAGE_PATH)),
            _max_body_bytes,
        )
        e2b_paths = frozenset(("/sandboxes", "/v2/sandboxes"))
        self._e2b = Dialect(
            create_e2b_app(services, e2b), render_e2b, e2b_paths, is_upload, max_body_bytes=max_body_bytes
        )

    def of(self, path: str) -> Dialect:
        """The dialect of a path."""
        return self._native if path.startswith("/v1/") or path in _NATIVE_PATHS else self._e2b
