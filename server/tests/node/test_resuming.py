from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atolld.core.snapshot import SaveKind
from atolld.foundation.aio import spawn
from atolld.foundation.errors import (
    AlreadyExists,
    AtollError,
    FailedPrecondition,
    GuestUnreachable,
    Internal,
    NotFound,
)
from atolld.foundation.ids import SandboxId, SnapshotId, new_snapshot_id
from atolld.node.interface import After, Launch, Launched, Source
from atolld.node.machine import Prepared
from atolld.runtime.driver import Power
from atolld.runtime.drivers.fake import Script, Verb

from .stage import ID, OTHER, DirectoryMachine, Stage, known_of, launch_of, settle

SAVE = new_snapshot_id()
MEMORY, FILES = SaveKind.MEMORY, SaveKind.FILESYSTEM


async def saved(tmp_path: Path, script: Script | None = None, kind: SaveKind = MEMORY) -> tuple[Stage, Launched]:
    """A sandbox that stands still after a save."""
    stage = Stage(script, machine=DirectoryMachine(tmp_path))
    await stage.start()
    launched = await stage.node.launch(launch_of())
    stage.world.tasks[ID].memory["n"] = 1
    await stage.node.save(ID, SAVE, kind, After.STAND)
    return stage, launched


def resume_of(id: SandboxId = ID, kind: SaveKind = MEMORY) -> Launch:
    return replace(launch_of(id), source=Source(SAVE, kind, "old"), agent_token="new", layers=())


def executions(stage: Stage) -> list[SandboxId]:
    return sorted(stage.world.tasks)


async def test_a_resume_goes_on_from_memory_at_the_same_address(tmp_path: Path) -> None:
    stage, before = await saved(tmp_path)
    await stage.node.terminate(ID)
    assert stage.empty()
    await stage.node.launch(launch_of(OTHER))
    after = await stage.node.launch(replace(resume_of(), formerly=before.handle))
    (execution,) = set(executions(stage)) - {OTHER}
    assert execution != ID and stage.world.tasks[execution].memory == {"n": 1}
    assert after.address == before.address and stage.machine.sources[execution] == SAVE
    assert list(after.phases_s) == ["queue", "check", "prepare", "restore", "verify", "agent"]
    told = stage.guests.told[-1]
    assert (told.sandbox_id, told.access_token, stage.guests.tokens[-1]) == (ID, "new", "old")
    assert (told.hostname, told.now) == ("box", stage.clock.now())
    # Memory knows who its user is, and we may not.
    assert (told.default_user, told.default_workdir) == (None, None)
    await stage.node.save(ID, new_snapshot_id(), MEMORY, After.GO_ON)
    await stage.node.terminate(ID)
    await stage.node.terminate(OTHER)
    assert stage.empty()


@pytest.mark.parametrize("prepared", [True, False])
async def test_the_memory_is_read_for_its_checksums_only_when_the_guest_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: bool
) -> None:
    stage, _ = await saved(tmp_path)
    await stage.node.terminate(ID)
    order: list[str] = []
    check, prepare = stage.machine.check_memory, stage.machine.prepare

    async def checking(save_id: SnapshotId) -> None:
        order.append("check")
        await check(save_id)

    async def preparing(*args: Any, **options: Any) -> Prepared:
        if not prepared:
            raise Internal("no disk")
        made = await prepare(*args, **options)
        await asyncio.sleep(0)
        order.append("prepared")
        return made

    monkeypatch.setattr(stage.machine, "check_memory", checking)
    monkeypatch.setattr(stage.machine, "prepare", preparing)
    if prepared:
        await stage.node.launch(resume_of())
    else:
        with pytest.raises(Internal, match="no disk"):
            await stage.node.launch(resume_of())
    assert order == (["prepared", "check"] if prepared else [])


async def test_a_resume_from_files_boots(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path, kind=FILES)
    await stage.node.terminate(ID)
    launched = await stage.node.launch(replace(resume_of(kind=FILES), user="app", workdir="/srv"))
    assert (stage.guests.told[-1].default_user, stage.guests.told[-1].default_workdir) == ("app", "/srv")
    assert list(launched.phases_s) == ["queue", "check", "prepare", "start", "agent"]
    # Launched, asked before the save, launched.
    assert stage.guests.tokens == [None, "secret", None]
    (execution,) = executions(stage)
    assert stage.machine.sources[execution] == SAVE and stage.world.tasks[execution].memory == {}


async def test_a_restart_finds_a_resumed_one_by_its_execution(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path)
    await stage.node.terminate(ID)
    launched = await stage.node.launch(resume_of())
    (execution,) = executions(stage)
    await stage.node.launch(launch_of(OTHER))
    await stage.node.close()
    stage.restart()
    assert await stage.start(known_of(launched)) == {ID: None}
    assert executions(stage) == [execution] == list(stage.machine.prepared)
    await stage.node.save(ID, new_snapshot_id(), FILES, After.GO_ON)
    await stage.node.terminate(ID)
    assert stage.empty()


