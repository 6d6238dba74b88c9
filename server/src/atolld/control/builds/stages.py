"""A whole plan: stages that do not wait for each other run side by side, each step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

from atolld.control.buildmachine import BaseLayers, BuildMachine
from atolld.control.builds.failing import BASE, at_step
from atolld.control.builds.progress import Progress, begin
from atolld.control.builds.steps import STAGE_PREFIX, Order, Steps
from atolld.core.build import Base, BaseKind, Built, Copy, ImageConfig, Plan, Stage
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.errors import AtollError, InvalidArgument
from atolld.foundation.ids import ProjectId
from atolld.images.registry import Credentials

# One line: its level, its text, and the step that said it (see `LogEntry.step`).
Tell = Callable[[str, str, str | None], None]


class TemplateBases(Protocol):
    """Templates as what a stage begins with; `atolld.control.builds.bases.Bases` is one."""

    async def get(self, project_id: ProjectId, name: str) -> BaseLayers:
        """Raises InvalidArgument, NotFound."""
        ...


class Stages:
    """Runs plans."""

    def __init__(self, machine: BuildMachine, templates: TemplateBases, steps: Steps) -> None:
        self._machine = machine
        self._templates = templates
        self._steps = steps

    async def run(self, order: Order, plan: Plan, credentials: Credentials | None, tell: Tell) -> Built:
        """What comes out of the last stage.

        The first failure ends the other stages. Raises StepFailed, InvalidArgument when the plan has no order, and
        what bases raise.
        """
        check(plan)
        done: dict[int, asyncio.Task[Progress]] = {}

        async def stage(index: int) -> Progress:
            needed = needs(plan.stages[index])
            for earlier in sorted(needed):
                await asyncio.shield(done[earlier])
            layers = {earlier: done[earlier].result().layers for earlier in needed}
            return await self._stage(order, plan.stages[index], done, layers, credentials, tell)

        for index in range(len(plan.stages)):
            done[index] = spawn(stage(index), name=f"build-stage-{index}", report=False)
        try:
            await _first_failure(done)
        finally:
            await asyncio.shield(spawn(cancel_and_wait(*done.values()), name="end-build-stages"))
        last = done[len(plan.stages) - 1].result()
        said = plan.stages[-1].binding is None and plan.config != ImageConfig()
        config = plan.config if said else last.config
        return Built(last.layers, last.defaults, config, self._machine.size_bytes(last.layers))

    async def _stage(
        self,
        order: Order,
        stage: Stage,
        done: Mapping[int, asyncio.Task[Progress]],
        layers: Mapping[int, tuple[str, ...]],
        credentials: Credentials | None,
        tell: Tell,
    ) -> Progress:
        if stage.base.kind is BaseKind.STAGE:
            progress = done[int(stage.base.name)].result()
        else:
            tell("info", f"[base] {stage.where.text or f'FROM {stage.base.name}'}", BASE)
            try:
                base = await self._base(order, stage.base, credentials, tell)
            except AtollError as error:
                raise at_step(error, BASE, stage.where.text) from error
            progress = begin(stage.base.kind, base)
        try:
            if stage.binding is None:
                steps, config = stage.bound(progress.envs, progress.config)
            else:
                # Somebody's text of a megabyte is not read in the loop that serves everybody.
                steps, config = await asyncio.to_thread(stage.bound, progress.envs, progress.config)
        except AtollError as error:
            raise at_step(error, BASE, stage.where.text) from error
        progress = replace(progress, config=config)
        for step in steps:
            where = step.where
            try:
                progress = await self._steps.take(order, step, progress, layers, partial(_say, tell, where.step))
            except AtollError as error:
                raise at_step(error, where.step, f"step {where.step}, {where.text!r}") from error
        return progress

    async def _base(self, order: Order, base: Base, credentials: Credentials | None, tell: Tell) -> BaseLayers:
        if base.kind is BaseKind.TEMPLATE:
            return await self._templates.get(order.project_id, base.name)
        return await self._machine.base(
            order.project_id, base, credentials, order.force, lambda line: tell("info", f"[base] {line}", BASE)
        )


def needs(stage: Stage) -> frozenset[int]:
    """The indexes of the stages that `stage` begins with or copies from."""
    found = {int(stage.base.name)} if stage.base.kind is BaseKind.STAGE else set()
    for step in stage.steps:
        if isinstance(step, Copy) and step.origin is not None and step.origin.startswith(STAGE_PREFIX):
            found.add(int(step.origin.removeprefix(STAGE_PREFIX)))
    return frozenset(found)


def check(plan: Plan) -> None:
    """Raises InvalidArgument when there is no stage, or one needs another that does not come before it."""
    if not plan.stages:
        raise InvalidArgument("there is nothing to build: the plan has no stage")
    for index, stage in enumerate(plan.stages):
        if any(not 0 <= other < index for other in needs(stage)):
            raise InvalidArgument(f"stage {index} needs a stage that does not come before it")


async def _first_failure(done: Mapping[int, asyncio.Task[Progress]]) -> None:
    """Return when all have ended well; raise the first failure as soon as it is there."""
    waiting = set(done.values())
    while waiting:
        ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()


def _say(tell: Tell, step: str, level: str, line: str) -> None:
    tell(level, line, step)
