"""The machine of a real host: a sandbox's surroundings saved, verified, cloned, compared and gone."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.core.snapshot import SaveKind
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import Capacity, FailedPrecondition, NotFound
from atolld.foundation.ids import SnapshotId, new_sandbox_id, new_snapshot_id
from atolld.foundation.units import MIB
from atolld.host import loopdev, mounts
from atolld.host.cgroup_layout import read_layout
from atolld.host.cgroups import Cgroups
from atolld.host.diskstore import DiskStore, StoreChoice
from atolld.host.instance import Instance
from atolld.host.layerpool import LayerPool
from atolld.host.layers import Layers
from atolld.host.network import NetworkSettings, open_network
from atolld.host.ownlogs import OwnLogs
from atolld.host.rootfs import RootFilesystems
from atolld.host.saves import Saves
from atolld.host.templatelayers import TemplateLayers, is_pinned
from atolld.images.layers import LayerStore
from atolld.node.linux import LinuxMachine
from atolld.node.machine import Prepared
from atolld.node.mechanisms import Mechanisms
from atolld.runtime.driver import Overhead

pytestmark = pytest.mark.real

RESOURCES = Resources(disk_mib=64)
OVERHEAD = Overhead(16, 64)
POLICY = NetworkPolicy()
ENGINE = "test 1"


class Host:
    """One instance on this host, with a template of one layer."""

    def __init__(self, directory: Path) -> None:
        name = f"t{secrets.token_hex(3)}"
        self.instance = Instance.named(name, state_dir=directory / "state", run_dir=directory / "run")
        self.layer = directory / "layers" / "aa" / "root"
        (self.layer / "usr").mkdir(parents=True)
        (self.layer / "usr" / "template").write_text("t")
        self.choice, self.size_mib, self.reserve_mib = StoreChoice.XFS, 400, 1

    async def machine(self) -> LinuxMachine:
        """A daemon's; a second one plays a restart."""
        instance = self.instance
        layers = Layers(instance)
        templates = TemplateLayers(self.layer.parent.parent, instance)
        made = LinuxMachine(
            Mechanisms(
                network=await open_network(
                    instance, NetworkSettings(ready_slots=1, dns_servers=(IPv4Address("9.9.9.9"),))
                ),
                store=DiskStore(instance, choice=self.choice, size_mib=self.size_mib),
                layers=layers,
                layer_pool=LayerPool(layers, disk_mib=64, ready_target=1),
                saves=Saves(instance.state_dir / "layers" / ".saves", templates, verify_disk_bytes=128 * MIB),
                roots=RootFilesystems(instance),
                own_logs=OwnLogs(instance),
                cgroups=Cgroups(instance, read_layout(mounts.read_mounts())),
                state_dir=instance.state_dir,
                clock=ManualClock(),
                disk_reserve_bytes=self.reserve_mib * MIB,
            )
        )
        await made.open()
        return made

    def census(self) -> list[str]:
        """Everything of the instance on the host."""
        state, name = self.instance.state_dir, self.instance.name
        found = [str(one.target) for one in mounts.read_mounts() if one.target.is_relative_to(state)]
        found += map(str, loopdev.list_attached(state))
        found += [one for one in os.listdir("/run/netns") if one.startswith(name)]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{name}")]
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        return found + [line for line in tables.splitlines() if line.endswith(f" {name}")]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    assert made.census() == []
    assert not (made.instance.state_dir / "store.xfs").exists()
    assert not is_pinned(made.layer.parent)


@pytest.fixture
async def machine(host: Host) -> AsyncIterator[LinuxMachine]:
    made = await host.machine()
    await made.sweep(frozenset())
    yield made
    await made.remove_all()


async def prepare(machine: LinuxMachine, host: Host, source: SnapshotId | None = None) -> Prepared:
    return await machine.prepare(new_sandbox_id(), (host.layer,), RESOURCES, OVERHEAD, POLICY, source=source)


def _opened(path: Path, mode: str) -> io.FileIO:
    return io.FileIO(path, mode)


def _freeze(prepared: Prepared) -> None:
    subprocess.run(["fsfreeze", "-f", str(prepared.log.parent.parent)], check=True)


def _flip(path: Path, at: int = 50_000) -> None:
    with open(path, "r+b") as file:
        byte = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), at)


