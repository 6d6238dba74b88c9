"""System calls refused to a runtime's command and to all it starts, by a filter of the calling thread.

Why gVisor gets one: each of the four times that `runsc run` executes itself, its start-up registers for membarrier(2),
and for a process with threads the kernel answers only after an RCU grace period, 5 to 20 ms. Told that the call does
not exist, runsc goes on without. Guests then have no membarrier either, which programs must and do expect.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence

# machine -> (AUDIT_ARCH, number of membarrier)
_MEMBARRIER = {"x86_64": (0xC000003E, 324), "aarch64": (0xC00000B7, 283)}

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_LOAD_WORD = 0x20
_JUMP_EQUAL = 0x15
_RETURN = 0x06
_OFFSET_NUMBER = 0
_OFFSET_ARCH = 4

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def membarrier_filter(machine: str = platform.machine()) -> bytes | None:
    """The filter for `machine`; None where the number is not known, and nothing is refused then."""
    known = _MEMBARRIER.get(machine)
    return None if known is None else refuse(known[0], [known[1]], errno.ENOSYS)


def refuse(arch: int, numbers: Sequence[int], error: int) -> bytes:
    """A seccomp program: `error` for these system calls of `arch`, everything else as it was. At most 250 numbers."""
    count = len(numbers)
    lines = [
        (_LOAD_WORD, 0, 0, _OFFSET_ARCH),
        (_JUMP_EQUAL, 0, count + 1, arch),
        (_LOAD_WORD, 0, 0, _OFFSET_NUMBER),
        *((_JUMP_EQUAL, count - index, 0, number) for index, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | error),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def install(program: bytes) -> None:
    """Put the filter on the calling thread and what it will start, for ever. Needs root. Raises OSError."""
    filter_ = _Program(len(program) // 8, program)
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_SECCOMP): {os.strerror(number)}")
