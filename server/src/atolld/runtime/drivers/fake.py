"""A driver without a runtime: sandboxes are entries of a `FakeWorld`, and a script says what goes wrong and how slowly.

For tests of everything above drivers, and for demonstrations on a machine without root:

    world = FakeWorld()
    driver = FakeDriver(world, script=Script(delays_s={Verb.START: 0.2}, failures={Verb.START: [Internal("no")]}))
    handle = await driver.start(await driver.create(spec))
    world.tasks[spec.id].memory["seen"] = 3          # kept by checkpoint and restore
    world.die(spec.id, out_of_memory=True)           # as if the kernel had killed it

The world plays the machine: a second `FakeDriver` on the same world is a restarted daemon and finds what the first one
started. Nothing listens inside; give the node a fake guest too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import (
    AlreadyExists,
    AtollError,
    FailedPrecondition,
    Internal,
    NotFound,
    RuntimeUnusable,
)
from atolld.foundation.ids import SandboxId
from atolld.runtime.driver import (
    Fingerprint,
    Handle,
    LaunchSpec,
    Overhead,
    Power,
    ShellKind,
    ShellSpec,
    TaskState,
    TaskStats,
    TaskStatus,
)

NAME = "fake"
HANDLE_VERSION = 1
MEMORY_FILE = "memory.json"


class Verb(StrEnum):
    """What can be slowed down or made to fail."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    INSPECT = "inspect"
    STATS = "stats"
    WAIT = "wait"
    RECOVER = "recover"
    DESTROY = "destroy"
    LIST_OWNED = "list_owned"
    SUSPEND = "suspend"
    UNSUSPEND = "unsuspend"
    CHECKPOINT = "checkpoint"
    RESTORE = "restore"
    PREPARE = "prepare"
    FREEZE = "freeze"
    THAW = "thaw"


@dataclass
class Script:
    """How the driver behaves.

    `delays_s`: seconds each call of a verb takes before anything happens. `failures`: errors raised by the next calls
    of a verb, one each, then no more. `start_anyway`: a failing START leaves the sandbox running, as a command does
    that was cut off after its work. `ignores_term`: guests that a stop has to kill. `dies_after_s`: seconds after the
    start at which each sandbox ends by itself. `unusable`: the reason the runtime cannot be used at all. `missing`:
    the sentence of each power that it lacks. `agent_sudo`: as the kind of every shell has it.
    """

    delays_s: Mapping[Verb, float] = field(default_factory=dict)
    failures: Mapping[Verb, list[AtollError]] = field(default_factory=dict)
    start_anyway: bool = False
    ignores_term: bool = False
    dies_after_s: float | None = None
    unusable: str | None = None
    missing: Mapping[Power, str] = field(default_factory=dict)
    agent_sudo: bool = False


@dataclass
class _Task:
    state: TaskState
    resources: Resources
    pid: int
    status: TaskStatus
    suspended: bool = False
    frozen: bool = False
    memory: dict[str, object] = field(default_factory=dict)
    shell: ShellKind | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stats: TaskStats = TaskStats(cpu_usec=0, memory_bytes=1 << 20, memory_peak_bytes=1 << 20, tasks=1)


class FakeWorld:
    """The machine as the fake sees it; lives as long as the test, longer than any driver."""

    def __init__(self) -> None:
        self._pids = itertools.count(1000)
        self.tasks: dict[SandboxId, _Task] = {}

    def add(self, spec: LaunchSpec | ShellSpec) -> None:
        """A created sandbox. Raises AlreadyExists."""
        if spec.id in self.tasks:
            raise AlreadyExists(f"sandbox {spec.id} exists already")
        shell = spec.kind if isinstance(spec, ShellSpec) else None
        self.tasks[spec.id] = _Task(TaskState.CREATED, spec.resources, 0, TaskStatus(TaskState.CREATED), shell=shell)

    def run(self, id: SandboxId) -> None:
        """It runs from now on. Raises FailedPrecondition when it was not created, or ran before."""
        task = self.tasks.get(id)
        if task is None or task.state is not TaskState.CREATED:
            raise FailedPrecondition(f"sandbox {id} is not waiting to be started")
        task.pid = next(self._pids)
        task.state = TaskState.RUNNING
        task.status = TaskStatus(TaskState.RUNNING, task.pid)

    def die(self, id: SandboxId, *, out_of_memory: bool = False, message: str = "") -> None:
        """End a running sandbox as if by itself; ended before is fine. Raises NotFound for one never made."""
        task = self._task(id)
        if task.state is TaskState.RUNNING:
            task.state = TaskState.GONE
            task.status = TaskStatus(TaskState.GONE, None, out_of_memory, message)
        task.ended.set()

    def use(self, id: SandboxId, stats: TaskStats) -> None:
        """What `stats` answers from now on. Raises NotFound for one never made."""
        self._task(id).stats = stats

    def running(self, id: SandboxId) -> _Task:
        """The task of a running sandbox. Raises NotFound when there is none, or it is gone."""
        task = self._task(id)
        if task.state is not TaskState.RUNNING:
            raise NotFound(f"fake sandbox {id} does not run")
        return task

    def there(self, id: SandboxId) -> _Task:
        """The task of a running sandbox, or of a shell. Raises NotFound when there is none, or it is gone."""
        task = self._task(id)
        return task if task.state is TaskState.CREATED and task.shell is not None else self.running(id)

    def _task(self, id: SandboxId) -> _Task:
        try:
            return self.tasks[id]
        except KeyError:
            raise NotFound(f"there is no fake sandbox {id}") from None


