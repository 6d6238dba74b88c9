"""The sandbox that a step runs in, on a fake node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atolld.control.builds.lent import Nothing
from atolld.control.builds.sandbox import ROOM_PATIENCE_S, OnOutput, Stdin, StepSandboxes
from atolld.control.testing import RecordedTelemetry
from atolld.core.build import BuildSpec
from atolld.core.lifecycle import EndReason
from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import Capacity, GuestUnreachable, Internal, InvalidArgument
from atolld.node.fake import FakeNode
from atolld.node.interface import Death

LAYERS = (Path("/layers/a/root"),)
SPEC = BuildSpec(runtime="fake")
LENT = Nothing({"PIP": "lent", "A": "lent"}, {"/dev/shm/x": b"conf"}, NetworkPolicy(deny_out=("1.2.3.4",)), ("mirror",))


class Guest:
    """Writes down what it is asked; `failure` is raised by the next command."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, Mapping[str, str]]] = []
        self.written: list[str] = []
        self.failure: Exception | None = None

    async def run(
        self,
        address: str,
        token: str,
        argv: tuple[str, ...],
        *,
        user: str,
        cwd: str | None,
        envs: Mapping[str, str],
        stdin: Stdin,
        on_output: OnOutput,
    ) -> int:
        self.ran.append((argv[-1], dict(envs)))
        if self.failure is not None:
            raise self.failure
        return 0

    async def write(self, address: str, token: str, path: str, contents: bytes, user: str) -> None:
        self.written.append(path)

    async def remove(self, address: str, token: str, path: str) -> None:
        self.written.remove(path)


class Lender:
    async def for_sandbox(self, layers: object) -> Nothing:
        return LENT


@dataclass
class Bench:
    clock: ManualClock = field(default_factory=ManualClock)
    guest: Guest = field(default_factory=Guest)
    telemetry: RecordedTelemetry = field(default_factory=RecordedTelemetry)

    def __post_init__(self) -> None:
        self.node = FakeNode(self.clock)
        self.sandboxes = StepSandboxes(self.node, self.guest, Lender(), self.clock, self.telemetry)

    async def run(self, **options: bool) -> None:
        async with self.sandboxes.open(SPEC, LAYERS, template_id="build", **options) as one:  # type: ignore[arg-type]
            await one.run(("go",), user="root", cwd="/", envs={"A": "own"}, on_output=lambda *_: None)


@pytest.mark.parametrize(
    ("options", "envs", "network", "written"),
    [
        ({}, {"PIP": "lent", "A": "own"}, LENT.network, ["/dev/shm/x"]),
        ({"network": False}, {"A": "own"}, NetworkPolicy(internet=False), []),
        ({"lend": False}, {"A": "own"}, NetworkPolicy(), []),
    ],
)
async def test_what_it_is_lent(
    options: dict[str, bool], envs: Mapping[str, str], network: NetworkPolicy, written: list[str]
) -> None:
    bench = Bench()
    await bench.run(**options)
    assert bench.guest.ran == [("go", envs)]
    assert (bench.node.launches[0].network, bench.guest.written) == (network, written)
    # The variables of the host are those of the step's commands, and of no other process of the sandbox.
    assert bench.node.launches[0].envs == {}


async def test_it_is_ended_and_counted() -> None:
    bench = Bench()
    await bench.run()
    assert bench.node.machine.sandboxes == {}
    assert bench.telemetry.counts[("build_sandboxes", (("runtime", "fake"),))] == 1


@pytest.mark.parametrize("failure", [GuestUnreachable("gone"), RuntimeError("a bug")])
async def test_it_is_ended_when_the_step_fails(failure: Exception) -> None:
    bench = Bench()
    bench.guest.failure = failure
    with pytest.raises(type(failure)):
        await bench.run()
    assert bench.node.machine.sandboxes == {}


async def test_what_killed_it_is_told() -> None:
    bench = Bench()
    bench.guest.failure = GuestUnreachable("the connection broke")
    with pytest.raises(Internal, match="ran out of memory"):
        async with bench.sandboxes.open(SPEC, LAYERS, template_id="build") as one:
            assert bench.sandboxes.lost(Death(one.id, EndReason.OUT_OF_MEMORY, "it ran out of memory"))
            await one.run(("go",), user="root", cwd="/", envs={}, on_output=lambda *_: None)
    assert not bench.sandboxes.lost(Death(one.id, EndReason.CRASHED, "long gone"))


async def test_a_full_machine_is_waited_for() -> None:
    bench = Bench()
    bench.node.fail("launch", Capacity("no room"), Capacity("no room"))
    task = spawn(bench.run(), name="step")
    for _ in range(3):
        await bench.clock.advance(2)
    await task
    assert bench.guest.ran


async def test_but_not_for_ever() -> None:
    bench = Bench()
    bench.node.fail("launch", *(Capacity("no room") for _ in range(100)))
    task = spawn(bench.run(), name="step", report=False)
    for _ in range(70):
        await bench.clock.advance(ROOM_PATIENCE_S / 60)
    with pytest.raises(Capacity):
        await task


async def test_what_can_never_fit_is_not_waited_for() -> None:
    bench = Bench()
    bench.node.fail("launch", InvalidArgument("cpu is 1001, but the machine has 1000 cores; ask for less"))
    with pytest.raises(InvalidArgument, match="cpu is 1001"):
        async with bench.sandboxes.open(BuildSpec("fake", Resources(cpu=1001)), LAYERS, template_id="build"):
            pass
    assert bench.clock.monotonic() == ManualClock().monotonic()


async def test_a_build_that_is_cancelled_ends_it() -> None:
    bench = Bench()
    gate = bench.node.hold("terminate")
    task = spawn(bench.run(), name="step", report=False)
    await gate.reached.wait()
    task.cancel()
    gate.opened.set()
    await cancel_and_wait(task)
    assert bench.node.machine.sandboxes == {}
