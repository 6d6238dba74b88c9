"""The container driver: one `runc run` per sandbox, everything else read from the machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import resource
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    NotFound,
    RuntimeUnusable,
)
from atolld.foundation.ids import SandboxId
from atolld.foundation.scratch import scratch
from atolld.host import procs
from atolld.host.cgroups import Cgroups
from atolld.host.procs import ProcessIdentity
from atolld.runtime import freezing
from atolld.runtime.commands import Command, run_command, tail
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
from atolld.runtime.drivers.container import state
from atolld.runtime.drivers.container.bundle import OPEN_FILES, bundle
from atolld.runtime.drivers.container.settings import ContainerSettings
from atolld.runtime.killing import kill_sandbox
from atolld.runtime.record import Record, current_boot_id
from atolld.runtime.stats import read_stats

NAME = "container"
ISOLATION = (
    "container: namespaces, a system call filter and few capabilities on the host's own kernel; weaker than gVisor, "
    "because a fault in the kernel is a way out, and the guest's root is the host's root with its hands tied"
)
MISSING = {
    Power.CHECKPOINT: (
        "a container cannot be saved with its memory; save its file system only, or create it with the gvisor runtime"
    ),
    Power.RESTORE: "a container cannot go on from a saved memory; start from the file system, or use gvisor",
    Power.OWN_KERNEL: "a container runs on the host's kernel; use the gvisor runtime",
    Power.PREPARED: "a container is started from nothing, which takes no preparation; see restore",
}
# The agent itself, and runc's own start inside the cgroup.
OVERHEAD = Overhead(memory_mib=8, tasks=16)
# Error of a missing errno in a filter; 1.0 and earlier lack defaultErrnoRet.
OLDEST = (1, 1)
_VERSION = re.compile(r"runc version (\d+)\.(\d+)(\S*)")


class ContainerDriver:
    """Implements `atolld.runtime.driver.RuntimeDriver` with `runc`."""

    def __init__(self, settings: ContainerSettings, cgroups: Cgroups) -> None:
        self._settings = settings
        self._cgroups = cgroups
        self._fingerprint: Fingerprint | None = None
        self._binary: Path | None = None
        self._looking = asyncio.Lock()

    @property
    def name(self) -> str:
        return NAME

    def overhead(self, resources: Resources) -> Overhead:
        return OVERHEAD

    async def fingerprint(self) -> Fingerprint:
        if self._fingerprint is None:
            async with self._looking:
                if self._fingerprint is None:
                    self._fingerprint = await self._look()
        return self._fingerprint

    async def create(self, spec: LaunchSpec) -> Handle:
        await self._ready()
        try:
            descriptor = os.open(_config(spec.directory), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise AlreadyExists(f"sandbox {spec.id} exists already in {spec.directory}") from None
        with os.fdopen(descriptor, "w") as file:
            json.dump(bundle(spec, platform.machine(), _open_files()), file)
        return Record(spec.id, spec.directory, spec.log, spec.resources).to_handle(NAME)

    async def start(self, handle: Handle) -> Handle:
        binary = await self._ready()
        record = Record.from_handle(handle)
        if record.log is None:
            raise FailedPrecondition(f"sandbox {record.id} was not created by this driver")
        argv = [str(binary), f"--root={self._settings.root}", f"--log={_error_log(record.directory)}"]
        argv += ["--log-format=json", "run", "--detach", f"--bundle={record.directory}", record.id]
        code = await run_command(Command(argv, record.log), self._settings.command_timeout_s)
        process = state.first_process(self._settings.root, record.id) if code == 0 else None
        if process is None:
            words = tail(_error_log(record.directory), 800) or f"runc ended with status {code} and said nothing"
            raise Internal(f"runc did not start sandbox {record.id}: {words}")
        return replace(record, process=process, boot_id=current_boot_id()).to_handle(NAME)

    async def stop(self, handle: Handle, grace_s: float) -> None:
        record = Record.from_handle(handle)
        process = self._living(record)
        if process is not None and grace_s > 0:
            procs.send_signal(process, signal.SIGTERM)
            with contextlib.suppress(NotFound):
                # Standing still it could not obey.
                freezing.thaw(self._cgroups, record.id)
            await procs.wait_death(process, grace_s)
        await self._kill(record)

    async def suspend(self, handle: Handle) -> None:
        raise FailedPrecondition(MISSING[Power.CHECKPOINT])

    async def unsuspend(self, handle: Handle) -> None:
        """Nothing is ever suspended."""
        self._require_living(handle)

    async def checkpoint(self, handle: Handle, directory: Path, *, end_connections: bool) -> None:
        raise FailedPrecondition(MISSING[Power.CHECKPOINT])

    async def restore(self, spec: LaunchSpec, directory: Path, into: Handle | None = None) -> Handle:
        raise FailedPrecondition(MISSING[Power.RESTORE])

    async def start_into(self, spec: LaunchSpec, into: Handle) -> Handle:
        raise FailedPrecondition(MISSING[Power.PREPARED])

    async def shell_kind(
        self, resources: Resources, directory: Path | None = None, layers: Sequence[Path] | None = None
    ) -> ShellKind | None:
        return None

    async def prepare(self, spec: ShellSpec) -> Handle:
        raise FailedPrecondition(MISSING[Power.PREPARED])

    async def freeze(self, handle: Handle) -> None:
        await freezing.freeze(self._cgroups, self._require_living(handle).id)

    async def thaw(self, handle: Handle) -> None:
        record = Record.from_handle(handle)
        freezing.wake(self._cgroups, record.id, self._living(record))

    async def inspect(self, handle: Handle) -> TaskStatus:
        record = Record.from_handle(handle)
        process = self._living(record)
        if process is not None:
            return TaskStatus(TaskState.RUNNING, process.pid, self._cgroups.oom_kills(record.id) > 0)
        never_started = record.process is None and not state.directory(self._settings.root, record.id).exists()
        if never_started and _config(record.directory).exists():
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
        return await self.inspect(handle)

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
        binary = self._settings.find_binary()
        if binary is None:
            reason = "runc is not installed; `make run` installs it, or put it into the PATH"
            return Fingerprint(NAME, False, reason, "", ISOLATION)
        try:
            version = await _version(binary)
            self._settings.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except RuntimeUnusable as error:
            return Fingerprint(NAME, False, error.message, "", ISOLATION)
        self._binary = binary
        return Fingerprint(NAME, True, "", version, ISOLATION, MISSING, {"binary": str(binary)})

    async def _ready(self) -> Path:
        fingerprint = await self.fingerprint()
        if self._binary is None:
            raise RuntimeUnusable(fingerprint.reason)
        return self._binary

    def _require_living(self, handle: Handle) -> Record:
        record = Record.from_handle(handle)
        if self._living(record) is None:
            raise NotFound(f"sandbox {record.id} is gone")
        return record

    def _living(self, record: Record) -> ProcessIdentity | None:
        """PID 1, by the handle or, when the handle was stored before the start, by runc's own state."""
        if record.process is not None:
            return record.living()
        process = state.first_process(self._settings.root, record.id)
        return process if process is not None and procs.is_alive(process) else None

    def _gone(self, record: Record) -> TaskStatus:
        killed = self._cgroups.oom_kills(record.id) > 0
        return TaskStatus(TaskState.GONE, None, killed, "the sandbox used more memory than its limit" if killed else "")

    async def _kill(self, record: Record) -> None:
        await kill_sandbox(self._cgroups, record, "runc", self._living(record))


def _open_files() -> int:
    """runc needs a right to raise the limit above our own that root in a container or a small VM may lack."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)


def _config(directory: Path) -> Path:
    return directory / "config.json"


def _error_log(directory: Path) -> Path:
    return directory / "runc.log"


async def _version(binary: Path) -> str:
    with scratch("runc") as directory:
        output = directory / "version"
        try:
            code = await run_command(Command([str(binary), "--version"], output), 10.0)
        except (OSError, DeadlineExceeded) as error:
            raise RuntimeUnusable(f"{binary} cannot be run: {error}") from error
        text = output.read_text(errors="replace")
    return parse_version(text if code == 0 else "")


def parse_version(text: str) -> str:
    """`runc --version` -> its version. Raises RuntimeUnusable when it is older than 1.1 or no runc's."""
    match = _VERSION.search(text)
    if match is None:
        raise RuntimeUnusable(f"runc does not say its version: {text[:80]!r}; install runc 1.1 or newer")
    if (int(match[1]), int(match[2])) < OLDEST:
        raise RuntimeUnusable(f"runc {match[1]}.{match[2]}{match[3]} is too old: 1.1 or newer is needed")
    return f"{match[1]}.{match[2]}{match[3]}"
