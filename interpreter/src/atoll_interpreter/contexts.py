"""All contexts of the sandbox, and the default one of each language."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

import zmq
import zmq.asyncio

from atoll_interpreter.context import Context
from atoll_interpreter.errors import Missing
from atoll_interpreter.languages import normalize
from atoll_interpreter.settings import Settings


class Contexts:
    """`lasting`: the sandbox's own variables, once they are known."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._zmq = zmq.asyncio.Context()
        # Without a limit: what the kernel writes must not be dropped. `Context` stops a kernel that writes too much.
        self._zmq.setsockopt(zmq.RCVHWM, 0)
        self._contexts: dict[str, Context] = {}
        self._defaults: dict[str, str] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self.lasting: Mapping[str, str] = {}

    def list(self) -> list[Context]:
        """All, in the order they were made in."""
        return list(self._contexts.values())

    def get(self, identifier: str) -> Context:
        """Raises Missing."""
        context = self._contexts.get(identifier)
        if context is None:
            raise Missing(f"Context {identifier} not found")
        return context

    async def create(self, language: str | None, cwd: str | None, *, ahead: bool = False) -> Context:
        """A new one; `ahead`: see `Kernel.start`. Raises Invalid (unknown language or directory), KernelFailed."""
        context = Context(str(uuid.uuid4()), normalize(language), cwd or self._settings.home, self._settings, self._zmq)
        await context.start(self.lasting, ahead=ahead)
        self._contexts[context.id] = context
        return context

    async def default(self, language: str | None, *, ahead: bool = False) -> Context:
        """The one of `language`, made at its first use. Raises as `create`."""
        name = normalize(language)
        async with self._starting.setdefault(name, asyncio.Lock()):
            known = self._contexts.get(self._defaults.get(name, ""))
            if known is None:
                known = await self.create(name, None, ahead=ahead)
                self._defaults[name] = known.id
            return known

    async def remove(self, identifier: str) -> None:
        """End it. Raises Missing."""
        context = self.get(identifier)
        del self._contexts[identifier]
        await context.close()

    async def close(self) -> None:
        """End all."""
        contexts = self.list()
        self._contexts.clear()
        await asyncio.gather(*(context.close() for context in contexts))
        self._zmq.destroy(linger=0)
