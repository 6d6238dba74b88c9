"""Builds as callers see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from server.tests.control.builds.fakes import (
    FakeBuildMachine,
    FakeCache,
    FakeMounts,
    FakeRecords,
    FakeSaves,
    FakeStepSandboxes,
    run,
)

from atolld.control.builds.builds import CANCELLED, INTERRUPTED, Builds
from atolld.control.builds.definitions import Definitions
from atolld.control.builds.finalize import Finalizer
from atolld.control.builds.stages import Stages
from atolld.control.builds.steps import Steps
from atolld.control.builds.work import MAX_AT_ONCE, BuildWork
from atolld.control.telemetry import NoTelemetry
from atolld.core.build import Base, BaseKind, BuildSpec, BuildState, LogEntry, Plan, Stage, Step
from atolld.core.sandbox import Resources
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.aio import spawn
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import (
    Capacity,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from atolld.foundation.ids import ProjectId, new_build_id
from atolld.node.fake import FakeNode
from atolld.storage.buildlogs import BuildLogs

PROJECT, OTHER = ProjectId("p"), ProjectId("q")


def plan(*steps: Step, start: str | None = None, ready: str | None = None) -> Plan:
    return Plan((Stage(Base(BaseKind.IMAGE, "debian"), steps),), start_command=start, ready_command=ready)


@dataclass
class Bench:
    directory: Path
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.machine = FakeBuildMachine()
        self.sandboxes = FakeStepSandboxes(self.machine)
        self.records, self.saves = FakeRecords(), FakeSaves()
        steps = Steps(self.machine, self.sandboxes, FakeCache(), self.clock.now, FakeMounts())  # type: ignore[arg-type]
        self.work = BuildWork(
            records=self.records,
            machine=self.machine,
            stages=Stages(self.machine, None, steps),  # type: ignore[arg-type]
            finalizer=Finalizer(self.sandboxes, self.clock),  # type: ignore[arg-type]
            saves=self.saves,
        )
        self.definitions = Definitions(self.records, self.work, self.clock)
        self.capacity = FakeNode(self.clock).capacity()
        self.builds = self.restarted()

    def restarted(self) -> Builds:
        logs = BuildLogs(self.directory / "builds")
        return Builds(
            records=self.records,
            machine=self.machine,
            work=self.work,
            logs=logs,
            capacity=lambda: self.capacity,
            clock=self.clock,
            telemetry=NoTelemetry(),
        )

    async def begun(self, what: Plan, name: str = "mine") -> tuple[TemplateRecord, Build]:
        template, build = await self.builds.request(PROJECT, name)
        return template, await self.builds.start(PROJECT, template.id, build.id, what)

    async def built(self, what: Plan) -> Build:
        template, build = await self.begun(what)
        for _ in range(10):
            await settle()
            await self.clock.advance(1)
        return await self.builds.finished(PROJECT, template.id, build.id)

    async def lines(self, build: Build, **more: object) -> list[str]:
        found = await self.builds.logs(PROJECT, build.template_id, build.id, **more)  # type: ignore[arg-type]
        return [entry.message for entry in found]


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_from_request_to_ready(bench: Bench) -> None:
    template, build = await bench.builds.request(PROJECT, "mine", ("v1",))
    assert (build.state, build.tags) == (BuildState.WAITING, ("v1",))
    build = await bench.builds.start(PROJECT, template.id, build.id, plan(run(1, "one")))
    assert build.state is BuildState.BUILDING
    build = await bench.builds.finished(PROJECT, template.id, build.id)
    assert build.state is BuildState.READY
    assert build.built is not None and len(build.built.layers) == 2
    assert bench.machine.pins == {build.id: build.built.layers}
    assert build.save_id is None
    lines = await bench.lines(build)
    assert lines[0].startswith("[base]") and lines[-1] == "[finalize] done"


async def test_a_start_command_is_saved_running(bench: Bench) -> None:
    bench.sandboxes.gates["serve"] = asyncio.Event()
    build = await bench.built(plan(run(1, "one"), start="serve", ready="is up"))
    assert build.state is BuildState.READY
    assert bench.saves.kept == {build.save_id}
    assert (build.start_command, build.ready_command) == ("serve", "is up")


async def test_a_failed_step_is_told(bench: Bench) -> None:
    bench.sandboxes.exits["boom"] = 2
    bench.sandboxes.outputs["boom"] = b"it broke\n"
    build = await bench.built(plan(run(1, "boom")))
    assert build.state is BuildState.FAILED
    assert build.failure is not None
    assert (build.failure.step, build.failure.exit_code, build.failure.last_lines) == ("1", 2, ("it broke",))
    assert "it broke" in await bench.lines(build)
    entries = await bench.builds.logs(PROJECT, build.template_id, build.id, level="error")
    assert [(entry.level, entry.step) for entry in entries] == [("error", "1")]
    assert bench.machine.pins == {}


@pytest.mark.parametrize("error", [Capacity("no room"), RuntimeError("a bug"), Internal("broken")])
async def test_a_failed_save_leaves_nothing(bench: Bench, error: Exception) -> None:
    bench.saves.failures.append(error)
    build = await bench.built(plan(ready="is up"))
    assert build.state is BuildState.FAILED
    assert (bench.machine.pins, bench.saves.kept) == ({}, set())


async def test_a_failed_last_row_gives_up_the_save(bench: Bench) -> None:
    bench.records.failures.append(Unavailable("the database is away"))
    build = await bench.built(plan(ready="is up"))
    assert build.state is BuildState.FAILED
    assert (bench.machine.pins, bench.saves.kept) == ({}, set())


async def test_a_build_is_started_once(bench: Bench) -> None:
    template, build = await bench.begun(plan(run(1, "one")))
    with pytest.raises(FailedPrecondition, match="building"):
        await bench.builds.start(PROJECT, template.id, build.id, plan(run(1, "one")))


async def test_what_is_not_there(bench: Bench) -> None:
    template, build = await bench.begun(plan())
    for project, id in ((OTHER, build.id), (PROJECT, new_build_id())):
        with pytest.raises(NotFound):
            await bench.builds.get(project, template.id, id)
        with pytest.raises(NotFound):
            await bench.builds.logs(project, template.id, id)
        with pytest.raises(NotFound):
            await bench.builds.cancel(project, template.id, id)
        with pytest.raises(NotFound):
            await bench.builds.start(project, template.id, id, plan())
    await bench.builds.shutdown()


async def test_bounds_are_checked_at_once(bench: Bench) -> None:
    spec = BuildSpec()
    object.__setattr__(spec.resources, "memory_mib", 1)
    with pytest.raises(InvalidArgument, match="memory_mib"):
        await bench.builds.request(PROJECT, "mine", (), spec)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Resources(cpu=2.5, memory_mib=500), "cpu is 2.5, but the machine has 2 cores; ask for less"),
        (Resources(cpu=1, memory_mib=1001), "memory_mib is 1001, but the machine has 1000; ask for less"),
    ],
)
async def test_a_template_that_no_sandbox_could_be_made_of_is_refused(
    bench: Bench, asked: Resources, told: str
) -> None:
    bench.capacity = replace(bench.capacity, cpu_total=2, memory_total_mib=1000)
    with pytest.raises(InvalidArgument, match=told):
        await bench.builds.request(PROJECT, "mine", (), BuildSpec(resources=asked))
    await bench.builds.request(PROJECT, "mine", (), BuildSpec(resources=Resources(cpu=2, memory_mib=1000)))


async def test_cancelled(bench: Bench) -> None:
    bench.sandboxes.gates["one"] = asyncio.Event()
    template, build = await bench.begun(plan(run(1, "one")))
    await bench.sandboxes.running.wait()
    await bench.builds.cancel(PROJECT, template.id, build.id)
    build = await bench.builds.get(PROJECT, template.id, build.id)
    assert build.failure is not None and build.failure.message == CANCELLED
    assert bench.sandboxes.open_now == 0
    await bench.builds.cancel(PROJECT, template.id, build.id)


async def test_cancelled_before_it_was_started(bench: Bench) -> None:
    template, build = await bench.builds.request(PROJECT, "mine")
    await bench.builds.cancel(PROJECT, template.id, build.id)
    with pytest.raises(FailedPrecondition, match="failed"):
        await bench.builds.start(PROJECT, template.id, build.id, plan())


async def test_the_daemon_stops(bench: Bench) -> None:
    bench.sandboxes.gates["one"] = asyncio.Event()
    template, build = await bench.begun(plan(run(1, "one")))
    await bench.sandboxes.running.wait()
    await bench.builds.shutdown()
    build = await bench.builds.get(PROJECT, template.id, build.id)
    assert build.failure is not None and build.failure.message == INTERRUPTED
    fresh = await bench.builds.request(PROJECT, "mine")
    with pytest.raises(Unavailable):
        await bench.builds.start(PROJECT, fresh[0].id, fresh[1].id, plan())


async def test_after_a_crash_the_build_has_failed_and_its_log_is_there(bench: Bench) -> None:
    bench.sandboxes.gates["one"] = asyncio.Event()
    bench.sandboxes.outputs["one"] = b"half way\n"
    _, build = await bench.begun(plan(run(1, "one")))
    await bench.sandboxes.running.wait()
    after = bench.restarted()
    await after.recover()
    found = await after.get(PROJECT, build.template_id, build.id)
    assert found.failure is not None and found.failure.message == INTERRUPTED
    assert "half way" in [entry.message for entry in await after.logs(PROJECT, build.template_id, build.id)]
    await bench.builds.shutdown()


@pytest.mark.parametrize(
    ("offset", "limit", "numbers"), [(0, 2, [0, 1]), (3, 100, [3, 4]), (9, 100, []), (-1, 100, [4]), (0, 0, [])]
)
async def test_pages_of_a_log(bench: Bench, offset: int, limit: int, numbers: list[int]) -> None:
    build = await bench.built(plan(run(1, "one"), run(2, "two")))
    everything = await bench.lines(build)
    assert len(everything) == 5
    assert await bench.lines(build, offset=offset, limit=limit) == [everything[number] for number in numbers]


async def test_a_log_is_followed_to_its_end(bench: Bench) -> None:
    bench.sandboxes.gates["one"] = asyncio.Event()
    bench.sandboxes.outputs["one"] = b"hello\n"
    _, build = await bench.begun(plan(run(1, "one")))

    async def followed(stream: AsyncIterator[LogEntry]) -> list[str]:
        return [entry.message async for entry in stream]

    task = spawn(followed(bench.builds.follow(PROJECT, build.template_id, build.id)), name="follow")
    await bench.sandboxes.running.wait()
    bench.sandboxes.gates["one"].set()
    lines = await task
    assert "hello" in lines and lines[-1] == "[finalize] done"
    # Another reader, later, sees the same.
    assert lines == await followed(bench.builds.follow(PROJECT, build.template_id, build.id))
    assert lines[2:] == await followed(bench.builds.follow(PROJECT, build.template_id, build.id, 2))


async def test_more_builds_than_that_wait(bench: Bench) -> None:
    gates = {f"go {number}": asyncio.Event() for number in range(MAX_AT_ONCE + 2)}
    bench.sandboxes.gates = gates
    builds = [await bench.begun(plan(run(1, command)), f"t{command[3:]}") for command in gates]
    await settle()
    assert bench.sandboxes.open_now == MAX_AT_ONCE
    for gate in gates.values():
        gate.set()
    for template, build in builds:
        assert (await bench.builds.finished(PROJECT, template.id, build.id)).state is BuildState.READY


async def defined(bench: Bench, what: Plan, spec: BuildSpec | None = None) -> tuple[TemplateRecord, Build]:
    found: list[tuple[TemplateRecord, Build]] = []
    async for item in bench.definitions.build(PROJECT, what, spec or BuildSpec()):
        if not isinstance(item, LogEntry):
            found.append(item)
    return found[-1]


async def test_the_same_definition_is_the_same_template(bench: Bench) -> None:
    template, build = await defined(bench, plan(run(1, "one")))
    assert template.hidden and build.state is BuildState.READY
    assert await defined(bench, plan(run(1, "one"))) == (template, build)
    assert len(bench.records.builds) == 1
    other, _ = await defined(bench, plan(run(1, "two")))
    assert other.name != template.name


async def test_two_at_once_make_one(bench: Bench) -> None:
    bench.sandboxes.gates["one"] = asyncio.Event()
    tasks = [spawn(defined(bench, plan(run(1, "one"))), name="define") for _ in range(2)]
    await bench.sandboxes.running.wait()
    await settle()
    bench.sandboxes.gates["one"].set()
    first, second = await asyncio.gather(*tasks)
    assert first == second and len(bench.records.builds) == 1


async def test_who_stops_to_listen_ends_it(bench: Bench) -> None:
    bench.sandboxes.gates["one"] = asyncio.Event()
    stream = bench.definitions.build(PROJECT, plan(run(1, "one")), BuildSpec())
    async for entry in stream:
        assert isinstance(entry, LogEntry)
        if "RUN" in entry.message:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    assert bench.sandboxes.open_now == 0
    assert bench.records.builds == {}


async def test_a_definition_that_fails_raises_after_its_lines(bench: Bench) -> None:
    bench.sandboxes.exits["boom"] = 1
    with pytest.raises(FailedPrecondition, match="boom"):
        await defined(bench, plan(run(1, "boom")))


async def test_a_limit_that_is_met_when_a_build_begins(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, full = bench.records.begin, [True]

    async def begin_when_there_is_room(build: Build, start: str | None, ready: str | None) -> Build:
        if full[0]:
            raise LimitExceeded("too many versions")
        return await begin(build, start, ready)

    monkeypatch.setattr(bench.records, "begin", begin_when_there_is_room)
    template, build = await bench.builds.request(PROJECT, "mine")
    with pytest.raises(LimitExceeded):
        await bench.builds.start(PROJECT, template.id, build.id, plan(run(1, "one")))
    # Nobody has a name for what a definition asked for: it is not left waiting.
    with pytest.raises(LimitExceeded):
        await defined(bench, plan(run(1, "one")))
    assert sorted(one.state for one in bench.records.builds.values()) == [BuildState.FAILED, BuildState.WAITING]
    full[0] = False
    await bench.builds.start(PROJECT, template.id, build.id, plan(run(1, "one")))
    assert (await bench.builds.finished(PROJECT, template.id, build.id)).state is BuildState.READY
