"""The client's connection of one request, for what ASGI has no message for."""

from __future__ import annotations

import asyncio
from typing import Protocol

from atolld.gateway.relay import Ended

EXTENSION = "atoll.wire"


class Wire(Protocol):
    """Found in the scope's extensions under `EXTENSION`."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        ...

    @property
    def body_is_here(self) -> bool:
        """Whether `receive` would return at once: some of the body has come, or there is no more."""
        ...

    def cut(self) -> None:
        """Close so that the client sees its answer was cut short."""
        ...

    def take_over(self, head: bytes) -> tuple[asyncio.Transport, bytes, Ended]:
        """Write `head` as the answer and give the raw connection away, as `relay` takes it."""
        ...
