"""Saved disks and bare templates mounted read-only, for `atolld.host.savediff`; only inside `in_private_mounts`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atolld.host import loopdev, rootfs, syscalls
from atolld.host.savediff import Side

_FLAGS = syscalls.MS_RDONLY | syscalls.MS_NODEV | syscalls.MS_NOSUID | syscalls.MS_NOEXEC | syscalls.MS_NOATIME


def make_places(directory: Path) -> None:
    """The empty directories that views are mounted at; several processes and threads may use them at once."""
    for name in ("older", "newer"):
        for kind in ("disk", "view"):
            (directory / name / kind).mkdir(mode=0o700, parents=True, exist_ok=True)


def mount_side(place: Path, image: Path | None, layers: Sequence[Path]) -> Side:
    """The sandbox that `image` was the disk of, on `layers` (lowest first); None: the layers alone. Raises OSError."""
    top_first = list(reversed(layers))
    if image is None:
        return Side(None, _view(place, top_first))
    with loopdev.attached(image, direct_io=True, read_only=True) as device:
        # noload: a journal that was not empty would be played back, and so written.
        syscalls.mount(str(device), place / "disk", "ext4", _FLAGS, "noload")
    upper = place / "disk" / "upper"
    return Side(upper, _view(place, [upper, *top_first]))


def _view(place: Path, top_first: Sequence[Path]) -> Path:
    if len(top_first) == 1:
        return top_first[0]
    rootfs.mount_read_only(place / "view", top_first, _FLAGS)
    return place / "view"
