from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from atolld.core.snapshot import Saved, SaveKind
from atolld.foundation.aio import spawn
from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition, GuestUnreachable, Internal, NotFound
from atolld.foundation.ids import SnapshotId, new_snapshot_id
from atolld.node.interface import After
from atolld.node.machine import Prepared
from atolld.runtime.driver import Power
from atolld.runtime.drivers.fake import Script, Verb

from .stage import ID, DirectoryMachine, Stage, launch_of, settle

SAVE = new_snapshot_id()
MEMORY, FILES = SaveKind.MEMORY, SaveKind.FILESYSTEM
NO_CHECKPOINT = {Power.CHECKPOINT: "this runtime cannot save memory"}


async def running(tmp_path: Path, script: Script | None = None) -> Stage:
    stage = Stage(script, machine=DirectoryMachine(tmp_path))
    await stage.start()
    await stage.node.launch(launch_of())
    stage.machine.calls.clear()
    stage.driver.calls.clear()
    return stage


def goes_on(stage: Stage) -> bool:
    task = stage.world.running(ID)
    return not task.suspended and not task.frozen


def verbs(stage: Stage) -> list[str]:
    return [verb for verb, _ in stage.driver.calls]


def saving(stage: Stage, save_id: SnapshotId = SAVE, after: After = After.GO_ON) -> asyncio.Task[Saved]:
    return spawn(stage.node.save(ID, save_id, MEMORY, after), name="save", report=False)


@pytest.mark.parametrize(
    ("kind", "after", "missing", "driver", "stands"),
    [
        (MEMORY, After.GO_ON, {}, [Verb.SUSPEND, Verb.CHECKPOINT, Verb.UNSUSPEND], False),
        (MEMORY, After.STAND, {}, [Verb.SUSPEND, Verb.CHECKPOINT], True),
        (FILES, After.GO_ON, {}, [Verb.SUSPEND, Verb.UNSUSPEND], False),
        (FILES, After.STAND, {}, [Verb.SUSPEND], True),
        (FILES, After.GO_ON, NO_CHECKPOINT, [Verb.FREEZE, Verb.THAW], False),
        (FILES, After.STAND, NO_CHECKPOINT, [Verb.FREEZE], True),
    ],
)
async def test_a_save(
    tmp_path: Path, kind: SaveKind, after: After, missing: dict[Power, str], driver: list[Verb], stands: bool
) -> None:
    stage = await running(tmp_path, Script(missing=missing))
    saved = await stage.node.save(ID, SAVE, kind, after)
    cut = ["cut_off", "reconnect"] * (kind is MEMORY)
    assert [verb for verb, _ in stage.machine.calls] == ["settle", "begin_save", *cut, "save_disk", "finish_save"]
    assert stage.machine.cut_off_now == set()
    assert verbs(stage) == driver
    assert goes_on(stage) is not stands
    assert saved == await stage.node.saved(SAVE)
    assert (saved.kind, saved.engine) == (kind, "fake 1" if kind is MEMORY else "")
    assert (stage.machine.saves[SAVE].execution, stage.machine.saves[SAVE].layers) == (ID, (Path("/layer"),))
    memory, go_on = ["memory"] * (kind is MEMORY), ["go_on"] * (after is After.GO_ON)
    assert list(saved.phases_s) == ["queue", "settle", "suspend", *memory, "disk", *go_on, "finish"]
    await stage.node.go_on(ID)
    await stage.node.go_on(ID)
    assert goes_on(stage)


async def test_the_guest_goes_on_before_the_checksums(tmp_path: Path) -> None:
    stage = await running(tmp_path)
    seen: list[bool] = []
    finish = stage.machine.finish_save

    async def look(*arguments: Any, **options: Any) -> Saved:
        seen.append(goes_on(stage))
        return await finish(*arguments, **options)

    stage.machine.finish_save = look  # type: ignore[method-assign]
    await stage.node.save(ID, SAVE, MEMORY, After.GO_ON)
    assert seen == [True]


async def test_no_packet_reaches_it_while_its_memory_is_written_and_its_programs_stand(tmp_path: Path) -> None:
    stage = await running(tmp_path, Script(delays_s={Verb.CHECKPOINT: 5.0}))
    seen: list[bool] = []
    cut_off = stage.machine.cut_off

    async def look(prepared: Prepared) -> None:
        seen.append(goes_on(stage))
        await cut_off(prepared)

    stage.machine.cut_off = look  # type: ignore[method-assign]
    task = saving(stage)
    await stage.clock.advance(1)
    assert (seen, stage.machine.cut_off_now) == ([False], {ID})
    await stage.clock.advance(10)
    await task
    assert stage.machine.cut_off_now == set()


