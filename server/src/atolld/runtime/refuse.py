"""System calls refused to a runtime's command and to all it starts, by a filter of the calling thread.

Why gVisor gets one:

- Each of the four times that `runsc run` executes itself, its start-up registers for membarrier(2), and for a process
  with threads the kernel answers only after an RCU grace period, 5 to 20 ms. Told that the call does not exist, runsc
  goes on without. Guests then have no membarrier either, which programs must and do expect.
- It asks for the CPUID instruction to fault in guests, where processor and kernel can, and answers it itself. A C
  library asks some thirty times before `main`, so that takes up to half of a small program's start. Told that the
  machine cannot, as many cannot, runsc leaves the instruction to the processor.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """A system call by its number, told `error`; with `first_argument` only where the first argument is that."""

    number: int
    error: int
    first_argument: int | None = None


_ARCH_SET_CPUID = 0x1012
# machine -> (AUDIT_ARCH, what is refused there)
_SLOW = {
    "x86_64": (0xC000003E, (Refused(324, errno.ENOSYS), Refused(158, errno.ENODEV, _ARCH_SET_CPUID))),
    "aarch64": (0xC00000B7, (Refused(283, errno.ENOSYS),)),
}

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_LOAD_WORD = 0x20
_JUMP_EQUAL = 0x15
_RETURN = 0x06
_OFFSET_NUMBER = 0
_OFFSET_ARCH = 4
# On machines with the lower half first, which those of _SLOW are.
_OFFSET_FIRST_ARGUMENT = 16

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def slow_calls(machine: str = platform.machine()) -> bytes | None:
    """The filter for `machine`; None where its numbers are not known, and nothing is refused then."""
    known = _SLOW.get(machine)
    return None if known is None else refuse(*known)


def refuse(arch: int, calls: Sequence[Refused]) -> bytes:
    """A seccomp program: these system calls of `arch` are refused, everything else is as it was. At most 50 calls."""
    rules: list[tuple[int, int, int, int]] = []
    for call in calls:
        refused = (_RETURN, 0, 0, _ERRNO | call.error)
        if call.first_argument is None:
            rules += [(_LOAD_WORD, 0, 0, _OFFSET_NUMBER), (_JUMP_EQUAL, 0, 1, call.number), refused]
        else:
            # Its lower half: the calls meant here take a number of 32 bits.
            rules += [
                (_LOAD_WORD, 0, 0, _OFFSET_NUMBER),
                (_JUMP_EQUAL, 0, 3, call.number),
                (_LOAD_WORD, 0, 0, _OFFSET_FIRST_ARGUMENT),
                (_JUMP_EQUAL, 0, 1, call.first_argument),
                refused,
            ]
    lines = [
        (_LOAD_WORD, 0, 0, _OFFSET_ARCH),
        (_JUMP_EQUAL, 0, len(rules), arch),
        *rules,
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def install(program: bytes) -> None:
    """Put the filter on the calling thread and what it will start, for ever. Needs root. Raises OSError."""
    filter_ = _Program(len(program) // 8, program)
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_SECCOMP): {os.strerror(number)}")
