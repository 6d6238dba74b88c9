"""Writable layers: one ext4 file system in a sparse image file for each sandbox.

    <state>/layers/          0700: no other user of the host reaches what a sandbox wrote, set-user-id files included
      .empty/<mib>.img       formatted once per size, then copied (0.2 MiB of data)
      <id>/disk.img          the image; its size is the sandbox's disk limit, reached as a true ENOSPC
      <id>/mnt/              mounted: upper/ and work/ for overlayfs, log/ for what the agent prints

A guest that fills its disk fills its own image only. The journal is kept (small): after a crash of the host a paused
sandbox's disk must mount again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.aio import spawn
from atolld.foundation.errors import AlreadyExists, InvalidArgument, Unavailable
from atolld.foundation.units import MIB
from atolld.host import loopdev, mounts, syscalls
from atolld.host.instance import Instance, check_item
from atolld.host.sparse import clone_file

MIN_DISK_MIB = 16
_EXT4_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("=I", 2)
_FREEZE = 0xC0045877
_THAW = 0xC0045878
# noinit_itable: the inode tables are zero already (holes), and zeroing them would fill the image.
# discard: what a guest deletes leaves the image, and so the host's disk and every later snapshot.
_OPTIONS = "noinit_itable,discard,errors=remount-ro"
_FLAGS = syscalls.MS_NODEV | syscalls.MS_NOATIME
_BUSY_S = 0.5


@dataclass(frozen=True, slots=True)
class Layer:
    """A writable layer on this machine, mounted or not."""

    id: str
    directory: Path

    @property
    def image(self) -> Path:
        return self.directory / "disk.img"

    @property
    def mount(self) -> Path:
        return self.directory / "mnt"

    @property
    def upper(self) -> Path:
        """What the sandbox changed, for overlayfs."""
        return self.mount / "upper"

    @property
    def work(self) -> Path:
        """overlayfs' own directory."""
        return self.mount / "work"

    @property
    def log(self) -> Path:
        """Directory for the agent's output: bounded, because it is on the sandbox's own disk."""
        return self.mount / "log"


@dataclass(frozen=True, slots=True)
class LayerUsage:
    """`limit_bytes` and `used_bytes` as the guest's `df` tells; `host_bytes`: what the image takes on the host."""

    limit_bytes: int
    used_bytes: int
    host_bytes: int


