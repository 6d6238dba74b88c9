"""runsc's last words turned into errors a user can act on. Pure.

The words may hold names that a guest has chosen: patterns are anchored to what runsc writes around them, and what is
shown is short and printable.
"""

from __future__ import annotations

import re

from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition, Internal
from atolld.foundation.ids import SandboxId

# gofer.dentry("root/name").beforeSave: deleted and invalidated dentries can't be restored
_DELETED = re.compile(r'gofer\.dentry\("((?:[^"\\]|\\.)*)"\)\.beforeSave: deleted and invalidated dentries')
# The reset of a connection that is not made yet follows a null pointer (mended in gVisor's source of February 2026).
_BEING_MADE = "encoding error: runtime error: invalid memory address or nil pointer dereference"
_RESET = "tcp.(*Endpoint).resetConnectionLocked("
_UNSAVABLE = re.compile(r"encoding error: (.+)", re.DOTALL)
_SENTRY_DIED = re.compile(r'"?containerManager\.\w+\\?" failed: EOF')
_NO_SPACE = "no space left on device"
_SHOWN = 200
_WORDS = 800


def save_failure(id: SandboxId, words: str) -> AtollError:
    """Why a checkpoint failed: FailedPrecondition for what the guest holds, Capacity for the disk, else Internal."""
    deleted = _DELETED.search(words)
    if deleted is not None:
        path = "/" + shown(deleted.group(1))
        return FailedPrecondition(
            f"a program in sandbox {id} has {path} open (or runs it, or works in it), which was deleted or replaced "
            "since; such a file cannot be saved together with the memory. Close it, end that program, or save the "
            "file system only",
            path=path,
        )
    if _NO_SPACE in words:
        return no_room(id)
    if _BEING_MADE in words and _RESET in words:
        return FailedPrecondition(
            f"a program in sandbox {id} waits for a connection to be made that nothing answers; gVisor cannot save "
            "that together with the memory. Try again, end that program, or save the file system only"
        )
    unsavable = _UNSAVABLE.search(words)
    if unsavable is not None:
        return FailedPrecondition(
            f"sandbox {id} holds something that gVisor cannot save: {shown(unsavable.group(1))}. End the program that "
            "uses it, or save the file system only"
        )
    return Internal(f"gVisor did not save sandbox {id}: {words[:_WORDS]}")


def no_room(id: SandboxId) -> Capacity:
    """The disk is full."""
    return Capacity(f"there is no room on the disk for the memory of sandbox {id}; delete snapshots or free space")


def start_failure(id: SandboxId, words: str) -> AtollError:
    """Why a new guest does not run."""
    return Internal(f"gVisor did not start sandbox {id}: {words}")


def restore_failure(id: SandboxId, words: str, *, out_of_memory: bool) -> AtollError:
    """Why a saved guest does not run. `out_of_memory`: the kernel killed something of it meanwhile."""
    if out_of_memory:
        return Internal(f"sandbox {id} used more than the memory it has while it was restored; give it more")
    if _SENTRY_DIED.search(words):
        return Internal(
            f"gVisor ended while it restored sandbox {id}. Either the saved memory is damaged, or a program in it "
            "holds a connected UDP socket, which can only be restored where the sandbox has the address it had: "
            f"{words[:_WORDS]}"
        )
    return Internal(f"gVisor did not restore sandbox {id}: {words[:_WORDS]}")


def shown(text: str) -> str:
    """At most 200 characters of `text`, printable ones only; runsc quotes as Go does, which is undone for no name."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= _SHOWN else f"{printable[:_SHOWN]}..."
