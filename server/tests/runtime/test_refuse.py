"""The system call filter's program, instruction by instruction."""

from __future__ import annotations

import errno
import struct

import pytest

from atolld.runtime.refuse import Refused, refuse, slow_calls

ARCH, OTHER = 0xC000003E, 0x40000003
ALLOW, ABSENT, NO_DEVICE = 0x7FFF0000, 0x00050000 | errno.ENOSYS, 0x00050000 | errno.ENODEV


def run(program: bytes, arch: int, number: int, argument: int = 0) -> int:
    """A BPF machine of the five instructions that are used."""
    lines = list(struct.iter_unpack("=HBBI", program))
    at, value = 0, 0
    while True:
        code, yes, no, operand = lines[at]
        at += 1
        if code == 0x20:
            value = {0: number, 4: arch, 16: argument & 0xFFFFFFFF}[operand]
        elif code == 0x15:
            at += yes if value == operand else no
        else:
            assert code == 0x06
            return int(operand)


@pytest.mark.parametrize(
    ("arch", "number", "argument", "expected"),
    [
        (ARCH, 324, 0, ABSENT),
        (ARCH, 7, 0x1012, ABSENT),
        (ARCH, 158, 0x1012, NO_DEVICE),
        (ARCH, 158, 0x1_0000_1012, NO_DEVICE),
        # How every thread gets its own memory.
        (ARCH, 158, 0x1002, ALLOW),
        (ARCH, 0, 0x1012, ALLOW),
        (ARCH, 325, 0, ALLOW),
        (OTHER, 324, 0, ALLOW),
        (OTHER, 158, 0x1012, ALLOW),
    ],
)
def test_program(arch: int, number: int, argument: int, expected: int) -> None:
    calls = [Refused(324, errno.ENOSYS), Refused(158, errno.ENODEV, 0x1012), Refused(7, errno.ENOSYS)]
    assert run(refuse(ARCH, calls), arch, number, argument) == expected


@pytest.mark.parametrize(("machine", "known"), [("x86_64", True), ("aarch64", True), ("riscv64", False)])
def test_machines(machine: str, known: bool) -> None:
    assert (slow_calls(machine) is not None) is known
