"""Real builds over a machine in memory, for tests of the routes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from server.tests.control.builds.fakes import FakeBuildMachine, FakeCache, FakeMounts, FakeSaves, FakeStepSandboxes, run

from atolld.control.builds.builds import Builds
from atolld.control.builds.definitions import Definitions
from atolld.control.builds.finalize import Finalizer
from atolld.control.builds.stages import Stages
from atolld.control.builds.steps import Steps
from atolld.control.builds.work import BuildWork
from atolld.control.builtins import Builtins
from atolld.control.telemetry import NoTelemetry
from atolld.control.testing import Registry
from atolld.core.build import Base, BaseKind, BuildSpec, Plan, Stage
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import InvalidArgument
from atolld.node.fake import FakeNode
from atolld.storage.buildlogs import BuildLogs


class FakeRecipe:
    """A template of one step; it has the option `extra`."""

    spec = BuildSpec()

    def files(self) -> bytes:
        return b"the files"

    def plan(self, files: str, options: Sequence[str]) -> Plan:
        if unknown := set(options) - {"extra"}:
            raise InvalidArgument(f"there is no language {unknown.pop()!r}")
        step = run(1, f"install {' '.join(options)} {files[:4]}")
        return Plan((Stage(Base(BaseKind.IMAGE, "debian"), (step,)),))


class FakeBuilds:
    """`builds` and `definitions`, and what they stand on."""

    def __init__(self, directory: Path, registry: Registry) -> None:
        self.clock = ManualClock()
        self.machine = FakeBuildMachine()
        self.sandboxes = FakeStepSandboxes(self.machine)
        self.records = registry.builds
        steps = Steps(self.machine, self.sandboxes, FakeCache(), self.clock.now, FakeMounts())  # type: ignore[arg-type]
        work = BuildWork(
            records=self.records,
            machine=self.machine,
            stages=Stages(self.machine, None, steps),  # type: ignore[arg-type]
            finalizer=Finalizer(self.sandboxes, self.clock),  # type: ignore[arg-type]
            saves=FakeSaves(),
        )
        self.definitions = Definitions(self.records, work, self.clock)
        self.builds = Builds(
            records=self.records,
            machine=self.machine,
            work=work,
            logs=BuildLogs(directory),
            capacity=FakeNode(self.clock).capacity,
            clock=self.clock,
            telemetry=NoTelemetry(),
        )
        self.builtins = Builtins(self.builds, {"code-interpreter-v1": FakeRecipe()})
