"""The parts of builds, put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atolld.control.buildmachine import BuildMachine
from atolld.control.builds.agent import AgentGuest
from atolld.control.builds.bases import Bases
from atolld.control.builds.builds import Builds
from atolld.control.builds.definitions import Definitions
from atolld.control.builds.finalize import Finalizer
from atolld.control.builds.lent import Lender
from atolld.control.builds.records import BuildRecords
from atolld.control.builds.sandbox import StepSandboxes
from atolld.control.builds.stages import Stages
from atolld.control.builds.steps import Steps
from atolld.control.builds.work import BuildWork, Saves
from atolld.control.telemetry import Telemetry
from atolld.control.templates import Templates
from atolld.foundation.clock import Clock
from atolld.images.stepcache import StepCache
from atolld.node.interface import Node
from atolld.storage.buildlogs import BuildLogs


@dataclass(frozen=True, slots=True)
class BuildParts:
    """What the daemon holds of it."""

    builds: Builds
    definitions: Definitions
    sandboxes: StepSandboxes


@dataclass(frozen=True, slots=True)
class Kept:
    """Where builds keep what: rows, memory, layers (`cache`), and what they say (`logs`)."""

    records: BuildRecords
    saves: Saves
    cache: Path
    logs: Path


def put_together(
    node: Node,
    machine: BuildMachine,
    lender: Lender,
    templates: Templates,
    kept: Kept,
    *,
    clock: Clock,
    telemetry: Telemetry,
) -> BuildParts:
    """Builds over a node and the machine's layers."""
    sandboxes = StepSandboxes(node, AgentGuest(), lender, clock)
    steps = Steps(machine, sandboxes, StepCache(kept.cache), clock.now)
    stages = Stages(machine, Bases(templates), steps)
    finalizer = Finalizer(sandboxes, clock)
    work = BuildWork(records=kept.records, machine=machine, stages=stages, finalizer=finalizer, saves=kept.saves)
    builds = Builds(
        records=kept.records, machine=machine, work=work, logs=BuildLogs(kept.logs), clock=clock, telemetry=telemetry
    )
    return BuildParts(builds, Definitions(kept.records, work, clock), sandboxes)
