"""The daemon is really killed at each step, and the next one must find everything in order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import atolld.control
from atolld.control.testing import SPEC, World, until
from atolld.core.build import BuildState, Failure
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import Saved, SaveKind
from atolld.foundation.ids import TemplateId, new_sandbox_id
from atolld.node.fake import FakeMachine, FakeSandbox, FakeSave
from atolld.storage.store import SandboxQuery, SnapshotQuery
from atolld.storage.templatestore import TemplateQuery

CHILD = """
import asyncio, sys
from pathlib import Path
from dataclasses import replace
from atolld.control.testing import SPEC, World, until
from atolld.core.sandbox import Resources

async def main(path, play):
    world = await World.open(Path(path))
    if play == "fail":
        world.node.fail("launched", OSError("broken"))
    if play == "claim":
        await world.sandboxes.pools.set(world.project.id, "base", "fake", Resources(), 1)
        await until(lambda: len(world.node.machine.sandboxes) == 1)
        while not (await world.sandboxes.pools.list(world.project.id))[0].warm:
            await asyncio.sleep(0)
    made = await world.create()
    if play == "die":
        await world.node.die(made.id)
    if play == "freeze":
        await world.sandboxes.freeze(world.project.id, made.id)
    if play == "snapshot":
        await world.sandboxes.snapshots.create(world.project.id, made.id, "name")
        await world.sandboxes.snapshots.delete(world.project.id, "name")
    if play in ("pause", "resume"):
        await world.sandboxes.pause(world.project.id, made.id)
    if play == "resume":
        await world.sandboxes.resume(world.project.id, made.id)
    if play == "rollback":
        await world.sandboxes.snapshots.create(world.project.id, made.id, "name")
        await world.sandboxes.rollback(world.project.id, made.id, "name")
    if play == "import":
        await world.sandboxes.snapshots.create(world.project.id, made.id, "name")
        archive = await world.sandboxes.snapshots.export(world.project.id, "name")
        await world.sandboxes.snapshots.import_(world.project.id, None, archive)
    if play == "template":
        await world.build("app", memory={"served": 1})
        await world.sandboxes.kill(world.project.id, made.id)
        await world.registry.records.delete(world.project.id, "app")
        await asyncio.sleep(30)
    await world.sandboxes.kill(world.project.id, made.id)

