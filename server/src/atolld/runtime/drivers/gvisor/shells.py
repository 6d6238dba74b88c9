"""Containers that wait for a guest: made by `runsc create` beforehand, and given a root file system, and a saved memory
where there is one, when there is a guest.

A start or restore into one takes half as long, because the sentry and the gofer run already. It works because both use
the root file system only once something starts: the gofer opens it then, in a mount namespace of its own, where until
then an empty directory is its root.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.errors import FailedPrecondition, Internal
from atolld.host import rootmounts
from atolld.host.rootmounts import Bind
from atolld.runtime.driver import LaunchSpec, ShellKind, ShellSpec
from atolld.runtime.drivers.gvisor import limits, processes, state
from atolld.runtime.drivers.gvisor.arguments import config_file
from atolld.runtime.drivers.gvisor.bundle import AGENT_PATH, SUDO_PATH, bundle
from atolld.runtime.drivers.gvisor.engine import Engine
from atolld.runtime.drivers.gvisor.image import has_sudo, keep_tmp_on_disk, make_agent_place
from atolld.runtime.drivers.gvisor.saved import SavedLaunch
from atolld.runtime.drivers.gvisor.starting import (
    bounds_of,
    create_shell,
    start_in_shell,
    start_saved_in_shell,
    write_config,
)
from atolld.runtime.record import Record

# A saved guest has its own name and variables in its memory, a new one is given its name by the agent.
HOSTNAME = "sandbox"
# The gofer takes its root within a millisecond of the command's end.
_ROOT_TIMEOUT_S = 1.0
_LOOK_S = 0.002
# What gVisor mounts on, and what keeps it from mounting something on /tmp.
_MOUNT_POINTS = ("proc", "sys", "dev", "tmp/.X11-unix")


def kind_of(resources: Resources, *, agent_sudo: bool) -> ShellKind:
    """The kind of a guest with these bounds."""
    cpus = math.ceil(max(resources.cpu, limits.LEAST_CPUS))
    return ShellKind(resources.memory_mib, resources.pids_max, cpus, agent_sudo)


def kind_of_saved(resources: Resources, directory: Path) -> ShellKind | None:
    """See `RuntimeDriver.shell_kind`."""
    saved = SavedLaunch.read(directory)
    if (saved.memory_mib, saved.pids_max) != (resources.memory_mib, resources.pids_max):
        return None
    return kind_of(resources, agent_sudo=saved.agent_sudo)


async def prepare(engine: Engine, spec: ShellSpec) -> Record:
    """See `RuntimeDriver.prepare`. Raises Internal also when this runsc keeps its root elsewhere than those known."""
    if spec.kind != kind_of(spec.resources, agent_sudo=spec.kind.agent_sudo):
        raise FailedPrecondition(f"{spec.kind} does not fit {spec.resources}")
    root = _make_root(spec)
    launch = LaunchSpec(
        id=spec.id,
        rootfs=root,
        netns=spec.netns,
        agent=spec.agent,
        log=spec.log,
        directory=spec.directory,
        cgroup=spec.cgroup,
        resources=spec.resources,
        hostname=HOSTNAME,
    )
    write_config(spec.directory, spec.id, bundle(launch, agent_sudo=spec.kind.agent_sudo))
    record = Record(spec.id, spec.directory, spec.log, spec.resources)
    await create_shell(engine, record)
    gofer = _gofer(engine, record)
    try:
        async with asyncio.timeout(_ROOT_TIMEOUT_S):
            while not rootmounts.has_root(gofer, root):  # noqa: ASYNC110 (no event tells of another process's chroot)
                await asyncio.sleep(_LOOK_S)
    except (TimeoutError, OSError) as error:
        raise Internal(f"the gofer of {spec.id} did not take its root: {error!r}") from error
    return record


async def restore_into(engine: Engine, spec: LaunchSpec, directory: Path, shell: Record) -> Record:
    """See `RuntimeDriver.restore`."""
    kind = _kind_of_waiting(engine, spec, shell)
    if kind_of_saved(spec.resources, directory) != kind:
        raise FailedPrecondition(f"the guest saved in {directory} needs another kind of shell than {shell.id}")
    await _give_root(engine, spec, shell, agent_sudo=kind.agent_sudo)
    record = await start_saved_in_shell(engine, Record(spec.id, spec.directory, shell.log, spec.resources), directory)
    await _note(spec, SavedLaunch.read(directory).bundle(spec))
    return record


async def start_into(engine: Engine, spec: LaunchSpec, shell: Record) -> Record:
    """See `RuntimeDriver.start_into`."""
    kind = _kind_of_waiting(engine, spec, shell)
    agent_sudo = not engine.runsc.binary.has("allow-suid") and await asyncio.to_thread(has_sudo, spec.rootfs)
    if kind_of(spec.resources, agent_sudo=agent_sudo) != kind:
        raise FailedPrecondition(f"{spec.id} needs another kind of shell than {shell.id}")
    try:
        await asyncio.to_thread(make_agent_place, spec.rootfs)
    except OSError as error:
        raise FailedPrecondition(f"{spec.id} has no place for the agent: {error}") from error
    await _give_root(engine, spec, shell, agent_sudo=agent_sudo)
    record = await start_in_shell(engine, Record(spec.id, spec.directory, shell.log, spec.resources))
    await _note(spec, bundle(spec, agent_sudo=agent_sudo))
    return record


def _kind_of_waiting(engine: Engine, spec: LaunchSpec, shell: Record) -> ShellKind:
    """Raises FailedPrecondition when `shell` does not wait for `spec`."""
    known = state.read_state(engine.settings.root, shell.id)
    if shell.id != spec.id or shell.directory != spec.directory or known is None or not known.created:
        raise FailedPrecondition(f"{shell.id} is no shell that waits for {spec.id}")
    stored = json.loads(config_file(shell.directory).read_bytes())
    bounds = bounds_of(shell)
    return kind_of(bounds, agent_sudo=SavedLaunch.of(stored, bounds).agent_sudo)


async def _give_root(engine: Engine, spec: LaunchSpec, shell: Record, *, agent_sudo: bool) -> None:
    keep_tmp_on_disk(spec.rootfs)
    targets = [AGENT_PATH, SUDO_PATH] if agent_sudo else [AGENT_PATH]
    try:
        await rootmounts.replace_root(
            _gofer(engine, shell), spec.rootfs, [Bind(spec.agent, target) for target in targets]
        )
    except OSError as error:
        raise Internal(f"the root file system of {spec.id} cannot be put in place: {error}") from error


async def _note(spec: LaunchSpec, config: dict[str, object]) -> None:
    """What a later save of it is to tell: the guest's own, not the shell's."""
    await asyncio.to_thread(_replace, config_file(spec.directory), json.dumps(config))


def _make_root(spec: ShellSpec) -> Path:
    root = spec.directory / "root"
    for name in _MOUNT_POINTS:
        (root / name).mkdir(parents=True)
    for path in (AGENT_PATH, SUDO_PATH):
        file = root / path.strip("/")
        file.parent.mkdir(parents=True)
        file.touch()
    return root


def _gofer(engine: Engine, record: Record) -> int:
    """Its pid. Raises Internal when it is gone."""
    known = state.read_state(engine.settings.root, record.id)
    pid = None if known is None else known.gofer_pid
    if pid is None or pid not in engine.cgroups.pids(record.id) or b"gofer" not in processes.command_line(pid):
        raise Internal(f"the gofer of {record.id} is gone")
    return pid


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    part.replace(path)
