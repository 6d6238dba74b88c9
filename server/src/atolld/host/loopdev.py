"""Loop devices that go away by themselves."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_READ_ONLY = 1
_AUTOCLEAR = 4
_DIRECT_IO = 16
_CONTROL = Path("/dev/loop-control")
_LOOP_MAJOR = 7
_ATTEMPTS = 64


class _LoopInfo64(ctypes.Structure):
    _fields_ = (
        ("device", ctypes.c_uint64),
        ("inode", ctypes.c_uint64),
        ("rdevice", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("sizelimit", ctypes.c_uint64),
        ("number", ctypes.c_uint32),
        ("encrypt_type", ctypes.c_uint32),
        ("encrypt_key_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("file_name", ctypes.c_char * 64),
        ("crypt_name", ctypes.c_char * 64),
        ("encrypt_key", ctypes.c_ubyte * 32),
        ("init", ctypes.c_uint64 * 2),
    )


class _LoopConfig(ctypes.Structure):
    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", _LoopInfo64),
        ("reserved", ctypes.c_uint64 * 8),
    )


@contextmanager
def attached(image: Path, *, direct_io: bool, read_only: bool = False) -> Iterator[Path]:
    """A loop device backed by `image` for the time of the block; mounted in it, it lives until it is unmounted.

    The device detaches itself when its last user is gone, so a crash at any point leaks none.

    `direct_io`: bypass the host's page cache for the image; silently not done where its file system cannot.
    `read_only`: nothing written to the device reaches the image.
    Raises OSError, naming the image, when no loop device can be had.
    """
    backing = os.open(image, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        flags = _AUTOCLEAR | (_DIRECT_IO if direct_io else 0) | (_READ_ONLY if read_only else 0)
        device, descriptor = _claim(backing, image, flags)
    finally:
        os.close(backing)
    try:
        yield device
    finally:
        os.close(descriptor)


def _claim(backing: int, image: Path, flags: int) -> tuple[Path, int]:
    config = _LoopConfig(fd=backing, block_size=4096 if flags & _DIRECT_IO else 0)
    config.info.flags = flags
    config.info.file_name = os.fsencode(image)[-63:]
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            device = Path(f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}")
            descriptor = _open_device(device)
            try:
                fcntl.ioctl(descriptor, _LOOP_CONFIGURE, config)
                return device, descriptor
            except OSError as error:
                os.close(descriptor)
                # Somebody else took the free one between the two calls.
                if error.errno != errno.EBUSY:
                    raise OSError(error.errno, f"attach a loop device: {error.strerror}", str(image)) from error
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device stayed free long enough", str(image))


def _open_device(device: Path) -> int:
    try:
        return os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # A container's /dev is no devtmpfs: the node of a device the kernel has just made must be made too.
        os.mknod(device, stat.S_IFBLK | 0o660, os.makedev(_LOOP_MAJOR, int(device.name.removeprefix("loop"))))
        return os.open(device, os.O_RDWR | os.O_CLOEXEC)


def list_attached(directory: Path) -> dict[Path, Path]:
    """Image -> device for every loop device whose image lies (or lay, if deleted) below `directory`."""
    found = {}
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            image = Path(entry.read_text().rstrip("\n").removesuffix(" (deleted)"))
        except OSError:
            # It was detached while we looked.
            continue
        if image.is_relative_to(directory):
            found[image] = Path("/dev") / entry.parent.parent.name
    return found
