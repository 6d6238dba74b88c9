"""Users and groups as an image's own `/etc/passwd` and `/etc/group` have them."""

from __future__ import annotations

import os

from atolld.foundation.errors import InvalidArgument
from atolld.images.filecopy import READ_FLAGS
from atolld.images.rootwalk import Root
from atolld.images.tree import Refused

MAX_BYTES = 1 << 20
_MAX_ID = 2**32 - 2


def owner_of(root: Root, owner: str) -> tuple[int, int]:
    """The ids of `user[:group]`, names or numbers, in the image at `root`; `""`: root's.

    A user without a group: the group in its entry, for a bare number that number, as Docker has it.
    Raises InvalidArgument when there is no such user or group.
    """
    if not owner:
        return 0, 0
    user, _, group = owner.partition(":")
    if user == "":
        uid, gid = 0, 0
    elif user.isdecimal():
        uid = gid = _id(user)
    else:
        entry = _entry(root, "/etc/passwd", user)
        if user == "root" and entry is None:
            entry = ["root", "", "0", "0"]
        if entry is None or len(entry) < 4 or not (entry[2].isdecimal() and entry[3].isdecimal()):
            raise InvalidArgument(f"there is no user {user[:80]!r} in /etc/passwd of the image")
        uid, gid = _id(entry[2]), _id(entry[3])
    if group.isdecimal():
        gid = _id(group)
    elif group:
        entry = _entry(root, "/etc/group", group)
        if group == "root" and entry is None:
            entry = ["root", "", "0"]
        if entry is None or len(entry) < 3 or not entry[2].isdecimal():
            raise InvalidArgument(f"there is no group {group[:80]!r} in /etc/group of the image")
        gid = _id(entry[2])
    return uid, gid


def _id(text: str) -> int:
    if len(text) > 10 or int(text) > _MAX_ID:
        raise InvalidArgument(f"{text[:80]!r} is too large for a user or group")
    return int(text)


def _entry(root: Root, path: str, name: str) -> list[str] | None:
    text = read_small(root, path) or b""
    for line in text.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return fields
    return None


def read_small(root: Root, path: str) -> bytes | None:
    """A file of the image of at most 1 MiB; None when there is none, or it is something else."""
    try:
        found = root.find(path)
        if found is None or found.is_directory:
            return None
        directory = root.open(found.names[:-1])
    except (Refused, OSError):
        return None
    try:
        with open(os.open(found.names[-1], READ_FLAGS, dir_fd=directory), "rb") as file:
            data = file.read(MAX_BYTES + 1)
            return data if len(data) <= MAX_BYTES else None
    except OSError:
        return None
    finally:
        os.close(directory)
