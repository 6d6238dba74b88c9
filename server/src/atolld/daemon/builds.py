"""The parts of builds, put together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from atolld.control.builds.agent import AgentGuest
from atolld.control.builds.bases import Bases
from atolld.control.builds.builds import Builds
from atolld.control.builds.definitions import Definitions
from atolld.control.builds.finalize import Finalizer
from atolld.control.builds.sandbox import StepSandboxes
from atolld.control.builds.stages import Stages
from atolld.control.builds.steps import Steps
from atolld.control.builds.work import BuildWork
from atolld.control.builtins import Builtins
from atolld.control.sandboxes import Sandboxes
from atolld.control.telemetry import Telemetry
from atolld.control.templatebuilds import TemplateBuilds
from atolld.control.templaterecords import TemplateRecords
from atolld.control.templates import Templates
from atolld.control.templatesaves import TemplateSaves
from atolld.control.templatetags import TemplateTags
from atolld.daemon.nodes import BuiltNode
from atolld.daemon.settings import Settings
from atolld.foundation.clock import Clock
from atolld.images.cachemounts import CacheMounts
from atolld.images.interpreter import NAME as INTERPRETER
from atolld.images.interpreter import InterpreterRecipe
from atolld.images.stepcache import StepCache
from atolld.node.interface import Node
from atolld.storage.buildlogs import BuildLogs
from atolld.storage.database import Database
from atolld.storage.snapshots import SqlSnapshots
from atolld.storage.templates import SqlTemplates


@dataclass(frozen=True, slots=True)
class BuildParts:
    """What the daemon holds of it."""

    builds: Builds
    definitions: Definitions
    sandboxes: StepSandboxes
    records: TemplateRecords
    tags: TemplateTags
    builtins: Builtins

    async def shutdown(self) -> None:
        """End every build."""
        await asyncio.gather(self.builds.shutdown(), self.definitions.shutdown())


@dataclass(frozen=True, slots=True)
class Ground:
    """What builds stand on."""

    settings: Settings
    database: Database
    built: BuiltNode
    node: Node
    records: SqlTemplates
    logs: BuildLogs
    templates: Templates
    sandboxes: Sandboxes


def put_together(ground: Ground, clock: Clock, telemetry: Telemetry) -> BuildParts:
    """Builds, recovered by `Builds.recover` once sandboxes are."""
    machine, node = ground.built.build_machine, ground.node
    saves = TemplateSaves(
        templates=ground.records,
        snapshots=SqlSnapshots(ground.database),
        node=node,
        powers=ground.sandboxes.powers,
        garbage=ground.sandboxes.garbage,
        clock=clock,
        telemetry=telemetry,
    )
    rows = TemplateBuilds(ground.records, machine, clock, saves.memory, ground.settings.max_versions)
    rows.on_ended = ground.sandboxes.garbage.wake
    sandboxes = StepSandboxes(node, AgentGuest(), ground.built.lender, clock, telemetry)
    cache = ground.settings.cache_dir
    steps = Steps(machine, sandboxes, StepCache(cache), clock.now, CacheMounts(cache, clock))
    work = BuildWork(
        records=rows,
        machine=machine,
        stages=Stages(machine, Bases(ground.templates), steps),
        finalizer=Finalizer(sandboxes, clock),
        saves=saves,
    )
    builds = Builds(
        records=rows,
        machine=machine,
        work=work,
        logs=ground.logs,
        capacity=node.capacity,
        clock=clock,
        telemetry=telemetry,
    )
    records = TemplateRecords(ground.records, clock)
    records.on_deleted = ground.sandboxes.garbage.wake
    records.on_cancelled = builds.give_up
    tags = TemplateTags(ground.records, records, clock)
    return BuildParts(
        builds,
        Definitions(rows, work, clock),
        sandboxes,
        records,
        tags,
        Builtins(builds, {INTERPRETER: InterpreterRecipe()}),
    )
