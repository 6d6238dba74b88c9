"""The end of a build with a start command."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from server.tests.control.builds.fakes import FakeBuildMachine, FakeStepSandboxes

from atolld.control.builds.failing import StepFailed
from atolld.control.builds.finalize import READY_PATIENCE_S, SETTLE_S, Finalizer
from atolld.control.builds.sandbox import StepSandbox
from atolld.core.build import BuildSpec, Built, ImageConfig
from atolld.core.defaults import GuestDefaults
from atolld.foundation.aio import spawn
from atolld.foundation.clock import ManualClock

BUILT = Built(("a" * 64,), GuestDefaults("app", "/srv"), ImageConfig(), 1)
SHELL_CHECK = "exit 0"


@dataclass
class Bench:
    clock: ManualClock = field(default_factory=ManualClock)
    saved: int = 0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sandboxes = FakeStepSandboxes(FakeBuildMachine())
        self.finalizer = Finalizer(self.sandboxes, self.clock)  # type: ignore[arg-type]

    async def save(self, _: StepSandbox) -> None:
        self.saved += 1

    async def finalize(self, start: str | None, ready: str | None) -> None:
        await self.finalizer.finalize(
            BuildSpec(), BUILT, (), "t", (start, ready), self.save, lambda _, line: self.said.append(line)
        )

    async def in_time(self, start: str | None, ready: str | None) -> None:
        task = spawn(self.finalize(start, ready), name="finalize", report=False)
        await settle()
        await self.clock.advance(1)
        await task

    @property
    def commands(self) -> list[str]:
        return [one.argv[-1] for one in self.sandboxes.ran if one.argv[-1] != SHELL_CHECK]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_it_is_saved_as_soon_as_it_is_ready() -> None:
    bench = Bench()
    bench.sandboxes.gates["serve"] = asyncio.Event()
    await bench.in_time("serve", "is up")
    assert bench.saved == 1
    assert sorted(bench.commands) == ["is up", "serve"]
    assert {(one.user, one.cwd) for one in bench.sandboxes.ran if one.argv[-1] in bench.commands} == {("app", "/srv")}
    assert bench.sandboxes.open_now == 0


async def test_the_ready_command_is_asked_again_and_again() -> None:
    bench = Bench()
    bench.sandboxes.gates["serve"] = asyncio.Event()
    bench.sandboxes.exits["is up"] = 1
    task = spawn(bench.finalize("serve", "is up"), name="finalize", report=False)
    for _ in range(3):
        await settle()
        await bench.clock.advance(1)
    assert bench.saved == 0
    bench.sandboxes.exits["is up"] = 0
    await settle()
    await bench.clock.advance(1)
    await task
    assert bench.saved == 1
    assert bench.commands.count("is up") >= 3


async def test_not_ready_in_time() -> None:
    bench = Bench()
    bench.sandboxes.gates["serve"] = asyncio.Event()
    bench.sandboxes.exits["is up"] = 1
    bench.sandboxes.outputs["is up"] = b"connection refused\n"
    task = spawn(bench.finalize("serve", "is up"), name="finalize", report=False)
    await settle()
    await bench.clock.advance(READY_PATIENCE_S + 1)
    with pytest.raises(StepFailed, match="has not succeeded") as caught:
        await task
    assert caught.value.failure.step == "finalize"
    assert caught.value.failure.last_lines == ("connection refused",)
    assert (bench.saved, bench.sandboxes.open_now) == (0, 0)


async def test_a_start_command_that_fails_is_told() -> None:
    bench = Bench()
    bench.sandboxes.exits |= {"serve": 3, "is up": 1}
    bench.sandboxes.outputs["serve"] = b"no such module\n"
    task = spawn(bench.finalize("serve", "is up"), name="finalize", report=False)
    await settle()
    await bench.clock.advance(1)
    with pytest.raises(StepFailed, match="exit code 3") as caught:
        await task
    assert caught.value.failure.last_lines == ("no such module",)


async def test_a_start_command_that_goes_into_the_background_is_fine() -> None:
    bench = Bench()
    await bench.in_time("serve &", "is up")
    assert bench.saved == 1


async def test_without_a_ready_command_it_is_given_a_while() -> None:
    bench = Bench()
    bench.sandboxes.gates["serve"] = asyncio.Event()
    task = spawn(bench.finalize("serve", None), name="finalize", report=False)
    await settle()
    await bench.clock.advance(SETTLE_S / 2)
    await settle()
    assert bench.saved == 0
    await bench.clock.advance(SETTLE_S)
    await task
    assert bench.saved == 1


async def test_only_a_ready_command() -> None:
    bench = Bench()
    await bench.finalize(None, "is up")
    assert (bench.saved, bench.commands) == (1, ["is up"])


async def test_an_image_without_a_shell() -> None:
    bench = Bench()
    bench.sandboxes.exits[SHELL_CHECK] = 127
    with pytest.raises(StepFailed, match="no shell"):
        await bench.finalize("serve", "is up")
