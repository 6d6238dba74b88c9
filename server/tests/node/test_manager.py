from __future__ import annotations

import asyncio

import pytest

from atolld.core.lifecycle import EndReason
from atolld.core.network import NetworkPolicy
from atolld.foundation.errors import (
    Capacity,
    FailedPrecondition,
    GuestUnreachable,
    Internal,
    NotFound,
    RuntimeUnusable,
)
from atolld.foundation.ids import SandboxId
from atolld.runtime.drivers.fake import Script, Verb

from .stage import ID, OTHER, Stage, known_of, launch_of, settle


async def test_a_launch_tells_the_agent_and_where_it_is() -> None:
    stage = Stage()
    await stage.start()
    launched = await stage.node.launch(launch_of())
    assert launched.address == stage.machine.prepared[ID].address
    assert list(launched.phases_s) == ["queue", "prepare", "start", "agent"]
    assert (stage.guests.told[0].access_token, stage.guests.told[0].envs) == ("secret", {"A": "1"})
    await stage.node.terminate(ID)
    await stage.node.terminate(ID)
    assert stage.empty() and stage.deaths == []


@pytest.mark.parametrize("verb", [Verb.CREATE, Verb.START])
async def test_a_launch_that_fails_leaves_nothing(verb: Verb) -> None:
    stage = Stage(Script(failures={verb: [Internal("no")]}, start_anyway=True))
    await stage.start()
    with pytest.raises(Internal, match="no"):
        await stage.node.launch(launch_of())
    assert stage.empty()
    await stage.node.launch(launch_of())


async def test_what_does_not_fit_is_refused_before_anything_is_made() -> None:
    stage = Stage()
    await stage.start()
    for number in range(3):
        await stage.node.launch(launch_of(SandboxId(f"i{number:019d}")))
    calls = len(stage.driver.calls)
    with pytest.raises(Capacity):
        await stage.node.launch(launch_of(SandboxId("i0000000000000000009")))
    assert len(stage.driver.calls) == calls and len(stage.machine.prepared) == 3


async def test_unknown_and_unusable_runtimes_are_told_apart() -> None:
    stage = Stage(Script(unusable="it is not installed"))
    await stage.start()
    with pytest.raises(NotFound, match="this machine has: fake"):
        await stage.node.launch(launch_of(runtime="nope"))
    with pytest.raises(RuntimeUnusable, match="it is not installed"):
        await stage.node.launch(launch_of())
    assert stage.empty()


async def test_a_machine_without_room_leaves_no_claim() -> None:
    stage = Stage()
    await stage.start()
    stage.machine.fail_prepare = Capacity("no address left")
    with pytest.raises(Capacity, match="no address"):
        await stage.node.launch(launch_of())
    assert stage.empty()


async def test_an_agent_that_refuses_ends_the_launch() -> None:
    stage = Stage()
    stage.guests.refuse = GuestUnreachable("no")
    await stage.start()
    with pytest.raises(GuestUnreachable):
        await stage.node.launch(launch_of())
    assert stage.empty()


async def test_a_sandbox_that_dies_before_its_agent_answers() -> None:
    stage = Stage()
    stage.guests.open.clear()
    await stage.start()
    launching = asyncio.gather(stage.node.launch(launch_of()), return_exceptions=True)
    await settle()
    stage.world.die(ID, message="exec format error")
    (error,) = await launching
    assert isinstance(error, Internal) and "exec format error" in error.message
    assert stage.empty() and stage.deaths == []


async def test_a_caller_that_goes_away_leaves_nothing() -> None:
    stage = Stage()
    stage.guests.open.clear()
    await stage.start()
    launching = asyncio.gather(stage.node.launch(launch_of()))
    await settle()
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    assert stage.empty()


async def test_an_end_during_the_launch() -> None:
    stage = Stage()
    stage.guests.open.clear()
    await stage.start()
    launching = asyncio.gather(stage.node.launch(launch_of()), return_exceptions=True)
    await settle()
    await stage.node.terminate(ID)
    (error,) = await launching
    assert isinstance(error, FailedPrecondition)
    assert stage.empty()


