"""The system calls that handle mounts by descriptor, where no path need lead to them; libc has no names for most.

Each failure is an OSError with its errno and what was tried. Linux 5.12 has all of them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from pathlib import Path

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_FROM_DESCRIPTOR = 0x4
_MOVE_TO_DESCRIPTOR = 0x40

MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2

# The numbers of newer calls are the same on every machine; of this old one they are not.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("namespace", ctypes.c_uint64),
    )


def available(machine: str = platform.machine()) -> bool:
    """Whether the kernel has these calls and their numbers are known."""
    if machine not in _PIVOT_ROOT:
        return False
    try:
        set_attributes(-1, 0)
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


def clone_mount(path: Path) -> int:
    """A descriptor of a copy of the mount that `path` is on, from `path` on, attached nowhere; gone when it is closed.

    Raises OSError naming the path.
    """
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC)
    return _call(_OPEN_TREE, "open_tree", _AT_FDCWD, os.fsencode(path), flags, path=path)


def set_attributes(mount: int, attributes: int, propagation: int = 0) -> None:
    """Give the mount `MOUNT_ATTR_...` beside what it has, and a propagation (`syscalls.MS_PRIVATE`). Raises OSError."""
    wanted = _MountAttr(attributes, 0, propagation, 0)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    _call(_MOUNT_SETATTR, "mount_setattr", mount, b"", ctypes.c_uint(_AT_EMPTY_PATH), ctypes.byref(wanted), size)


def attach(mount: int, target: int) -> None:
    """Attach a mount that `clone_mount` made to what the descriptor `target` is of. Raises OSError."""
    flags = ctypes.c_uint(_MOVE_FROM_DESCRIPTOR | _MOVE_TO_DESCRIPTOR)
    _call(_MOVE_MOUNT, "move_mount", mount, b"", target, b"", flags)


def attach_at(mount: int, target: str) -> None:
    """The same to a path of the calling thread. Raises OSError."""
    _call(_MOVE_MOUNT, "move_mount", mount, b"", _AT_FDCWD, target.encode(), ctypes.c_uint(_MOVE_FROM_DESCRIPTOR))


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2): every process of the mount namespace with the caller's root gets `new`. Raises OSError."""
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"pivot_root has no known number on {platform.machine()}")
    _call(number, "pivot_root", new.encode(), old.encode())


def _call(number: int, what: str, *arguments: object, path: Path | None = None) -> int:
    converted = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *converted)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}", None if path is None else str(path))
    return result
