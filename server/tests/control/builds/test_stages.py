"""Plans, run over a machine in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from server.tests.control.builds.fakes import (
    BASE,
    FakeBuildMachine,
    FakeCache,
    FakeMounts,
    FakeStepSandboxes,
    run,
    where,
)

from atolld.control.buildmachine import BaseLayers
from atolld.control.builds.failing import StepFailed
from atolld.control.builds.lines import HIDDEN
from atolld.control.builds.stages import Stages, check, needs
from atolld.control.builds.steps import Order, Steps
from atolld.core.build import (
    Base,
    BaseKind,
    BuildSpec,
    Built,
    Copy,
    Env,
    ImageConfig,
    Plan,
    SecretMount,
    Stage,
    Step,
    User,
    Workdir,
)
from atolld.core.defaults import GuestDefaults
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.errors import AtollError, InvalidArgument, NotFound
from atolld.foundation.ids import ProjectId

PROJECT = ProjectId("p")
IMAGE = Base(BaseKind.IMAGE, "debian")


class Bases:
    async def get(self, project_id: ProjectId, name: str) -> BaseLayers:
        if name != "base":
            raise NotFound(f"there is no template {name!r}")
        return BaseLayers((BASE,), GuestDefaults())


@dataclass
class Bench:
    machine: FakeBuildMachine = field(default_factory=FakeBuildMachine)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sandboxes = FakeStepSandboxes(self.machine)
        steps = Steps(self.machine, self.sandboxes, FakeCache(), lambda: 1.0, FakeMounts())  # type: ignore[arg-type]
        self.stages = Stages(self.machine, Bases(), steps)

    async def build(
        self, plan: Plan, *, secrets: Mapping[str, str] | None = None, said: list[str] | None = None
    ) -> Built:
        order = Order(PROJECT, BuildSpec(), plan.force, secrets or {}, sum(len(one.steps) for one in plan.stages))
        into = self.said if said is None else said
        return await self.stages.run(order, plan, None, lambda _level, line, _step: into.append(line))

    @property
    def commands(self) -> list[str]:
        return [one.argv[-1] for one in self.sandboxes.ran]


def plan(*steps: Step, base: Base = IMAGE, force: bool = False) -> Plan:
    return Plan((Stage(base, steps),), force=force)


def copy(number: int, origin: str = "ctx", **more: object) -> Copy:
    return Copy(where(number, f"COPY {number}"), ("a",), "/app/", origin=origin, **more)  # type: ignore[arg-type]


async def test_every_command_is_a_layer_over_the_ones_before() -> None:
    bench = Bench()
    built = await bench.build(plan(run(1, "one"), run(2, "two")))
    assert bench.commands == ["one", "two"]
    assert len(built.layers) == 3 and built.layers[0] == BASE
    assert [len(layers) for layers, _ in bench.sandboxes.opened] == [1, 2]
    assert bench.said == ["[base] FROM", "[base] pulling debian", "[builder 1/2] RUN one", "[builder 2/2] RUN two"]


async def test_what_did_not_change_starts_no_sandbox() -> None:
    bench = Bench()
    first = await bench.build(plan(run(1, "one"), run(2, "two")))
    said: list[str] = []
    assert await bench.build(plan(run(1, "one"), run(2, "two")), said=said) == first
    assert len(bench.sandboxes.opened) == 2
    assert said[-2:] == ["CACHED [builder 1/2] RUN one", "CACHED [builder 2/2] RUN two"]


@pytest.mark.parametrize(
    ("changed", "commands"),
    [
        ([run(1, "one"), run(2, "three")], ["three"]),
        ([run(1, "zero"), run(2, "two")], ["zero", "two"]),
        ([run(1, "one"), Env(where(2), {"A": "1"}), run(3, "two")], ["two"]),
        ([run(1, "one"), User(where(2), "app"), run(3, "two")], ["two"]),
        ([run(1, "one"), Workdir(where(2), "/home/user"), run(3, "two")], ["two"]),
        ([run(1, "one"), run(2, "two", envs={"ARG": "1"})], ["two"]),
        ([run(1, "one"), run(2, "two", stdin="text")], ["two"]),
        ([run(1, "one"), run(2, "two", network=False)], ["two"]),
        ([run(1, "one"), run(2, "two", secrets=(SecretMount("s"),))], ["two"]),
    ],
)
async def test_a_change_rebuilds_from_there_on(changed: list[Step], commands: list[str]) -> None:
    bench = Bench()
    await bench.build(plan(run(1, "one"), run(2, "two")))
    bench.sandboxes.ran.clear()
    await bench.build(plan(*changed))
    assert bench.commands == commands


async def test_neither_bounds_nor_secret_values_change_a_layer() -> None:
    bench = Bench()
    steps = plan(run(1, "one", secrets=(SecretMount("s"),)))
    first = await bench.build(steps, secrets={"s": "value-one"})
    assert await bench.build(steps, secrets={"s": "value-two"}) == first
    assert len(bench.sandboxes.opened) == 1


async def test_files_are_part_of_the_key() -> None:
    bench = Bench()
    bench.machine.files = {"ctx": "v1"}
    await bench.build(plan(copy(1), run(2, "make")))
    await bench.build(plan(copy(1), run(2, "make")))
    assert (len(bench.machine.copies), len(bench.sandboxes.opened)) == (1, 1)
    bench.machine.files = {"ctx": "v2"}
    await bench.build(plan(copy(1), run(2, "make")))
    assert (len(bench.machine.copies), len(bench.sandboxes.opened)) == (2, 2)


async def test_force_makes_everything_anew_and_is_what_counts_from_then_on() -> None:
    bench = Bench()
    first = await bench.build(plan(run(1, "one")))
    second = await bench.build(plan(run(1, "one"), force=True))
    assert second.layers != first.layers
    assert bench.machine.bases[-1] == ("debian", True)
    assert await bench.build(plan(run(1, "one"))) == second
    assert bench.commands == ["one", "one"]
    # When the newer layer is pruned, the older one is as good as any.
    del bench.machine.layers[second.layers[-1]]
    assert await bench.build(plan(run(1, "one"))) == first


async def test_a_step_that_changes_nothing_is_no_layer_and_is_not_run_again() -> None:
    bench = Bench()
    first = await bench.build(plan(run(1, "change nothing"), run(2, "two")))
    assert len(first.layers) == 2
    assert await bench.build(plan(run(1, "change nothing"), run(2, "two"))) == first
    assert bench.commands == ["change nothing", "two"]


async def test_one_forced_step_leaves_those_before_it() -> None:
    bench = Bench()
    await bench.build(plan(run(1, "one"), run(2, "two")))
    bench.sandboxes.ran.clear()
    await bench.build(plan(run(1, "one"), run(2, "two", force=True)))
    assert bench.commands == ["two"]


async def test_variables_users_and_directories_reach_commands_and_sandboxes() -> None:
    bench = Bench()
    built = await bench.build(
        plan(
            Env(where(1), {"A": "1"}),
            User(where(2), "app:app"),
            Workdir(where(3), "/srv"),
            Workdir(where(4), "site"),
            run(5, "go", envs={"ARG": "x"}),
            run(6, "as root", user="root"),
        )
    )
    first, second = bench.sandboxes.ran
    assert (first.user, first.cwd, first.envs) == ("app", "/srv/site", {"PATH": "/bin", "A": "1", "ARG": "x"})
    assert second.user == "root" and "ARG" not in second.envs
    assert built.defaults == GuestDefaults("app", "/srv/site", {"PATH": "/bin", "A": "1"})


async def test_a_directory_can_be_forgotten() -> None:
    built = await Bench().build(plan(Workdir(where(1), "/srv"), Workdir(where(2), None)))
    assert built.defaults.workdir is None


async def test_steps_of_ours_are_named_by_their_phase() -> None:
    bench = Bench()
    bench.sandboxes.exits["boom"] = 1
    ours = replace(run(0, "boom"), where=replace(where(0, "make the user"), phase="finalize"))
    with pytest.raises(StepFailed) as caught:
        await bench.build(plan(ours))
    assert caught.value.failure.step == "finalize"
    assert bench.said[-1] == "[finalize] make the user"


async def test_a_directory_that_is_there_is_no_layer() -> None:
    bench = Bench()
    assert len((await bench.build(plan(Workdir(where(1), "/home/user")))).layers) == 1
    assert len((await bench.build(plan(Workdir(where(1), "/new")))).layers) == 2


async def test_a_template_keeps_its_own_user_for_sandboxes() -> None:
    bench = Bench()
    built = await bench.build(plan(run(1, "one"), base=Base(BaseKind.TEMPLATE, "base")))
    assert bench.sandboxes.ran[0].user == "root"
    assert built.defaults.user == "user"


@pytest.mark.parametrize(
    ("exit_code", "said"), [(3, "ended with exit code 3"), (-1, "was ended by a signal"), (127, "exit code 127")]
)
async def test_a_failed_step_names_itself(exit_code: int, said: str) -> None:
    bench = Bench()
    bench.sandboxes.exits["boom"] = exit_code
    bench.sandboxes.outputs["boom"] = b"".join(b"line %d\n" % number for number in range(50))
    with pytest.raises(StepFailed, match=said) as caught:
        await bench.build(plan(run(1, "one"), run(2, "boom"), run(3, "three")))
    failure = caught.value.failure
    assert (failure.step, failure.exit_code) == ("2", exit_code)
    assert failure.last_lines == tuple(f"line {number}" for number in range(30, 50))
    assert bench.commands == ["one", "boom"]
    assert bench.sandboxes.open_now == 0
    # The layer before it is there for the next try.
    bench.sandboxes.exits.clear()
    await bench.build(plan(run(1, "one"), run(2, "boom"), run(3, "three")))
    assert bench.commands == ["one", "boom", "boom", "three"]


@pytest.mark.parametrize(
    ("broken", "step", "reason"),
    [
        (plan(base=Base(BaseKind.IMAGE, "missing")), "base", "no image"),
        (plan(base=Base(BaseKind.TEMPLATE, "other")), "base", "no template"),
        (plan(run(1, "one"), copy(2)), "2", "no files"),
        (plan(run(1, "no such user")), "1", "no user"),
        (plan(run(1, "one", secrets=(SecretMount("s", required=True),))), "1", "secret 's'"),
        (plan(run(1, "one"), base=Base(BaseKind.SCRATCH)), "1", "nothing to run"),
    ],
)
async def test_what_cannot_be_done_says_at_which_step(broken: Plan, step: str, reason: str) -> None:
    with pytest.raises(StepFailed, match=reason) as caught:
        await Bench().build(broken)
    assert caught.value.failure.step == step


async def test_stages_that_do_not_wait_for_each_other_run_side_by_side() -> None:
    bench = Bench()
    bench.sandboxes.gates = {"left": asyncio.Event(), "right": asyncio.Event()}
    both = Plan(
        (
            Stage(IMAGE, (run(1, "left"),), "left"),
            Stage(IMAGE, (run(2, "right"),), "right"),
            Stage(IMAGE, (copy(3, "stage:0"), copy(4, "stage:1"), run(5, "last"))),
        )
    )
    task = spawn(bench.build(both), name="build")
    for _ in range(50):
        await asyncio.sleep(0)
    assert sorted(bench.commands) == ["left", "right"]
    for gate in bench.sandboxes.gates.values():
        gate.set()
    await task
    assert bench.commands[-1] == "last"
    assert bench.sandboxes.most_at_once == 2


async def test_a_stage_goes_on_from_another() -> None:
    bench = Bench()
    built = await bench.build(
        Plan(
            (
                Stage(IMAGE, (Env(where(1), {"A": "1"}), run(2, "one"))),
                Stage(Base(BaseKind.STAGE, "0"), (run(3, "two"),)),
            )
        )
    )
    assert len(built.layers) == 3
    assert bench.sandboxes.ran[1].envs["A"] == "1"


async def test_the_first_failure_ends_the_other_stages() -> None:
    bench = Bench()
    bench.sandboxes.gates["slow"] = asyncio.Event()
    bench.sandboxes.exits["boom"] = 1
    with pytest.raises(StepFailed, match="boom"):
        await bench.build(Plan((Stage(IMAGE, (run(1, "slow"),)), Stage(IMAGE, (run(2, "boom"),)), Stage(IMAGE))))
    assert bench.sandboxes.open_now == 0


async def test_two_identical_builds_at_once_share_one_run() -> None:
    bench = Bench()
    bench.sandboxes.gates["one"] = asyncio.Event()
    bench.sandboxes.outputs["one"] = b"hello\n"
    said: list[list[str]] = [[], []]
    tasks = [spawn(bench.build(plan(run(1, "one")), said=into), name="build") for into in said]
    await bench.sandboxes.running.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    bench.sandboxes.gates["one"].set()
    first, second = await asyncio.gather(*tasks)
    assert first == second
    assert bench.commands == ["one"]
    assert all("hello" in lines for lines in said)


async def test_a_build_given_up_leaves_nothing_running() -> None:
    bench = Bench()
    bench.sandboxes.gates["one"] = asyncio.Event()
    task = spawn(bench.build(plan(run(1, "one"))), name="build", report=False)
    await bench.sandboxes.running.wait()
    await cancel_and_wait(task)
    assert bench.sandboxes.open_now == 0
    assert set(bench.machine.layers) == {BASE}


@pytest.mark.parametrize(
    ("mount", "written", "variable"),
    [
        (SecretMount("key"), "/run/secrets/key", None),
        (SecretMount("key", target="/root/.key"), "/root/.key", None),
        (SecretMount("key", env="KEY"), None, "KEY"),
        (SecretMount("key", target="/root/.key", env="KEY"), "/root/.key", "KEY"),
    ],
)
async def test_secrets_are_there_for_the_step_alone(
    mount: SecretMount, written: str | None, variable: str | None
) -> None:
    bench = Bench()
    bench.sandboxes.outputs["use"] = b"it is hunter22\n"
    await bench.build(plan(run(1, "use", secrets=(mount,)), run(2, "next")), secrets={"key": "hunter22"})
    assert bench.sandboxes.written == ([(written, b"hunter22", "root")] if written else [])
    assert bench.sandboxes.removed == ([written] if written else [])
    used, later = (one for one in bench.sandboxes.ran if one.argv[-1] in ("use", "next"))
    assert used.envs.get("KEY") == ("hunter22" if variable else None)
    assert "KEY" not in later.envs
    assert f"it is {HIDDEN}" in bench.said
    assert "hunter22" not in repr(bench.machine.layers) + repr(bench.said)


async def test_a_secret_of_another_owner_and_mode() -> None:
    bench = Bench()
    mount = SecretMount("key", target="/k", uid=10, gid=20, mode=0o440)
    await bench.build(plan(run(1, "use", secrets=(mount,))), secrets={"key": "hunter22"})
    assert [one.argv for one in bench.sandboxes.ran[:2]] == [("chown", "10:20", "/k"), ("chmod", "440", "/k")]


async def test_steps_that_depend_on_the_base_are_bound_to_it() -> None:
    def bind(envs: Mapping[str, str], config: ImageConfig) -> tuple[tuple[Step, ...], ImageConfig]:
        path = f"/opt/bin:{envs['PATH']}"
        return (Env(where(1), {"PATH": path}), run(2, "one")), replace(config, cmd=("go",))

    bench = Bench()
    built = await bench.build(
        Plan((Stage(IMAGE, (Env(where(1), {"PATH": "/opt/bin:"}), run(2, "one")), binding=bind),))
    )
    assert bench.sandboxes.ran[0].envs["PATH"] == "/opt/bin:/bin"
    assert built.config.cmd == ("go",)


async def test_a_config_of_the_plan_counts_over_the_base() -> None:
    bench = Bench()
    said = ImageConfig(cmd=("mine",))
    assert (await bench.build(replace(plan(run(1, "one")), config=said))).config == said


def test_what_a_stage_needs() -> None:
    assert needs(Stage(Base(BaseKind.STAGE, "2"), (copy(1, "stage:0"), copy(2, "ctx")))) == {0, 2}
    assert needs(Stage(IMAGE, (run(1, "x"),))) == frozenset()


@pytest.mark.parametrize(
    "broken",
    [
        Plan(()),
        Plan((Stage(Base(BaseKind.STAGE, "0")),)),
        Plan((Stage(IMAGE, (copy(1, "stage:1"),)), Stage(IMAGE))),
        Plan((Stage(Base(BaseKind.STAGE, "-1")),)),
    ],
)
def test_a_plan_without_an_order_is_refused(broken: Plan) -> None:
    with pytest.raises(InvalidArgument):
        check(broken)


async def test_stages_that_fail_for_everyone_are_told_once() -> None:
    bench = Bench()
    bench.sandboxes.exits["boom"] = 1
    chain = Plan((Stage(IMAGE, (run(1, "boom"),)), Stage(Base(BaseKind.STAGE, "0"), (run(2, "two"),))))
    with pytest.raises(AtollError, match="boom"):
        await bench.build(chain)
    assert bench.commands == ["boom"]