async def test_what_cannot_be_reconnected_at_once_is_later_and_spoils_no_later_save(tmp_path: Path) -> None:
    stage = await running(tmp_path, Script(delays_s={Verb.CHECKPOINT: 5.0}))
    stage.machine.failures["reconnect"] = OSError("busy")
    task = saving(stage)
    await stage.clock.advance(10)
    with pytest.raises(OSError, match="busy"):
        await task
    assert goes_on(stage) and stage.machine.cut_off_now == {ID}
    later = saving(stage, new_snapshot_id())
    stage.machine.failures.clear()
    await stage.clock.advance(4.5)
    assert stage.machine.cut_off_now == {ID}
    await stage.clock.advance(60)
    await later
    assert goes_on(stage) and stage.machine.cut_off_now == set()


async def test_whether_a_socket_needs_its_address_is_asked_while_it_runs(tmp_path: Path) -> None:
    stage = await running(tmp_path)
    cases: list[tuple[bool, AtollError | None, SaveKind, bool, bool]] = [
        (False, None, MEMORY, False, False),
        (True, None, MEMORY, False, True),
        # What cannot answer, and what is not asked, is taken at its most demanding.
        (False, GuestUnreachable("silent"), MEMORY, False, True),
        (False, None, MEMORY, True, True),
        (False, None, FILES, False, True),
    ]
    for needs, refuse, kind, frozen, noted in cases:
        stage.guests.needs_address, stage.guests.refuse = needs, refuse
        stage.guests.tokens.clear()
        if frozen:
            await stage.node.freeze(ID)
        save_id = new_snapshot_id()
        await stage.node.save(ID, save_id, kind, After.GO_ON)
        assert stage.machine.needs_address(save_id) is noted
        asked = 0 if frozen else 1 if refuse is not None or kind is FILES else 2
        assert stage.guests.tokens == ["secret"] * asked
        assert stage.machine.envs(save_id) == ({} if frozen or refuse is not None else {"NAME": "value"})


async def test_how_long_it_stood_is_measured(tmp_path: Path) -> None:
    stage = await running(tmp_path, Script(delays_s={Verb.SUSPEND: 0.5, Verb.CHECKPOINT: 2.0, Verb.UNSUSPEND: 0.25}))
    task = saving(stage)
    await stage.clock.advance(10)
    assert (await task).stopped_s == 2.75


async def test_connections_to_the_outside_are_ended(tmp_path: Path) -> None:
    stage = await running(tmp_path)
    await stage.node.save(ID, SAVE, MEMORY, After.GO_ON)
    (file,) = (tmp_path / SAVE).iterdir()
    assert '"connections_ended": true' in file.read_text()


@pytest.mark.parametrize("after", list(After))
@pytest.mark.parametrize(
    "verb", ["settle", "begin_save", "cut_off", "save_disk", "finish_save", Verb.SUSPEND, Verb.CHECKPOINT]
)
async def test_a_save_that_fails_leaves_nothing_and_the_guest_goes_on(tmp_path: Path, verb: str, after: After) -> None:
    full = Capacity("the disk is full")
    is_driver = isinstance(verb, Verb)
    stage = await running(tmp_path, Script(failures={Verb(verb): [full]} if is_driver else {}))
    if not is_driver:
        stage.machine.failures[verb] = full
    with pytest.raises(Capacity, match="full"):
        await stage.node.save(ID, SAVE, MEMORY, after)
    assert goes_on(stage) and stage.machine.begun == {} and stage.machine.saves == {}
    assert stage.machine.cut_off_now == set()
    stage.machine.failures.clear()
    await stage.node.save(ID, new_snapshot_id(), MEMORY, After.GO_ON)


async def test_a_guest_that_cannot_go_on_at_once_does_so_later(tmp_path: Path) -> None:
    stage = await running(tmp_path, Script(failures={Verb.UNSUSPEND: [Internal("busy")] * 3}))
    with pytest.raises(Internal, match="busy"):
        await stage.node.save(ID, SAVE, MEMORY, After.GO_ON)
    assert not goes_on(stage) and stage.machine.begun == {}
    await stage.clock.advance(60)
    assert goes_on(stage)


