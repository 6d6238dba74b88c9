"""The gVisor driver: one runsc command per sandbox, everything else read from the machine."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.errors import FailedPrecondition, NotFound, RuntimeUnusable
from atolld.foundation.ids import SandboxId
from atolld.host import mountcalls, procs
from atolld.host.cgroups import Cgroups
from atolld.host.procs import ProcessIdentity
from atolld.runtime import freezing
from atolld.runtime.commands import tail
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
from atolld.runtime.drivers.gvisor import checkpoint, limits, processes, shells, starting, state
from atolld.runtime.drivers.gvisor.arguments import Runsc, config_file, panic_log
from atolld.runtime.drivers.gvisor.binary import read_binary
from atolld.runtime.drivers.gvisor.bundle import bundle
from atolld.runtime.drivers.gvisor.engine import Engine
from atolld.runtime.drivers.gvisor.image import has_sudo, keep_tmp_on_disk, layers_have_sudo
from atolld.runtime.drivers.gvisor.probe import probe
from atolld.runtime.drivers.gvisor.restore import restore
from atolld.runtime.drivers.gvisor.settings import GvisorSettings
from atolld.runtime.killing import kill_sandbox
from atolld.runtime.record import Record
from atolld.runtime.stats import read_stats

NAME = "gvisor"
ISOLATION = (
    "gVisor: the guest's system calls are served by a kernel of its own in user space (the sentry), which itself may "
    "make only a few dozen of the host's, in empty namespaces without privileges"
)
CANNOT_SAVE = (
    "this gVisor is too old to save a running sandbox; install 2024-07 or newer (Debian: bookworm-backports), or save "
    "the file system only"
)
CANNOT_PREPARE = (
    "sandboxes are restored without a container prepared for them, because the kernel is too old to change another "
    "process's root (Linux 5.12)"
)


class GvisorDriver:
    """Implements `atolld.runtime.driver.RuntimeDriver` with gVisor's `runsc`."""

    def __init__(self, settings: GvisorSettings, cgroups: Cgroups) -> None:
        self._settings = settings
        self._cgroups = cgroups
        self._fingerprint: Fingerprint | None = None
        self._engine: Engine | None = None
        self._looking = asyncio.Lock()

    @property
    def name(self) -> str:
        return NAME

    def overhead(self, resources: Resources) -> Overhead:
        return limits.overhead(resources)

    async def fingerprint(self) -> Fingerprint:
        if self._fingerprint is None:
            async with self._looking:
                if self._fingerprint is None:
                    self._fingerprint = await self._look()
        return self._fingerprint

    async def create(self, spec: LaunchSpec) -> Handle:
        engine = await self._ready()
        # Without set-user-id bits the image's sudo refuses; the agent's works by asking PID 1.
        agent_sudo = not engine.runsc.binary.has("allow-suid") and has_sudo(spec.rootfs)
        starting.write_config(spec.directory, spec.id, bundle(spec, agent_sudo=agent_sudo))
        keep_tmp_on_disk(spec.rootfs)
        return Record(spec.id, spec.directory, spec.log, spec.resources).to_handle(NAME)

    async def start(self, handle: Handle) -> Handle:
        record = await starting.start(await self._ready(), Record.from_handle(handle))
        return record.to_handle(NAME)

    async def stop(self, handle: Handle, grace_s: float) -> None:
        record = Record.from_handle(handle)
        process = self._living(record)
        if process is not None and grace_s > 0:
            engine = await self._ready()
            with contextlib.suppress(NotFound):
                # Standing still it could not obey.
                freezing.thaw(self._cgroups, record.id)
                await checkpoint.unsuspend(engine, record)
                await engine.ask(record, engine.runsc.kill(record.id, record.directory, "TERM"))
                await procs.wait_death(process, grace_s)
        await self._kill(record)

    async def suspend(self, handle: Handle) -> None:
        await checkpoint.suspend(await self._with(Power.CHECKPOINT), Record.from_handle(handle))

    async def unsuspend(self, handle: Handle) -> None:
        await checkpoint.unsuspend(await self._ready(), Record.from_handle(handle))

    async def checkpoint(self, handle: Handle, directory: Path, *, end_connections: bool) -> None:
        engine = await self._with(Power.CHECKPOINT)
        await checkpoint.checkpoint(engine, Record.from_handle(handle), directory, end_connections=end_connections)

    async def restore(self, spec: LaunchSpec, directory: Path, into: Handle | None = None) -> Handle:
        engine = await self._with(Power.RESTORE)
        if into is None:
            record = await restore(engine, spec, directory)
        else:
            record = await shells.restore_into(engine, spec, directory, Record.from_handle(into))
        return record.to_handle(NAME)

    async def start_into(self, spec: LaunchSpec, into: Handle) -> Handle:
        engine = await self._with(Power.PREPARED)
        return (await shells.start_into(engine, spec, Record.from_handle(into))).to_handle(NAME)

    async def shell_kind(
        self, resources: Resources, directory: Path | None = None, layers: Sequence[Path] | None = None
    ) -> ShellKind | None:
        engine = await self._ready()
        if Power.PREPARED in (await self.fingerprint()).missing:
            return None
        if directory is not None:
            return await asyncio.to_thread(shells.kind_of_saved, resources, directory)
        agent_sudo = not engine.runsc.binary.has("allow-suid")
        if agent_sudo and layers is not None:
            agent_sudo = await asyncio.to_thread(layers_have_sudo, layers)
        return shells.kind_of(resources, agent_sudo=agent_sudo)

    async def prepare(self, spec: ShellSpec) -> Handle:
        return (await shells.prepare(await self._with(Power.PREPARED), spec)).to_handle(NAME)

    async def freeze(self, handle: Handle) -> None:
        record = Record.from_handle(handle)
        if self._living(record) is None:
            raise NotFound(f"sandbox {record.id} is gone")
        await freezing.freeze(self._cgroups, record.id)

    async def thaw(self, handle: Handle) -> None:
        record = Record.from_handle(handle)
        freezing.wake(self._cgroups, record.id, self._living(record))

    async def inspect(self, handle: Handle) -> TaskStatus:
        record = Record.from_handle(handle)
        process = self._living(record)
        if process is not None:
            known = state.read_state(self._settings.root, record.id) if record.process is None else None
            is_shell = known is not None and known.created
            running = TaskState.CREATED if is_shell else TaskState.RUNNING
            return TaskStatus(running, process.pid, self._cgroups.oom_kills(record.id) > 0)
        never_started = record.process is None and not state.state_file(self._settings.root, record.id).exists()
        if never_started and config_file(record.directory).exists():
            return TaskStatus(TaskState.CREATED)
        return self._gone(record)

    async def stats(self, handle: Handle) -> TaskStats:
        record = Record.from_handle(handle)
        if self._living(record) is None:
            raise NotFound(f"sandbox {record.id} does not run")
        return read_stats(self._cgroups, record.id)

    async def wait(self, handle: Handle) -> TaskStatus:
        record = Record.from_handle(handle)
        process = self._living(record)
        if process is not None:
            await procs.wait_death(process)
        return self._gone(record)

    async def recover(self, handle: Handle) -> TaskStatus:
        status = await self.inspect(handle)
        record = Record.from_handle(handle)
        if status.state is TaskState.RUNNING and record.resources is not None:
            # The daemon may have died between the start and the return to the real limits.
            self._cgroups.set_limits(record.id, limits.running(record.resources))
        return status

    async def destroy(self, handle: Handle) -> None:
        record = Record.from_handle(handle)
        await self._kill(record)
        state.remove_state(self._settings.root, record.id)
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.rmtree, record.directory)

    async def list_owned(self) -> list[SandboxId]:
        return state.list_ids(self._settings.root)

    def handle_for(self, id: SandboxId, directory: Path) -> Handle:
        return Record(id, directory).to_handle(NAME)

    async def _look(self) -> Fingerprint:
        binary_path = self._settings.find_binary()
        if binary_path is None:
            reason = "runsc (gVisor) is not installed; `make run` installs it, or put it into the PATH"
            return Fingerprint(NAME, False, reason, "", ISOLATION)
        try:
            for directory in (self._settings.cache, self._settings.root):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            binary = await read_binary(binary_path, self._settings.cache)
            found = await probe(binary, self._settings)
        except RuntimeUnusable as error:
            return Fingerprint(NAME, False, error.message, "", ISOLATION)
        runsc = Runsc(binary, self._settings.root, found.platform)
        self._engine = Engine(runsc, found, self._settings, self._cgroups)
        needs_save = (Power.CHECKPOINT, Power.RESTORE, Power.PREPARED)
        missing = {} if binary.can_save else dict.fromkeys(needs_save, CANNOT_SAVE)
        if not mountcalls.available():
            missing.setdefault(Power.PREPARED, CANNOT_PREPARE)
        details = {
            "binary": str(binary.path),
            "platform": found.platform,
            "network_cure": "on" if found.cover_net else "off",
        }
        return Fingerprint(NAME, True, "", binary.version, ISOLATION, missing, details)

    async def _ready(self) -> Engine:
        fingerprint = await self.fingerprint()
        if self._engine is None:
            raise RuntimeUnusable(fingerprint.reason)
        return self._engine

    async def _with(self, power: Power) -> Engine:
        engine = await self._ready()
        sentence = (await self.fingerprint()).missing.get(power)
        if sentence is not None:
            raise FailedPrecondition(sentence)
        return engine

    def _living(self, record: Record) -> ProcessIdentity | None:
        return processes.living(self._settings.root, record)

    def _gone(self, record: Record) -> TaskStatus:
        killed = self._cgroups.oom_kills(record.id) > 0
        message = "the sandbox used more memory than its limit" if killed else tail(panic_log(record.directory), 600)
        return TaskStatus(TaskState.GONE, None, killed, message)

    async def _kill(self, record: Record) -> None:
        await kill_sandbox(self._cgroups, record, "runsc", self._living(record))
