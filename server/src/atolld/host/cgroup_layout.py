"""Where the machine's cgroup controllers are: version 1, version 2, or both at once (hybrid)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from atolld.foundation.errors import Unavailable
from atolld.host.mounts import Mount

NEEDED = ("cpu", "memory", "pids")
# Version 1 only: time used and freezing are controllers of their own there.
NEEDED_V1 = (*NEEDED, "cpuacct", "freezer")


class CgroupMode(StrEnum):
    """`v2`: unified. `v1`: the controllers are in version 1 hierarchies, with or without an empty v2 tree beside."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class CgroupLayout:
    """`roots`: controller -> directory its hierarchy is mounted at; on v2 each of them is the same. `hybrid`: v1 with a
    v2 tree beside it. `others`: every other hierarchy; we set nothing there, but a runtime makes groups in all of them.
    """

    mode: CgroupMode
    roots: Mapping[str, Path]
    hybrid: bool = False
    others: tuple[Path, ...] = ()

    def directories(self, path: str) -> list[Path]:
        """The directories that make up the group `path` (for example `/atoll/i3f`), each once."""
        return list(dict.fromkeys(root / path.lstrip("/") for root in self.roots.values()))

    def everywhere(self, path: str) -> list[Path]:
        """The group's directory in every hierarchy, ours first: what must be gone when the group is."""
        return [*self.directories(path), *(root / path.lstrip("/") for root in self.others)]

    def directory(self, controller: str, path: str) -> Path:
        """The group's directory in the hierarchy of `controller`."""
        return self.roots[controller] / path.lstrip("/")


def detect(mounts: Sequence[Mount], v2_controllers: Mapping[Path, str]) -> CgroupLayout:
    """The layout from the mount table.

    `v2_controllers`: text of `cgroup.controllers` of each cgroup2 mount point. Raises Unavailable when a controller
    that sandboxes need is nowhere, naming it and what to do.
    """
    v1: dict[str, Path] = {}
    v2: list[Path] = []
    for mount in mounts:
        # The first mount of a hierarchy counts: later ones are bind mounts inside containers.
        if mount.kind == "cgroup":
            for option in mount.super_options:
                v1.setdefault(option, mount.target)
        elif mount.kind == "cgroup2":
            v2.append(mount.target)
    for root in v2:
        if set(NEEDED) <= set(v2_controllers.get(root, "").split()):
            return CgroupLayout(CgroupMode.V2, {name: root for name in NEEDED})
    missing = [name for name in NEEDED_V1 if name not in v1]
    if not missing:
        roots = {name: v1[name] for name in NEEDED_V1}
        targets = dict.fromkeys(mount.target for mount in mounts if mount.kind in ("cgroup", "cgroup2"))
        others = tuple(target for target in targets if target not in roots.values())
        return CgroupLayout(CgroupMode.V1, roots, hybrid=bool(v2), others=others)
    if v1 or v2:
        raise Unavailable(
            f"the cgroup controllers {', '.join(missing)} are not available; boot with "
            "systemd.unified_cgroup_hierarchy=1, or mount them below /sys/fs/cgroup"
        )
    raise Unavailable("no cgroup file system is mounted; run: mount -t cgroup2 cgroup2 /sys/fs/cgroup")


def read_layout(mounts: Sequence[Mount]) -> CgroupLayout:
    """The layout of this machine. Raises Unavailable, see `detect`."""
    texts = {}
    for mount in mounts:
        if mount.kind == "cgroup2":
            texts[mount.target] = (mount.target / "cgroup.controllers").read_text()
    return detect(mounts, texts)