async def test_what_is_still_to_go_on_does_not_spoil_a_later_save(tmp_path: Path) -> None:
    stage = await running(tmp_path, Script(failures={Verb.UNSUSPEND: [Internal("busy")] * 2}))
    with pytest.raises(Internal):
        await stage.node.save(ID, SAVE, MEMORY, After.GO_ON)
    await stage.node.save(ID, new_snapshot_id(), MEMORY, After.STAND)
    await stage.clock.advance(60)
    assert not goes_on(stage)


@pytest.mark.parametrize("verb", [Verb.SUSPEND, Verb.CHECKPOINT, Verb.UNSUSPEND])
async def test_a_caller_that_goes_away_leaves_no_save(tmp_path: Path, verb: Verb) -> None:
    stage = await running(tmp_path, Script(delays_s={verb: 1.0}))
    task = saving(stage)
    await stage.clock.advance(0.5)
    task.cancel()
    await stage.clock.advance(10)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert goes_on(stage) and stage.machine.begun == {} and stage.machine.saves == {}


async def test_an_end_during_the_save(tmp_path: Path) -> None:
    stage = await running(tmp_path, Script(delays_s={Verb.CHECKPOINT: 5.0}))
    first, waiting = saving(stage), saving(stage, new_snapshot_id())
    await stage.clock.advance(1)
    await stage.node.terminate(ID)
    for task in (first, waiting):
        with pytest.raises(FailedPrecondition, match="was ended while it was saved"):
            await task
    assert stage.empty() and stage.machine.begun == {} and stage.machine.saves == {} and stage.deaths == []
    with pytest.raises(NotFound):
        await stage.node.save(ID, SAVE, MEMORY, After.GO_ON)


@pytest.mark.parametrize("verb", [Verb.SUSPEND, Verb.CHECKPOINT])
async def test_a_death_during_the_save_is_told(tmp_path: Path, verb: Verb) -> None:
    stage = await running(tmp_path, Script(delays_s={verb: 5.0}))
    task = saving(stage)
    await stage.clock.advance(1)
    stage.world.die(ID)
    await settle()
    with pytest.raises(FailedPrecondition):
        await task
    assert [death.id for death in stage.deaths] == [ID]
    assert stage.empty() and stage.machine.begun == {}


async def test_two_saves_at_once_follow_one_another(tmp_path: Path) -> None:
    stage = await running(tmp_path, Script(delays_s={Verb.CHECKPOINT: 5.0}))
    tasks = [saving(stage), saving(stage, new_snapshot_id())]
    await stage.clock.advance(6)
    assert [task.done() for task in tasks] == [True, False]
    await stage.clock.advance(6)
    assert verbs(stage) == [Verb.SUSPEND, Verb.CHECKPOINT, Verb.UNSUSPEND] * 2


async def test_what_a_runtime_cannot_do_is_refused_with_its_sentence(tmp_path: Path) -> None:
    stage = await running(tmp_path, Script(missing={**NO_CHECKPOINT, Power.FREEZE: "nor freeze"}))
    for kind in SaveKind:
        with pytest.raises(FailedPrecondition, match="cannot save memory"):
            await stage.node.save(ID, SAVE, kind, After.GO_ON)
    assert stage.machine.calls == [] and goes_on(stage)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("missing", [{}, NO_CHECKPOINT])
async def test_a_save_ends_a_freeze(tmp_path: Path, missing: dict[Power, str], fails: bool) -> None:
    stage = await running(tmp_path, Script(missing=missing))
    await stage.node.freeze(ID)
    if fails:
        stage.machine.failures["begin_save"] = Capacity("full")
        with pytest.raises(Capacity):
            await stage.node.save(ID, SAVE, FILES, After.GO_ON)
    else:
        await stage.node.save(ID, SAVE, FILES, After.GO_ON)
        # The fake world keeps the freeze until it is thawed; a real driver's suspend ends it.
        stage.world.running(ID).frozen = False
    assert goes_on(stage)


async def test_a_save_is_not_swept_or_deleted_while_it_is_written(tmp_path: Path) -> None:
    stage = await running(tmp_path, Script(delays_s={Verb.CHECKPOINT: 5.0}))
    task = saving(stage)
    await stage.clock.advance(1)
    discarding = spawn(stage.node.discard_save(SAVE), name="discard")
    assert await stage.node.sweep_saves([]) == []
    await stage.clock.advance(10)
    await task
    await discarding
    assert stage.machine.saves == {}
    assert await stage.node.saved(SAVE) is None
