"""Cache mounts of steps: directories in memory that hold, when a step begins, what they held when the last one ended.

A cache is the project's own, by its id, and is never worth a build: when it cannot be given or kept, the step goes on
without. Its contents travel as a tar that the image's own `tar` writes and reads; the machine only stores it.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Protocol
from weakref import WeakValueDictionary

from atolld.control.builds.sandbox import StepSandbox
from atolld.control.builds.shared import Say
from atolld.core.build import CacheMount, Sharing
from atolld.foundation.errors import AtollError, InvalidArgument
from atolld.foundation.ids import ProjectId
from atolld.foundation.units import GIB, MIB, format_bytes

MAX_BYTES = 1 * GIB
# Of the sandbox's memory, where it lies while the step runs.
_PART_OF_MEMORY = 2
_PIECE_BYTES = 1 * MIB


class NewCache(Protocol):
    """What `atolld.images.cachemounts.NewCache` is."""

    def write(self, piece: bytes) -> None: ...

    def commit(self) -> None: ...

    def abandon(self) -> None: ...


class CacheStore(Protocol):
    """Where contents are kept; `atolld.images.cachemounts.CacheMounts` is one, and documents it."""

    def read(self, project_id: ProjectId, id: str) -> BinaryIO | None: ...

    def write(self, project_id: ProjectId, id: str) -> NewCache: ...


@dataclass(frozen=True, slots=True)
class Held:
    """A cache that a step has for itself. `kept`: whether it is read and written; else it is an empty directory."""

    mount: CacheMount
    kept: bool


class _TooLarge(Exception):
    """More than is kept."""


class StepCaches:
    """Gives caches to steps, and takes them back."""

    def __init__(self, store: CacheStore) -> None:
        self._store = store
        # Forgotten with their last holder.
        self._locks: WeakValueDictionary[tuple[ProjectId, str], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(self, project_id: ProjectId, mounts: Sequence[CacheMount]) -> AsyncIterator[tuple[Held, ...]]:
        """The caches of one step, until the block is left: `locked` ones wait for other steps, a `private` one that
        another step has is an empty directory, and of `shared` ones the last step to end counts."""
        async with AsyncExitStack() as stack:
            kept: dict[str, bool] = {}
            # In one order everywhere: two steps never wait for each other.
            for mount in sorted(mounts, key=lambda one: one.id):
                if mount.id in kept or mount.sharing is Sharing.SHARED:
                    kept.setdefault(mount.id, True)
                    continue
                lock = self._locks.setdefault((project_id, mount.id), asyncio.Lock())
                kept[mount.id] = mount.sharing is Sharing.LOCKED or not lock.locked()
                if kept[mount.id]:
                    await stack.enter_async_context(lock)
            yield tuple(Held(mount, kept[mount.id]) for mount in mounts)

    async def fill(
        self, project_id: ProjectId, sandbox: StepSandbox, held: Sequence[Held], workdir: str, memory_mib: int, say: Say
    ) -> None:
        """Make the directories, and put into them what is there for them.

        Raises InvalidArgument when the image or the runtime cannot have any, GuestUnreachable.
        """
        for one in held:
            path = posixpath.join(workdir, one.mount.target)
            await mount_memory(sandbox, path, one.mount)
            if not one.kept:
                continue
            file = await asyncio.to_thread(self._store.read, project_id, one.mount.id)
            if file is None:
                continue
            with file:
                if await asyncio.to_thread(_size, file) <= _limit(memory_mib):
                    argv = ("tar", "-x", "-p", "-f", "-", "-C", path)
                    if await _quiet(sandbox, argv, _pieces(file)) == 0:
                        continue
            say("warn", f"the cache {one.mount.id!r} could not be given to the step, and begins empty")
            await _quiet(sandbox, ("umount", path))
            await mount_memory(sandbox, path, one.mount)

    async def keep(
        self, project_id: ProjectId, sandbox: StepSandbox, held: Sequence[Held], workdir: str, memory_mib: int, say: Say
    ) -> None:
        """Keep what is in them, where the step has not said `readonly`."""
        for one in held:
            if not one.kept or one.mount.readonly:
                continue
            try:
                await self._keep(project_id, sandbox, one.mount, posixpath.join(workdir, one.mount.target), memory_mib)
            except _TooLarge:
                limit = format_bytes(_limit(memory_mib))
                say("warn", f"the cache {one.mount.id!r} has more than {limit}, and is not kept")
            except (AtollError, OSError) as error:
                why = error.message if isinstance(error, AtollError) else "the disk said no"
                say("warn", f"the cache {one.mount.id!r} is not kept: {why}")

    async def _keep(
        self, project_id: ProjectId, sandbox: StepSandbox, mount: CacheMount, path: str, memory_mib: int
    ) -> None:
        new = await asyncio.to_thread(self._store.write, project_id, mount.id)
        left = _limit(memory_mib)

        def take(stream: str, piece: bytes) -> None:
            nonlocal left
            if stream == "stdout":
                left -= len(piece)
                if left < 0:
                    raise _TooLarge
                new.write(piece)

        try:
            argv = ("tar", "-c", "-f", "-", "-C", path, ".")
            if await sandbox.run(argv, user="root", cwd="/", envs={}, on_output=take) != 0:
                raise InvalidArgument("the image has no tar, or that failed")
            await asyncio.to_thread(new.commit)
        finally:
            await asyncio.to_thread(new.abandon)


async def mount_memory(sandbox: StepSandbox, path: str, mount: CacheMount | None = None) -> None:
    """An empty directory in memory at `path`; for a cache with its owner and mode. Raises InvalidArgument."""
    options = "mode=1777" if mount is None else f"mode={mount.mode:04o},uid={mount.uid},gid={mount.gid}"
    argv = ("/bin/sh", "-c", 'mkdir -p "$0" && mount -t tmpfs -o "$1" tmpfs "$0"', path, options)
    if await _quiet(sandbox, argv) != 0:
        raise InvalidArgument(
            f"{path!r} cannot be a directory in memory for this step: it takes the image's sh, mkdir and mount, and a "
            "runtime in which root may mount (gvisor)"
        )


async def _quiet(sandbox: StepSandbox, argv: tuple[str, ...], stdin: AsyncIterator[bytes] | None = None) -> int:
    with suppress(InvalidArgument):
        return await sandbox.run(argv, user="root", cwd="/", envs={}, stdin=stdin, on_output=lambda *_: None)
    # There is no such program.
    return 127


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    # What cannot be read ends it: tar tells that something is missing, and the cache begins empty.
    with suppress(OSError):
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece


def _size(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _limit(memory_mib: int) -> int:
    return min(MAX_BYTES, memory_mib * MIB // _PART_OF_MEMORY)
