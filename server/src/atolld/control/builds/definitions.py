"""Environments that are defined where they are used: built when they are first wanted, named by what is in them.

The same definition gives the same template, in no list and without a name of the caller's; nobody has to remove it by
name, since another definition is another template.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from weakref import WeakValueDictionary

from atolld.control.builds.failing import failure_of
from atolld.control.builds.records import BuildRecords
from atolld.control.builds.stages import Tell
from atolld.control.builds.steps import Order
from atolld.control.builds.work import BuildWork
from atolld.core.build import BuildSpec, Built, LogEntry, Plan
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.aio import cancel_and_wait, spawn, to_the_end
from atolld.foundation.clock import Clock
from atolld.foundation.ids import ProjectId
from atolld.images.registry import Credentials

PREFIX = "image-"


class Definitions:
    """Builds them."""

    def __init__(self, records: BuildRecords, work: BuildWork, clock: Clock) -> None:
        self._records = records
        self._work = work
        self._clock = clock
        self._under_way: set[asyncio.Task[tuple[TemplateRecord, Build]]] = set()
        # Forgotten with their last holder.
        self._naming: WeakValueDictionary[tuple[ProjectId, str], asyncio.Lock] = WeakValueDictionary()

    async def build(
        self,
        project_id: ProjectId,
        plan: Plan,
        spec: BuildSpec,
        *,
        credentials: Credentials | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> AsyncIterator[LogEntry | tuple[TemplateRecord, Build]]:
        """What it says, and at last the template and its build. Who stops to listen ends it.

        Raises, with the first line or later, what `BuildWork` raises.
        """
        spec.resources.check()
        lines: asyncio.Queue[LogEntry | None] = asyncio.Queue()

        def tell(level: str, message: str, step: str | None) -> None:
            lines.put_nowait(LogEntry(self._clock.now(), level, message, step))

        order = Order(project_id, spec, plan.force, dict(secrets or {}), plan.total)

        async def work() -> tuple[TemplateRecord, Build]:
            built = await self._work.layers(order, plan, credentials, tell)
            return await self._named(project_id, plan, spec, built, tell)

        task = spawn(work(), name="build-definition", report=False)
        self._under_way.add(task)
        task.add_done_callback(lambda _: lines.put_nowait(None))
        try:
            while (line := await lines.get()) is not None:
                yield line
            yield task.result()
        finally:
            await cancel_and_wait(task)
            self._under_way.discard(task)

    async def shutdown(self) -> None:
        """End all of them."""
        await cancel_and_wait(*self._under_way)

    async def _named(
        self, project_id: ProjectId, plan: Plan, spec: BuildSpec, built: Built, tell: Tell
    ) -> tuple[TemplateRecord, Build]:
        name = PREFIX + _digest(plan, spec, built)[:24]
        # Of two at once the second finds what the first has made.
        lock = self._naming.setdefault((project_id, name), asyncio.Lock())
        async with lock:
            found = await self._records.ready(project_id, name)
            if found is not None:
                return found
            template, build = await self._records.request(project_id, name, (), spec, hidden=True)
            try:
                build = await self._records.begin(build, plan.start_command, plan.ready_command)
                return template, await self._work.complete(build, plan, built, tell)
            except BaseException as error:
                failure = failure_of(error)
                await to_the_end(self._records.fail(build.id, failure), name=f"fail-build-{build.id}")
                raise


def _digest(plan: Plan, spec: BuildSpec, built: Built) -> str:
    """Of what a sandbox gets: layers, how they want to be used, what runs in them, and bounds."""
    what = [
        built.layers,
        asdict(built.defaults) | {"envs": dict(built.defaults.envs)},
        plan.start_command,
        plan.ready_command,
        spec.runtime,
        asdict(spec.resources),
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
