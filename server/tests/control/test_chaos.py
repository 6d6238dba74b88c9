"""Everything at once: many callers that create, kill, renew and vanish while sandboxes die and expire."""

from __future__ import annotations

import asyncio
import random

import pytest

from atolld.control.testing import SPEC, World, until
from atolld.core.lifecycle import SandboxState
from atolld.foundation.aio import spawn
from atolld.foundation.errors import AtollError
from atolld.storage.store import SandboxQuery

CALLERS = 40


class Chaos:
    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)

    async def pause(self) -> None:
        for _ in range(self.random.randrange(30)):
            await asyncio.sleep(0)

    async def caller(self, number: int) -> None:
        world = self.world
        key = self.random.choice([None, None, f"key-{number % 5}"])
        await self.pause()
        try:
            made = await world.sandboxes.create(world.project.id, SPEC, key)
            await self.pause()
            if self.random.random() < 0.3:
                await world.sandboxes.set_timeout(world.project.id, made.id, self.random.randrange(1, 20))
            if self.random.random() < 0.3:
                await world.node.die(made.id)
            if self.random.random() < 0.6:
                await world.sandboxes.kill(world.project.id, made.id)
        except (AtollError, OSError, KeyError):
            # What the script makes fail, and what loses a race: both are told to the caller, as they should be.
            return

    async def meddler(self) -> None:
        for _ in range(CALLERS):
            await self.pause()
            live = list(self.world.sandboxes._table)
            if live:
                one = self.random.choice(live)
                try:
                    await self.world.sandboxes.kill(self.world.project.id, one.id)
                except (AtollError, OSError):
                    continue
            await self.world.clock.advance(self.random.choice([0.0, 0.5, 3.0]))


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_rows_memory_and_machine_agree(world: World, seed: int) -> None:
    chaos = Chaos(world, seed)
    world.node.fail("launched", *[OSError("broken") for _ in range(3)])
    world.node.fail("terminate", *[OSError("busy") for _ in range(3)])
    callers = [spawn(chaos.caller(n), name=f"caller-{n}", report=False) for n in range(CALLERS)]
    meddler = spawn(chaos.meddler(), name="meddler", report=False)
    for caller in chaos.random.sample(callers, CALLERS // 3):
        await chaos.pause()
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await meddler
    # What failed is tried again in time, and what nobody waits for ends by itself.
    for _ in range(20):
        await world.clock.advance(1.0)
        await asyncio.gather(*(world.store.seen(world.clock.now()) for _ in range(3)))
    await until(lambda: all(state is SandboxState.RUNNING for state, _ in world.sandboxes.counts()))
    live = {row.id for row in await world.store.live()}
    assert live == {one.id for one in world.sandboxes._table} == set(world.node.machine.sandboxes)
    for listed in await world.store.list(SandboxQuery(world.project.id)):
        row = listed.sandbox
        types = [event.type.value for event in await world.events_of(row.id)]
        ended = row.state is SandboxState.ENDED
        assert types.count("sandbox.created") == (row.started_at is not None)
        assert types.count("sandbox.killed") == (ended and row.started_at is not None)
        assert ended == (row.end_reason is not None)
    assert world.sandboxes._drafts == {}
    assert world.sandboxes._flights._by_key == {}
