"""Compressed layers on their way from a registry: whole ones, and parts that the next try goes on from.

<cache>/images/blobs/<hex>        a whole blob whose digest was compared; removed once it is unpacked
<cache>/images/blobs/<hex>.part   as far as it came
<cache>/images/blobs/<hex>.lock   held by whoever fetches it
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import IO

from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import Capacity, InvalidArgument, Unavailable
from atolld.foundation.units import format_bytes
from atolld.images.locks import exclusive, is_held
from atolld.images.oci import Descriptor
from atolld.images.registry import Body

# This much must come in each such time: less is a registry that stalls.
MIN_BYTES = 1 << 20
WINDOW_S = 60.0
STALL_S = 15.0
TRIES = 5
MAX_TRIES = 200
# Is left free for everything else on the disk.
RESERVE_BYTES = 512 << 20
_BATCH_BYTES = 1 << 20

Source = Callable[[int], AbstractAsyncContextManager[Body]]
OnBytes = Callable[[int], None]


class Blobs:
    """The blobs below one cache directory, shared by all daemons of the machine."""

    def __init__(self, cache: Path, clock: Clock | None = None, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.directory = cache / "images" / "blobs"
        self._clock = clock or SystemClock()
        self._reserve_bytes = reserve_bytes

    def path(self, digest: str) -> Path:
        """Where the whole blob is, once it is there."""
        return self.directory / digest.removeprefix("sha256:")

    async def fetch(self, wanted: Descriptor, source: Source, on_bytes: OnBytes) -> Path:
        """The whole blob, verified; goes on from what an earlier try left. `on_bytes`: how many are there, at times.

        `source(offset)` opens it from there on. After a fault it is asked again, and given up when five tries in a row
        bring nothing new, or each takes a quarter of a minute for less than 1 MiB; what came so far then stays for the
        next fetch.

        Raises InvalidArgument when the bytes are not those of the digest, Capacity when the disk is full (in both cases
        the part is removed), Unavailable, and what `source` raises.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        whole = self.path(wanted.digest)
        async with exclusive(whole.with_suffix(".lock")):
            if not whole.exists():
                part = whole.with_suffix(".part")
                try:
                    await self._complete(part, wanted, source, on_bytes)
                except OSError as error:
                    part.unlink(missing_ok=True)
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise Capacity(f"the disk of {self.directory} became full while a layer was fetched") from None
                    raise
                except (InvalidArgument, Capacity):
                    part.unlink(missing_ok=True)
                    raise
                part.rename(whole)
        on_bytes(wanted.size_bytes)
        return whole

    def remove(self, digest: str) -> None:
        """Forget a blob, and what is there of it unless somebody fetches it now; gone is success."""
        whole = self.path(digest)
        whole.unlink(missing_ok=True)
        if not is_held(whole.with_suffix(".lock")):
            whole.with_suffix(".part").unlink(missing_ok=True)

    def remove_all(self) -> int:
        """Forget all of them, the caller makes sure that nobody fetches; returns the bytes freed."""
        freed = 0
        for path in self.directory.iterdir() if self.directory.is_dir() else ():
            freed += path.stat().st_blocks * 512
            path.unlink(missing_ok=True)
        return freed

    async def _complete(self, part: Path, wanted: Descriptor, source: Source, on_bytes: OnBytes) -> None:
        with part.open("a+b") as file:
            hasher = hashlib.sha256()
            size = await asyncio.to_thread(_read_again, file, hasher)
            fruitless = tries = 0
            while size < wanted.size_bytes:
                before, began = size, self._clock.monotonic()
                try:
                    size, hasher = await self._go_on(file, wanted, source, on_bytes, size, hasher)
                    if size == before:
                        raise Unavailable("the registry sent nothing")
                except Unavailable:
                    # What was written counts, whether or not the connection broke afterwards.
                    hasher = hashlib.sha256()
                    size = await asyncio.to_thread(_read_again, file, hasher)
                    stalls = self._clock.monotonic() - began >= STALL_S and size - before < MIN_BYTES
                    fruitless = fruitless + 1 if stalls or size <= before else 0
                    tries += 1
                    if fruitless >= TRIES or tries >= MAX_TRIES:
                        raise
                    await self._clock.sleep(0.5 * 2**fruitless)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        found = f"sha256:{hasher.hexdigest()}"
        if size != wanted.size_bytes or found != wanted.digest:
            raise InvalidArgument(
                f"the registry sent other bytes than it promised: {found} instead of {wanted.digest}; nothing was kept"
            )

    async def _go_on(
        self, file: IO[bytes], wanted: Descriptor, source: Source, on_bytes: OnBytes, size: int, hasher: hashlib._Hash
    ) -> tuple[int, hashlib._Hash]:
        async with source(size) as body:
            if body.offset != size:
                file.truncate(0)
                size = 0
                hasher = hashlib.sha256()
            batch = bytearray()
            began, at_begin = self._clock.monotonic(), size
            try:
                async for piece in body.pieces:
                    batch += piece
                    if size + len(batch) > wanted.size_bytes:
                        raise InvalidArgument(f"the registry sent more than the {wanted.size_bytes} bytes of a layer")
                    now = self._clock.monotonic()
                    if now - began >= WINDOW_S:
                        if size + len(batch) - at_begin < MIN_BYTES:
                            raise Unavailable(
                                f"the registry stalls: less than {format_bytes(MIN_BYTES)} in {WINDOW_S:g} s"
                            )
                        began, at_begin = now, size + len(batch)
                    if len(batch) >= _BATCH_BYTES:
                        size += await self._write(file, hasher, batch)
                        on_bytes(size)
            finally:
                size += await self._write(file, hasher, batch)
        return size, hasher

    async def _write(self, file: IO[bytes], hasher: hashlib._Hash, batch: bytearray) -> int:
        data = bytes(batch)
        batch.clear()

        def write() -> None:
            hasher.update(data)
            file.write(data)
            file.flush()

        await asyncio.to_thread(write)
        self.check_room(0)
        return len(data)

    def check_room(self, bytes_needed: int) -> None:
        """Raises Capacity when the disk cannot take so many bytes more."""
        self.directory.mkdir(parents=True, exist_ok=True)
        space = os.statvfs(self.directory)
        free = space.f_bavail * space.f_frsize
        if free - bytes_needed < self._reserve_bytes:
            raise Capacity(
                f"{format_bytes(bytes_needed)} more do not fit below {self.directory}: {format_bytes(free)} are free, "
                f"and {format_bytes(self._reserve_bytes)} are left to others; 'atoll image prune' may help"
            )


def _read_again(file: IO[bytes], hasher: hashlib._Hash) -> int:
    file.seek(0)
    size = 0
    while data := file.read(_BATCH_BYTES):
        hasher.update(data)
        size += len(data)
    return size
