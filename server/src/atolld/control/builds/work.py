"""What every build consists of, whoever asked for it: layers first, then what makes them a version of a template."""

from __future__ import annotations

import asyncio
from typing import Protocol

from atolld.control.buildmachine import BuildMachine
from atolld.control.builds.failing import FINALIZE
from atolld.control.builds.finalize import Finalizer
from atolld.control.builds.records import BuildRecords
from atolld.control.builds.sandbox import StepSandbox
from atolld.control.builds.stages import Stages, Tell
from atolld.control.builds.steps import Order
from atolld.core.build import Built, Plan
from atolld.core.template import Build
from atolld.foundation.aio import to_the_end
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import DeadlineExceeded
from atolld.foundation.ids import SnapshotId
from atolld.images.registry import Credentials

# More builds than this wait: each of their steps has a sandbox of its own.
MAX_AT_ONCE = 4
MAX_BUILD_S = 2 * 3600.0


class Saves(Protocol):
    """Keeps the memory of a build's sandbox; `atolld.control.templatesaves.TemplateSaves` is one."""

    async def check(self, runtime: str) -> None:
        """Raises FailedPrecondition when `runtime` cannot save memory, NotFound without it."""
        ...

    async def take(self, build: Build, sandbox: StepSandbox) -> SnapshotId:
        """Save it as what sandboxes of `build` go on from.

        Raises as `Node.save`, LimitExceeded; nothing is left then."""
        ...

    async def give_up(self, save_id: SnapshotId) -> None:
        """The build came to nothing after all."""
        ...


class BuildWork:
    """Does it, for a few builds at once."""

    def __init__(
        self, *, records: BuildRecords, machine: BuildMachine, stages: Stages, finalizer: Finalizer, saves: Saves
    ) -> None:
        self._records = records
        self._machine = machine
        self._stages = stages
        self._finalizer = finalizer
        self._saves = saves
        self._gate = asyncio.Semaphore(MAX_AT_ONCE)

    async def layers(self, order: Order, plan: Plan, credentials: Credentials | None, tell: Tell) -> Built:
        """The layers of `plan`. Raises as `Stages.run`, DeadlineExceeded after two hours."""
        if _saves(plan):
            # Better now than after everything was built.
            await self._saves.check(order.spec.runtime)
        if self._gate.locked():
            tell("info", "waiting for other builds to end", None)
        async with self._gate:
            try:
                async with asyncio.timeout(MAX_BUILD_S):
                    return await self._stages.run(order, plan, credentials, tell)
            except TimeoutError:
                raise DeadlineExceeded(f"the build took more than {MAX_BUILD_S / 3600:g} h") from None

    async def complete(self, build: Build, plan: Plan, built: Built, tell: Tell) -> Build:
        """Make `build` READY: its layers kept, and the memory saved where the plan has a start or a ready command.

        Raises StepFailed (`finalize`), what `Node.save` raises, Conflict; nothing is kept then.
        """
        crash_point("build.before_pin")
        self._machine.pin(build.id, built.layers)
        save_id: SnapshotId | None = None
        finished: list[Build] = []

        async def finish() -> None:
            finished.append(await self._records.finish(build.id, built, save_id))

        try:
            if _saves(plan):
                save_id = await self._save(build, plan, built, tell)
            crash_point("build.before_finish")
            await to_the_end(finish(), name=f"finish-build-{build.id}")
        except BaseException:
            # A caller that went away while the last row was written has a build that is READY.
            if not finished:
                if save_id is not None:
                    await self._saves.give_up(save_id)
                self._machine.unpin(build.id)
            raise
        crash_point("build.after_finish")
        return finished[0]

    async def _save(self, build: Build, plan: Plan, built: Built, tell: Tell) -> SnapshotId:
        saved: list[SnapshotId] = []

        async def save(sandbox: StepSandbox) -> None:
            saved.append(await self._saves.take(build, sandbox))

        roots = tuple(map(self._machine.layer_root, built.layers))
        commands = (plan.start_command, plan.ready_command)
        await self._finalizer.finalize(
            build.spec, built, roots, build.template_id, commands, save, lambda level, line: tell(level, line, FINALIZE)
        )
        return saved[0]


def _saves(plan: Plan) -> bool:
    return plan.start_command is not None or plan.ready_command is not None
