"""A layer that is made by writing into the view of the layers below it, with itself on top as an overlay's upper.

Only within `host.privatemounts.in_private_mounts`: what is mounted here goes with the thread, however that ends.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from atolld.foundation.crash import crash_point
from atolld.host import mounts, rootfs, syscalls
from atolld.images.filecopy import Attributes
from atolld.images.layers import LayerStore
from atolld.images.tree import OPAQUE, directory_in

_OVERLAY = "trusted.overlay."
_FLAGS = syscalls.MS_NODEV | syscalls.MS_NOSUID | syscalls.MS_NOEXEC | syscalls.MS_NOATIME
_BESIDE = ("work", "view", "empty", "scratch")

# Writes into the view; the second path is a directory to use, which does not exist yet. False: nothing was written.
Fill = Callable[[Path, Path], bool]


def make_layer(
    store: LayerStore, lower: Sequence[Path], digest: str, manifest: Mapping[str, object], fill: Fill, now: float
) -> bool:
    """Make the layer `digest` over the roots `lower`, the topmost first; False, and no layer, when `fill` says so.

    One that is there already is success and stays. Blocks. Raises what `fill` raises, OSError; nothing is left then.
    """
    if store.use(digest, now) is not None:
        return True
    building = store.begin()
    try:
        # What is set-user-id in it would be so for every user of the host who could reach it.
        building.chmod(0o700)
        crash_point("make_layer.begun")
        _take_over_root(building / "root", lower)
        with _mounted(building, lower) as view:
            is_changed = fill(view, building / "scratch")
        crash_point("make_layer.filled")
        if is_changed:
            for name in _BESIDE:
                shutil.rmtree(building / name, ignore_errors=True)
            _remove_marks(building / "root")
            store.commit(building, digest, {"built_at": now, **manifest}, used_at=now)
            crash_point("make_layer.named")
            return True
    except BaseException:
        store.abandon(building)
        raise
    store.abandon(building)
    return False


@contextmanager
def view_of(lower: Sequence[Path], place: Path) -> Iterator[Path]:
    """The layers as one tree that cannot be written to, the topmost first; `place`: an empty directory to mount at.

    Several threads may use the same place: each has mounts of its own.
    """
    if len(lower) == 1:
        yield lower[0]
        return
    rootfs.mount_read_only(place, lower, _FLAGS | syscalls.MS_RDONLY)
    try:
        yield place
    finally:
        _unmount(place)


@contextmanager
def _mounted(building: Path, lower: Sequence[Path]) -> Iterator[Path]:
    for name in ("work", "view"):
        (building / name).mkdir(mode=0o700)
    if not lower:
        (building / "empty").mkdir(mode=0o755)
    options = dict(rootfs.overlay_options(lower or [building / "empty"], building / "root", building / "work"))
    given = [("lowerdir+", str(path)) for path in lower or [building / "empty"]]
    # A renamed directory would be one that others cannot read; nothing here renames any.
    given += [
        (key, "nofollow" if key == "redirect_dir" else value) for key, value in options.items() if key != "lowerdir+"
    ]
    view = building / "view"
    rootfs.mount_options(view, given, _FLAGS)
    try:
        yield view
    finally:
        _unmount(view)


def _unmount(place: Path) -> None:
    try:
        mounts.unmount(place)
    except OSError:
        mounts.detach(place)


def _take_over_root(root: Path, lower: Sequence[Path]) -> None:
    """In an overlay the upper root's owner, mode and time count."""
    below = directory_in(lower, ()) if lower else None
    if below is None:
        return
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        Attributes.of(below.status).put(descriptor, {})
    finally:
        os.close(descriptor)


def _remove_marks(root: Path) -> None:
    """Take away what the overlay noted for itself; whiteouts and opaque marks stay."""
    for parent, _, _ in os.walk(root):
        descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name in os.listxattr(descriptor):
                if name.startswith(_OVERLAY) and name != OPAQUE:
                    os.removexattr(descriptor, name)
        finally:
            os.close(descriptor)