async def test_one_whose_layers_were_not_noted_cannot_be_saved(tmp_path: Path) -> None:
    stage, launched = await saved(tmp_path)
    await stage.node.close()
    stage.restart()
    handle = {name: value for name, value in launched.handle.items() if name != "layers"}
    await stage.start(replace(known_of(launched), handle=handle))
    with pytest.raises(FailedPrecondition, match="older version"):
        await stage.node.save(ID, new_snapshot_id(), FILES, After.GO_ON)


@pytest.mark.parametrize("frozen", [True, False])
async def test_a_restart_sets_power_as_it_should_be(tmp_path: Path, frozen: bool) -> None:
    stage, launched = await saved(tmp_path, Script(failures={Verb.UNSUSPEND: [Internal("busy")]}))
    stage.world.tasks[ID].frozen = not frozen
    await stage.node.close()
    stage.restart()
    await stage.start(replace(known_of(launched), standing=True, frozen=frozen))
    await stage.clock.advance(1)
    task = stage.world.tasks[ID]
    assert (task.suspended, task.frozen) == (False, frozen)


async def test_no_command_is_spent_on_one_that_does_not_stand(tmp_path: Path) -> None:
    stage, launched = await saved(tmp_path)
    await stage.node.close()
    stage.restart()
    await stage.start(known_of(launched))
    assert Verb.UNSUSPEND not in [verb for verb, _ in stage.driver.calls]


@pytest.mark.parametrize("verb", [Verb.RESTORE, Verb.CREATE])
async def test_a_resume_that_fails_leaves_the_save(tmp_path: Path, verb: Verb) -> None:
    kind = MEMORY if verb is Verb.RESTORE else FILES
    script = Script(failures={verb: []})
    stage, _ = await saved(tmp_path, script, kind)
    await stage.node.terminate(ID)
    script.failures[verb].append(Internal("no"))
    with pytest.raises(Internal, match="no"):
        await stage.node.launch(resume_of(kind=kind))
    assert stage.empty() and list(stage.machine.saves) == [SAVE]
    await stage.node.launch(resume_of(kind=kind))


async def test_what_cannot_be_resumed_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path)
    await stage.node.terminate(ID)
    stage.machine.damaged[SAVE] = "disk.img"
    with pytest.raises(FailedPrecondition, match=r"disk\.img"):
        await stage.node.launch(resume_of())
    stage.script = Script(missing={Power.RESTORE: "too old to restore"})
    stage.restart()
    await stage.start()
    with pytest.raises(FailedPrecondition, match="too old"):
        await stage.node.launch(resume_of())
    with pytest.raises(NotFound):
        await stage.node.launch(replace(resume_of(), source=Source(new_snapshot_id(), FILES, "old")))
    assert stage.empty()


@pytest.mark.parametrize("failure", [[], [Internal("it cannot be read")]], ids=["restored", "not restored"])
async def test_nobody_meets_the_guest_of_a_damaged_memory(tmp_path: Path, failure: list[AtollError]) -> None:
    script = Script(failures={Verb.RESTORE: []})
    stage, _ = await saved(tmp_path, script)
    await stage.node.terminate(ID)
    told = len(stage.guests.told)
    stage.machine.damaged[SAVE] = "memory/pages.img"
    script.failures[Verb.RESTORE] += failure
    with pytest.raises(FailedPrecondition, match=r"pages\.img"):
        await stage.node.launch(resume_of())
    assert stage.empty() and list(stage.machine.saves) == [SAVE] and len(stage.guests.told) == told


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_guest_is_told_nothing_before_its_memory_is_verified(tmp_path: Path, cancelled: bool) -> None:
    stage, _ = await saved(tmp_path)
    await stage.node.terminate(ID)
    told = len(stage.guests.told)
    stage.machine.unread = asyncio.Event()
    launching = spawn(stage.node.launch(resume_of()), name="launch", report=False)
    await settle()
    assert len(executions(stage)) == 1 and len(stage.guests.told) == told and not launching.done()
    if cancelled:
        launching.cancel()
        await settle()
        # The save may not go while it is read.
        assert not launching.done() and await stage.node.sweep_saves([]) == []
    stage.machine.unread.set()
    if not cancelled:
        await launching
        assert len(stage.guests.told) == told + 1
        return
    with pytest.raises(asyncio.CancelledError):
        await launching
    assert stage.empty() and len(stage.guests.told) == told


async def test_an_agent_with_another_token_ends_the_resume(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path)
    await stage.node.terminate(ID)
    stage.guests.refuse = GuestUnreachable("401")
    with pytest.raises(GuestUnreachable):
        await stage.node.launch(resume_of())
    assert stage.empty()


