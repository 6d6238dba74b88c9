"""Random operations against a model of what must be there.

ATOLL_STATE_SEED repeats a run, ATOLL_STATE_OPS says how many operations it has.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from atoll import AtollError, Sandbox, Snapshot
from e2e.conftest import Daemon, make_daemon
from e2e.inside import ask, launch, wait_until
from e2e.programs.keeper import PORT

MIB = 1024**2
MOST_SANDBOXES = 4
MOST_SNAPSHOTS = 6


@dataclass(frozen=True)
class World:
    """What a sandbox or a snapshot must hold: the number in memory, the process that has it, and files."""

    value: int
    pid: int
    boot_id: str
    files: dict[str, str] = field(default_factory=dict)


@dataclass
class One:
    """A sandbox, what it must hold and whether it must be paused; `tree` is the ids of snapshots it may go back to."""

    sandbox: Sandbox
    world: World
    paused: bool = False
    tree: set[str] = field(default_factory=set)


class Model:
    """Plays operations and knows what must be there after each."""

    # How often each comes, relative to the others.
    WEIGHTS = {
        "create": 6,
        "set": 14,
        "write": 12,
        "read": 12,
        "run": 6,
        "pause": 14,
        "pause_files": 3,
        "resume": 6,
        "freeze": 6,
        "fork": 5,
        "snapshot": 8,
        "create_from": 6,
        "rollback": 7,
        "delete_snapshot": 5,
        "kill": 5,
        "restart": 3,
        "disk_full": 3,
    }

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.random = random.Random(seed)
        self.live: list[One] = []
        self.kept: list[tuple[Snapshot, World]] = []
        self.counts: dict[str, int] = {}

    def step(self) -> str:
        """One operation that can be done now; returns its name."""
        name = self.random.choices(list(self.WEIGHTS), list(self.WEIGHTS.values()))[0]
        if not self.live:
            name = "create"
        if name in ("create", "fork", "create_from") and len(self.live) >= MOST_SANDBOXES:
            name = "kill"
        if name == "snapshot" and len(self.kept) >= MOST_SNAPSHOTS:
            name = "delete_snapshot"
        if name in ("create_from", "rollback", "delete_snapshot") and not self.kept:
            name = "snapshot"
        self.counts[name] = self.counts.get(name, 0) + 1
        getattr(self, name)()
        return name

    def any(self) -> One:
        """One of the sandboxes."""
        return self.random.choice(self.live)

    def create(self) -> None:
        sandbox = Sandbox.create(memory_mib=256, timeout_s=3600, config=self.daemon.config)
        told = launch(sandbox, "keeper", PORT)
        self.live.append(One(sandbox, World(told["value"], told["pid"], told["boot_id"])))

    def set(self) -> None:
        one, value = self.any(), self.random.randrange(10**6)
        assert ask(one.sandbox, PORT, "PUT", f"/{value}")["value"] == value
        one.world, one.paused = replace(one.world, value=value), False

    def write(self) -> None:
        one = self.any()
        name = f"file-{self.random.randrange(5)}"
        content = f"{self.random.randrange(10**9)}\n" * self.random.choice((1, 1, 1000, 100_000))
        one.sandbox.files.write(f"/home/user/{name}", content)
        one.world = replace(one.world, files={**one.world.files, name: content})
        one.paused = False

    def read(self) -> None:
        self.check(self.any())

    def run(self) -> None:
        one = self.any()
        names = one.sandbox.run("ls /home/user", check=True).stdout.split()
        assert sorted(name for name in names if name.startswith("file-")) == sorted(one.world.files)
        one.paused = False

    def pause(self) -> None:
        one = self.any()
        assert one.sandbox.pause() is not one.paused
        one.paused = True
        assert one.sandbox.info().state == "paused"

    def pause_files(self) -> None:
        one = self.any()
        if one.paused:
            one.sandbox.resume()
        assert one.sandbox.pause(keep_memory=False)
        assert one.sandbox.resume()
        told = launch(one.sandbox, "keeper", PORT)
        assert told["boot_id"] != one.world.boot_id
        one.world = World(0, told["pid"], told["boot_id"], one.world.files)
        one.paused = False
        self.check(one)

    def resume(self) -> None:
        one = self.any()
        assert one.sandbox.resume() is one.paused
        one.paused = False

    def freeze(self) -> None:
        one = self.any()
        if not one.paused:
            assert one.sandbox.freeze().state == "frozen"
            # A frozen one is woken by whatever comes next, a resume included: that is tried here and now.
            self.check(one)

    def fork(self) -> None:
        one = self.any()
        if one.paused:
            one.sandbox.resume()
            one.paused = False
        (sibling,) = one.sandbox.fork()
        self.live.append(One(sibling, one.world, tree=set(one.tree)))
        self.check(self.live[-1])

    def snapshot(self) -> None:
        one = self.any()
        if one.paused:
            one.sandbox.resume()
            one.paused = False
        snapshot = one.sandbox.snapshot()
        self.kept.append((snapshot, one.world))
        one.tree.add(snapshot.id)

    def create_from(self) -> None:
        snapshot, world = self.random.choice(self.kept)
        sandbox = Sandbox.create(template=snapshot, timeout_s=3600, config=self.daemon.config)
        self.live.append(One(sandbox, world))
        self.check(self.live[-1])

    def rollback(self) -> None:
        one = self.any()
        own = [(snapshot, world) for snapshot, world in self.kept if snapshot.id in one.tree]
        if own:
            snapshot, one.world = self.random.choice(own)
            one.sandbox.rollback(snapshot)
            one.paused = False
            self.check(one)

    def delete_snapshot(self) -> None:
        snapshot, _ = self.kept.pop(self.random.randrange(len(self.kept)))
        assert snapshot.delete()

    def kill(self) -> None:
        one = self.any()
        self.live.remove(one)
        assert one.sandbox.kill()

    def restart(self) -> None:
        self.daemon.kill_hard()
        self.daemon.start()
        for one in self.live:
            assert one.sandbox.info().state == ("paused" if one.paused else "running")

    def disk_full(self) -> None:
        """While nothing fits on the store, what runs goes on and what is paused stays as it is."""
        one = self.any()
        if one.paused:
            one.sandbox.resume()
            one.paused = False
        # What a disk could not write when the store became full is lost, and the disk is read-only then
        # (docs/host.md): so all of it is written before.
        for other in self.live:
            if not other.paused:
                other.sandbox.run(["sync"], check=True)
        # What is deleted in the background would make room again.
        self.daemon.settle()
        filler = self.daemon.state_dir / "layers" / "filler"
        _fill(filler)
        try:
            with pytest.raises(AtollError) as full:
                one.sandbox.pause() if self.random.random() < 0.5 else one.sandbox.snapshot()
            assert full.value.code == "capacity", full.value
        finally:
            filler.unlink()
        self.check(one)

    def check(self, one: One) -> None:
        """All that the model knows of a sandbox; it runs afterwards."""
        told = ask(one.sandbox, PORT)
        world = one.world
        assert (told["value"], told["pid"], told["boot_id"]) == (world.value, world.pid, world.boot_id)
        for name, content in world.files.items():
            assert one.sandbox.files.read(f"/home/user/{name}") == content, name
        one.paused = False

    def finish(self) -> None:
        """Everything is there once more, and then nothing is."""
        listed = {sandbox.id for sandbox in Sandbox.list(config=self.daemon.config)}
        assert listed == {one.sandbox.id for one in self.live}
        assert {one.id for one in Snapshot.list(config=self.daemon.config)} == {one.id for one, _ in self.kept}
        for one in self.live:
            self.check(one)
            assert one.sandbox.kill()
        for snapshot, _ in self.kept:
            assert snapshot.delete()


def _fill(filler: Path) -> None:
    room = os.statvfs(filler.parent)
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - MIB)


@pytest.fixture
def small_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose store is small enough to be filled."""
    yield from make_daemon(
        tmp_path,
        ATOLL_DISK_STORE="xfs",
        ATOLL_DISK_STORE_MIB="3072",
        ATOLL_DISK_RESERVE_MIB="0",
        ATOLL_READY_LAYERS="4",
        ATOLL_READY_SLOTS="8",
    )


