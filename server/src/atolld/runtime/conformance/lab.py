"""What the suite needs of the place where it runs: surroundings for sandboxes, a way into them, and an honest look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atolld.core.sandbox import Resources
from atolld.runtime.driver import Handle, LaunchSpec, RuntimeDriver, ShellKind, ShellSpec


@dataclass(frozen=True, slots=True)
class Ground:
    """Surroundings of one sandbox, as the node would prepare them. `address`: where its guest is reached."""

    spec: LaunchSpec
    address: str


@dataclass(frozen=True, slots=True)
class GuestAnswer:
    """What a command in the guest did: exit status (negative: the signal), stdout and stderr together."""

    status: int
    output: str


def guest_of(shell: ShellSpec, rootfs: Path) -> LaunchSpec:
    """What runs in `shell` from now on."""
    return LaunchSpec(
        id=shell.id,
        rootfs=rootfs,
        netns=shell.netns,
        agent=shell.agent,
        log=shell.log,
        directory=shell.directory,
        cgroup=shell.cgroup,
        resources=shell.resources,
        hostname=f"box-{shell.id[:6]}",
    )


class Lab(Protocol):
    """One machine, real or played, with any number of drivers on it."""

    def driver(self) -> RuntimeDriver:
        """A new driver object that knows nothing of what earlier ones did: a restarted daemon."""
        ...

    async def prepare(
        self, resources: Resources | None = None, *, ignores_term: bool = False, disk_of: Ground | None = None
    ) -> Ground:
        """New surroundings; `ignores_term`: PID 1 will not end at SIGTERM. Removed when the lab closes.

        `disk_of`: on a copy of that sandbox's disk as it is now; it is suspended or gone.
        """
        ...

    async def prepare_shell(self, kind: ShellKind, resources: Resources | None = None) -> ShellSpec:
        """Surroundings without a root file system. Removed when the lab closes."""
        ...

    async def furnish(self, shell: ShellSpec, disk_of: Ground) -> Ground:
        """Give it a copy of that sandbox's disk as it is now; it is suspended or gone."""
        ...

    def ground_of(self, shell: ShellSpec) -> Ground:
        """What `furnish` would return, before it has: for `leftovers`."""
        ...

    def empty_directory(self) -> Path:
        """A new directory with room in it, for a checkpoint."""
        ...

    def full_directory(self, room_kib: int) -> Path:
        """A new directory with room for `room_kib` KiB; no checkpoint fits into 640."""
        ...

    async def run(self, ground: Ground, command: str, timeout_s: float = 30.0) -> GuestAnswer:
        """Run a shell command in the guest as root.

        Raises GuestUnreachable when the guest ends or does not answer, Unimplemented where nothing runs at all.
        """
        ...

    async def end_by_itself(self, ground: Ground, handle: Handle) -> None:
        """Make PID 1 of a running sandbox exit."""
        ...

    async def wait_elsewhere(self, handle: Handle) -> str:
        """`wait` in a process that is not the sandbox's ancestor; the state it ends in.

        Raises Unimplemented where no other process can see the sandbox.
        """
        ...

    def leftovers(self, ground: Ground) -> list[str]:
        """Everything still on the machine that `destroy` should have removed, in words; empty is good."""
        ...
