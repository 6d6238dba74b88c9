"""Commands of a runtime: started without a copy of the daemon, watched by pidfd, killed when they take too long.

A command gets its output as a file, never as a pipe: a sandbox inherits what its command was given, and a pipe would
stay open (and keep the reader waiting) for as long as the sandbox lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.aio import spawn
from atolld.foundation.errors import DeadlineExceeded
from atolld.host import syscalls
from atolld.runtime import refuse

# Nothing of the daemon's own environment reaches a runtime.
COMMAND_ENV: Mapping[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `output` takes stdout and stderr (appended, made when missing, never through a symbolic link).

    `cover`: directories over which the command, and only it, sees an empty file system. `tiny`: the same, with room for
    4 KiB; what writes more meets ENOSPC. `seal`: files it and all it starts reach through a read-only mount only, so
    that not even a descriptor of theirs changes mode or owner. All of these mounts end with the last user of them.
    `filter`: a seccomp program (see `atolld.runtime.refuse`) for it and all it starts. `batch`: what of it wakes up
    interrupts no other process (SCHED_BATCH), for it and all it starts.
    """

    argv: Sequence[str]
    output: Path
    cover: tuple[Path, ...] = ()
    seal: tuple[Path, ...] = ()
    tiny: tuple[Path, ...] = ()
    filter: bytes | None = None
    batch: bool = False


async def run_to_its_end(command: Command, timeout_s: float) -> int:
    """As `run_command`, but a caller that is cancelled waits for the end of the command first.

    For commands that must not be cut off, because nobody could tell afterwards what they have done.
    """
    work = spawn(run_command(command, timeout_s), name="command", report=False)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


async def run_command(command: Command, timeout_s: float) -> int:
    """Run it to its end and return its exit status (negative: the signal that killed it).

    It leads a session of its own, so nothing the daemon dies of reaches it. Raises DeadlineExceeded after `timeout_s`
    seconds, when its whole process group was killed; so it is when the caller is cancelled. Raises OSError when it
    cannot be started.
    """
    process = await _start(command)
    try:
        async with asyncio.timeout(timeout_s):
            await _ended(process)
    except TimeoutError:
        raise DeadlineExceeded(f"{command.argv[0]} did not finish within {timeout_s:g} s") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # At most the moment the kernel needs to take a killed process down.
            process.wait()
    return process.returncode


def tail(path: Path, limit_bytes: int = TAIL_BYTES) -> str:
    """The end of a command's output for an error message; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit_bytes))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


async def _ended(process: subprocess.Popen[bytes]) -> None:
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(process.pid)
    ended: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    try:
        loop.add_reader(descriptor, tell)
        try:
            await ended
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)


async def _start(command: Command) -> subprocess.Popen[bytes]:
    """Start it from a thread of its own: spawning blocks for a millisecond, and a mount namespace is a thread's."""
    loop = asyncio.get_running_loop()
    started: asyncio.Future[subprocess.Popen[bytes]] = loop.create_future()

    def deliver(process: subprocess.Popen[bytes] | None, error: BaseException | None) -> None:
        if process is not None:
            started.set_result(process)
        elif error is not None:
            started.set_exception(error)

    def work() -> None:
        try:
            process = _spawn(command)
        except Exception as error:
            loop.call_soon_threadsafe(deliver, None, error)
        else:
            loop.call_soon_threadsafe(deliver, process, None)

    threading.Thread(target=work, name="spawn", daemon=True).start()
    try:
        return await asyncio.shield(started)
    except asyncio.CancelledError:
        # The thread cannot be called back: what it starts is killed as soon as it stands.
        await asyncio.wait([started])
        if started.exception() is None:
            process = started.result()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise


def _spawn(command: Command) -> subprocess.Popen[bytes]:
    if command.cover or command.seal or command.tiny:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        # Slave, not private: what the host unmounts meanwhile must not be kept alive by this copy of its mounts.
        syscalls.mount("none", Path("/"), None, syscalls.MS_REC | syscalls.MS_SLAVE)
        for directory in command.cover:
            syscalls.mount("none", directory, "tmpfs", syscalls.MS_RDONLY, "size=4k")
        for directory in command.tiny:
            syscalls.mount("none", directory, "tmpfs", 0, "size=4k")
        for file in command.seal:
            syscalls.mount(str(file), file, None, syscalls.MS_BIND)
            syscalls.mount("none", file, None, syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    output = os.open(command.output, flags, 0o640)
    try:
        if command.batch:
            # Of this thread alone, which ends here.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        if command.filter is not None:
            refuse.install(command.filter)
        # No preexec_fn and no user change: that is what lets the interpreter use vfork.
        return subprocess.Popen(
            list(command.argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(COMMAND_ENV),
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(output)
