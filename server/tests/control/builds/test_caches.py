"""What cache mounts hold when a step begins, and what of it is kept, over sandboxes in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from server.tests.control.builds.fakes import BASE, FakeBuildMachine, FakeCache, FakeMounts, FakeStepSandboxes, run

from atolld.control.builds import caches
from atolld.control.builds.failing import StepFailed
from atolld.control.builds.keys import run_key
from atolld.control.builds.progress import Progress
from atolld.control.builds.steps import Order, Steps
from atolld.control.testing import until
from atolld.core.build import BuildSpec, CacheMount, Run, Sharing
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.errors import Capacity, InvalidArgument
from atolld.foundation.ids import ProjectId

PROJECT, OTHER = ProjectId("p"), ProjectId("o")
MOUNT = CacheMount("c", "/c")
BEFORE = Progress((BASE,), "root", "/srv")


@dataclass
class Bench:
    """What tar says of a cache is `self.sandboxes.outputs["."]`, and what it does at a path its exit code there."""

    machine: FakeBuildMachine = field(default_factory=FakeBuildMachine)
    mounts: FakeMounts = field(default_factory=FakeMounts)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sandboxes = FakeStepSandboxes(self.machine)
        self.steps = Steps(self.machine, self.sandboxes, FakeCache(), lambda: 1.0, self.mounts)  # type: ignore[arg-type]
        self.sandboxes.outputs["."] = b"first"

    async def take(self, step: Run, project_id: ProjectId = PROJECT) -> None:
        order = Order(project_id, BuildSpec(), total=1)
        await self.steps.take(order, step, BEFORE, {}, lambda level, line: self.said.append(f"{level}: {line}"))

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.said if line.startswith("warn")]

    def filled(self) -> list[object]:
        """What was given to tar, of each cache that was."""
        return [one.stdin for one in self.sandboxes.ran if one.argv[:2] == ("tar", "-x")]


def step(command: str, *mounts: CacheMount) -> Run:
    return run(1, command, caches=mounts or (MOUNT,))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_next_step_of_the_project_finds_what_the_last_one_left(bench: Bench) -> None:
    await bench.take(step("one"))
    assert bench.filled() == []
    bench.sandboxes.outputs["."] = b"second"
    await bench.take(step("two"))
    await bench.take(step("three", CacheMount("c", "elsewhere", uid=5, gid=6, mode=0o700)))
    assert bench.filled() == [b"first", b"second"]
    assert bench.mounts.kept == {(PROJECT, "c"): b"second"}
    mounted = [one.argv[-2:] for one in bench.sandboxes.ran if "mount -t tmpfs" in one.argv[2]]
    assert mounted == [("/c", "mode=0755,uid=0,gid=0")] * 2 + [("/srv/elsewhere", "mode=0700,uid=5,gid=6")]
    # Before the command, and as root whoever runs it.
    order = [one.argv[0] if one.argv[0] == "tar" else one.argv[-1] for one in bench.sandboxes.ran]
    assert order[-4:] == ["mode=0700,uid=5,gid=6", "tar", "three", "tar"]
    assert {one.user for one in bench.sandboxes.ran if one.argv[0] == "tar"} == {"root"}
    assert not bench.warnings and bench.mounts.begun == 0


async def test_other_projects_have_their_own(bench: Bench) -> None:
    await bench.take(step("one"))
    await bench.take(step("two"), OTHER)
    assert bench.filled() == []
    # Nor do they share layers that were made with what only one of them had.
    assert run_key(step("one"), BEFORE, PROJECT) != run_key(step("one"), BEFORE, OTHER)
    assert run_key(run(1, "one"), BEFORE, PROJECT) == run_key(run(1, "one"), BEFORE, OTHER)


async def test_a_step_that_fails_leaves_it_too(bench: Bench) -> None:
    bench.sandboxes.exits["one"] = 1
    with pytest.raises(StepFailed):
        await bench.take(step("one"))
    assert bench.mounts.kept == {(PROJECT, "c"): b"first"}


async def test_a_step_that_is_cancelled_does_not(bench: Bench) -> None:
    bench.sandboxes.gates["one"] = asyncio.Event()
    task = spawn(bench.take(step("one", CacheMount("c", "/c", Sharing.LOCKED))), name="step", report=False)
    await until(lambda: any(one.argv[-1] == "one" for one in bench.sandboxes.ran))
    await cancel_and_wait(task)
    assert (bench.mounts.kept, bench.mounts.begun) == ({}, 0)
    # And it lets go of it.
    await bench.take(step("two", CacheMount("c", "/c", Sharing.LOCKED)))
    assert bench.mounts.kept == {(PROJECT, "c"): b"first"}


@pytest.mark.parametrize(
    ("exits", "fault", "limit", "said", "kept"),
    [
        ({".": 2}, None, 100, "the cache 'c' is not kept: the image has no tar", b"old"),
        ({}, Capacity("the disk is full"), 100, "the cache 'c' is not kept: the disk is full", b"old"),
        ({}, OSError(5, "secret place"), 100, "the cache 'c' is not kept: the disk said no", b"old"),
        ({}, None, 4, "the cache 'c' has more than 4 B, and is not kept", b"old"),
        ({"/c": 2}, None, 100, "the cache 'c' could not be given to the step, and begins empty", b"first"),
        ({}, None, 2, "could not be given to the step, and begins empty", b"old"),
    ],
)
async def test_a_cache_is_not_worth_a_build(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    exits: dict[str, int],
    fault: Exception | None,
    limit: int,
    said: str,
    kept: bytes,
) -> None:
    monkeypatch.setattr(caches, "MAX_BYTES", limit)
    bench.mounts.kept[PROJECT, "c"] = b"old"
    bench.sandboxes.exits |= exits
    bench.mounts.failure = fault
    await bench.take(step("one"))
    assert any(said in line for line in bench.warnings), bench.said
    assert bench.mounts.kept == {(PROJECT, "c"): kept}
    assert bench.mounts.begun == 0
    emptied = [one.argv for one in bench.sandboxes.ran if one.argv[0] == "umount"]
    assert bool(emptied) == ("begins empty" in said)


async def test_a_runtime_without_mounts_is_told(bench: Bench) -> None:
    bench.sandboxes.exits["mode=0755,uid=0,gid=0"] = 1
    with pytest.raises(InvalidArgument, match="'/c' cannot be a directory in memory"):
        await bench.take(step("one"))


async def test_read_only_is_given_and_not_kept(bench: Bench) -> None:
    bench.mounts.kept[PROJECT, "c"] = b"old"
    await bench.take(step("one", CacheMount("c", "/c", readonly=True)))
    assert bench.filled() == [b"old"]
    assert bench.mounts.kept == {(PROJECT, "c"): b"old"}


@pytest.mark.parametrize(
    ("sharing", "waits", "filled"),
    [
        (Sharing.LOCKED, True, [b"old", b"first"]),
        (Sharing.SHARED, False, [b"old"] * 2),
        (Sharing.PRIVATE, False, [b"old"]),
    ],
)
async def test_two_steps_at_once(bench: Bench, sharing: Sharing, waits: bool, filled: list[bytes]) -> None:
    bench.mounts.kept[PROJECT, "c"] = b"old"
    mount = CacheMount("c", "/c", sharing)
    bench.sandboxes.gates["one"] = gate = asyncio.Event()
    first = spawn(bench.take(step("one", mount)), name="one")
    await until(lambda: any(one.argv[-1] == "one" for one in bench.sandboxes.ran))
    second = spawn(bench.take(step("two", mount)), name="two")
    if waits:
        for _ in range(200):
            await asyncio.sleep(0)
        assert not second.done() and len(bench.sandboxes.opened) == 1
    else:
        await second
    gate.set()
    await asyncio.gather(first, second)
    assert bench.filled() == filled
    assert bench.mounts.kept == {(PROJECT, "c"): b"first"}


async def test_two_caches_in_any_order_never_wait_for_each_other(bench: Bench) -> None:
    a, b = (CacheMount(id, f"/{id}", Sharing.LOCKED) for id in "ab")
    commands = [step(f"step {number}", *((a, b) if number % 2 else (b, a, a))) for number in range(6)]
    async with asyncio.timeout(10):
        await asyncio.gather(*map(bench.take, commands))
    assert bench.mounts.kept.keys() == {(PROJECT, "a"), (PROJECT, "b")}
