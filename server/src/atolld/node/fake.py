"""A node without a machine: for tests, and for trying out the daemon where nothing can be isolated.

It keeps the promises of `Node` in memory and follows a script: calls can be made to fail or to wait at a gate, and
sandboxes can be made to die.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from atolld.core.lifecycle import EndReason
from atolld.core.network import NetworkPolicy
from atolld.foundation.clock import Clock
from atolld.foundation.errors import AlreadyExists, Capacity, NotFound
from atolld.foundation.ids import SandboxId
from atolld.node.interface import (
    Death,
    DeathListener,
    Known,
    Launch,
    Launched,
    NodeCapacity,
    Usage,
)
from atolld.runtime.driver import Fingerprint

HANDLE_VERSION = 1


@dataclass(slots=True)
class FakeSandbox:
    """One sandbox as the fake machine has it; it outlives a `FakeNode`, as a real one outlives the daemon."""

    id: SandboxId
    runtime: str
    memory_mib: int
    cpu: float
    network: NetworkPolicy
    died: Death | None = None
    log: bytes = b""


@dataclass(slots=True)
class FakeMachine:
    """What stays when the daemon is killed. Hand the same one to the next `FakeNode` to play a restart."""

    sandboxes: dict[SandboxId, FakeSandbox] = field(default_factory=dict)


@dataclass(slots=True)
class Gate:
    """Holds calls: `reached` is set when one arrives, and it goes on once `opened` is set."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def pass_through(self) -> None:
        """Wait until the gate is open."""
        self.reached.set()
        await self.opened.wait()


