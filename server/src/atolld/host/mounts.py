"""The mount table: reading it, and mounts that are there or gone for certain."""

from __future__ import annotations

import errno
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from atolld.host import syscalls

_BUSY_PAUSE_S = 0.025

_OCTAL = re.compile(rb"\\([0-7]{3})")
_SPECIAL = re.compile(rb"[ \t\n\\]")
MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo. `shared`: mounts below it are seen in other mount namespaces too."""

    target: Path
    root: str
    kind: str
    source: str
    options: frozenset[str]
    super_options: frozenset[str]
    shared: bool


def parse_mountinfo(text: bytes) -> list[Mount]:
    """The mounts in the order the kernel tells them: a later one on the same target hides the earlier.

    Raises ValueError on a line that is not mountinfo.
    """
    found = []
    for line in text.split(b"\n"):
        if not line:
            continue
        head, separator, tail = line.partition(b" - ")
        fields, rest = head.split(b" "), tail.split(b" ")
        if not separator or len(fields) < 6 or len(rest) < 3:
            raise ValueError(f"not a mountinfo line: {line[:200]!r}")
        found.append(
            Mount(
                target=Path(_unescape(fields[4])),
                root=_unescape(fields[3]),
                kind=_unescape(rest[0]),
                source=_unescape(rest[1]),
                options=frozenset(_unescape(fields[5]).split(",")),
                super_options=frozenset(_unescape(rest[2]).split(",")),
                shared=any(field.startswith(b"shared:") for field in fields[6:]),
            )
        )
    return found


def _unescape(field: bytes) -> str:
    # The kernel writes space, tab, newline and backslash as octal; everything else as it is.
    return _OCTAL.sub(lambda match: bytes([int(match.group(1), 8)]), field).decode("utf-8", "surrogateescape")


def _escape(path: Path) -> bytes:
    return _SPECIAL.sub(lambda match: b"\\%03o" % match.group(0)[0], os.fsencode(path))


def read_mounts() -> list[Mount]:
    """The mounts of this process's namespace."""
    return parse_mountinfo(MOUNTINFO.read_bytes())


def mounts_below(directory: Path) -> list[Path]:
    """Targets at or below `directory`, each as often as it is mounted, last mounted first: the order to unmount in."""
    return [mount.target for mount in reversed(read_mounts()) if mount.target.is_relative_to(directory)]


def is_mounted(target: Path) -> bool:
    """Whether something is mounted exactly at `target`.

    1 ms with 600 mounts, most of it the kernel's: the table is searched and not parsed, which would take 5 ms.
    """
    return holds_target(MOUNTINFO.read_bytes(), target)


def holds_target(text: bytes, target: Path) -> bool:
    """Whether a line of mountinfo has `target` as its fifth field; its fourth is a path too, inside the file system."""
    needle = b" %s " % _escape(target)
    at = text.find(needle)
    while at >= 0:
        if text.count(b" ", text.rfind(b"\n", 0, at) + 1, at) == 3:
            return True
        at = text.find(needle, at + 1)
    return False


def make_shared(directory: Path) -> None:
    """Make `directory` a mount of its own whose later mounts appear in namespaces that are slaves of it.

    Needed where a runtime runs in a mount namespace of its own: without it, a file system mounted afterwards would
    be missing there. Already shared is success. Raises OSError.
    """
    here = [mount for mount in read_mounts() if mount.target == directory]
    if here and here[-1].shared:
        return
    if not here:
        syscalls.mount(str(directory), directory, None, syscalls.MS_BIND)
    syscalls.mount("none", directory, None, syscalls.MS_SHARED)


def unmount(target: Path) -> None:
    """Unmount `target`; not mounted or not there is success. Raises OSError (EBUSY while in use)."""
    try:
        syscalls.umount(target)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def unmount_patiently(target: Path, wait_s: float) -> None:
    """As `unmount`, but what is busy is tried for `wait_s` more: under load the kernel lets go of a process's files and
    of its mount namespace some time after the process is gone. Blocks."""
    for left in reversed(range(round(wait_s / _BUSY_PAUSE_S) + 1)):
        try:
            unmount(target)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or left == 0:
                raise
        time.sleep(_BUSY_PAUSE_S)


def detach(target: Path) -> None:
    """Take `target` out of the tree now; the kernel unmounts it when its last user is gone.

    The last resort: until then its storage stays in use without being seen in the mount table. Raises OSError.
    """
    try:
        syscalls.umount(target, syscalls.MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