def _used_mib(daemon: Daemon) -> float:
    room = os.statvfs(daemon.state_dir / "layers")
    return (room.f_blocks - room.f_bfree) * room.f_frsize / MIB


def test_nothing_diverges_from_the_model(small_daemon: Daemon) -> None:
    seed = int(os.environ.get("ATOLL_STATE_SEED") or secrets.randbits(32))
    count = int(os.environ.get("ATOLL_STATE_OPS", "60"))
    print(f"ATOLL_STATE_SEED={seed} ATOLL_STATE_OPS={count}")
    before, used_before_mib = small_daemon.settle(), _used_mib(small_daemon)
    model = Model(small_daemon, seed)
    done: list[str] = []
    began = time.monotonic()
    try:
        for _ in range(count):
            done.append(model.step())
        model.finish()
    except BaseException as error:
        error.add_note(f"seed {seed}, after {len(done)} operations, the last of which: {done[-10:]}")
        raise
    print(f"{count} operations in {time.monotonic() - began:.0f} s: {model.counts}")
    wait_until(lambda: not small_daemon.census().saves, 60, "no save is left")
    wait_until(lambda: not small_daemon.census().cgroups, 60, "no group is left")
    after = small_daemon.settle(60)
    assert not after.processes
    assert not [name for name in after.files if name.startswith("sandboxes")]
    for kind in ("namespaces", "links", "loops", "mounts", "files"):
        now, then = len(getattr(after, kind)), len(getattr(before, kind))
        assert now <= then, f"{kind}: {then} before, {now} after: {after.difference(before)}"
    # A prepared disk more or less.
    wait_until(lambda: _used_mib(small_daemon) <= used_before_mib + 8, 60, "the store is as empty as before")