def _start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def save(machine: LinuxMachine, host: Host, prepared: Prepared, kind: SaveKind = SaveKind.MEMORY) -> SnapshotId:
    save_id = new_snapshot_id()
    directory = await machine.begin_save(save_id)
    if kind is SaveKind.MEMORY:
        (directory / "pages.img").write_bytes(b"p" * 100_000)
    await machine.settle(prepared)
    await machine.save_disk(prepared, save_id)
    await machine.finish_save(save_id, kind, ENGINE, 0.1, (host.layer,))
    return save_id


@pytest.mark.parametrize("choice", [StoreChoice.XFS, StoreChoice.PLAIN])
async def test_a_busy_disk_is_saved_and_both_go_their_own_ways(host: Host, choice: StoreChoice) -> None:
    host.choice = choice
    machine = await host.machine()
    await machine.sweep(frozenset())
    first = await prepare(machine, host)
    assert first.record == {"slot": first.record["slot"], "execution": first.id}
    (first.rootfs / "kept").write_text("one")
    with _opened(first.rootfs / "busy", "wb") as busy:
        busy.write(b"b" * MIB)
        save_id = await save(machine, host, first)
        busy.write(b"c")
    (first.rootfs / "kept").write_text("two")
    saved = await machine.saved(save_id)
    assert saved is not None and saved.layers == ("aa",) and saved.memory_bytes >= 100_000
    assert machine.save_layers(save_id) == (host.layer,)
    assert (await machine.check_save(save_id, SaveKind.MEMORY, ENGINE)).name == "memory"
    second = await prepare(machine, host, save_id)
    assert (second.rootfs / "kept").read_text() == "one"
    assert (second.rootfs / "busy").stat().st_size == MIB
    assert (second.rootfs / "etc/resolv.conf").read_text() == "nameserver 9.9.9.9\n"
    assert (second.rootfs / "usr/template").read_text() == "t"
    (second.rootfs / "kept").write_text("three")
    await machine.check_save(save_id, SaveKind.MEMORY, ENGINE)
    # The machine it came from ends; the save and its clone live on.
    for prepared in (first, second):
        await machine.release(prepared)
    third = await prepare(machine, host, save_id)
    assert (third.rootfs / "kept").read_text() == "one"
    await machine.remove_all()


async def test_the_root_is_as_the_layers_have_it_until_it_is_changed(host: Host, machine: LinuxMachine) -> None:
    host.layer.chmod(0o711)
    os.chown(host.layer, 7, 8)
    first = await prepare(machine, host)
    status = first.rootfs.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o711, 7, 8)
    assert status.st_mtime_ns == host.layer.stat().st_mtime_ns
    first.rootfs.chmod(0o755)
    save_id = await save(machine, host, first, SaveKind.FILESYSTEM)
    second = await prepare(machine, host, save_id)
    assert second.rootfs.stat().st_mode & 0o7777 == 0o755
    for prepared in (first, second):
        await machine.release(prepared)


async def test_saves_survive_the_daemon_and_a_new_start_of_the_machine(host: Host, machine: LinuxMachine) -> None:
    first = await prepare(machine, host)
    (first.rootfs / "kept").write_text("x")
    save_id = await save(machine, host, first, SaveKind.FILESYSTEM)
    await machine.release(first)
    await machine.close()
    for target in mounts.mounts_below(host.instance.state_dir):
        mounts.unmount(target)
    again = await host.machine()
    await again.sweep(frozenset())
    assert await again.sweep_saves({save_id}) == []
    assert (await again.saved(save_id)) is not None
    second = await prepare(again, host, save_id)
    assert (second.rootfs / "kept").read_text() == "x"
    await again.release(second)
    assert await again.sweep_saves(()) == [save_id]
    assert await again.saved(save_id) is None
    with pytest.raises(NotFound):
        await prepare(again, host, save_id)
    await again.close()


async def test_a_shell_is_furnished_and_then_like_any_other(host: Host, machine: LinuxMachine) -> None:
    first = await prepare(machine, host)
    (first.rootfs / "kept").write_text("x")
    save_id = await save(machine, host, first)
    machine.park(first.record)
    shell = await machine.prepare_shell(new_sandbox_id(), RESOURCES, OVERHEAD)
    assert not shell.rootfs.exists() and shell.log.exists() and shell.netns.exists()
    await machine.furnish(shell, (host.layer,), RESOURCES, OVERHEAD, POLICY, source=save_id, formerly=first.record)
    assert (shell.rootfs / "kept").read_text() == "x"
    assert (await machine.consumption(shell)).disk_total_bytes > 0
    again_saved = await save(machine, host, shell)
    shell.log.write_text("said")
    await machine.close()
    # The next daemon finds it by its record, its log too.
    again = await host.machine()
    adopted = [await again.adopt(new_sandbox_id(), one.record, POLICY) for one in (first, shell)]
    assert adopted == [first, shell] and adopted[1].log.read_text() == "said"
    await again.sweep(frozenset({first.id, shell.id}))
    assert shell.log.read_text() == "said"
    third = await prepare(again, host, again_saved)
    assert (third.rootfs / "kept").read_text() == "x"
    for one in (first, shell, third):
        await again.release(one)
    assert not shell.directory.parent.exists() and not shell.log.exists()
    await again.close()


