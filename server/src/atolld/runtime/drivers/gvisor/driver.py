"""The gVisor driver: one `runsc run` per sandbox, everything else read from the machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.errors import AlreadyExists, FailedPrecondition, Internal, NotFound, RuntimeUnusable
from atolld.foundation.ids import SandboxId
from atolld.host import procs
from atolld.host.cgroups import Cgroups
from atolld.host.procs import ProcessIdentity
from atolld.runtime.commands import Command, run_command, tail
from atolld.runtime.driver import Fingerprint, Handle, LaunchSpec, Overhead, Power, TaskState, TaskStats, TaskStatus
from atolld.runtime.drivers.gvisor import limits, state
from atolld.runtime.drivers.gvisor.arguments import Runsc, config_file, error_log, panic_log
from atolld.runtime.drivers.gvisor.binary import read_binary
from atolld.runtime.drivers.gvisor.bundle import SUDO_PATH, bind_sources, bundle
from atolld.runtime.drivers.gvisor.probe import Probe, probe
from atolld.runtime.drivers.gvisor.settings import GvisorSettings
from atolld.runtime.killing import kill_sandbox
from atolld.runtime.record import Record, current_boot_id
from atolld.runtime.refuse import membarrier_filter
from atolld.runtime.stats import read_stats

log = logging.getLogger("atolld.gvisor")

NAME = "gvisor"
ISOLATION = (
    "gVisor: the guest's system calls are served by a kernel of its own in user space (the sentry), which itself may "
    "make only a few dozen of the host's, in empty namespaces without privileges"
)
# As if they used half of all memory more than they do.
GUEST_OOM_SCORE = 500


class GvisorDriver:
    """Implements `atolld.runtime.driver.RuntimeDriver` with gVisor's `runsc`."""

    def __init__(self, settings: GvisorSettings, cgroups: Cgroups) -> None:
        self._settings = settings
        self._cgroups = cgroups
        self._fingerprint: Fingerprint | None = None
        self._tools: tuple[Runsc, Probe] | None = None
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
        runsc, _ = await self._ready()
        try:
            descriptor = os.open(
                config_file(spec.directory), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        except FileExistsError:
            raise AlreadyExists(f"sandbox {spec.id} exists already in {spec.directory}") from None
        with os.fdopen(descriptor, "w") as file:
            # Without set-user-id bits the image's sudo refuses; the agent's works by asking PID 1.
            agent_sudo = not runsc.binary.has("allow-suid") and has_sudo(spec.rootfs)
            json.dump(bundle(spec, agent_sudo=agent_sudo), file)
        keep_tmp_on_disk(spec.rootfs)
        return Record(spec.id, spec.directory, spec.log, spec.resources).to_handle(NAME)

    async def start(self, handle: Handle) -> Handle:
        runsc, found = await self._ready()
        record = Record.from_handle(handle)
        if record.log is None or record.resources is None:
            raise FailedPrecondition(f"sandbox {record.id} was not created by this driver")
        self._cgroups.set_limits(record.id, limits.boot(record.resources))
        # gVisor hands root in the guest a descriptor of each mounted file, and a remount lets it change the file's mode
        # and owner on the host; the file is every sandbox's.
        seal = bind_sources(json.loads(config_file(record.directory).read_bytes()))
        argv = runsc.run(record.id, record.directory)
        command = Command(argv, record.log, found.cover, seal, membarrier_filter())
        code = await run_command(command, self._settings.command_timeout_s)
        process = self._living(record) if code == 0 else None
        if process is None:
            raise Internal(f"gVisor did not start sandbox {record.id}: {_last_words(record, code)}")
        self._cgroups.set_limits(record.id, limits.running(record.resources))
        offer(self._cgroups.pids(record.id) - _own_pids(self._settings.root, record.id, process))
        return replace(record, process=process, boot_id=current_boot_id()).to_handle(NAME)

    async def stop(self, handle: Handle, grace_s: float) -> None:
        record = Record.from_handle(handle)
        process = self._living(record)
        if process is not None and grace_s > 0:
            runsc, _ = await self._ready()
            command = Command(runsc.kill(record.id, record.directory, "TERM"), record.directory / "kill.log")
            await run_command(command, self._settings.command_timeout_s)
            await procs.wait_death(process, grace_s)
        await self._kill(record)

    async def inspect(self, handle: Handle) -> TaskStatus:
        record = Record.from_handle(handle)
        process = self._living(record)
        if process is not None:
            return TaskStatus(TaskState.RUNNING, process.pid, self._cgroups.oom_kills(record.id) > 0)
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
        self._tools = Runsc(binary, self._settings.root, found.platform), found
        return Fingerprint(
            NAME,
            True,
            "",
            binary.version,
            ISOLATION,
            missing={
                Power.CHECKPOINT: "saving a running sandbox is not built yet",
                Power.RESTORE: "restoring a saved sandbox is not built yet",
                Power.FREEZE: "freezing a running sandbox is not built yet",
            },
            details={
                "binary": str(binary.path),
                "platform": found.platform,
                "network_cure": "on" if found.cover_net else "off",
            },
        )

    async def _ready(self) -> tuple[Runsc, Probe]:
        fingerprint = await self.fingerprint()
        if self._tools is None:
            raise RuntimeUnusable(fingerprint.reason)
        return self._tools

    def _living(self, record: Record) -> ProcessIdentity | None:
        """The sentry's process, by the handle or, when the handle was stored before the start, by runsc's own state."""
        if record.process is not None:
            return record.living()
        known = state.read_state(self._settings.root, record.id)
        if known is None or known.sandbox_pid is None:
            return None
        process = procs.identify(known.sandbox_pid)
        if process is None or not _is_of(process.pid, record.id) or not procs.is_alive(process):
            return None
        return process

    def _gone(self, record: Record) -> TaskStatus:
        killed = self._cgroups.oom_kills(record.id) > 0
        message = "the sandbox used more memory than its limit" if killed else tail(panic_log(record.directory), 600)
        return TaskStatus(TaskState.GONE, None, killed, message)

    async def _kill(self, record: Record) -> None:
        await kill_sandbox(self._cgroups, record, "runsc", self._living(record))


def keep_tmp_on_disk(rootfs: Path) -> None:
    """Make sure the guest's /tmp, when it has one, is not empty.

    gVisor covers an empty /tmp with a file system in memory: a large file there would not meet the disk limit but the
    memory limit, which ends the sandbox. The directory made is one that every desktop Linux has. `rootfs` comes from a
    template, so no symbolic link in it is followed.
    """
    try:
        descriptor = os.open(rootfs / "tmp", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        # None, or a symbolic link: gVisor decides then.
        return
    try:
        if not os.listdir(descriptor):
            os.mkdir(".X11-unix", 0o755, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def has_sudo(rootfs: Path) -> bool:
    """Whether the image has its sudo where ours can take its place: a regular file, by no symbolic link."""
    path = rootfs
    for name in SUDO_PATH.strip("/").split("/"):
        path /= name
        if path.is_symlink():
            return False
    return path.is_file()


def offer(pids: Iterable[int]) -> None:
    """Make these the first the kernel ends when memory is short, of the sandbox or of the whole machine.

    They are the host processes that stand for guest processes, and count the memory those have mapped: ending the
    biggest ends one guest process, as Linux would, and not the sentry with the whole sandbox, nor the daemon. Those
    that start later inherit it. (Lowering the sentry's own score instead would need CAP_SYS_RESOURCE.)
    """
    for pid in pids:
        try:
            Path("/proc", str(pid), "oom_score_adj").write_text(str(GUEST_OOM_SCORE))
        except (FileNotFoundError, ProcessLookupError):
            continue


def _own_pids(root: Path, id: SandboxId, sentry: ProcessIdentity) -> set[int]:
    known = state.read_state(root, id)
    return {sentry.pid, known.gofer_pid if known is not None and known.gofer_pid else 0}


def _is_of(pid: int, id: SandboxId) -> bool:
    try:
        return id.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _last_words(record: Record, code: int) -> str:
    words = tail(error_log(record.directory), 800) or tail(panic_log(record.directory), 800)
    if not words and record.log is not None:
        words = tail(record.log, 400)
    return words or f"runsc ended with status {code} and said nothing"
