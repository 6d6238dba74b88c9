"""The suite on a `FakeWorld`: what a driver promises without any machine."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

from atolld.core.sandbox import Resources
from atolld.foundation.errors import Capacity, Unimplemented
from atolld.foundation.ids import new_sandbox_id
from atolld.runtime.conformance.lab import Ground, GuestAnswer, guest_of
from atolld.runtime.driver import Handle, LaunchSpec, ShellKind, ShellSpec
from atolld.runtime.drivers.fake import FakeDriver, FakeWorld, Script, Verb


class FakeLab:
    """A lab in memory; only checkpoints are written below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._world = FakeWorld()
        self._script = Script()

    def driver(self) -> FakeDriver:
        """See `Lab.driver`."""
        return FakeDriver(self._world, self._script)

    async def prepare(
        self, resources: Resources | None = None, *, ignores_term: bool = False, disk_of: Ground | None = None
    ) -> Ground:
        """See `Lab.prepare`."""
        self._script.ignores_term = ignores_term
        id = new_sandbox_id()
        home = self._directory / id
        spec = LaunchSpec(
            id=id,
            rootfs=home / "rootfs",
            netns=home / "netns",
            agent=home / "agent",
            log=home / "log",
            directory=home / "driver",
            cgroup=f"/fake/{id}",
            resources=resources or Resources(),
            hostname=f"box-{id[:6]}",
        )
        return Ground(spec, "192.0.2.1")

    async def prepare_shell(self, kind: ShellKind, resources: Resources | None = None) -> ShellSpec:
        """See `Lab.prepare_shell`."""
        spec = (await self.prepare(resources)).spec
        return ShellSpec(spec.id, spec.netns, spec.agent, spec.log, spec.directory, spec.cgroup, spec.resources, kind)

    async def furnish(self, shell: ShellSpec, disk_of: Ground) -> Ground:
        """See `Lab.furnish`."""
        return self.ground_of(shell)

    def ground_of(self, shell: ShellSpec) -> Ground:
        """See `Lab.ground_of`."""
        return Ground(guest_of(shell, shell.directory.with_name("rootfs")), "192.0.2.1")

    def empty_directory(self) -> Path:
        """See `Lab.empty_directory`."""
        return Path(mkdtemp(dir=self._directory))

    def full_directory(self, room_kib: int) -> Path:
        """See `Lab.full_directory`: the next checkpoint fails, wherever it is written."""
        self._script.failures = {Verb.CHECKPOINT: [Capacity("the fake disk is full")]}
        return self.empty_directory()

    async def run(self, ground: Ground, command: str, timeout_s: float = 30.0) -> GuestAnswer:
        """See `Lab.run`."""
        raise Unimplemented("nothing runs in a fake sandbox")

    async def end_by_itself(self, ground: Ground, handle: Handle) -> None:
        """See `Lab.end_by_itself`."""
        self._world.die(ground.spec.id)

    async def wait_elsewhere(self, handle: Handle) -> str:
        """See `Lab.wait_elsewhere`."""
        raise Unimplemented("a fake world is seen by one process")

    def leftovers(self, ground: Ground) -> list[str]:
        """See `Lab.leftovers`."""
        return [f"fake sandbox {id}" for id in self._world.tasks if id == ground.spec.id]
