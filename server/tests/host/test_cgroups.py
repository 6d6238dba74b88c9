"""Groups: which files get which numbers (on a made-up tree), and real limits on this machine's own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atolld.core.sandbox import Resources
from atolld.foundation.errors import InvalidArgument, Unavailable
from atolld.foundation.units import MIB
from atolld.host.cgroup_layout import CgroupLayout, CgroupMode, read_layout
from atolld.host.cgroups import CgroupLimits, Cgroups
from atolld.host.instance import Instance
from atolld.host.mounts import read_mounts

LIMITS = CgroupLimits(cpu=1.5, memory_bytes=256 * MIB, pids_max=100)
V2_FILES = ("cpu.max", "memory.max", "memory.swap.max", "memory.oom.group", "pids.max")
V1_FILES = {
    "cpu": ("cpu.cfs_period_us", "cpu.cfs_quota_us"),
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.swappiness"),
    "pids": ("pids.max",),
    "cpuacct": (),
    "freezer": ("freezer.state",),
}


def made_up_v2(root: Path) -> Cgroups:
    for group in (root, root / "at"):
        group.mkdir(exist_ok=True)
        (group / "cgroup.subtree_control").write_text("")
    (root / "at" / "i1").mkdir()
    for name in V2_FILES:
        (root / "at" / "i1" / name).write_text("")
    return Cgroups(Instance.named("at"), CgroupLayout(CgroupMode.V2, dict.fromkeys(("cpu", "memory", "pids"), root)))


def made_up_v1(root: Path) -> Cgroups:
    for controller, names in V1_FILES.items():
        group = root / controller / "at" / "i1"
        group.mkdir(parents=True)
        for name in names:
            (group / name).write_text("0")
    return Cgroups(Instance.named("at"), CgroupLayout(CgroupMode.V1, {name: root / name for name in V1_FILES}))


def test_v2_limits_are_written_to_their_files(tmp_path: Path) -> None:
    cgroups = made_up_v2(tmp_path)
    cgroups.prepare()
    assert cgroups.create("i1", LIMITS) == "/at/i1"
    assert {name: (tmp_path / "at/i1" / name).read_text() for name in V2_FILES} == {
        "cpu.max": "150000 100000",
        "memory.max": str(256 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "0",
        "pids.max": "100",
    }
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (tmp_path / "at/cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_v1_limits_are_written_to_their_files(tmp_path: Path) -> None:
    made_up_v1(tmp_path).create("i1", LIMITS)
    memory = tmp_path / "memory/at/i1"
    assert (tmp_path / "cpu/at/i1/cpu.cfs_quota_us").read_text() == "150000"
    assert (memory / "memory.limit_in_bytes").read_text() == str(256 * MIB)
    assert (memory / "memory.memsw.limit_in_bytes").read_text() == str(256 * MIB)
    assert (memory / "memory.swappiness").read_text() == "0"
    assert (tmp_path / "pids/at/i1/pids.max").read_text() == "100"


@pytest.mark.parametrize("made_up", [made_up_v1, made_up_v2])
def test_limits_read_back(made_up: Callable[[Path], Cgroups], tmp_path: Path) -> None:
    cgroups = made_up(tmp_path)
    cgroups.create("i1", LIMITS)
    assert cgroups.limits("i1") == LIMITS
    with pytest.raises(FileNotFoundError):
        cgroups.limits("i2")


def test_a_kernel_without_swap_accounting_is_no_failure(tmp_path: Path) -> None:
    cgroups = made_up_v1(tmp_path)
    (tmp_path / "memory/at/i1/memory.memsw.limit_in_bytes").unlink()
    cgroups.create("i1", LIMITS)
    assert not (tmp_path / "memory/at/i1/memory.memsw.limit_in_bytes").exists()


def test_a_tree_that_is_not_delegated_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroups = made_up_v2(tmp_path)

    def busy(self: Path, text: str) -> int:
        raise OSError(16, "Device or resource busy", str(self))

    monkeypatch.setattr(Path, "write_text", busy)
    with pytest.raises(Unavailable, match="delegate"):
        cgroups.prepare()


def test_v2_use_is_read(tmp_path: Path) -> None:
    cgroups = made_up_v2(tmp_path)
    for name, text in {
        "cpu.stat": "usage_usec 1234\nuser_usec 1000\n",
        "memory.stat": "anon 5\ninactive_file 300\n",
        "memory.current": "1000\n",
        "memory.max": "5000\n",
        "memory.events": "low 0\noom 3\noom_kill 2\n",
        "pids.current": "7\n",
    }.items():
        (tmp_path / "at/i1" / name).write_text(text)
    stats = cgroups.stats("i1")
    assert (stats.cpu_usec, stats.memory_bytes, stats.memory_limit_bytes, stats.tasks) == (1234, 700, 5000, 7)
    assert (stats.oom_kills, stats.memory_peak_bytes) == (2, 1000)


@pytest.mark.parametrize(("events", "frozen"), [("populated 1\nfrozen 1\n", True), ("populated 1\nfrozen 0\n", False)])
def test_v2_frozen_is_what_the_kernel_says(events: str, frozen: bool, tmp_path: Path) -> None:
    cgroups = made_up_v2(tmp_path)
    (tmp_path / "at/i1/cgroup.events").write_text(events)
    assert cgroups.is_frozen("i1") is frozen


@pytest.mark.parametrize(("state", "frozen"), [("FROZEN\n", True), ("FREEZING\n", False), ("THAWED\n", False)])
def test_v1_frozen_is_what_the_kernel_says(state: str, frozen: bool, tmp_path: Path) -> None:
    cgroups = made_up_v1(tmp_path)
    (tmp_path / "freezer/at/i1/freezer.state").write_text(state)
    assert cgroups.is_frozen("i1") is frozen
    assert not cgroups.is_frozen("i2"), "a group that is gone"


async def test_what_does_not_stop_is_named_and_thawed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atolld.host.cgroups._FREEZE_TRIES", 1)
    cgroups = made_up_v2(tmp_path)
    (tmp_path / "at/i1/cgroup.freeze").write_text("0")
    (tmp_path / "at/i1/cgroup.events").write_text("frozen 0\n")
    (tmp_path / "at/i1/cgroup.procs").write_text("17\n")
    with pytest.raises(TimeoutError, match=r"\[17\] of /at/i1 cannot be stopped"):
        await cgroups.freeze("i1")
    assert (tmp_path / "at/i1/cgroup.freeze").read_text() == "0"


def test_bounds_of_a_sandbox_plus_its_runtimes_own_needs() -> None:
    limits = CgroupLimits.of(Resources(cpu=2, memory_mib=512, pids_max=64), extra_memory_mib=64, extra_pids=36)
    assert limits == CgroupLimits(cpu=2, memory_bytes=576 * MIB, pids_max=100)


@pytest.mark.parametrize("id", ["", "..", "a/b", "a\nb", "/etc"])
def test_hostile_ids_make_no_path(tmp_path: Path, id: str) -> None:
    with pytest.raises(InvalidArgument):
        made_up_v2(tmp_path).create(id, LIMITS)


@pytest.fixture
def cgroups(instance: Instance, clean: None) -> Cgroups:
    made = Cgroups(instance, read_layout(read_mounts()))
    made.prepare()
    return made


def start_in(cgroups: Cgroups, id: str, code: str, start_python: Callable[..., Any]) -> Any:
    """Run `code` with the group entered before anything of it runs."""
    process = start_python(code, "sh", "-c", 'read go; exec "$0" "$@"')
    cgroups.add(id, process.pid)
    process.send("go")
    return process


@pytest.mark.real
async def test_a_memory_bomb_dies_and_is_counted(cgroups: Cgroups, start_python: Callable[..., Any]) -> None:
    cgroups.create("i1", CgroupLimits(1, 48 * MIB, 50))
    neighbour = start_in(cgroups, "i1", "input()", start_python)
    bomb = start_in(cgroups, "i1", "x = b'x' * (1 << 30)", start_python)
    assert await asyncio.to_thread(bomb.popen.wait, 20) == -9
    stats = cgroups.stats("i1")
    assert stats.oom_kills == 1
    assert stats.memory_peak_bytes <= 48 * MIB
    assert neighbour.popen.poll() is None
    await cgroups.remove_all()
    assert cgroups.oom_kills("i1") == 0


@pytest.mark.real
async def test_a_fork_bomb_stays_within_its_number(cgroups: Cgroups, start_python: Callable[..., Any]) -> None:
    cgroups.create("i1", CgroupLimits(1, 256 * MIB, 20))
    bomb = start_in(
        cgroups,
        "i1",
        "import os, time\nme = os.getpid()\nfor _ in range(15):\n  try: os.fork()\n  except OSError: pass\n"
        "if os.getpid() == me: print('full')\ntime.sleep(100)",
        start_python,
    )
    assert bomb.line() == "full"
    assert cgroups.stats("i1").tasks <= 20
    assert len(cgroups.pids("i1")) == 20
    await cgroups.kill("i1")
    assert cgroups.pids("i1") == set()
    await cgroups.remove_all()


@pytest.mark.real
async def test_cpu_time_is_bounded_and_told(cgroups: Cgroups, start_python: Callable[..., Any]) -> None:
    cgroups.create("i1", CgroupLimits(0.2, 256 * MIB, 20))
    start_in(cgroups, "i1", "while True: pass", start_python)
    begin, used = time.monotonic(), cgroups.stats("i1").cpu_usec
    await asyncio.sleep(1)
    share = (cgroups.stats("i1").cpu_usec - used) / (time.monotonic() - begin) / 1e6
    assert share < 0.4
    await cgroups.remove_all()


@pytest.mark.real
async def test_limits_grow_and_shrink_while_it_runs(cgroups: Cgroups) -> None:
    cgroups.create("i1", CgroupLimits(1, 64 * MIB, 10))
    for memory in (256, 32, 128):
        cgroups.set_limits("i1", CgroupLimits(0.5, memory * MIB, 10))
        assert cgroups.stats("i1").memory_limit_bytes == memory * MIB
        assert cgroups.limits("i1") == CgroupLimits(0.5, memory * MIB, 10)
    await cgroups.remove_all()


@pytest.mark.real
async def test_frozen_processes_stand_still_and_can_be_killed(
    cgroups: Cgroups, start_python: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    cgroups.create("i1", CgroupLimits(1, 128 * MIB, 10))
    process = start_in(
        cgroups, "i1", "import time\nn = 0\nwhile True: print(n, flush=True); n += 1; time.sleep(0.001)", start_python
    )
    process.line()
    await cgroups.freeze("i1")
    await cgroups.freeze("i1")
    assert cgroups.is_frozen("i1")
    first = cgroups.stats("i1").cpu_usec
    await asyncio.sleep(0.1)
    assert cgroups.stats("i1").cpu_usec - first < 1000
    for _ in range(2):
        cgroups.thaw("i1")
    assert not cgroups.is_frozen("i1")
    await eventually(lambda: cgroups.stats("i1").cpu_usec > first)
    await cgroups.freeze("i1")
    await cgroups.destroy("i1")
    assert process.popen.wait() == -9
    await cgroups.remove_all()


@pytest.mark.real
async def test_create_and_destroy_are_idempotent_and_leftovers_are_found(cgroups: Cgroups) -> None:
    cgroups.create("i1", LIMITS)
    cgroups.create("i1", LIMITS)
    cgroups.create("i2", LIMITS)
    # What a runtime made below its group goes with it.
    (cgroups.layout.directory("memory", "/" + cgroups.path("i1")) / "inner").mkdir()
    assert cgroups.list_owned() == {"i1", "i2"}
    for _ in range(2):
        await cgroups.destroy("i1")
    assert cgroups.list_owned() == {"i2"}
    with pytest.raises(FileNotFoundError):
        cgroups.stats("i1")
    for _ in range(2):
        await cgroups.remove_all()
    assert cgroups.list_owned() == set()


@pytest.mark.real
async def test_killing_spares_processes_of_other_groups(cgroups: Cgroups, start_python: Callable[..., Any]) -> None:
    cgroups.create("i1", LIMITS)
    cgroups.create("i11", LIMITS)
    other = start_in(cgroups, "i11", "print('up'); input()", start_python)
    start_in(cgroups, "i1", "input()", start_python)
    other.line()
    await cgroups.destroy("i1")
    assert other.popen.poll() is None
    assert cgroups.pids("i11") == {other.pid}
    await cgroups.remove_all()


@pytest.mark.real
def test_this_machines_layout_is_understood() -> None:
    layout = read_layout(read_mounts())
    assert all(directory.is_dir() for directory in layout.directories("/"))
    assert subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0
