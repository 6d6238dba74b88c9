"""Content-addressed layers on disk.

    <cache>/layers/<digest>/manifest.json   what it was built from, what is in it
    <cache>/layers/<digest>/root/           the files
    <cache>/layers/.building-<random>/      one that is being built; left by a killed build, removed by the next

A directory named by a digest is always whole: it is filled under another name, written to disk, then renamed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.errors import Internal
from atolld.host import mounts

_DIGEST = re.compile(r"[0-9a-f]{64}")
_BUILDING = ".building-"


@dataclass(frozen=True, slots=True)
class Layer:
    """One finished layer. `size_bytes`: what it takes on disk. `manifest`: as written when it was built."""

    digest: str
    root: Path
    size_bytes: int
    manifest: Mapping[str, object]


class LayerStore:
    """The layers below one cache directory; several processes may use it at once (building is locked by the caller)."""

    def __init__(self, cache: Path) -> None:
        self.directory = cache / "layers"

    def get(self, digest: str) -> Layer | None:
        """The layer of that digest, or None when it is not there."""
        if not _DIGEST.fullmatch(digest):
            return None
        home = self.directory / digest
        try:
            manifest = json.loads((home / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Layer(digest, home / "root", int(manifest["size_bytes"]), manifest)

    def digests(self) -> list[str]:
        """The digests of all finished layers."""
        if not self.directory.is_dir():
            return []
        return sorted(entry.name for entry in self.directory.iterdir() if _DIGEST.fullmatch(entry.name))

    def begin(self) -> Path:
        """A new directory with an empty `root` in it, for `commit` or `abandon`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self.directory))
        home.chmod(0o755)
        (home / "root").mkdir(mode=0o755)
        return home

    def commit(self, building: Path, digest: str, manifest: Mapping[str, object]) -> Layer:
        """Turn what `begin` gave into the layer `digest`, durably. Blocks while the disk is written.

        The layer that was there wins: both came from the same inputs, and sandboxes may use it already.
        """
        size_bytes = disk_usage(building / "root")
        whole = {**manifest, "digest": digest, "size_bytes": size_bytes}
        (building / "manifest.json").write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        # One call for the whole file system instead of an fsync for each of some 30,000 files.
        subprocess.run(["sync", "--file-system", str(building)], check=True)
        if (existing := self.get(digest)) is not None:
            self.abandon(building)
            return existing
        # A directory of that name without a manifest is no layer: somebody damaged it by hand.
        self.remove(digest)
        building.rename(self.directory / digest)
        _fsync_directory(self.directory)
        return Layer(digest, self.directory / digest / "root", size_bytes, whole)

    def abandon(self, building: Path) -> None:
        """Remove a directory that `begin` gave, with whatever is mounted in it."""
        remove_tree(building)

    def remove_leftovers(self) -> int:
        """Remove what killed builds left; the caller holds the build lock. Returns how many there were."""
        leftovers = list(self.directory.glob(f"{_BUILDING}*")) if self.directory.is_dir() else []
        for leftover in leftovers:
            remove_tree(leftover)
        return len(leftovers)

    def remove(self, digest: str) -> None:
        """Remove a layer. The caller makes sure that nothing uses it (see `layers_in_use`). Not there is success."""
        home = self.directory / digest
        if not _DIGEST.fullmatch(digest) or not home.is_dir():
            return
        # Renamed first: half a layer must never be found under its digest.
        doomed = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self.directory))
        home.rename(doomed / "removed")
        remove_tree(doomed)

    def layers_in_use(self) -> set[str]:
        """Digests of layers that are part of some mount, in any mount namespace of this machine."""
        pattern = re.compile(re.escape(str(self.directory)) + r"/([0-9a-f]{64})")
        found: set[str] = set()
        for text in _all_mount_tables():
            for mount in mounts.parse_mountinfo(text):
                for place in (mount.source, str(mount.target), *mount.super_options):
                    found.update(pattern.findall(place))
        return found


def _all_mount_tables() -> list[bytes]:
    tables: dict[str, bytes] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            namespace = os.readlink(process / "ns/mnt")
            if namespace not in tables:
                tables[namespace] = (process / "mountinfo").read_bytes()
        except OSError:
            # It ended while we looked.
            continue
    return list(tables.values())


def remove_tree(directory: Path) -> None:
    """Remove `directory` and all in it; mounts inside are taken off first, so that nothing of the host is deleted.

    Raises Internal when something stays mounted there.
    """
    for target in mounts.mounts_below(directory):
        mounts.detach(target)
    if left := mounts.mounts_below(directory):
        raise Internal(f"{left[0]} cannot be unmounted, so {directory} is left as it is")
    if directory.is_dir():
        shutil.rmtree(directory)


def disk_usage(directory: Path) -> int:
    """Bytes that `directory` takes on disk, each file counted once however many names it has."""
    seen: set[tuple[int, int]] = set()
    total = 0
    stack = [str(directory)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if status.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
    return total


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