async def test_shells_that_wait_leave_nothing(host: Host, machine: LinuxMachine) -> None:
    released, furnished, left = [await machine.prepare_shell(new_sandbox_id(), RESOURCES, OVERHEAD) for _ in range(3)]
    with pytest.raises(NotFound):
        source = new_snapshot_id()
        await machine.furnish(furnished, (host.layer,), RESOURCES, OVERHEAD, POLICY, source=source)
    for one in (released, furnished):
        await machine.release(one)
        assert not one.directory.parent.exists() and not one.netns.exists()
    await machine.close()
    # A daemon that was killed: the next one knows nothing of it.
    again = await host.machine()
    await again.sweep(frozenset())
    assert not left.directory.parent.exists() and not left.log.exists() and not left.netns.exists()
    await again.close()


async def test_an_execution_is_adopted_by_its_record_also_when_it_was_left_frozen(
    host: Host, machine: LinuxMachine
) -> None:
    first = await prepare(machine, host)
    _freeze(first)
    await machine.close()
    again = await host.machine()
    adopted = await again.adopt(new_sandbox_id(), first.record, POLICY)
    assert adopted == first
    await again.sweep(frozenset({adopted.id}))
    await asyncio.wait_for(asyncio.to_thread((adopted.rootfs / "written").write_text, "x"), 5)
    assert (await again.consumption(adopted)).disk_total_bytes > 0
    await again.release(adopted)
    await again.close()


async def test_a_frozen_disk_that_nobody_adopts_is_removed(host: Host, machine: LinuxMachine) -> None:
    first = await prepare(machine, host)
    (first.rootfs / "dirty").write_bytes(b"x" * MIB)
    _freeze(first)
    await machine.close()
    again = await host.machine()
    await asyncio.wait_for(again.sweep(frozenset()), 20)
    await again.close()


async def test_a_later_run_gets_its_address_again(host: Host, machine: LinuxMachine) -> None:
    first = await prepare(machine, host)
    machine.park(first.record)
    await machine.release(first)
    await machine._host.network.slots.settle()
    other = await prepare(machine, host)
    assert other.address != first.address
    second = await machine.prepare(new_sandbox_id(), (host.layer,), RESOURCES, OVERHEAD, POLICY, formerly=first.record)
    assert (second.address, second.id != first.id) == (first.address, True)
    third = await machine.prepare(new_sandbox_id(), (host.layer,), RESOURCES, OVERHEAD, POLICY, formerly=first.record)
    assert third.address != first.address
    machine.unpark({"nothing": 1})


async def test_a_flipped_byte_on_the_disk_is_found(host: Host, machine: LinuxMachine) -> None:
    first = await prepare(machine, host)
    save_id = await save(machine, host, first)
    home = host.instance.state_dir / "layers" / ".saves" / save_id
    for name in ("memory/pages.img", "disk.img"):
        _flip(home / name)
        with pytest.raises(FailedPrecondition, match=name):
            await machine.check_save(save_id, SaveKind.MEMORY, ENGINE)
            await machine.check_memory(save_id)
        _flip(home / name)
        await machine.check_save(save_id, SaveKind.MEMORY, ENGINE)
        await machine.check_memory(save_id)


async def test_a_full_store_fails_the_save_and_leaves_the_sandbox_and_nothing_else(
    host: Host, machine: LinuxMachine
) -> None:
    first = await prepare(machine, host)
    (first.rootfs / "kept").write_text("x")
    filler = host.instance.state_dir / "layers" / ".filler"
    save_id = new_snapshot_id()
    directory = await machine.begin_save(save_id)
    await machine.settle(first)
    await machine.save_disk(first, save_id)
    assert _fill(filler) == errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        (directory / "pages.img").write_bytes(b"p" * (8 * MIB))
    with pytest.raises(Capacity, match="full"):
        await machine.finish_save(save_id, SaveKind.MEMORY, ENGINE, 0.1, (host.layer,))
    await machine.abandon_save(save_id)
    with pytest.raises(Capacity, match="reserve"):
        await machine.begin_save(new_snapshot_id())
    assert os.listdir(host.instance.state_dir / "layers" / ".saves") == []
    filler.unlink()
    assert (first.rootfs / "kept").read_text() == "x"
    (first.rootfs / "more").write_text("goes on")
    await save(machine, host, first)


