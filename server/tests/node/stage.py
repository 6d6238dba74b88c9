"""A node on fakes, for the tests of this folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.core.snapshot import SaveKind
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import AtollError
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.guest.client import GuestClient, GuestInit
from atolld.node.capacity import CapacityBook, CapacityLimits
from atolld.node.fake_machine import FakeMachine
from atolld.node.interface import Death, Known, Launch, Launched
from atolld.node.manager import NodeManager
from atolld.runtime.drivers.fake import FakeDriver, FakeWorld, Script

ID = SandboxId("i0000000000000000001")
OTHER = SandboxId("i0000000000000000002")


class FakeGuest(GuestClient):
    """Answers once `open` is set; remembers what it was told."""

    def __init__(self, world: Guests, address: str, token: str | None) -> None:
        super().__init__(address, token=token)
        self._world = world

    async def wait_ready(self, init: GuestInit, deadline_s: float) -> None:
        await self._world.open.wait()
        if self._world.refuse is not None:
            raise self._world.refuse
        self._world.told.append(init)
        self._world.tokens.append(self._token)

    async def rehearse(self, timeout_s: float) -> None:
        self._world.tokens.append(self._token)
        if self._world.refuse is not None:
            raise self._world.refuse
        self._world.rehearsed += 1

    async def needs_address(self, timeout_s: float) -> bool:
        self._world.tokens.append(self._token)
        if self._world.refuse is not None:
            raise self._world.refuse
        return self._world.needs_address

    async def envs(self, timeout_s: float) -> dict[str, str]:
        self._world.tokens.append(self._token)
        if self._world.refuse is not None:
            raise self._world.refuse
        return {"NAME": "value"}


class Guests:
    """The agents of all sandboxes."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.refuse: AtollError | None = None
        self.told: list[GuestInit] = []
        self.tokens: list[str | None] = []
        self.needs_address = False
        self.rehearsed = 0


class DirectoryMachine(FakeMachine):
    """One whose saves have real directories for a driver's files, below `directory`."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    async def begin_save(self, save_id: SnapshotId) -> Path:
        await super().begin_save(save_id)
        (self.directory / save_id).mkdir()
        return self.directory / save_id

    async def check_save(self, save_id: SnapshotId, kind: SaveKind, engine: str | None) -> Path:
        await super().check_save(save_id, kind, engine)
        return self.directory / save_id


class Stage:
    """A node on fakes; `restart` is a new daemon on the same machine."""

    def __init__(
        self, script: Script | None = None, parallel: int = 4, machine: FakeMachine | None = None, ready: int = 0
    ) -> None:
        self.world, self.machine, self.guests = FakeWorld(), machine or FakeMachine(), Guests()
        self.deaths: list[Death] = []
        self.script = script or Script()
        self.parallel, self.ready = parallel, ready
        self.clock = ManualClock()
        self.restart()

    def restart(self) -> None:
        self.driver = FakeDriver(self.world, self.script, self.clock)
        self.capacity = CapacityBook(CapacityLimits(cpu_total=4, memory_total_mib=10_000, max_sandboxes=3))
        self.node = NodeManager(
            drivers={"fake": self.driver},
            machine=self.machine,
            capacity=self.capacity,
            clock=self.clock,
            agent=Path("/nonexistent/agent"),
            parallel_launches=self.parallel,
            ready_containers=self.ready,
            guest=lambda address, token: FakeGuest(self.guests, address, token),
        )

    async def start(self, *known: Known) -> dict[SandboxId, Death | None]:
        async def listen(death: Death) -> None:
            self.deaths.append(death)

        await self.node.start(listen)
        return await self.node.recover(list(known))

    def empty(self) -> bool:
        running = [task for task in self.world.tasks.values() if task.pid and not task.ended.is_set()]
        return not self.machine.prepared and not running and self.capacity.snapshot(0).sandboxes == 0


def launch_of(id: SandboxId = ID, runtime: str = "fake") -> Launch:
    return Launch(
        id=id,
        runtime=runtime,
        layers=(Path("/layer"),),
        resources=Resources(cpu=1, memory_mib=128),
        network=NetworkPolicy(),
        envs={"A": "1"},
        agent_token="secret",
        template_id="base",
        hostname="box",
    )


def known_of(launched: Launched | None, id: SandboxId = ID) -> Known:
    return Known(
        id=id,
        runtime="fake",
        resources=Resources(cpu=1, memory_mib=128),
        address=launched.address if launched else None,
        handle=launched.handle if launched else None,
        agent_token="secret",
        network=NetworkPolicy(internet=False),
    )


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)