class Layers:
    """The writable layers of one instance. `direct_io`: images bypass the host's page cache."""

    def __init__(self, instance: Instance, *, direct_io: bool = True) -> None:
        self.directory = instance.state_dir / "layers"
        self._direct_io = direct_io
        self._formatting = asyncio.Lock()

    def prepare(self) -> None:
        """Make the directory, closed to other users and seen by other mount namespaces. Idempotent. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        mounts.make_shared(self.directory)

    def get(self, id: str) -> Layer:
        """The layer's paths, whether it exists or not. Raises InvalidArgument on a bad id."""
        return Layer(id, self.directory / check_item(id))

    async def create(self, id: str, disk_mib: int) -> Layer:
        """A new empty layer of `disk_mib` MiB, mounted, in about 10 ms.

        Raises AlreadyExists, InvalidArgument, OSError; nothing is left then.
        """
        if disk_mib < MIN_DISK_MIB:
            raise InvalidArgument(f"disk_mib is {disk_mib}; a layer has at least {MIN_DISK_MIB} MiB")
        layer = self.get(id)
        empty = await self._empty(disk_mib)
        return await self._new(layer, empty)

    async def clone(self, source: Layer, id: str) -> Layer:
        """A new mounted layer with the contents of `source`, by reflink where the file system has it.

        The caller has made sure that the source's image holds still: unmounted, or inside `frozen`.
        Raises AlreadyExists, NotFound as FileNotFoundError, OSError; nothing is left then.
        """
        return await self._new(self.get(id), source.image)

    async def from_image(self, image: Path, id: str) -> Layer:
        """A new mounted layer that is a clone of `image`, which holds still. Raises as `clone`."""
        return await self._new(self.get(id), image)

    async def mount(self, layer: Layer) -> None:
        """Mount an existing layer; mounted already is success. Raises OSError."""
        await asyncio.to_thread(self._mount, layer)

    async def unmount(self, layer: Layer) -> None:
        """Unmount with everything written to the image; not mounted is success. Raises OSError (EBUSY)."""
        await asyncio.to_thread(mounts.unmount, layer.mount)

    def abandon(self, layer: Layer) -> None:
        """Make the layer drop what is not yet written to its image; everything in it fails with EIO from now on.

        For a sandbox that is being destroyed: unmounting its root file system would write it all out first (seconds
        for a gigabyte). Not mounted is success. Raises OSError.
        """
        if mounts.is_mounted(layer.mount):
            thaw(layer)
            _shut_down(layer.mount)

    async def destroy(self, layer: Layer) -> None:
        """Remove the layer and all it holds, without writing out what is still in memory. Gone is success.

        Under an overlay that was detached it is gone from the tree at once, and from the disk with its last user.
        Raises OSError: EBUSY while a process works in it directly.
        """
        await asyncio.to_thread(self._destroy, layer)

    def rename(self, layer: Layer, id: str) -> Layer:
        """Give a mounted layer another id (a prepared one becomes a sandbox's). Raises AlreadyExists, OSError."""
        target = self.get(id)
        if target.directory.exists():
            raise AlreadyExists(f"layer {id} exists")
        layer.directory.rename(target.directory)
        return target

    def list_owned(self) -> list[Layer]:
        """Every layer of this instance, half-made ones included."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        return [Layer(name, self.directory / name) for name in sorted(names) if not name.startswith(".")]

    def usage(self, layer: Layer) -> LayerUsage:
        """Raises FileNotFoundError when the layer is gone."""
        space = os.statvfs(layer.mount)
        return LayerUsage(
            limit_bytes=space.f_blocks * space.f_frsize,
            used_bytes=(space.f_blocks - space.f_bfree) * space.f_frsize,
            host_bytes=layer.image.stat().st_blocks * 512,
        )

    def remove_all(self) -> None:
        """Destroy every layer and the directory itself. Blocks. Raises OSError when one is in use."""
        for layer in self.list_owned():
            self._destroy(layer)
        for target in mounts.mounts_below(self.directory):
            mounts.unmount(target)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.directory)

    async def _new(self, layer: Layer, image: Path) -> Layer:
        work = spawn(asyncio.to_thread(self._new_blocking, layer, image), name=f"layer-{layer.id}")
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # A thread cannot be stopped half way: wait for what it makes, and take that away.
            await asyncio.wait([work])
            await asyncio.to_thread(self._destroy, layer)
            raise

    def _new_blocking(self, layer: Layer, image: Path) -> Layer:
        try:
            layer.directory.mkdir(mode=0o700)
        except FileExistsError as error:
            raise AlreadyExists(f"layer {layer.id} exists") from error
        try:
            clone_file(image, layer.image)
            layer.mount.mkdir(mode=0o700)
            self._mount(layer)
        except BaseException:
            self._destroy(layer)
            raise
        return layer

    def _mount(self, layer: Layer) -> None:
        if mounts.is_mounted(layer.mount):
            return
        with loopdev.attached(layer.image, direct_io=self._direct_io) as device:
            syscalls.mount(str(device), layer.mount, "ext4", _FLAGS, _OPTIONS)

    def _destroy(self, layer: Layer) -> None:
        while mounts.is_mounted(layer.mount):
            thaw(layer)
            _shut_down(layer.mount)
            mounts.unmount_patiently(layer.mount, _BUSY_S)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(layer.directory)

    async def _empty(self, disk_mib: int) -> Path:
        path = self.directory / ".empty" / f"{disk_mib}.img"
        async with self._formatting:
            if not path.exists():
                await format_empty(path, disk_mib)
        return path


async def format_empty(path: Path, disk_mib: int) -> None:
    """Write the image of an empty layer to `path`: sparse, ext4, with `upper`, `work` and `log` in it.

    Raises Unavailable when mke2fs is missing or fails, with its own words.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new, skeleton = path.with_suffix(".new"), path.with_suffix(".d")
    for name in ("upper", "work", "log"):
        (skeleton / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    new.touch(mode=0o600)
    os.truncate(new, disk_mib * MIB)
    # No room kept for growing or for root, tables and journal not written: an empty image holds 0.2 MiB of data.
    options = ("-t", "ext4", "-m", "0", "-b", "4096", "-O", "^resize_inode", "-J", "size=4")
    lazy = ("-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0")
    try:
        process = await asyncio.create_subprocess_exec(
            "mke2fs", "-q", "-F", *options, *lazy, "-d", str(skeleton), str(new),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
    except FileNotFoundError as error:
        raise Unavailable("mke2fs is not installed; install the package e2fsprogs") from error
    finally:
        shutil.rmtree(skeleton)
    if process.returncode != 0:
        new.unlink()
        raise Unavailable(f"mke2fs cannot format {disk_mib} MiB: {output.decode(errors='replace').strip()}")
    new.replace(path)


def _shut_down(mount: Path) -> None:
    """Make the file system drop what it has not written: at the end of a layer that would be work for nothing."""
    descriptor = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _EXT4_SHUTDOWN, _NO_LOG_FLUSH)
    except OSError as error:
        if error.errno != errno.EIO:  # shut down before
            raise
    finally:
        os.close(descriptor)


def thaw(layer: Layer) -> None:
    """Let writers go on in a layer that a daemon froze and did not live to thaw. Not frozen, not there: success.

    Raises OSError.
    """
    try:
        descriptor = os.open(layer.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.ioctl(descriptor, _THAW, 0)
    except OSError as error:
        # EOPNOTSUPP: not mounted, and the file system below cannot freeze.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def write_out(layer: Layer) -> None:
    """Write out what is dirty in a mounted layer, without holding anybody up. Blocks. Raises OSError."""
    descriptor = os.open(layer.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(descriptor)
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def frozen(layer: Layer) -> AsyncIterator[None]:
    """Everything written so far is in the image and nothing more is written until the block ends.

    Writers in the sandbox wait: keep it short. Raises OSError (EBUSY when frozen already).
    """
    descriptor = os.open(layer.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        await asyncio.to_thread(fcntl.ioctl, descriptor, _FREEZE, 0)
        try:
            yield
        finally:
            await asyncio.to_thread(fcntl.ioctl, descriptor, _THAW, 0)
    finally:
        os.close(descriptor)
