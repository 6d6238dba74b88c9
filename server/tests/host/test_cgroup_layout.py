"""Layouts of real machines, told apart by their mount tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.errors import Unavailable
from atolld.host.cgroup_layout import CgroupMode, detect
from atolld.host.mounts import parse_mountinfo

ROOT = "/sys/fs/cgroup"
V2 = f"31 23 0:28 / {ROOT} rw - cgroup2 cgroup2 rw\n"
SEPARATE = "".join(
    f"3{n} 23 0:2{n} / {ROOT}/{name} rw - cgroup cgroup rw,{name}\n"
    for n, name in enumerate(["cpu", "cpuacct", "memory", "pids", "freezer", "devices"])
)
TOGETHER = "".join(
    f"3{n} 23 0:2{n} / {ROOT}/{name} rw - cgroup cgroup rw,{name}\n"
    for n, name in enumerate(["cpu,cpuacct", "memory", "pids", "freezer"])
)
EMPTY_V2 = f"40 23 0:40 / {ROOT}/unified rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("text", "v2", "mode", "hybrid", "directories"),
    [
        (V2, {ROOT: "cpuset cpu io memory hugetlb pids"}, CgroupMode.V2, False, [ROOT]),
        (
            SEPARATE + EMPTY_V2,
            {f"{ROOT}/unified": ""},
            CgroupMode.V1,
            True,
            [f"{ROOT}/{name}" for name in ("cpu", "memory", "pids", "cpuacct", "freezer")],
        ),
        (
            TOGETHER,
            {},
            CgroupMode.V1,
            False,
            [f"{ROOT}/{name}" for name in ("cpu,cpuacct", "memory", "pids", "freezer")],
        ),
        (SEPARATE, {}, CgroupMode.V1, False, [f"{ROOT}/{n}" for n in ("cpu", "memory", "pids", "cpuacct", "freezer")]),
    ],
)
def test_layouts(text: str, v2: dict[str, str], mode: CgroupMode, hybrid: bool, directories: list[str]) -> None:
    layout = detect(parse_mountinfo(text.encode()), {Path(path): names for path, names in v2.items()})
    assert (layout.mode, layout.hybrid) == (mode, hybrid)
    assert layout.directories("/at/i3f") == [Path(directory) / "at/i3f" for directory in directories]


@pytest.mark.parametrize(
    ("text", "v2", "named"),
    [
        ("", {}, "no cgroup file system"),
        (V2, {ROOT: "cpu io"}, "memory"),
        (SEPARATE.replace("pids", "misc"), {}, "pids"),
    ],
)
def test_what_is_missing_is_named(text: str, v2: dict[str, str], named: str) -> None:
    with pytest.raises(Unavailable, match=named):
        detect(parse_mountinfo(text.encode()), {Path(path): names for path, names in v2.items()})


def test_a_group_is_looked_for_in_every_hierarchy() -> None:
    """runsc makes groups in all of them (seen: blkio, cpuset, devices, systemd); only ours were removed once."""
    layout = detect(parse_mountinfo((SEPARATE + EMPTY_V2).encode()), {Path(f"{ROOT}/unified"): ""})
    assert f"{ROOT}/devices/a/b" not in map(str, layout.directories("/a/b"))
    assert {f"{ROOT}/devices/a/b", f"{ROOT}/unified/a/b", f"{ROOT}/memory/a/b"} <= set(
        map(str, layout.everywhere("/a/b"))
    )


def test_hierarchies_we_set_nothing_in_are_known_too() -> None:
    layout = detect(parse_mountinfo((SEPARATE + EMPTY_V2).encode()), {})
    assert [path.relative_to(ROOT).as_posix() for path in layout.everywhere("/at")] == [
        *("cpu/at", "memory/at", "pids/at", "cpuacct/at", "freezer/at"),
        *("devices/at", "unified/at"),
    ]


def test_a_controller_mounted_twice_counts_once() -> None:
    again = SEPARATE + SEPARATE.replace(ROOT, "/srv/inside/cgroup")
    layout = detect(parse_mountinfo(again.encode()), {})
    assert layout.roots["memory"] == Path(ROOT) / "memory"