asyncio.run(main(*sys.argv[1:]))
"""

# Point -> what is played, and how the next daemon must leave the sandbox: None, "running", or why it ended.
POINTS: dict[str, tuple[str, str | None]] = {
    "create.before_insert": ("kill", None),
    "create.after_insert": ("kill", "create_failed"),
    "create.after_launch": ("kill", "create_failed"),
    "create.after_running": ("kill", "running"),
    "create.after_terminate": ("fail", "create_failed"),
    "create.after_stopping": ("fail", "create_failed"),
    "kill.before_stopping": ("kill", "running"),
    "kill.after_stopping": ("kill", "killed"),
    "kill.before_terminate": ("kill", "killed"),
    "kill.after_terminate": ("kill", "killed"),
    "kill.after_ended": ("kill", "killed"),
    "death.after_ended": ("die", "crashed"),
}
# Point -> what is played, whether a whole save is on disk then, whether the sandbox's processes are still there, and
# the state and the number of saves that the next daemon must come to.
SAVE_POINTS: dict[str, tuple[str, bool, bool, str, int]] = {
    "pause.before_pausing": ("pause", False, True, "running", 0),
    "pause.after_pausing": ("pause", False, True, "running", 0),
    "pause.after_save": ("pause", True, True, "running", 0),
    "pause.after_paused": ("pause", True, True, "paused", 1),
    "pause.after_terminate": ("pause", True, False, "paused", 1),
    "freeze.after_frozen": ("freeze", False, True, "frozen", 0),
    "resume.before_resuming": ("resume", True, False, "paused", 1),
    "resume.after_resuming": ("resume", True, False, "paused", 1),
    "resume.after_terminate": ("resume", True, False, "paused", 1),
    "resume.after_launch": ("resume", True, True, "paused", 1),
    "resume.after_running": ("resume", True, True, "running", 1),
    "snapshot.after_insert": ("snapshot", False, True, "running", 0),
    "snapshot.after_save": ("snapshot", True, True, "running", 0),
    "snapshot.after_ready": ("snapshot", True, True, "running", 1),
    "snapshot.after_deleting": ("snapshot", True, True, "running", 0),
    "import.after_insert": ("import", True, True, "running", 1),
    "import.after_save": ("import", True, True, "running", 1),
    "claim.before_claim": ("claim", False, True, "", 0),
    "claim.after_claim": ("claim", False, True, "", 0),
    "claim.after_running": ("claim", False, True, "running", 0),
}
# Point -> whether the save is whole on disk then, and how the next daemon must leave the build: failed, or removed.
TEMPLATE_POINTS: dict[str, tuple[bool, str | None]] = {
    "template_save.after_insert": (False, "failed"),
    "template_save.after_save": (True, "failed"),
    "template.after_deleted": (True, None),
    "template.after_unpin": (True, None),
}
# The same points when it is a rollback that is cut off: the sandbox is then paused at the snapshot.
ROLLBACK_POINTS = ("resume.after_resuming", "resume.after_terminate", "resume.after_launch")
SAVED = Saved(SaveKind.MEMORY, 1, 1, "fake 1", 0.0)
RECOVERY_POINTS = ("recover.after_node", "recover.after_stopping", "recover.after_ended")
RECOVERY_OF_SAVES = ("recover.after_given_back", "recover.after_paused")


def test_every_point_in_the_code_is_played() -> None:
    (package,) = atolld.control.__path__
    sources = "".join(path.read_text() for path in Path(package).glob("*.py"))
    points = {*POINTS, *SAVE_POINTS, *TEMPLATE_POINTS, *RECOVERY_POINTS, *RECOVERY_OF_SAVES}
    assert set(re.findall(r'crash_point\("([^"]+)"\)', sources)) == points


def _kill_daemon_at(point: str, path: Path, play: str) -> None:
    _run_and_die(CHILD, point, str(path), play)


def _run_and_die(program: str, point: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "ATOLL_CRASH_POINT": point},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


async def _next_daemon(path: Path) -> World:
    """Starts on a machine that still has the resources of every sandbox that has not ended."""
    before = await World.open(path, recover=False)
    machine = FakeMachine()
    for row in await before.store.live():
        machine.sandboxes[row.id] = FakeSandbox(row.id, "fake", 512, 1.0, SPEC.network)
    await before.database.close()
    return await World.open(path, clock=before.clock, machine=machine)


@pytest.mark.parametrize("point", list(POINTS))
async def test_killed_at_each_step_of_a_life(tmp_path: Path, point: str) -> None:
    play, expected = POINTS[point]
    path = tmp_path / "atoll.db"
    _kill_daemon_at(point, path, play)
    world = await _next_daemon(path)
    listed = await world.store.list(SandboxQuery(world.project.id))
    if expected is None:
        assert listed == []
    else:
        (row,) = [one.sandbox for one in listed]
        assert (row.end_reason or row.state).value == expected
        assert list(world.node.machine.sandboxes) == ([row.id] if expected == "running" else [])
        types = [event.type.value for event in await world.events_of(row.id)]
        ran = [] if row.started_at is None else ["sandbox.created"]
        assert types == ran + ([] if expected == "running" or not ran else ["sandbox.killed"])
        # And it can go on from there.
        if expected == "running":
            await world.sandboxes.kill(world.project.id, row.id)
    assert (await world.create()).state is SandboxState.RUNNING
    await world.close()


@pytest.mark.parametrize("point", RECOVERY_POINTS)
async def test_killed_while_recovering(tmp_path: Path, point: str) -> None:
    path = tmp_path / "atoll.db"
    first = await World.open(path)
    rows = [
        Sandbox(new_sandbox_id(), first.project.id, TemplateId("t"), "base", SPEC, SandboxState.CREATING, 1.0, "x")
        for _ in range(3)
    ]
    for row in rows:
        await first.store.insert(row)
    await first.store.mark_stopping(rows[0].id, SandboxState.CREATING, EndReason.EXPIRED, "")
    await first.close()
    _kill_daemon_at(point, path, "kill")
    world = await _next_daemon(path)
    assert [(await world.row(row.id)).end_reason for row in rows] == [
        EndReason.EXPIRED,
        EndReason.CREATE_FAILED,
        EndReason.CREATE_FAILED,
    ]
    assert world.node.machine.sandboxes == {}
    await world.close()


async def _machine_after(path: Path, *, saved: bool, runs: bool) -> FakeMachine:
    """What is left on the machine: the sandbox or not, and a whole save of every row that may have one."""
    before = await World.open(path, recover=False)
    machine = FakeMachine()
    for row in await before.store.live():
        if runs:
            machine.sandboxes[row.id] = FakeSandbox(row.id, "fake", 512, 1.0, SPEC.network, agent_token=row.agent_token)
        if saved:
            ids = {id for id in (row.save_id, row.pending_save_id) if id is not None}
            ids |= {one.id for one in await before.snapshots.list(_all(before))}
            for id in ids | set(await before.snapshots.removable()) | set(await before.snapshots.interrupted()):
                machine.saves[id] = FakeSave(id, SAVED, row.agent_token, {}, {}, {}, whole=True)
    await before.database.close()
    return machine


def _all(world: World) -> SnapshotQuery:
    return SnapshotQuery(world.project.id)


async def _check_saves(world: World, state: str, saves: int) -> None:
    listed = [one.sandbox for one in await world.store.list(SandboxQuery(world.project.id))]
    assert [row.state.value for row in listed if row.state is not SandboxState.ENDED] == ([state] if state else [])
    await until(lambda: len(world.node.machine.saves) == saves)
    for row in listed:
        if row.state is SandboxState.PAUSED:
            assert list(world.node.machine.sandboxes) == []
            assert (await world.sandboxes.resume(world.project.id, row.id)).state is SandboxState.RUNNING
        here = world.node.machine.sandboxes[row.id]
        assert not here.standing
        await world.sandboxes.kill(world.project.id, row.id)
    kept = len((await world.sandboxes.snapshots.list(world.project.id)).items)
    await until(lambda: len(world.node.machine.saves) == kept)
    for _ in range(1000):
        # The row goes after the files.
        if await world.snapshots.removable() == []:
            return
    raise AssertionError("a deleted save is still to be deleted")


@pytest.mark.parametrize("point", list(SAVE_POINTS))
async def test_killed_at_each_step_of_a_save(tmp_path: Path, point: str) -> None:
    play, saved, runs, state, saves = SAVE_POINTS[point]
    path = tmp_path / "atoll.db"
    _kill_daemon_at(point, path, play)
    machine = await _machine_after(path, saved=saved, runs=runs)
    world = await World.open(path, machine=machine)
    for pool in await world.sandboxes.pools.list(world.project.id):
        await world.sandboxes.pools.delete(world.project.id, pool.pool.id)
    await _check_saves(world, state, saves)
    await world.close()


@pytest.mark.parametrize("point", list(TEMPLATE_POINTS))
async def test_killed_at_each_step_of_a_template(tmp_path: Path, point: str) -> None:
    whole, expected = TEMPLATE_POINTS[point]
    path = tmp_path / "atoll.db"
    _kill_daemon_at(point, path, "template")
    before = await World.open(path, recover=False)
    machine = FakeMachine()
    ids = {*await before.snapshots.interrupted(), *await before.snapshots.needed(), *await before.snapshots.removable()}
    assert len(ids) == 1
    if whole:
        machine.saves = {id: FakeSave(id, SAVED, "", {}, {}, {}, whole=True) for id in ids}
    pins = before.registry.pins
    await before.database.close()
    world = await World.open(path, machine=machine, pins=pins)
    for build_id in await world.registry.builds.interrupted():
        await world.registry.builds.fail(build_id, Failure("the daemon was stopped"))
    await until(lambda: not machine.saves)
    for id in ids:
        while await world.snapshots.find(id) is not None:
            pass
    found = await world.registry.store.list(TemplateQuery(world.project.id))
    builds = [build for one in found for build in await world.registry.store.builds(one.id)]
    assert [build.state.value for build in builds] == ([] if expected is None else [expected])
    assert pins.pinned == {}
    assert (await world.build("app")).state is BuildState.READY
    await world.close()


@pytest.mark.parametrize("point", ROLLBACK_POINTS)
async def test_killed_while_rolling_back(tmp_path: Path, point: str) -> None:
    path = tmp_path / "atoll.db"
    _kill_daemon_at(point, path, "rollback")
    world = await World.open(path, machine=await _machine_after(path, saved=True, runs=True))
    (row,) = await world.store.live()
    assert row.save_id == (await world.sandboxes.snapshots.get(world.project.id, "name")).id
    await _check_saves(world, "paused", 1)
    await world.close()


@pytest.mark.parametrize(
    ("first", "point", "runs"),
    [
        ("resume.after_resuming", "recover.after_given_back", False),
        # The machine was lost between the save and the row that tells of it.
        ("pause.after_save", "recover.after_paused", False),
    ],
)
async def test_killed_while_recovering_saves(tmp_path: Path, first: str, point: str, runs: bool) -> None:
    path = tmp_path / "atoll.db"
    _kill_daemon_at(first, path, first.partition(".")[0])
    machine = await _machine_after(path, saved=True, runs=runs)
    crash = f"""
import asyncio
from pathlib import Path
from atolld.control.testing import World
from atolld.core.snapshot import Saved, SaveKind
from atolld.node.fake import FakeMachine, FakeSave
machine = FakeMachine()
for id in {list(machine.saves)!r}:
    saved = Saved(SaveKind.MEMORY, 1, 1, "fake 1", 0.0)
    machine.saves[id] = FakeSave(id, saved, "", {{}}, {{}}, {{}}, whole=True)
asyncio.run(World.open(Path({str(path)!r}), machine=machine))
"""
    _run_and_die(crash, point)
    world = await World.open(path, machine=machine)
    await _check_saves(world, "paused", 1)
    await world.close()
