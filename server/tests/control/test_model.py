"""Any order of creates, kills, timeouts, deaths and restarts, against a model of a few lines."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from atolld.control.testing import World
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import SandboxId

TIMEOUTS = st.one_of(st.none(), st.integers(1, 120))
DEATHS = st.sampled_from([EndReason.CRASHED, EndReason.OUT_OF_MEMORY])


@dataclass
class Expected:
    """What the model knows of a sandbox; `dead` is why it died on the machine while no daemon looked."""

    expires_at: float | None
    ended: EndReason | None = None
    dead: EndReason | None = None


class Lives(RuleBasedStateMachine):
    """One control plane, restarted at will."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="atoll-model-"))
        self.model: dict[SandboxId, Expected] = {}
        self.world: World

    @initialize()
    def begin(self) -> None:
        self.world = self.runner.run(World.open(self.directory / "atoll.db"))

    def teardown(self) -> None:
        self.runner.run(self.world.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    @property
    def now(self) -> float:
        return self.world.clock.now()

    @rule(target=ids, timeout_s=TIMEOUTS)
    def create(self, timeout_s: int | None) -> SandboxId:
        made = self.runner.run(self.world.create(timeout_s=timeout_s))
        self.model[made.id] = Expected(None if timeout_s is None else self.now + timeout_s)
        return made.id

    @rule(place=st.sampled_from(["launch", "launched"]))
    def create_that_fails(self, place: str) -> None:
        self.world.node.fail(place, OSError("broken"))
        try:
            self.runner.run(self.world.create())
        except OSError:
            return
        raise AssertionError("it came up")

    @rule(id=ids)
    def kill(self, id: SandboxId) -> None:
        expected = self.model[id]
        try:
            self.runner.run(self.world.sandboxes.kill(self.world.project.id, id))
        except NotFound:
            assert expected.ended is not None
        else:
            assert expected.ended is None
            expected.ended = EndReason.KILLED

    @rule(id=ids, timeout_s=TIMEOUTS, extend=st.booleans())
    def renew(self, id: SandboxId, timeout_s: int | None, extend: bool) -> None:
        expected = self.model[id]
        sandboxes = self.world.sandboxes
        change = sandboxes.extend_timeout if extend else sandboxes.set_timeout
        try:
            self.runner.run(change(self.world.project.id, id, timeout_s))
        except NotFound:
            assert expected.ended is not None
            return
        assert expected.ended is None
        wanted = float("inf") if timeout_s is None else self.now + timeout_s
        before = float("inf") if expected.expires_at is None else expected.expires_at
        then = max(wanted, before) if extend else wanted
        expected.expires_at = None if then == float("inf") else then

    @rule(id=consumes(ids), reason=DEATHS)
    def die(self, id: SandboxId, reason: EndReason) -> None:
        expected = self.model[id]
        if expected.ended is None:
            self.runner.run(self.world.node.die(id, reason))
            expected.ended = reason

    @rule(seconds=st.integers(1, 200))
    def wait(self, seconds: int) -> None:
        self.runner.run(self._wait(seconds))

    async def _wait(self, seconds: int) -> None:
        await self.world.clock.advance(seconds)
        await self._expire()

    async def _expire(self) -> None:
        for id, expected in self.model.items():
            if expected.ended is None and expected.expires_at is not None and expected.expires_at <= self.now:
                await self.world.ended(id)
                expected.ended = EndReason.EXPIRED

    @rule(away_s=st.integers(0, 200), unseen=st.lists(st.tuples(st.integers(0, 20), DEATHS), max_size=3))
    def restart(self, away_s: int, unseen: list[tuple[int, EndReason]]) -> None:
        self.runner.run(self._restart(away_s, unseen))

    async def _restart(self, away_s: int, unseen: list[tuple[int, EndReason]]) -> None:
        await self.world.close()
        live = [id for id, expected in self.model.items() if expected.ended is None]
        for index, reason in unseen:
            if live:
                id = live.pop(index % len(live))
                self.world.node.die_unseen(id, reason)
                self.model[id].ended = reason
        await self.world.clock.advance(away_s)
        self.world = await World.open(self.world.url, clock=self.world.clock, machine=self.world.node.machine)
        await self._expire()

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "world"):
            self.runner.run(self._agrees())

    async def _agrees(self) -> None:
        live = {id for id, expected in self.model.items() if expected.ended is None}
        assert set(self.world.node.machine.sandboxes) == live
        page = await self.world.sandboxes.list(self.world.project.id)
        assert {item.id for item in page.items} == live
        assert page.total_running == len(live)
        for id, expected in self.model.items():
            row = await self.world.row(id)
            types = [event.type.value for event in await self.world.events_of(id)]
            assert types[0] == "sandbox.created"
            if expected.ended is None:
                assert (row.state, row.expires_at) == (SandboxState.RUNNING, expected.expires_at)
                assert await self.world.sandboxes.get(self.world.project.id, id) == row
                assert "sandbox.killed" not in types
            else:
                assert (row.state, row.end_reason) == (SandboxState.ENDED, expected.ended)
                assert types.count("sandbox.killed") == 1 == types[-1:].count("sandbox.killed")
        await self._charged()

    async def _charged(self) -> None:
        records = await self.world.usage.list(self.world.project.id, 0, 1e12)
        for id, expected in self.model.items():
            row = await self.world.row(id)
            spans = sorted((record.since, record.until) for record in records if record.sandbox_id == id)
            assert all(until == since for (_, until), (since, _) in zip(spans, spans[1:], strict=False))
            if spans:
                assert spans[0][0] == row.started_at
            if expected.ended is not None and spans:
                assert row.ended_at is not None
                assert spans[-1][1] <= row.ended_at


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
