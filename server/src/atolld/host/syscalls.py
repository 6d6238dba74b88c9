"""The few system calls Python lacks, through libc; each failure is an OSError with its errno and what was tried."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from atolld.foundation.errors import Unavailable

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

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOATIME = 0x00000010
AT_FDCWD = -100

# The same numbers on every architecture that is younger than the calls (asm-generic), x86_64 included.
_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.unshare.argtypes = [ctypes.c_int]
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}", path)
    return result


def mount(source: str, target: Path, kind: str | None, flags: int = 0, data: str = "") -> None:
    """mount(2). `data` above one page is cut by the kernel: see `mount_overlay` for long ones.

    Raises OSError naming the target.
    """
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


def mount_overlay(target: Path, options: list[tuple[str, str]], attributes: int) -> None:
    """Mount an overlay by the new mount interface, one option at a time, so that their length has no page limit.

    Needs a kernel that knows `lowerdir+` (6.8). Raises OSError naming the option that was refused, Unavailable on
    a machine without these system calls.
    """
    if platform.machine() not in ("x86_64", "aarch64", "riscv64"):
        raise Unavailable(f"the new mount interface is not known on {platform.machine()}")
    context = _call(_NR_FSOPEN, "fsopen overlay", ctypes.c_char_p(b"overlay"), ctypes.c_uint(FSOPEN_CLOEXEC))
    try:
        for key, value in options:
            _fsconfig(context, FSCONFIG_SET_STRING, key, value)
        _fsconfig(context, FSCONFIG_CMD_CREATE, None, None)
        tree = _call(
            _NR_FSMOUNT,
            "fsmount",
            ctypes.c_int(context),
            ctypes.c_uint(FSMOUNT_CLOEXEC),
            ctypes.c_uint(attributes),
        )
        try:
            _call(
                _NR_MOVE_MOUNT,
                f"move_mount to {target}",
                ctypes.c_int(tree),
                ctypes.c_char_p(b""),
                ctypes.c_int(AT_FDCWD),
                ctypes.c_char_p(os.fsencode(target)),
                ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
            )
        finally:
            os.close(tree)
    finally:
        os.close(context)


def _fsconfig(context: int, command: int, key: str | None, value: str | None) -> None:
    _call(
        _NR_FSCONFIG,
        f"fsconfig {key or 'create'}",
        ctypes.c_int(context),
        ctypes.c_uint(command),
        ctypes.c_char_p(key.encode() if key is not None else None),
        ctypes.c_char_p(os.fsencode(value) if value is not None else None),
        ctypes.c_int(0),
    )


def _call(number: int, what: str, *arguments: object) -> int:
    return _check(_libc.syscall(ctypes.c_long(number), *arguments), what)
