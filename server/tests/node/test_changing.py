from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.foundation.errors import (
    AtollError,
    FailedPrecondition,
    GuestUnreachable,
    Internal,
    InvalidArgument,
    NotFound,
)
from atolld.node.changing import check_change
from atolld.node.interface import Claim
from atolld.runtime.driver import Power
from atolld.runtime.drivers.fake import Script, Verb

from .stage import ID, Stage, launch_of

SIZE = launch_of().resources
CLAIM = Claim({"B": "2"}, NetworkPolicy(internet=False), replace(SIZE, cpu=1.5))


async def running(script: Script | None = None) -> Stage:
    stage = Stage(script)
    await stage.start()
    await stage.node.launch(launch_of())
    return stage


async def test_a_frozen_one_can_be_looked_at_and_ended() -> None:
    stage = await running()
    await stage.node.freeze(ID)
    await stage.node.freeze(ID)
    assert stage.world.tasks[ID].frozen
    assert (await stage.node.usage(ID)).cpu_count == 1
    await stage.node.thaw(ID)
    await stage.node.thaw(ID)
    assert not stage.world.tasks[ID].frozen
    assert [verb for verb, _ in stage.driver.calls].count(Verb.THAW) == 1
    await stage.node.freeze(ID)
    await stage.node.terminate(ID)
    assert stage.empty()
    for call in (stage.node.freeze(ID), stage.node.thaw(ID), stage.node.go_on(ID)):
        with pytest.raises(NotFound):
            await call


async def test_a_freeze_that_fails_and_one_that_is_not_there() -> None:
    stage = await running(Script(failures={Verb.FREEZE: [Internal("stuck")]}))
    with pytest.raises(Internal, match="stuck"):
        await stage.node.freeze(ID)
    await stage.node.thaw(ID)
    assert Verb.THAW not in [verb for verb, _ in stage.driver.calls]
    stage = await running(Script(missing={Power.FREEZE: "no freezer"}))
    with pytest.raises(FailedPrecondition, match="no freezer"):
        await stage.node.freeze(ID)


async def test_a_claim_gives_it_to_somebody() -> None:
    stage = await running()
    await stage.node.claim(ID, CLAIM)
    assert stage.machine.policies[ID] == CLAIM.network and stage.machine.resources[ID] == CLAIM.resources
    told = stage.guests.told[-1]
    assert (told.access_token, told.envs, told.now, stage.guests.tokens[-1]) == (
        None,
        {"B": "2"},
        stage.clock.now(),
        "secret",
    )
    assert (told.sandbox_id, told.hostname, told.default_user) == (None, None, None)
    assert (await stage.node.usage(ID)).cpu_count == 1.5 == stage.capacity.cpu_taken


async def test_a_claim_changes_only_what_differs() -> None:
    stage = await running()
    stage.machine.policies.clear()
    await stage.node.stand_by(ID)
    told = len(stage.guests.told)
    await stage.node.claim(ID, Claim({}, NetworkPolicy(), SIZE))
    assert (stage.machine.policies, stage.machine.calls, len(stage.guests.told)) == ({}, [], told)


async def test_an_agent_that_did_not_answer_before_is_asked_at_the_claim() -> None:
    stage = await running()
    stage.guests.refuse = GuestUnreachable("it says nothing")
    await stage.node.stand_by(ID)
    with pytest.raises(GuestUnreachable):
        await stage.node.claim(ID, Claim({}, NetworkPolicy(), SIZE))


async def test_a_claim_that_the_agent_refuses() -> None:
    stage = await running()
    stage.guests.refuse = GuestUnreachable("401")
    with pytest.raises(GuestUnreachable):
        await stage.node.claim(ID, CLAIM)


async def test_one_that_stands_by_has_run_a_command_and_stands_still_until_it_is_claimed() -> None:
    stage = await running()
    await stage.node.stand_by(ID)
    assert (stage.guests.rehearsed, stage.guests.tokens[-1]) == (1, "secret")
    assert stage.world.tasks[ID].frozen
    await stage.node.claim(ID, CLAIM)
    assert not stage.world.tasks[ID].frozen
    verbs = [verb for verb, _ in stage.driver.calls]
    assert verbs.index(Verb.FREEZE) < verbs.index(Verb.THAW)
    # It was nobody's, so nobody's freeze has to be undone later.
    await stage.node.thaw(ID)
    assert [verb for verb, _ in stage.driver.calls].count(Verb.THAW) == 1


@pytest.mark.parametrize(
    ("script", "refuse"),
    [
        (Script(missing={Power.FREEZE: "no freezer"}), None),
        (Script(failures={Verb.FREEZE: [Internal("stuck")]}), None),
        (Script(missing={Power.FREEZE: "no freezer"}), InvalidArgument("there is no /bin/sh")),
        (Script(missing={Power.FREEZE: "no freezer"}), GuestUnreachable("it says nothing")),
    ],
)
async def test_one_that_cannot_stand_still_or_has_no_shell_is_as_good(
    script: Script, refuse: AtollError | None
) -> None:
    stage = await running(script)
    stage.guests.refuse = refuse
    await stage.node.stand_by(ID)
    assert not stage.world.tasks[ID].frozen
    stage.guests.refuse = None
    await stage.node.claim(ID, CLAIM)
    await stage.node.terminate(ID)
    with pytest.raises(NotFound):
        await stage.node.stand_by(ID)


@pytest.mark.parametrize(
    ("new", "own_kernel", "allowed"),
    [
        (SIZE, True, True),
        (replace(SIZE, cpu=2), True, True),
        (replace(SIZE, cpu=0.5), True, True),
        (replace(SIZE, cpu=2.5), True, False),
        (replace(SIZE, cpu=2.5), False, True),
        (replace(SIZE, memory_mib=256), False, False),
        (replace(SIZE, disk_mib=256), False, False),
        (replace(SIZE, pids_max=256), False, False),
    ],
)
def test_what_can_be_changed_while_it_runs(new: Resources, own_kernel: bool, allowed: bool) -> None:
    if allowed:
        check_change(SIZE, new, own_kernel)
        return
    with pytest.raises(FailedPrecondition):
        check_change(SIZE, new, own_kernel)
