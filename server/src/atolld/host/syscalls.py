"""The few system calls Python lacks, through libc; each failure is an OSError with its errno and what was tried."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.unshare.argtypes = [ctypes.c_int]
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]


def _check(result: int, what: str, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}", path)
    return result


def mount(source: str, target: Path, kind: str | None, flags: int = 0, data: str = "") -> None:
    """mount(2). The kernel takes at most one page of `data`. Raises OSError naming the target."""
    _check(
        _libc.mount(
            os.fsencode(source), os.fsencode(target), kind.encode() if kind else None, flags, os.fsencode(data) or None
        ),
        f"mount {kind or 'bind'}",
        str(target),
    )


def umount(target: Path, flags: int = 0) -> None:
    """umount2(2), never following a symbolic link at the end of `target`. Raises OSError naming the target."""
    _check(_libc.umount2(os.fsencode(target), flags | UMOUNT_NOFOLLOW), "umount", str(target))


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread only. Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """setns(2) for the calling thread only. Raises OSError."""
    _check(_libc.setns(descriptor, kind), "setns")


def syncfs(descriptor: int) -> None:
    """syncfs(2): write out everything dirty of the file system of `descriptor`. Raises OSError."""
    _check(_libc.syncfs(descriptor), "syncfs")


def exchange(first: Path, second: Path) -> None:
    """renameat2(2) with RENAME_EXCHANGE: each gets the other's name, with no moment at which a name leads nowhere.

    Raises OSError: ENOENT where either is missing, EINVAL where the file system cannot.
    """
    result = _libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    _check(result, f"exchange with {second}", str(first))
