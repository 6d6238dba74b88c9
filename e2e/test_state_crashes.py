"""The daemon is killed half way through pauses and resumes, or its disk is full: memory and files are still there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from atoll import AtollError, Capacity, Sandbox
from e2e.conftest import Daemon, make_daemon
from e2e.inside import Keeper, launch, wait_until
from e2e.programs.steady import PORT

MIB = 1024**2

# What the next daemon must find. "running": the pause did not count, "paused": it did.
PAUSE_POINTS = {
    "pause.after_pausing": "running",
    "save.after_suspend": "running",
    "save.after_checkpoint": "running",
    "save_files.frozen": "running",
    "save_files.named": "running",
    "pause.after_save": "running",
    "pause.after_paused": "paused",
    "pause.after_terminate": "paused",
}
RESUME_POINTS = {
    "resume.after_resuming": "paused",
    "resume.after_restore": "paused",
    "resume.after_launch": "paused",
    "resume.after_running": "running",
}
SNAPSHOT_POINTS = {"snapshot.after_insert": 0, "snapshot.after_save": 0, "snapshot.after_ready": 1}


def crash(daemon: Daemon, point: str, method: str, path: str) -> None:
    """Restart the daemon so that it dies at `point`, ask for what leads there, and start it again."""
    daemon.kill_hard()
    daemon.start(crash=point)
    with contextlib.suppress(httpx.TransportError):
        answer = daemon.api(method, path, json={})
        raise AssertionError(f"the daemon did not come to {point}: {answer.text}")
    daemon.wait_end()
    daemon.start()


def test_killed_at_any_point_of_a_pause_or_a_resume(own_daemon: Daemon) -> None:
    with Sandbox.create(timeout_s=900, config=own_daemon.config) as sandbox:
        keeper = Keeper.start(sandbox)
        before = own_daemon.settle()
        for number, (point, state) in enumerate(PAUSE_POINTS.items()):
            keeper.set(number)
            crash(own_daemon, point, "POST", f"/v1/sandboxes/{sandbox.id}/pause")
            assert sandbox.info().state == state, point
            keeper.check()
        for number, (point, state) in enumerate(RESUME_POINTS.items(), start=100):
            keeper.set(number)
            sandbox.pause()
            crash(own_daemon, point, "POST", f"/v1/sandboxes/{sandbox.id}/resume")
            assert sandbox.info().state == state, point
            keeper.check()
        for point, count in SNAPSHOT_POINTS.items():
            crash(own_daemon, point, "POST", f"/v1/sandboxes/{sandbox.id}/snapshots")
            kept = [one for one in sandbox.checkpoints() if one.info.role == "snapshot"]
            assert len(kept) == count, point
            keeper.check()
            for snapshot in kept:
                snapshot.delete()
        wait_until(lambda: own_daemon.census().counts()["cgroups"] == before.counts()["cgroups"], 20, "one group")
        # The one that it came from.
        wait_until(lambda: len(own_daemon.census().saves) <= 1, 20, "no save is left over")
    wait_until(lambda: not own_daemon.census().saves, 20, "no save is left")
    now = own_daemon.settle()
    assert not now.processes and not now.cgroups
    assert not [name for name in now.files if name.startswith("sandboxes")]


@pytest.fixture
def small_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose store holds 1 GiB."""
    yield from make_daemon(
        tmp_path,
        ATOLL_DISK_STORE="xfs",
        ATOLL_DISK_STORE_MIB="1024",
        ATOLL_DISK_RESERVE_MIB="0",
        ATOLL_READY_LAYERS="2",
    )


def test_a_full_disk_during_a_save(small_daemon: Daemon) -> None:
    filler = small_daemon.state_dir / "layers" / "filler"
    with Sandbox.create(memory_mib=1024, timeout_s=600, config=small_daemon.config) as sandbox:
        launch(sandbox, "steady", PORT)
        before = _stock(sandbox)
        for room_mib in (100, 8):
            _leave_room(filler, room_mib * MIB)
            with pytest.raises((Capacity, AtollError)) as full:
                sandbox.pause()
            assert full.value.code == "capacity", full.value
            with pytest.raises((Capacity, AtollError)) as full:
                sandbox.snapshot()
            assert full.value.code == "capacity", full.value
            assert sandbox.info().state == "running"
            assert not small_daemon.census().saves
            filler.unlink()
            _goes_on(before, _stock(sandbox))
        assert sandbox.pause() and sandbox.resume()
        _goes_on(before, _stock(sandbox))


def _leave_room(filler: Path, room_bytes: int) -> None:
    """Fill the store up to `room_bytes`."""
    room = os.statvfs(filler.parent)
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - room_bytes)


def _stock(sandbox: Sandbox) -> dict[str, object]:
    answer = sandbox.request("GET", PORT)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _goes_on(before: dict[str, object], now: dict[str, object]) -> None:
    for name in ("pid", "boot_id", "block"):
        assert now[name] == before[name]
    assert now["file_is_right"] is True and now["child_is_alive"] is True
    assert int(str(now["ticks"])) > int(str(before["ticks"]))
