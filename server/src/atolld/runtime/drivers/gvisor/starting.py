"""One runsc command that makes a sandbox run: a new guest (`run`) or a saved one (`restore`)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atolld.core.sandbox import Resources
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.errors import AlreadyExists, FailedPrecondition
from atolld.foundation.ids import SandboxId
from atolld.runtime.commands import Command, run_command, tail
from atolld.runtime.drivers.gvisor import failures, filling, limits, processes, runs
from atolld.runtime.drivers.gvisor.arguments import config_file, error_log, panic_log
from atolld.runtime.drivers.gvisor.bundle import bind_sources
from atolld.runtime.drivers.gvisor.engine import Engine
from atolld.runtime.record import Record, current_boot_id
from atolld.runtime.refuse import slow_calls

# An argument of the sentry's own command line, and of no command of runsc that starts it.
_BOOTED = b"\0--total-memory"
_LOOK_S = 0.004


def write_config(directory: Path, id: SandboxId, config: Mapping[str, Any]) -> None:
    """The bundle of a new sandbox. Raises AlreadyExists when there is one."""
    try:
        descriptor = os.open(config_file(directory), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"sandbox {id} exists already in {directory}") from None
    with os.fdopen(descriptor, "w") as file:
        json.dump(config, file)


async def start(engine: Engine, record: Record) -> Record:
    """`runsc run`. Raises Internal with runsc's own words."""
    argv = engine.runsc.run(record.id, record.directory)
    engine.cgroups.set_limits(record.id, limits.boot(bounds_of(record)))
    words = await _bring_up(engine, record, argv, engine.settings.command_timeout_s)
    if isinstance(words, str):
        raise failures.start_failure(record.id, words)
    return words


async def start_in_shell(engine: Engine, record: Record) -> Record:
    """`runsc start` of a container that was created, and so has read its limits, before. Raises Internal."""
    engine.cgroups.set_limits(record.id, limits.loading(bounds_of(record)))
    argv = engine.runsc.start(record.id, record.directory)
    words = await _bring_up(engine, record, argv, engine.settings.command_timeout_s)
    if isinstance(words, str):
        raise failures.start_failure(record.id, words)
    return words


async def start_saved(engine: Engine, record: Record, image: Path) -> Record:
    """`runsc restore` from what a checkpoint wrote to `image`. Raises Internal with runsc's own words."""
    engine.cgroups.set_limits(record.id, limits.boot(bounds_of(record)))
    # What the guest is to see of its memory is read before its memory is: that may fill all of the real limit.
    room = spawn(_give_room_once_booted(engine, record), name=f"restore-{record.id}")
    try:
        async with filling.beside(await _filling(engine, record, image)):
            return await _restore(engine, record, image)
    finally:
        await cancel_and_wait(room)


async def start_saved_in_shell(engine: Engine, record: Record, image: Path) -> Record:
    """The same in a container that was created, and so has read its limits, before. Raises Internal."""
    engine.cgroups.set_limits(record.id, limits.loading(bounds_of(record)))
    async with filling.beside(await _filling(engine, record, image)):
        return await _restore(engine, record, image)


async def create_shell(engine: Engine, record: Record) -> None:
    """`runsc create`. Raises Internal with runsc's own words."""
    engine.cgroups.set_limits(record.id, limits.boot(bounds_of(record)))
    argv = engine.runsc.create(record.id, record.directory)
    code = await _run(engine, record, argv, engine.settings.command_timeout_s)
    if code != 0:
        raise failures.start_failure(record.id, _last_words(record, code))


async def _restore(engine: Engine, record: Record, image: Path) -> Record:
    argv = engine.runsc.restore(record.id, record.directory, image)
    words = await _bring_up(engine, record, argv, engine.settings.save_timeout_s)
    if isinstance(words, str):
        killed = engine.cgroups.oom_kills(record.id) > 0
        raise failures.restore_failure(record.id, words, out_of_memory=killed)
    return words


async def _filling(engine: Engine, record: Record, image: Path) -> filling.Filling:
    parts = await asyncio.to_thread(runs.read, image)
    first = await asyncio.to_thread(_first_memory, engine, record) if parts else None
    return filling.Filling(lambda: _booted(engine, record), engine.cgroups.entrance(record.id), parts, first)


def _first_memory(engine: Engine, record: Record) -> int | None:
    """The inode of the memory file that a container has which was created before; None when there is none."""
    sentry = _booted(engine, record)
    if sentry is None:
        return None
    try:
        return next((file.inode for file in runs.memory_files(sentry)), None)
    except FileNotFoundError:
        # It has just ended, which the restore tells in words of its own.
        return None


async def _bring_up(engine: Engine, record: Record, argv: Sequence[str], timeout_s: float) -> Record | str:
    """The record of the running sandbox, or the words of what went wrong."""
    cgroups, root = engine.cgroups, engine.settings.root
    code = await _run(engine, record, argv, timeout_s)
    process = processes.living(root, record) if code == 0 else None
    if process is None:
        return _last_words(record, code)
    cgroups.set_limits(record.id, limits.running(bounds_of(record)))
    processes.offer(cgroups.pids(record.id) - processes.own_pids(root, record.id, process))
    return replace(record, process=process, boot_id=current_boot_id())


async def _run(engine: Engine, record: Record, argv: Sequence[str], timeout_s: float) -> int:
    if record.log is None:
        raise _not_created(record)
    # gVisor hands root in the guest a descriptor of each mounted file, and a remount lets it change the file's mode
    # and owner on the host; the file is every sandbox's.
    seal = bind_sources(json.loads(config_file(record.directory).read_bytes()))
    # Batch: what gVisor keeps of a guest process waits actively for the sentry, which it has just interrupted by being
    # woken (docs/runtimes.md, "Scheduling").
    command = Command(argv, record.log, engine.probe.cover, seal, filter=slow_calls(), batch=True)
    return await run_command(command, timeout_s)


async def _give_room_once_booted(engine: Engine, record: Record) -> None:
    while _booted(engine, record) is None:  # noqa: ASYNC110 (no event tells of another process's exec)
        await asyncio.sleep(_LOOK_S)
    engine.cgroups.set_limits(record.id, limits.loading(bounds_of(record)))


def _booted(engine: Engine, record: Record) -> int | None:
    """The sentry, once it has read its limits."""
    return next((pid for pid in engine.cgroups.pids(record.id) if _BOOTED in processes.command_line(pid)), None)


def bounds_of(record: Record) -> Resources:
    """Raises FailedPrecondition when the handle is only good for `destroy`."""
    if record.resources is None:
        raise _not_created(record)
    return record.resources


def _not_created(record: Record) -> FailedPrecondition:
    return FailedPrecondition(f"sandbox {record.id} was not created by this driver")


def _last_words(record: Record, code: int) -> str:
    words = tail(error_log(record.directory), 800) or tail(panic_log(record.directory), 800)
    if not words and record.log is not None:
        words = tail(record.log, 400)
    return words or f"runsc ended with status {code} and said nothing"