class FakeNode:
    """Implements `Node`.

    Script: `gates[verb]` holds the next calls of a verb (`launch` before anything is made, `launched` when it is made,
    `terminate`, `usage`, ...); `failures[verb]` are raised by the next calls, in order; `max_sandboxes` is the room.
    `calls` lists what was called and `launches` what was asked for, in order.
    """

    def __init__(
        self, clock: Clock, machine: FakeMachine | None = None, *, max_sandboxes: int = 1000, runtime: str = "fake"
    ) -> None:
        self.machine = machine or FakeMachine()
        self.max_sandboxes = max_sandboxes
        self.gates: dict[str, Gate] = {}
        self.failures: dict[str, list[Exception]] = defaultdict(list)
        self.calls: list[tuple[str, SandboxId]] = []
        self.launches: list[Launch] = []
        self._clock = clock
        self._runtime = runtime
        self._started: dict[SandboxId, float] = {}
        self._launching = 0
        self._next_address = 0
        self._on_death: DeathListener | None = None

    def hold(self, verb: str) -> Gate:
        """Make the calls of `verb` wait at a gate from now on; returns it."""
        gate = self.gates[verb] = Gate()
        return gate

    def fail(self, verb: str, *errors: Exception) -> None:
        """Make the next calls of `verb` raise these, one each."""
        self.failures[verb].extend(errors)

    async def die(self, id: SandboxId, reason: EndReason = EndReason.CRASHED, message: str = "it died") -> None:
        """Let a sandbox end by itself and tell the listener, as when the daemon sees it happen."""
        del self.machine.sandboxes[id]
        if self._on_death is not None:
            await self._on_death(Death(id, reason, message))

    def die_unseen(self, id: SandboxId, reason: EndReason = EndReason.CRASHED, message: str = "it died") -> None:
        """Let a sandbox end by itself while no daemon looks; `recover` tells of it."""
        self.machine.sandboxes[id].died = Death(id, reason, message)

    async def start(self, on_death: DeathListener) -> None:
        """See `Node.start`."""
        self._on_death = on_death

    async def fingerprints(self) -> dict[str, Fingerprint]:
        """See `Node.fingerprints`."""
        return {
            self._runtime: Fingerprint(
                driver=self._runtime,
                usable=True,
                reason="",
                version="1",
                isolation="nothing runs, so nothing is isolated",
            )
        }

    async def launch(self, what: Launch) -> Launched:
        """See `Node.launch`."""
        self.calls.append(("launch", what.id))
        self.launches.append(what)
        if what.runtime != self._runtime:
            raise NotFound(f"there is no runtime {what.runtime!r}; this machine has: {self._runtime}")
        if len(self.machine.sandboxes) + self._launching >= self.max_sandboxes:
            raise Capacity(f"the machine already holds {self.max_sandboxes} sandboxes, its maximum")
        if what.id in self.machine.sandboxes:
            raise AlreadyExists(f"sandbox {what.id} exists")
        self._launching += 1
        try:
            await self._step("launch")
            self.machine.sandboxes[what.id] = FakeSandbox(
                what.id, what.runtime, what.resources.memory_mib, what.resources.cpu, what.network
            )
            try:
                await self._step("launched")
            except BaseException:
                self.machine.sandboxes.pop(what.id, None)
                raise
        finally:
            self._launching -= 1
        self._started[what.id] = self._clock.now()
        self._next_address += 1
        address = f"10.0.{self._next_address // 256}.{self._next_address % 256}"
        return Launched(address, {"version": HANDLE_VERSION, "id": what.id}, {"prepare": 0.0, "start": 0.0})

    async def terminate(self, id: SandboxId, grace_s: float = 0.0) -> None:
        """See `Node.terminate`."""
        self.calls.append(("terminate", id))
        await self._step("terminate")
        self.machine.sandboxes.pop(id, None)
        self._started.pop(id, None)

    async def recover(self, known: list[Known]) -> dict[SandboxId, Death | None]:
        """See `Node.recover`."""
        await self._step("recover")
        outcome: dict[SandboxId, Death | None] = {}
        for one in known:
            here = self.machine.sandboxes.get(one.id)
            outcome[one.id] = here.died if here else Death(one.id, EndReason.CRASHED, "nothing of it was found")
        for id, here in list(self.machine.sandboxes.items()):
            if id not in outcome or here.died is not None:
                del self.machine.sandboxes[id]
        return outcome

    async def usage(self, id: SandboxId) -> Usage:
        """See `Node.usage`."""
        self.calls.append(("usage", id))
        await self._step("usage")
        here = self._here(id)
        return Usage(
            at=self._clock.now(),
            cpu_count=here.cpu,
            cpu_used_pct=0.0,
            memory_used_bytes=0,
            memory_total_bytes=here.memory_mib * 1024 * 1024,
            memory_cache_bytes=0,
            disk_used_bytes=0,
            disk_total_bytes=0,
        )

    async def set_network(self, id: SandboxId, policy: NetworkPolicy) -> None:
        """See `Node.set_network`."""
        self.calls.append(("set_network", id))
        await self._step("set_network")
        self._here(id).network = policy

    async def logs(self, id: SandboxId, limit_bytes: int) -> bytes:
        """See `Node.logs`."""
        return self._here(id).log[-limit_bytes:]

    def capacity(self) -> NodeCapacity:
        """See `Node.capacity`."""
        all_ = self.machine.sandboxes.values()
        return NodeCapacity(
            cpu_total=1000.0,
            cpu_taken=sum(one.cpu for one in all_),
            memory_total_mib=1_000_000,
            memory_taken_mib=sum(one.memory_mib for one in all_),
            disk_free_mib=1_000_000,
            sandboxes=len(all_),
            max_sandboxes=self.max_sandboxes,
        )

    def gauges(self) -> Mapping[str, float]:
        """See `Node.gauges`."""
        return {"node_sandboxes_running": float(len(self.machine.sandboxes))}

    async def close(self) -> None:
        """See `Node.close`."""
        self._on_death = None

    def _here(self, id: SandboxId) -> FakeSandbox:
        try:
            return self.machine.sandboxes[id]
        except KeyError:
            raise NotFound(f"sandbox {id} does not run on this node") from None

    async def _step(self, verb: str) -> None:
        gate = self.gates.get(verb)
        if gate is not None:
            await gate.pass_through()
        if self.failures[verb]:
            raise self.failures[verb].pop(0)