async def test_two_ends_at_once_are_one() -> None:
    stage = Stage()
    await stage.start()
    await stage.node.launch(launch_of())
    await asyncio.gather(*(stage.node.terminate(ID) for _ in range(5)))
    assert [verb for verb, _ in stage.driver.calls].count(Verb.DESTROY) == 1
    assert stage.empty()


@pytest.mark.parametrize(("out_of_memory", "reason"), [(True, EndReason.OUT_OF_MEMORY), (False, EndReason.CRASHED)])
async def test_a_death_is_told_once_and_cleaned(out_of_memory: bool, reason: EndReason) -> None:
    stage = Stage()
    await stage.start()
    await stage.node.launch(launch_of())
    stage.world.die(ID, out_of_memory=out_of_memory)
    await settle()
    assert [(death.id, death.reason) for death in stage.deaths] == [(ID, reason)]
    assert stage.empty()
    with pytest.raises(NotFound):
        await stage.node.usage(ID)


async def test_launches_queue() -> None:
    stage = Stage(parallel=1)
    stage.guests.open.clear()
    await stage.start()
    both = asyncio.gather(stage.node.launch(launch_of()), stage.node.launch(launch_of(OTHER)))
    await settle()
    assert list(stage.machine.prepared) == [ID]
    stage.guests.open.set()
    await both
    assert set(stage.machine.prepared) == {ID, OTHER}


async def test_a_restart_takes_over_what_runs_and_removes_the_rest() -> None:
    stage = Stage()
    await stage.start()
    kept = await stage.node.launch(launch_of())
    await stage.node.launch(launch_of(OTHER))
    await stage.node.close()
    stage.restart()
    outcome = await stage.start(known_of(kept))
    assert outcome == {ID: None}
    assert set(stage.machine.prepared) == {ID}
    assert stage.machine.policies[ID] == NetworkPolicy(internet=False)
    assert stage.capacity.snapshot(0).sandboxes == 1
    stage.world.die(ID)
    await settle()
    assert [death.id for death in stage.deaths] == [ID] and stage.empty()


async def test_a_restart_tells_how_the_others_ended() -> None:
    stage = Stage()
    await stage.start()
    launched = await stage.node.launch(launch_of())
    await stage.node.close()
    stage.world.die(ID, out_of_memory=True)
    stage.restart()
    outcome = await stage.start(known_of(launched), known_of(None, OTHER))
    deaths = {id: death.reason for id, death in outcome.items() if death}
    assert deaths == {ID: EndReason.OUT_OF_MEMORY, OTHER: EndReason.CRASHED}
    assert stage.empty()


async def test_a_sandbox_whose_surroundings_are_gone_is_ended() -> None:
    stage = Stage()
    await stage.start()
    launched = await stage.node.launch(launch_of())
    await stage.node.close()
    stage.machine.prepared.clear()
    stage.restart()
    outcome = await stage.start(known_of(launched))
    death = outcome[ID]
    assert death is not None and "surroundings" in death.message
    assert stage.empty()


@pytest.mark.parametrize("times", [1, 3])
async def test_a_failed_launch_that_cannot_be_cleaned_is_cleaned_later(times: int) -> None:
    stage = Stage(Script(failures={Verb.START: [Internal("no")], Verb.DESTROY: [Internal("busy")] * times}))
    await stage.start()
    with pytest.raises(Internal, match="no"):
        await stage.node.launch(launch_of())
    assert not stage.empty()
    await stage.clock.advance(60)
    assert stage.empty()


async def test_an_end_that_fails_can_be_tried_again() -> None:
    stage = Stage(Script(failures={Verb.DESTROY: [Internal("busy")]}))
    await stage.start()
    await stage.node.launch(launch_of())
    with pytest.raises(Internal, match="busy"):
        await stage.node.terminate(ID)
    assert stage.capacity.snapshot(0).sandboxes == 1
    await stage.node.terminate(ID)
    assert stage.empty()


async def test_a_death_is_told_although_its_cleaning_fails() -> None:
    stage = Stage(Script(failures={Verb.DESTROY: [Internal("busy")] * 2}))
    await stage.start()
    await stage.node.launch(launch_of())
    stage.world.die(ID)
    await settle()
    assert [death.id for death in stage.deaths] == [ID] and not stage.empty()
    await stage.clock.advance(60)
    assert stage.empty()