def _fill(path: Path) -> int:
    """Write until it fails, in ever smaller pieces; the errno."""
    number = 0
    with open(path, "wb", buffering=0) as file:
        for size in (MIB, 65536, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                number = error.errno or 0
    return number


async def test_saves_are_compared(host: Host, machine: LinuxMachine) -> None:
    before = host.census()
    first = await prepare(machine, host)
    (first.rootfs / "a").write_text("1")
    older = await save(machine, host, first, SaveKind.FILESYSTEM)
    (first.rootfs / "a").write_text("22")
    (first.rootfs / "usr/template").unlink()
    newer = await save(machine, host, first, SaveKind.FILESYSTEM)
    found = await machine.diff_saves(older, newer, 10)
    assert [(one.change.value, one.path, one.size_bytes) for one in found] == [
        ("changed", "/a", 2),
        ("removed", "/usr/template", 0),
    ]
    assert [one.path for one in await machine.diff_saves(None, newer, 10)] == [
        "/a",
        "/etc",
        "/etc/resolv.conf",
        "/usr/template",
    ]
    assert len(await machine.diff_saves(older, newer, 1)) == 1
    with pytest.raises(NotFound):
        await machine.diff_saves(new_snapshot_id(), newer, 10)
    await machine.release(first)
    for save_id in (older, newer):
        await machine.check_save(save_id, SaveKind.FILESYSTEM, None)
    assert [line for line in host.census() if "views" in line or ".saves" in line] == []
    assert len(host.census()) <= len(before) + 4


async def test_a_cancelled_save_does_not_leave_the_disk_frozen(host: Host, machine: LinuxMachine) -> None:
    first = await prepare(machine, host)
    for steps in range(6):
        save_id = new_snapshot_id()
        await machine.begin_save(save_id)
        task = asyncio.get_running_loop().create_task(machine.save_disk(first, save_id))
        for _ in range(steps):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(asyncio.to_thread((first.rootfs / "written").write_text, "x"), 5)
        await machine.abandon_save(save_id)


async def test_bounds_change_while_it_runs(host: Host, machine: LinuxMachine) -> None:
    first = await prepare(machine, host)
    await machine.set_resources(first, replace(RESOURCES, memory_mib=1024, cpu=2), OVERHEAD)
    stats = machine._host.cgroups.stats(first.id)
    assert stats.memory_limit_bytes == (1024 + 16) * MIB
    await machine.release(first)
    with pytest.raises(NotFound):
        await machine.set_resources(first, RESOURCES, OVERHEAD)


DIGEST = "ab" * 32


async def test_what_was_changed_becomes_a_layer(host: Host, machine: LinuxMachine) -> None:
    (host.layer / "etc").mkdir(mode=0o750)
    (host.layer / "etc" / "passwd").write_text("root")
    prepared = await prepare(machine, host)
    assert (prepared.rootfs / "etc").stat().st_mode & 0o7777 == 0o750
    assert not await machine.seal(prepared, (host.layer,), DIGEST, {})
    (prepared.rootfs / "usr" / "new").write_text("n")
    os.rename(prepared.rootfs / "usr", prepared.rootfs / "moved")
    assert await machine.seal(prepared, (host.layer,), DIGEST, {"step": "RUN"})
    await machine.release(prepared)
    store = LayerStore(host.layer.parent.parent.parent)
    layer = store.get(DIGEST)
    assert layer is not None and layer.manifest["step"] == "RUN" and layer.root.parent.stat().st_mode & 0o777 == 0o700
    over = await machine.prepare(new_sandbox_id(), (host.layer, layer.root), RESOURCES, OVERHEAD, POLICY)
    assert (over.rootfs / "moved" / "template").read_text() == "t"
    assert (over.rootfs / "moved" / "new").read_text() == "n"
    assert not (over.rootfs / "usr").exists()
    assert (over.rootfs / "etc" / "passwd").read_text() == "root"
    await machine.release(over)
    assert sorted(os.listdir(store.directory)) == ["aa", DIGEST]
