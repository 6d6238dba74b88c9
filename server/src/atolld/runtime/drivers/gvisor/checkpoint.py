"""Stopping a guest where it is, writing its memory to disk, and letting it go on.

Two faults of gVisor shape this (docs/runtimes.md, "Saving and restoring"). A checkpoint that fails ends the sandbox,
unless it is told to leave it running. And a program that waits with epoll for a connection to the outside never gets
another one after a restore, unless the connection has ended before the image is written. What ends connections is
a checkpoint itself; so, where there may be any, one is run first that cannot succeed, for lack of room.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from atolld.foundation.errors import FailedPrecondition, Internal, NotFound
from atolld.foundation.ids import SandboxId
from atolld.host.cgroups import Cgroups
from atolld.runtime import freezing
from atolld.runtime.drivers.gvisor import runs, state
from atolld.runtime.drivers.gvisor.arguments import config_file
from atolld.runtime.drivers.gvisor.direct import takes_direct_writes
from atolld.runtime.drivers.gvisor.engine import Engine
from atolld.runtime.drivers.gvisor.failures import no_room, save_failure
from atolld.runtime.drivers.gvisor.limits import LEAST_CPUS
from atolld.runtime.drivers.gvisor.saved import SavedLaunch
from atolld.runtime.record import Record

log = logging.getLogger("atolld.gvisor")

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ROOM_BYTES = 64 * 1024


async def suspend(engine: Engine, record: Record) -> None:
    """Stop every task of the guest; a frozen sandbox is thawed for it. Raises NotFound, Internal, DeadlineExceeded.

    Nested pauses count in the sentry, so the command is run to its end and only when runsc does not know of one.
    """
    engine.require_living(record)
    freezing.thaw(engine.cgroups, record.id)
    if _is_paused(engine, record):
        return
    with _enough_cpu(engine.cgroups, record.id):
        words = await engine.ask(record, engine.runsc.pause(record.id))
    if words is not None:
        raise Internal(f"gVisor did not suspend sandbox {record.id}: {words}")


async def unsuspend(engine: Engine, record: Record) -> None:
    """Let it go on, when it is paused and only then: runsc ends a guest that it resumes once too often."""
    engine.require_living(record)
    if not _is_paused(engine, record):
        return
    freezing.thaw(engine.cgroups, record.id)
    words = await engine.ask(record, engine.runsc.resume(record.id))
    if words is not None:
        raise Internal(f"gVisor did not let sandbox {record.id} go on: {words}")


async def checkpoint(engine: Engine, record: Record, directory: Path, *, end_connections: bool) -> None:
    """Write the memory of a suspended guest and how it had been started. See `RuntimeDriver.checkpoint`."""
    engine.require_living(record)
    if record.resources is None:
        raise Internal(f"the handle of sandbox {record.id} does not tell its bounds")
    freezing.thaw(engine.cgroups, record.id)
    launch = SavedLaunch.of(json.loads(config_file(record.directory).read_bytes()), record.resources)
    try:
        direct = await asyncio.to_thread(takes_direct_writes, directory)
        launch.write(directory)
    except OSError as error:
        raise no_room(record.id) if error.errno in _FULL else error from error
    with _enough_cpu(engine.cgroups, record.id):
        if end_connections:
            await _end_connections(engine, record)
        argv = engine.runsc.checkpoint(record.id, directory, direct=direct)
        words = await engine.ask(record, argv, engine.settings.save_timeout_s)
        if words is None:
            await _note_runs(engine, record, directory)
    if words is not None:
        # Where a write fails, gVisor often tells of a null pointer: it stumbles while it puts its words together.
        full = await asyncio.to_thread(_is_full, directory)
        raise no_room(record.id) if full else save_failure(record.id, words)


async def _note_runs(engine: Engine, record: Record, directory: Path) -> None:
    try:
        await asyncio.to_thread(runs.note, engine.require_living(record).pid, directory)
    except OSError as error:
        # Without them a resume takes longer.
        log.info("the parts of the memory of %s are not known: %r", record.id, error)
        (directory / runs.FILE).unlink(missing_ok=True)


async def _end_connections(engine: Engine, record: Record) -> None:
    """Every TCP connection to the outside ends with ECONNABORTED, before anything is saved that knows of it."""
    nowhere = record.directory / "nowhere"
    nowhere.mkdir(exist_ok=True)
    argv = engine.runsc.checkpoint(record.id, nowhere, direct=False)
    words = await engine.ask(record, argv, engine.settings.save_timeout_s, tiny=(nowhere,))
    if words is None:
        log.warning("a checkpoint into 4 KiB succeeded; connections of %s may not have ended", record.id)
        return
    failure = save_failure(record.id, words)
    if isinstance(failure, FailedPrecondition):
        raise failure


def _is_paused(engine: Engine, record: Record) -> bool:
    known = state.read_state(engine.settings.root, record.id)
    return known is not None and known.paused


@contextmanager
def _enough_cpu(cgroups: Cgroups, id: SandboxId) -> Iterator[None]:
    """At least two cores, while the guest stands still: with a tenth of one, saving would take twenty times as long."""
    try:
        before = cgroups.limits(id)
        cgroups.set_limits(id, replace(before, cpu=max(before.cpu, LEAST_CPUS)))
    except FileNotFoundError:
        raise NotFound(f"sandbox {id} is gone") from None
    try:
        yield
    finally:
        try:
            cgroups.set_limits(id, before)
        except FileNotFoundError:
            # Destroyed meanwhile, with its limits.
            log.debug("the group of %s is gone", id)


def _is_full(directory: Path) -> bool:
    """Whether the disk that `directory` is on takes no more data."""
    path = directory / "room"
    try:
        with path.open("wb") as file:
            file.write(bytes(_ROOM_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return True
    finally:
        path.unlink(missing_ok=True)
    return False
