"""What is left of deleted templates, until nothing needs it, and the layers that builds keep."""

from __future__ import annotations

import asyncio
import logging

from atolld.control.templatebuilds import Pins
from atolld.core.template import Build
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import Conflict, NotFound
from atolld.foundation.ids import BuildId
from atolld.storage.templatestore import TemplateRecordStore

log = logging.getLogger("atolld.control")

UNUSED_S = 30 * 24 * 3600.0


class Leftovers:
    """Removes it. `unused_s`: how long what a sandbox's own definition has built is kept for the next one."""

    def __init__(self, store: TemplateRecordStore, pins: Pins, clock: Clock, unused_s: float = UNUSED_S) -> None:
        self._store = store
        self._pins = pins
        self._clock = clock
        self._unused_s = unused_s

    async def recover(self) -> None:
        """Keep the layers of every build again: a daemon may have been stopped between a row and a pin."""
        for build in await self._store.pinned():
            await self._pin(build)

    async def collect(self) -> None:
        """Forget deleted builds that nothing needs any more. Raises the first failure, after all were tried."""
        failures: list[Exception] = []
        for id in await self._store.removable():
            try:
                await self._remove(id)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def forget_unused(self) -> None:
        """Delete hidden templates that nobody has defined again, or has a sandbox or snapshot of, for a month."""
        now = self._clock.now()
        for id in await self._store.unused(now - self._unused_s):
            try:
                await self._store.delete(id, now)
            except NotFound:
                continue
            log.info("what a definition built was not used for long and is deleted", extra={"template_id": id})
        await self.collect()

    async def _remove(self, id: BuildId) -> None:
        build = await self._store.build(id, deleted=True)
        # Before the row: what a daemon leaves when it is stopped in between is removed again, not kept for ever.
        await asyncio.to_thread(self._pins.unpin, id)
        crash_point("template.after_unpin")
        try:
            await self._store.remove(id)
        except Conflict:
            # A sandbox was made of a snapshot of it just now.
            if build is not None:
                await self._pin(build)

    async def _pin(self, build: Build) -> None:
        if build.built is None:
            return
        try:
            await asyncio.to_thread(self._pins.pin, build.id, build.built.layers)
        except (NotFound, OSError) as error:
            log.error("layers of build %s cannot be kept: %s", build.id, error, extra={"build_id": build.id})
