"""The system call filter of containers."""

from __future__ import annotations

import pytest

from atolld.runtime.drivers.container.seccomp import ALLOWED, FORBIDDEN, NEW_NAMESPACES, profile

CLONE_FLAGS = {
    "NEWTIME": 0x80,
    "NEWNS": 0x20000,
    "NEWCGROUP": 0x2000000,
    "NEWUTS": 0x4000000,
    "NEWIPC": 0x8000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}
WAYS_OUT = [
    "bpf",
    "unshare",
    "setns",
    "mount",
    "open_by_handle_at",
    "keyctl",
    "io_uring_setup",
    "userfaultfd",
    "kexec_load",
]


@pytest.mark.parametrize("name", WAYS_OUT)
def test_ways_out_are_forbidden(name: str) -> None:
    assert name in FORBIDDEN


def test_lists_are_disjoint() -> None:
    assert not set(ALLOWED) & set(FORBIDDEN)
    # These are allowed by their arguments only.
    assert not {"clone", "clone3", "socket", "personality", "socketcall"} & set(ALLOWED)
    assert len(ALLOWED) == len(set(ALLOWED))


def test_every_new_namespace_is_masked() -> None:
    assert sum(CLONE_FLAGS.values()) == NEW_NAMESPACES


def test_default_refuses() -> None:
    assert profile("x86_64")["defaultAction"] == "SCMP_ACT_ERRNO"


def test_unknown_machine() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        profile("riscv64")
