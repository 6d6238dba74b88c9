"""runsc's last words, as the 2024-07 release writes them, and what users read instead."""

from __future__ import annotations

import pytest

from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition, Internal
from atolld.foundation.ids import SandboxId
from atolld.runtime.drivers.gvisor.failures import restore_failure, save_failure, shown, start_failure

ID = SandboxId("i0123456789abcdefghi")
FAILED = f'checkpoint failed: checkpointing container "{ID}": '
DELETED = """encoding error: gofer.dentry("{}").beforeSave: deleted and invalidated dentries can't be restored:
goroutine 43 [running]:"""


NULL = "encoding error: runtime error: invalid memory address or nil pointer dereference:"
RESET = "gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).resetConnectionLocked(0xc0006d6008, {0x158a1b0?, 0x1?})"


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (f"{NULL}\ngoroutine 163 [running]:\n{RESET}\n", FailedPrecondition, "waits for a connection to be made"),
        (f"{NULL}\ngoroutine 163 [running]:\n", FailedPrecondition, "cannot save: runtime error"),
        (DELETED.format("root/tmp9uom4f8o"), FailedPrecondition, "has /root/tmp9uom4f8o open"),
        (DELETED.format("root/held now"), FailedPrecondition, "has /root/held now open"),
        (DELETED.format('a \\"quoted\\" one'), FailedPrecondition, 'has /a \\"quoted\\" one open'),
        (DELETED.format("no space left on device"), FailedPrecondition, "has /no space left on device open"),
        (DELETED.format("a\x1b[31m"), FailedPrecondition, "has /a?[31m open"),
        ("encoding error: something else\nmore", FailedPrecondition, "cannot save: something else?more"),
        ("statefile error: no space left on device", Capacity, "no room on the disk"),
        ("runtime error: invalid memory address", Internal, "invalid memory address"),
    ],
)
def test_save(words: str, kind: type[AtollError], told: str) -> None:
    failure = save_failure(ID, FAILED + words)
    assert type(failure) is kind
    assert told in failure.message


def test_the_path_is_told_to_programs_too() -> None:
    assert save_failure(ID, DELETED.format("root/x")).details == {"path": "/root/x"}


@pytest.mark.parametrize(
    ("words", "killed", "told"),
    [
        ('urpc method \\"containerManager.Restore\\" failed: EOF', False, "connected UDP socket"),
        ('urpc method "containerManager.Restore" failed: EOF', False, "connected UDP socket"),
        ('urpc method "containerManager.Restore" failed: EOF', True, "more than the memory"),
        ("open /image/checkpoint.img: no such file", False, "no such file"),
    ],
)
def test_restore(words: str, killed: bool, told: str) -> None:
    failure = restore_failure(ID, words, out_of_memory=killed)
    assert isinstance(failure, Internal)
    assert told in failure.message


def test_start() -> None:
    assert start_failure(ID, "no way").message == f"gVisor did not start sandbox {ID}: no way"


def test_what_a_guest_has_chosen_is_shown_short() -> None:
    assert len(shown("x" * 5000)) == 203