async def test_a_save_is_not_deleted_under_its_reader(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path)
    await stage.node.terminate(ID)
    stage.guests.open.clear()
    launching = spawn(stage.node.launch(resume_of()), name="launch")
    await settle()
    discarding = spawn(stage.node.discard_save(SAVE), name="discard")
    await settle()
    assert list(stage.machine.saves) == [SAVE] and await stage.node.sweep_saves([]) == []
    with pytest.raises(NotFound, match="being deleted"):
        await stage.node.launch(resume_of(OTHER))
    stage.guests.open.set()
    await launching
    await discarding
    assert stage.machine.saves == {}
    await stage.node.discard_save(SAVE)


async def test_siblings_stand_beside_their_source(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path)
    await stage.node.go_on(ID)
    with pytest.raises(AlreadyExists):
        await stage.node.launch(resume_of())
    await stage.node.launch(resume_of(OTHER))
    assert len(executions(stage)) == 2 and stage.capacity.snapshot(0).sandboxes == 2


async def test_a_new_run_does_not_wait_for_one_that_cannot_be_cleaned_yet(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path, Script(failures={Verb.DESTROY: [Internal("busy")] * 3}))
    with pytest.raises(Internal, match="busy"):
        await stage.node.terminate(ID)
    await stage.node.launch(resume_of())
    assert len(executions(stage)) == 2
    assert (await stage.node.usage(ID)).cpu_count == 1
    await stage.clock.advance(60)
    assert len(executions(stage)) == 1 and ID not in stage.machine.prepared
    assert stage.capacity.snapshot(0).sandboxes == 1
    await stage.node.terminate(ID)
    assert stage.empty() and stage.deaths == []


async def test_a_new_run_does_not_wait_for_one_that_is_being_ended(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path, Script(delays_s={Verb.DESTROY: 1.0}))
    ending = spawn(stage.node.terminate(ID), name="end")
    await settle()
    await stage.node.launch(resume_of())
    assert not ending.done() and len(executions(stage)) == 2
    await stage.clock.advance(5)
    await ending
    (execution,) = executions(stage)
    assert execution != ID
    both = spawn(stage.node.terminate(ID), name="end")
    await stage.clock.advance(5)
    await both
    assert stage.empty()


async def test_an_end_takes_earlier_runs_along(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path, Script(failures={Verb.DESTROY: [Internal("busy")]}))
    with pytest.raises(Internal):
        await stage.node.terminate(ID)
    await stage.node.launch(resume_of())
    await stage.node.terminate(ID)
    assert stage.empty()


async def test_the_death_of_an_earlier_run_is_nobodys_news(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path, Script(delays_s={Verb.DESTROY: 1.0}))
    await stage.node.go_on(ID)
    stage.world.die(ID)
    await settle()
    await stage.node.launch(resume_of())
    await stage.clock.advance(5)
    assert stage.deaths == [] and len(executions(stage)) == 1


@pytest.mark.parametrize(
    ("stands", "keep", "parked"), [(True, False, True), (False, False, False), (False, True, True)]
)
async def test_who_comes_back_keeps_its_address(tmp_path: Path, stands: bool, keep: bool, parked: bool) -> None:
    stage, _ = await saved(tmp_path)
    if not stands:
        await stage.node.go_on(ID)
    await stage.node.terminate(ID, keep_address=keep)
    assert bool(stage.machine.parked) is parked
    await stage.node.terminate(ID)
    assert stage.machine.parked == set()


async def test_a_resume_can_be_ended_while_it_comes_up(tmp_path: Path) -> None:
    stage, _ = await saved(tmp_path)
    await stage.node.terminate(ID)
    stage.guests.open.clear()
    launching = asyncio.gather(stage.node.launch(resume_of()), return_exceptions=True)
    await settle()
    await stage.node.terminate(ID)
    (error,) = await launching
    assert isinstance(error, FailedPrecondition) and stage.empty()


async def test_addresses_of_the_paused_are_kept_over_a_restart(tmp_path: Path) -> None:
    stage, launched = await saved(tmp_path)
    await stage.node.terminate(ID)
    stage.machine.parked.clear()
    await stage.node.recover([], {ID: launched.handle})
    assert stage.machine.parked == {launched.handle["machine"]["slot"]}  # type: ignore[index]
    await stage.node.terminate(ID)
    assert stage.machine.parked == set()


async def test_the_same_sandbox_has_its_variables_again_from_its_files(tmp_path: Path) -> None:
    stage, before = await saved(tmp_path, kind=FILES)
    await stage.node.terminate(ID)
    # Another one made from the same files gets none: they may be secrets of the first.
    await stage.node.launch(resume_of(OTHER, FILES))
    await stage.node.launch(replace(resume_of(kind=FILES), formerly=before.handle, envs={"MORE": "1"}))
    other, same = stage.guests.told[-2:]
    assert (other.envs, same.envs) == (launch_of().envs, {"NAME": "value", "MORE": "1"})


async def test_from_memory_the_guest_has_its_variables(tmp_path: Path) -> None:
    stage, before = await saved(tmp_path)
    await stage.node.terminate(ID)
    await stage.node.launch(replace(resume_of(), formerly=before.handle, envs={}))
    assert stage.guests.told[-1].envs == {}