class FakeDriver:
    """Implements `atolld.runtime.driver.RuntimeDriver` on a `FakeWorld`. `calls` records (verb, id) in order."""

    def __init__(
        self, world: FakeWorld | None = None, script: Script | None = None, clock: Clock | None = None, name: str = NAME
    ) -> None:
        self.world = world or FakeWorld()
        self.script = script or Script()
        self.calls: list[tuple[Verb, SandboxId | None]] = []
        self._clock = clock or SystemClock()
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def overhead(self, resources: Resources) -> Overhead:
        return Overhead(memory_mib=0, tasks=0)

    async def fingerprint(self) -> Fingerprint:
        reason = self.script.unusable or ""
        missing = {Power.OWN_KERNEL: "the fake driver runs nothing", **self.script.missing}
        return Fingerprint(self.name, not reason, reason, "1", "none: nothing runs at all", missing)

    async def create(self, spec: LaunchSpec) -> Handle:
        if self.script.unusable is not None:
            raise RuntimeUnusable(self.script.unusable)
        await self._play(Verb.CREATE, spec.id)
        self.world.add(spec)
        return self.handle_for(spec.id, spec.directory)

    async def start(self, handle: Handle) -> Handle:
        try:
            await self._play(Verb.START, handle.id)
        except AtollError:
            if self.script.start_anyway:
                self.world.run(handle.id)
            raise
        self.world.run(handle.id)
        if self.script.dies_after_s is not None:
            # On the loop's own clock: a demonstration is watched in real time.
            loop = asyncio.get_running_loop()
            loop.call_later(self.script.dies_after_s, self._die_quietly, handle.id)
        return self._running_handle(handle)

    async def stop(self, handle: Handle, grace_s: float) -> None:
        await self._play(Verb.STOP, handle.id)
        task = self.world.tasks.get(handle.id)
        if task is None or task.state is not TaskState.RUNNING:
            return
        if self.script.ignores_term:
            await self._clock.sleep(grace_s)
        self.world.die(handle.id)

    async def suspend(self, handle: Handle) -> None:
        self._require(Power.CHECKPOINT)
        await self._play(Verb.SUSPEND, handle.id)
        self.world.running(handle.id).suspended = True

    async def unsuspend(self, handle: Handle) -> None:
        await self._play(Verb.UNSUSPEND, handle.id)
        self.world.running(handle.id).suspended = False

    async def checkpoint(self, handle: Handle, directory: Path, *, end_connections: bool) -> None:
        self._require(Power.CHECKPOINT)
        await self._play(Verb.CHECKPOINT, handle.id)
        task = self.world.running(handle.id)
        if not task.suspended:
            raise Internal(f"fake sandbox {handle.id} is to be saved while it runs")
        saved = {"memory": task.memory, "connections_ended": end_connections}
        (directory / MEMORY_FILE).write_text(json.dumps(saved))

    async def restore(self, spec: LaunchSpec, directory: Path, into: Handle | None = None) -> Handle:
        self._require(Power.RESTORE)
        await self._play(Verb.RESTORE, spec.id)
        if into is not None and (into.id != spec.id or self.world.tasks[into.id].shell is None):
            raise FailedPrecondition(f"{into.id} is no shell that waits for {spec.id}")
        try:
            memory = json.loads((directory / MEMORY_FILE).read_text())["memory"]
        except (OSError, ValueError, KeyError) as error:
            raise Internal(f"{directory} holds no fake memory: {error}") from error
        if into is None:
            self.world.add(spec)
        self.world.run(spec.id)
        self.world.running(spec.id).memory = memory
        return self._running_handle(self.handle_for(spec.id, spec.directory))

    async def start_into(self, spec: LaunchSpec, into: Handle) -> Handle:
        self._require(Power.PREPARED)
        await self._play(Verb.START, spec.id)
        if into.id != spec.id or self.world.tasks[into.id].shell is None:
            raise FailedPrecondition(f"{into.id} is no shell that waits for {spec.id}")
        self.world.run(spec.id)
        return self._running_handle(self.handle_for(spec.id, spec.directory))

    async def shell_kind(
        self, resources: Resources, directory: Path | None = None, layers: Sequence[Path] | None = None
    ) -> ShellKind | None:
        if Power.PREPARED in self.script.missing:
            return None
        return ShellKind(resources.memory_mib, resources.pids_max, round(resources.cpu), self.script.agent_sudo)

    async def prepare(self, spec: ShellSpec) -> Handle:
        self._require(Power.PREPARED)
        await self._play(Verb.PREPARE, spec.id)
        self.world.add(spec)
        return self.handle_for(spec.id, spec.directory)

    async def freeze(self, handle: Handle) -> None:
        self._require(Power.FREEZE)
        await self._play(Verb.FREEZE, handle.id)
        self.world.there(handle.id).frozen = True

    async def thaw(self, handle: Handle) -> None:
        await self._play(Verb.THAW, handle.id)
        self.world.there(handle.id).frozen = False

    async def inspect(self, handle: Handle) -> TaskStatus:
        await self._play(Verb.INSPECT, handle.id)
        task = self.world.tasks.get(handle.id)
        return task.status if task is not None else TaskStatus(TaskState.GONE)

    async def stats(self, handle: Handle) -> TaskStats:
        await self._play(Verb.STATS, handle.id)
        task = self.world.tasks.get(handle.id)
        if task is None or task.state is not TaskState.RUNNING:
            raise NotFound(f"sandbox {handle.id} does not run")
        return task.stats

    async def wait(self, handle: Handle) -> TaskStatus:
        await self._play(Verb.WAIT, handle.id)
        task = self.world.tasks.get(handle.id)
        if task is None or task.state is TaskState.CREATED:
            return TaskStatus(TaskState.GONE)
        await task.ended.wait()
        return task.status

    async def recover(self, handle: Handle) -> TaskStatus:
        if handle.version > HANDLE_VERSION:
            raise FailedPrecondition(
                f"handle version {handle.version} of sandbox {handle.id} is newer than this driver"
            )
        await self._play(Verb.RECOVER, handle.id)
        return await self.inspect(handle)

    async def destroy(self, handle: Handle) -> None:
        await self._play(Verb.DESTROY, handle.id)
        if handle.id in self.world.tasks:
            self.world.die(handle.id)
            del self.world.tasks[handle.id]

    async def list_owned(self) -> list[SandboxId]:
        await self._play(Verb.LIST_OWNED, None)
        return sorted(self.world.tasks)

    def handle_for(self, id: SandboxId, directory: Path) -> Handle:
        return Handle(self.name, HANDLE_VERSION, id, {"directory": str(directory)})

    def _running_handle(self, handle: Handle) -> Handle:
        return replace(handle, data={**handle.data, "pid": self.world.tasks[handle.id].pid})

    def _require(self, power: Power) -> None:
        sentence = self.script.missing.get(power)
        if sentence is not None:
            raise FailedPrecondition(sentence)

    async def _play(self, verb: Verb, id: SandboxId | None) -> None:
        self.calls.append((verb, id))
        await self._clock.sleep(self.script.delays_s.get(verb, 0.0))
        errors = self.script.failures.get(verb)
        if errors:
            raise errors.pop(0)

    def _die_quietly(self, id: SandboxId) -> None:
        if id in self.world.tasks:
            self.world.die(id, message="its script ended it")


def failing(verb: Verb, message: str = "the script said so", times: int = 1) -> Script:
    """A script in which the next `times` calls of `verb` raise Internal."""
    return Script(failures={verb: [Internal(message) for _ in range(times)]})
