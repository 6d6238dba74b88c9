from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from atolld.control.testing import SPEC, World
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.foundation.ids import SandboxId, TemplateId, new_sandbox_id
from atolld.node.fake import FakeSandbox
from atolld.node.interface import Death, Known

S = SandboxState
Paused = Mapping[SandboxId, Mapping[str, object]] | None


async def _left_behind(world: World, state: SandboxState, reason: EndReason = EndReason.EXPIRED) -> SandboxId:
    """A row as a killed daemon leaves it, with its resources still on the machine."""
    id = new_sandbox_id()
    row = Sandbox(id, world.project.id, TemplateId("t"), "base", SPEC, S.CREATING, world.clock.now(), "token")
    await world.store.insert(row)
    if state is S.STOPPING:
        await world.store.mark_stopping(id, S.CREATING, reason, "decided before")
    world.node.machine.sandboxes[id] = FakeSandbox(id, "fake", 512, 1.0, SPEC.network)
    return id


async def test_running_ones_go_on(world: World) -> None:
    made = await world.create(timeout_s=100)
    again = await world.restart()
    assert await again.sandboxes.get(world.project.id, made.id) == made
    endpoint = again.sandboxes.endpoint(made.id)
    assert endpoint is not None
    assert endpoint.agent_token == made.agent_token
    await again.clock.advance(99)
    assert (await again.row(made.id)).state is S.RUNNING
    await again.clock.advance(1)
    assert (await again.ended(made.id)).end_reason is EndReason.EXPIRED
    await again.close()


async def test_a_changed_timeout_and_network_hold_after_a_restart(world: World) -> None:
    made = await world.create(timeout_s=100)
    changed = await world.sandboxes.set_timeout(world.project.id, made.id, None)
    changed = await world.sandboxes.set_network(world.project.id, made.id, replace(SPEC.network, internet=False))
    again = await world.restart()
    assert await again.sandboxes.get(world.project.id, made.id) == changed
    await again.close()


@pytest.mark.parametrize(("state", "reason"), [(S.CREATING, EndReason.CREATE_FAILED), (S.STOPPING, EndReason.EXPIRED)])
async def test_half_made_and_half_gone_ones_are_cleaned(world: World, state: SandboxState, reason: EndReason) -> None:
    id = await _left_behind(world, state)
    again = await world.restart()
    row = await again.row(id)
    assert (row.state, row.end_reason) == (S.ENDED, reason)
    assert again.node.machine.sandboxes == {}
    assert again.sandboxes.counts() == {}
    # It never ran, so nobody was told that it was created.
    assert await again.events_of(id) == []
    await again.close()


async def test_one_that_ran_keeps_the_reason_of_its_end(world: World) -> None:
    made = await world.create()
    await world.store.mark_stopping(made.id, S.RUNNING, EndReason.EXPIRED, "its time was up")
    again = await world.restart()
    row = await again.row(made.id)
    assert (row.state, row.end_reason, row.end_message) == (S.ENDED, EndReason.EXPIRED, "its time was up")
    assert (await again.events_of(made.id))[-1].data["reason"] == "expired"
    await again.close()


async def test_time_that_was_up_while_no_daemon_ran(world: World) -> None:
    made = await world.create(timeout_s=100)
    await world.close()
    await world.clock.advance(1000)
    again = await World.open(world.url, clock=world.clock, machine=world.node.machine)
    row = await again.ended(made.id)
    assert (row.end_reason, row.ended_at) == (EndReason.EXPIRED, again.clock.now())
    assert again.node.machine.sandboxes == {}
    await again.close()


@pytest.mark.parametrize("reason", [EndReason.OUT_OF_MEMORY, EndReason.CRASHED])
async def test_deaths_that_nobody_saw(world: World, reason: EndReason) -> None:
    made = await world.create()
    await world.clock.advance(130)
    await world.close()
    await world.clock.advance(100_000)
    world.node.die_unseen(made.id, reason, "while away")
    again = await World.open(world.url, clock=world.clock, machine=world.node.machine)
    row = await again.row(made.id)
    assert (row.state, row.end_reason, row.end_message) == (S.ENDED, reason, "while away")
    assert (await again.events_of(made.id))[-1].data["message"] == "while away"
    # Charged until it was last known to run, not for the days nobody looked.
    (usage,) = await again.usage.list(world.project.id, 0, 1e12)
    assert usage.until - usage.since == 130
    await again.close()


async def test_one_of_which_nothing_was_found(world: World) -> None:
    made = await world.create()
    del world.node.machine.sandboxes[made.id]
    again = await world.restart()
    assert (await again.row(made.id)).end_reason is EndReason.CRASHED
    await again.close()


async def test_usage_is_recorded_at_a_restart_and_at_the_end_without_gap(world: World) -> None:
    made = await world.create(timeout_s=None)
    await world.clock.advance(100)
    again = await world.restart()
    await again.clock.advance(50)
    await again.sandboxes.kill(again.project.id, made.id)
    first, second = await again.usage.list(again.project.id, 0, 1e12)
    assert (first.until - first.since, second.until - second.since) == (100, 50)
    assert first.until == second.since
    await again.close()


async def test_a_death_while_recovering_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world.create()
    await world.close()
    again = await World.open(world.url, clock=world.clock, machine=world.node.machine, recover=False)
    recover = again.node.recover

    async def die_right_after(known: list[Known], paused: Paused = None) -> dict[SandboxId, Death | None]:
        outcome = await recover(known, paused)
        assert outcome == {made.id: None}
        await again.node.die(made.id, EndReason.OUT_OF_MEMORY, "at once")
        return outcome

    monkeypatch.setattr(again.node, "recover", die_right_after)
    await again.sandboxes.recover()
    assert (await again.row(made.id)).end_reason is EndReason.OUT_OF_MEMORY
    assert [event.type for event in await again.events_of(made.id)] == ["sandbox.created", "sandbox.killed"]
    await again.close()


async def test_the_node_is_told_only_of_running_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world.create()
    await _left_behind(world, S.CREATING)
    await _left_behind(world, S.STOPPING)
    await world.close()
    again = await World.open(world.url, clock=world.clock, machine=world.node.machine, recover=False)
    recover = again.node.recover
    told: list[Known] = []

    async def listen(known: list[Known], paused: Paused = None) -> dict[SandboxId, Death | None]:
        told.extend(known)
        return await recover(known, paused)

    monkeypatch.setattr(again.node, "recover", listen)
    await again.sandboxes.recover()
    assert told == [
        Known(
            id=made.id,
            runtime="fake",
            resources=made.spec.resources,
            address=made.address,
            handle=made.handle,
            agent_token=made.agent_token,
            network=made.spec.network,
        )
    ]
    await again.close()
