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
from atolld.control.testing import SPEC, World
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.foundation.ids import TemplateId, new_sandbox_id
from atolld.node.fake import FakeMachine, FakeSandbox
from atolld.storage.store import SandboxQuery

CHILD = """
import asyncio, sys
from pathlib import Path
from atolld.control.testing import World

async def main(path, play):
    world = await World.open(Path(path))
    if play == "fail":
        world.node.fail("launched", OSError("broken"))
    made = await world.create()
    if play == "die":
        await world.node.die(made.id)
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
RECOVERY_POINTS = ("recover.after_node", "recover.after_stopping", "recover.after_ended")


def test_every_point_in_the_code_is_played() -> None:
    (package,) = atolld.control.__path__
    sources = "".join(path.read_text() for path in Path(package).glob("*.py"))
    assert set(re.findall(r'crash_point\("([^"]+)"\)', sources)) == {*POINTS, *RECOVERY_POINTS}


def _kill_daemon_at(point: str, path: Path, play: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), play],
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
