"""What is left of deleted templates, until nothing needs it, versions that are too many, and the layers that builds
keep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from atolld.control.templatebuilds import WAITING_S, Pins
from atolld.core.build import BuildState, Failure
from atolld.core.template import Build
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import Conflict, NotFound
from atolld.foundation.ids import BuildId
from atolld.storage.templatestore import TemplateRecordStore

log = logging.getLogger("atolld.control")

UNUSED_S = 30 * 24 * 3600.0
NOT_STARTED = "it was not started within a day"


class Leftovers:
    """Removes it. `unused_s`: how long what a sandbox's own definition has built is kept for the next one.
    `versions_kept`: how many versions without a tag a template keeps; None: all. `forget_log`: removes a build's log,
    in a thread."""

    def __init__(
        self,
        store: TemplateRecordStore,
        pins: Pins,
        clock: Clock,
        unused_s: float = UNUSED_S,
        *,
        versions_kept: int | None = None,
        forget_log: Callable[[BuildId], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._pins = pins
        self._clock = clock
        self._unused_s = unused_s
        self._versions_kept = versions_kept
        self._forget_log = forget_log

    async def recover(self) -> None:
        """Keep the layers of every build again: a daemon may have been stopped between a row and a pin."""
        for build in await self._store.pinned():
            await self._pin(build)

    async def collect(self) -> None:
        """Delete versions that are too many, and forget deleted builds that nothing needs any more.

        Raises the first failure, after all were tried.
        """
        failures: list[Exception] = []
        if self._versions_kept is not None:
            for id in await self._store.delete_surplus(self._versions_kept, self._clock.now()):
                log.info("a version without a tag has made way for newer ones", extra={"build_id": id})
        for id in await self._store.removable():
            try:
                await self._remove(id)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def forget_unused(self) -> None:
        """Delete hidden templates that nobody has defined again, or has a sandbox or snapshot of, for a month; builds
        that nobody has started for a day have failed."""
        now = self._clock.now()
        for build in await self._store.interrupted(now - WAITING_S):
            if build.state is BuildState.WAITING:
                await self._fail(build.id, now)
        for id in await self._store.unused(now - self._unused_s):
            try:
                await self._store.delete(id, now)
            except NotFound:
                continue
            log.info("what a definition built was not used for long and is deleted", extra={"template_id": id})
        await self.collect()

    async def _fail(self, id: BuildId, now: float) -> None:
        try:
            await self._store.fail(id, Failure(NOT_STARTED), now)
        except Conflict:
            # It was started, or cancelled, just now.
            return

    async def _remove(self, id: BuildId) -> None:
        build = await self._store.build(id, deleted=True)
        # Before the row: what a daemon leaves when it is stopped in between is removed again, not kept for ever.
        await asyncio.to_thread(self._pins.unpin, id)
        await asyncio.to_thread(self._forget_log, id)
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
