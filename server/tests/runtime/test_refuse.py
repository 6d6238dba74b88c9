"""The system call filter's program, instruction by instruction."""

from __future__ import annotations

import errno
import struct

import pytest

from atolld.runtime.refuse import membarrier_filter, refuse

ARCH, OTHER = 0xC000003E, 0x40000003
ALLOW, REFUSED = 0x7FFF0000, 0x00050000 | errno.ENOSYS


def run(program: bytes, arch: int, number: int) -> int:
    """A BPF machine of the five instructions that are used."""
    lines = list(struct.iter_unpack("=HBBI", program))
    at, value = 0, 0
    while True:
        code, yes, no, operand = lines[at]
        at += 1
        if code == 0x20:
            value = {0: number, 4: arch}[operand]
        elif code == 0x15:
            at += yes if value == operand else no
        else:
            assert code == 0x06
            return int(operand)


@pytest.mark.parametrize(
    ("arch", "number", "expected"),
    [(ARCH, 324, REFUSED), (ARCH, 7, REFUSED), (ARCH, 0, ALLOW), (ARCH, 325, ALLOW), (OTHER, 324, ALLOW)],
)
def test_program(arch: int, number: int, expected: int) -> None:
    assert run(refuse(ARCH, [324, 7], errno.ENOSYS), arch, number) == expected


@pytest.mark.parametrize(("machine", "known"), [("x86_64", True), ("aarch64", True), ("riscv64", False)])
def test_machines(machine: str, known: bool) -> None:
    assert (membarrier_filter(machine) is not None) is known
