"""Waiting containers: made when nothing else is to do, used by what fits, and gone when their room is needed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from atolld.core.sandbox import Resources
from atolld.core.snapshot import SaveKind
from atolld.foundation.aio import spawn
from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition, GuestUnreachable, Internal, NotFound
from atolld.foundation.ids import SandboxId, SnapshotId, new_snapshot_id
from atolld.node.interface import After, Launch, Launched, Source
from atolld.node.prepared_pool import MAX_FAILURES, MEMORY_MIB, PAUSE_S, QUIET_S
from atolld.runtime.driver import Power, TaskState
from atolld.runtime.drivers.fake import Script, Verb

from .stage import ID, OTHER, DirectoryMachine, Stage, launch_of, settle

MEMORY = SaveKind.MEMORY
LATER = SandboxId("i0000000000000000003")


async def filled(tmp_path: Path, script: Script | None = None, ready: int = 2) -> Stage:
    """A node with containers that wait."""
    stage = Stage(script, machine=DirectoryMachine(tmp_path), ready=ready)
    await stage.start()
    await quiet(stage)
    return stage


async def quiet(stage: Stage, rounds: int = 6) -> None:
    for _ in range(rounds):
        await stage.clock.advance(QUIET_S)
        await settle()


def waiting(stage: Stage) -> list[SandboxId]:
    return sorted(id for id, task in stage.world.tasks.items() if task.shell is not None and not task.pid)


async def saved(stage: Stage, resources: Resources | None = None) -> SnapshotId:
    """A save of a sandbox that has ended since."""
    save_id = new_snapshot_id()
    launched = await stage.node.launch(replace(launch_of(), resources=resources or Resources()))
    stage.world.tasks[SandboxId(execution(launched))].memory["n"] = 1
    await stage.node.save(ID, save_id, MEMORY, After.STAND)
    await stage.node.terminate(ID)
    await quiet(stage)
    return save_id


def resume_of(save_id: SnapshotId, id: SandboxId = ID, resources: Resources | None = None) -> Launch:
    source = Source(save_id, MEMORY, "old")
    return replace(launch_of(id), source=source, agent_token="new", layers=(), resources=resources or Resources())


def execution(launched: Launched) -> str:
    machine = launched.handle["machine"]
    assert isinstance(machine, dict)
    return str(machine["execution"])


def surroundings_without(stage: Stage) -> set[SandboxId]:
    return set(stage.machine.prepared) - set(waiting(stage))


async def test_a_resume_goes_on_in_one_and_another_takes_its_place(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    save_id = await saved(stage)
    before = waiting(stage)
    assert len(before) == 2 and stage.node.gauges()["pool_containers_ready"] == 2
    assert all(stage.world.tasks[id].frozen for id in before)
    launched = await stage.node.launch(resume_of(save_id))
    assert execution(launched) in before and len(waiting(stage)) == 1
    assert not stage.world.tasks[SandboxId(execution(launched))].frozen
    assert list(launched.phases_s) == ["queue", "check", "prepare", "restore", "verify", "agent"]
    assert stage.world.tasks[SandboxId(execution(launched))].memory == {"n": 1}
    assert stage.machine.sources == {execution(launched): save_id}
    assert stage.capacity.snapshot(0).sandboxes == 1
    await quiet(stage)
    assert len(waiting(stage)) == 2
    await stage.node.save(ID, new_snapshot_id(), MEMORY, After.GO_ON)
    await stage.node.terminate(ID)
    assert surroundings_without(stage) == set() and stage.capacity.snapshot(0).sandboxes == 0
    await stage.node.close()
    assert stage.empty() and not stage.world.tasks and stage.capacity.snapshot(0).memory_taken_mib == 0


async def test_a_damaged_memory_is_not_tried_twice(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    save_id = await saved(stage)
    stage.machine.damaged[save_id] = "memory/pages.img"
    for _ in range(MAX_FAILURES + 1):
        before = stage.machine.calls.count(("check_memory", save_id))
        with pytest.raises(FailedPrecondition, match=r"pages\.img"):
            await stage.node.launch(resume_of(save_id))
        assert stage.machine.calls.count(("check_memory", save_id)) == before + 1
        await quiet(stage)
    # Nor is it the fault of the containers.
    assert len(waiting(stage)) == 2 and surroundings_without(stage) == set()
    await stage.node.close()


async def test_a_new_one_starts_in_one(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    before = waiting(stage)
    launched = await stage.node.launch(replace(launch_of(), resources=Resources()))
    assert execution(launched) in before and len(waiting(stage)) == 1
    assert list(launched.phases_s) == ["queue", "prepare", "start", "agent"]
    assert stage.guests.told[-1].hostname == launch_of().hostname
    assert stage.machine.sources == {} and stage.capacity.snapshot(0).sandboxes == 1
    await stage.node.terminate(ID)
    assert surroundings_without(stage) == set() and stage.capacity.snapshot(0).sandboxes == 0
    await stage.node.close()
    assert stage.empty()


@pytest.mark.parametrize("failure", [Internal("not in there"), FailedPrecondition("another kind")])
async def test_a_new_one_that_does_not_start_in_one_starts_without(tmp_path: Path, failure: AtollError) -> None:
    stage = await filled(tmp_path)
    for _ in range(MAX_FAILURES):
        before = waiting(stage)
        stage.script.failures = {Verb.START: [failure]}
        launched = await stage.node.launch(replace(launch_of(), resources=Resources()))
        assert execution(launched) not in before and len(waiting(stage)) == 1
        assert surroundings_without(stage) == {execution(launched)}
        await stage.node.terminate(ID)
        await quiet(stage)
    # What is wrong with the guest's kind is not wrong with the containers.
    assert len(waiting(stage)) == (2 if isinstance(failure, FailedPrecondition) else 1)
    await stage.node.close()


async def test_one_of_files_alone_does_not_use_one(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    save_id = new_snapshot_id()
    await stage.node.launch(replace(launch_of(), resources=Resources()))
    await stage.node.save(ID, save_id, SaveKind.FILESYSTEM, After.STAND)
    await stage.node.terminate(ID)
    await quiet(stage)
    before = waiting(stage)
    launched = await stage.node.launch(replace(resume_of(save_id), source=Source(save_id, SaveKind.FILESYSTEM, "old")))
    assert execution(launched) not in before and waiting(stage) == before
    await stage.node.close()


async def test_none_are_made_where_they_are_off_or_cannot_be(tmp_path: Path) -> None:
    for number, (ready, script) in enumerate(((0, Script()), (2, Script(missing={Power.PREPARED: "not here"})))):
        (tmp_path / str(number)).mkdir()
        stage = await filled(tmp_path / str(number), script, ready)
        save_id = await saved(stage)
        await stage.node.launch(resume_of(save_id))
        assert Verb.PREPARE not in [verb for verb, _ in stage.driver.calls]
        await stage.node.close()


async def test_where_nothing_can_be_frozen_they_wait_awake(tmp_path: Path) -> None:
    stage = await filled(tmp_path, Script(missing={Power.FREEZE: "no freezer"}))
    save_id = await saved(stage)
    before = waiting(stage)
    assert execution(await stage.node.launch(resume_of(save_id))) in before
    await stage.node.close()


async def test_they_are_made_one_at_a_time_and_not_while_something_starts(tmp_path: Path) -> None:
    stage = Stage(machine=DirectoryMachine(tmp_path), ready=2)
    await stage.start()
    stage.guests.open.clear()
    launching = spawn(stage.node.launch(launch_of()), name="test", report=False)
    await quiet(stage)
    assert waiting(stage) == []
    stage.guests.open.set()
    await launching
    await settle()
    assert waiting(stage) == []
    await stage.clock.advance(QUIET_S)
    await settle()
    assert len(waiting(stage)) == 1
    await quiet(stage)
    assert len(waiting(stage)) == 2
    await stage.node.close()


@pytest.mark.parametrize("resources", [Resources(memory_mib=256), Resources(cpu=3), Resources(pids_max=64)])
async def test_another_size_does_not_use_one(tmp_path: Path, resources: Resources) -> None:
    stage = await filled(tmp_path)
    save_id = await saved(stage, resources)
    before = waiting(stage)
    launched = await stage.node.launch(resume_of(save_id, resources=resources))
    assert execution(launched) not in before and waiting(stage) == before
    await stage.node.close()


async def test_a_guest_that_needs_its_address_does_not_use_one(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    stage.guests.needs_address = True
    save_id = await saved(stage)
    before = waiting(stage)
    launched = await stage.node.launch(resume_of(save_id))
    assert execution(launched) not in before
    await stage.node.close()


async def test_the_kind_asked_for_last_is_kept(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    save_id = await saved(stage)
    stage.script.agent_sudo = True
    launched = await stage.node.launch(resume_of(save_id))
    assert launched.address and len(waiting(stage)) == 2
    await quiet(stage)
    kinds = {stage.world.tasks[id].shell for id in waiting(stage)}
    assert True in {kind.agent_sudo for kind in kinds if kind is not None} and len(waiting(stage)) == 2
    await stage.node.close()


@pytest.mark.parametrize("verb", ["furnish", Verb.RESTORE])
async def test_what_fails_in_one_is_tried_without(tmp_path: Path, verb: str) -> None:
    stage = await filled(tmp_path)
    save_id = await saved(stage)
    before = waiting(stage)
    if verb == "furnish":
        stage.machine.failures[verb] = OSError(5, "broken")
    else:
        stage.script.failures = {Verb.RESTORE: [Internal("not in there")]}
    launched = await stage.node.launch(resume_of(save_id))
    assert execution(launched) not in before and len(waiting(stage)) == 1
    assert surroundings_without(stage) == {execution(launched)}
    assert stage.capacity.snapshot(0).sandboxes == 1
    await stage.node.close()


async def test_a_guest_that_does_not_answer_is_not_tried_twice(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    save_id = await saved(stage)
    stage.guests.refuse = GuestUnreachable("silent")
    stage.driver.calls.clear()
    with pytest.raises(GuestUnreachable):
        await stage.node.launch(resume_of(save_id))
    assert [verb for verb, _ in stage.driver.calls].count(Verb.RESTORE) == 1
    assert surroundings_without(stage) == set() and stage.capacity.snapshot(0).sandboxes == 0
    await stage.node.close()


async def test_after_failures_in_a_row_no_more_are_made(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    save_id = await saved(stage)
    for _ in range(MAX_FAILURES):
        stage.script.failures = {Verb.RESTORE: [Internal("not in there")]}
        await stage.node.launch(resume_of(save_id))
        await stage.node.terminate(ID)
        await quiet(stage)
    stage.driver.calls.clear()
    await stage.node.launch(resume_of(save_id))
    await quiet(stage)
    assert Verb.PREPARE not in [verb for verb, _ in stage.driver.calls]
    await stage.node.close()


async def test_one_that_has_died_is_not_used(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    save_id = await saved(stage)
    dead, alive = [one.prepared.id for one in stage.node._pool._waiting]
    task = stage.world.tasks[dead]
    task.status = replace(task.status, state=TaskState.GONE)
    launched = await stage.node.launch(resume_of(save_id))
    assert execution(launched) == alive
    await quiet(stage)
    assert dead not in stage.machine.prepared
    await stage.node.close()


async def test_they_make_room_for_a_launch(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    taken = stage.capacity.snapshot(0).memory_taken_mib
    assert taken == 2 * MEMORY_MIB
    # 40,000 MiB may be given out: it fits only without them.
    whole = replace(launch_of(), resources=Resources(memory_mib=10_000))
    for id in (ID, OTHER):
        await stage.node.launch(replace(whole, id=id))
    await stage.node.launch(replace(launch_of(LATER), resources=Resources(memory_mib=10_000)))
    assert len(waiting(stage)) == 2
    for id in (ID, OTHER, LATER):
        await stage.node.terminate(id)
    stage.machine.memory_free_mib = 0
    with pytest.raises(Capacity):
        await stage.node.launch(launch_of())
    assert waiting(stage) == [] and stage.capacity.snapshot(0).memory_taken_mib == 0
    # Not made again at once, nor where there is no room.
    stage.machine.memory_free_mib = 512 + MEMORY_MIB - 1
    await stage.node.launch(launch_of())
    await stage.clock.advance(PAUSE_S)
    await quiet(stage)
    assert waiting(stage) == []
    stage.machine.memory_free_mib = 5_000
    await stage.node.terminate(ID)
    await quiet(stage)
    assert len(waiting(stage)) == 2
    await stage.node.close()


async def test_no_address_left_is_room_too(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    stage.machine.fail_prepare = Capacity("all network slots are in use")
    with pytest.raises(Capacity):
        await stage.node.launch(launch_of())
    assert waiting(stage) == [] and not stage.machine.prepared
    await stage.node.close()


async def test_one_that_cannot_be_made_is_tried_again_later(tmp_path: Path) -> None:
    stage = await filled(tmp_path, Script(failures={Verb.PREPARE: [Internal("no")]}))
    assert waiting(stage) == [] and not stage.machine.prepared
    await stage.clock.advance(PAUSE_S)
    await quiet(stage)
    assert len(waiting(stage)) == 2
    await stage.node.close()


async def test_the_next_daemon_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    left = waiting(stage)
    assert len(left) == 2
    stage.restart()
    await stage.start()
    assert waiting(stage) == [] and not stage.machine.prepared
    await quiet(stage)
    assert len(waiting(stage)) == 2 and set(waiting(stage)).isdisjoint(left)
    await stage.node.close()


async def test_a_resume_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    stage = await filled(tmp_path)
    save_id = await saved(stage)
    stage.guests.open.clear()
    resuming = spawn(stage.node.launch(resume_of(save_id)), name="test", report=False)
    await settle()
    resuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await resuming
    assert surroundings_without(stage) == set() and stage.capacity.snapshot(0).sandboxes == 0
    with pytest.raises(NotFound):
        await stage.node.usage(ID)
    await stage.node.close()
