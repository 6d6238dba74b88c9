from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from atolld.control.testing import SPEC, RecordedTelemetry, World, until
from atolld.core.event import EventType
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.project import ProjectLimits
from atolld.core.sandbox import MAX_TIMEOUT_S, Resources, SandboxSpec
from atolld.foundation.aio import spawn
from atolld.foundation.errors import (
    AtollError,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from atolld.foundation.ids import new_project_id, new_sandbox_id

S = SandboxState


async def test_what_is_created_can_be_read_everywhere(world: World, telemetry: RecordedTelemetry) -> None:
    made = await world.create(timeout_s=60, run="7")
    now = world.clock.now()
    assert (made.state, made.started_at, made.expires_at) == (S.RUNNING, now, now + 60)
    assert await world.sandboxes.get(world.project.id, made.id) == made == await world.row(made.id)
    endpoint = world.sandboxes.endpoint(made.id)
    assert endpoint is not None
    assert (endpoint.address, endpoint.agent_token) == (made.address, made.agent_token)
    assert (endpoint.project_id, endpoint.state) == (world.project.id, S.RUNNING)
    assert world.sandboxes.counts() == {(S.RUNNING, "fake"): 1}
    assert list(world.sandboxes.last_phases(made.id)) == ["record", "prepare", "start", "publish"]
    (event,) = await world.events_of(made.id)
    assert event.type is EventType.CREATED
    assert event.data["metadata"] == {"run": "7"}
    assert event.data["expires_at"] == now + 60
    assert telemetry.counted("sandbox_creates", runtime="fake", outcome="ok") == 1
    assert len(telemetry.observed["sandbox_create_seconds"]) == 1


async def test_environment_goes_to_the_agent_and_nowhere_else(world: World) -> None:
    made = await world.sandboxes.create(world.project.id, replace(SPEC, envs={"A": "1"}))
    assert made.spec.envs == {}
    assert [launch.envs for launch in world.node.launches] == [{"A": "1"}]


@pytest.mark.parametrize(
    ("spec", "kind", "said"),
    [
        (replace(SPEC, template="missing"), NotFound, "template 'missing'"),
        (replace(SPEC, runtime="missing"), NotFound, "runtime 'missing'"),
        (replace(SPEC, timeout_s=0), InvalidArgument, "timeout_s"),
        (replace(SPEC, resources=Resources(cpu=float("nan"))), InvalidArgument, "cpu"),
        (replace(SPEC, metadata={"": "x"}), InvalidArgument, "metadata"),
        (replace(SPEC, envs={"1": "x"}), InvalidArgument, "envs"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    world: World, spec: SandboxSpec, kind: type[AtollError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        await world.sandboxes.create(world.project.id, spec)
    assert await world.store.live() == []
    assert world.sandboxes.counts() == {}
    assert world.node.machine.sandboxes == {}


async def test_limits_hold_for_callers_at_once(world: World) -> None:
    await world.projects.set_limits(world.project.id, ProjectLimits(max_sandboxes=3))
    results = await asyncio.gather(*(world.create() for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, LimitExceeded) for result in results) == 7
    assert len(world.node.machine.sandboxes) == 3


async def test_another_project_has_no_part_in_it(world: World) -> None:
    made = await world.create()
    other = new_project_id()
    sandboxes = world.sandboxes
    for call in (
        sandboxes.get(other, made.id),
        sandboxes.kill(other, made.id),
        sandboxes.set_timeout(other, made.id, 5),
        sandboxes.extend_timeout(other, made.id, 5),
        sandboxes.set_network(other, made.id, NetworkPolicy()),
        sandboxes.usage_samples(other, made.id),
        sandboxes.logs(other, made.id, 10),
        sandboxes.kill(world.project.id, new_sandbox_id()),
    ):
        with pytest.raises(NotFound, match="no sandbox"):
            await call
    assert (await sandboxes.list(other)).items == []
    assert (await sandboxes.get(world.project.id, made.id)).state is S.RUNNING


async def test_kill(world: World, telemetry: RecordedTelemetry) -> None:
    made = await world.create()
    await world.clock.advance(10)
    await world.sandboxes.kill(world.project.id, made.id)
    row = await world.row(made.id)
    assert (row.state, row.end_reason, row.ended_at) == (S.ENDED, EndReason.KILLED, world.clock.now())
    assert world.node.machine.sandboxes == {}
    assert world.sandboxes.endpoint(made.id) is None
    created, killed = await world.events_of(made.id)
    assert killed.type is EventType.KILLED
    assert killed.data == {"reason": "killed", "message": row.end_message, "ran_s": 10.0}
    (usage,) = await world.usage.list(world.project.id, 0, world.clock.now() + 1)
    assert (usage.vcpu_s, usage.memory_gib_s) == (10.0, 5.0)
    assert telemetry.counted("sandbox_ends", runtime="fake", reason="killed") == 1
    with pytest.raises(NotFound):
        await world.sandboxes.get(world.project.id, made.id)


@pytest.mark.parametrize(
    ("verb", "before_s", "timeout_s", "after_s"),
    [
        ("set", 100, 10, 10),
        ("set", 100, 1000, 1000),
        ("set", None, 10, 10),
        ("set", 100, None, None),
        ("extend", 100, 10, 100),
        ("extend", 100, 1000, 1000),
        ("extend", None, 10, None),
        ("extend", 100, None, None),
    ],
)
async def test_timeouts(
    world: World, verb: str, before_s: int | None, timeout_s: int | None, after_s: int | None
) -> None:
    made = await world.create(timeout_s=before_s)
    change = world.sandboxes.set_timeout if verb == "set" else world.sandboxes.extend_timeout
    changed = await change(world.project.id, made.id, timeout_s)
    expected = None if after_s is None else world.clock.now() + after_s
    assert changed.expires_at == expected
    assert changed == await world.sandboxes.get(world.project.id, made.id) == await world.row(made.id)
    events = await world.events_of(made.id)
    if after_s == before_s:
        assert len(events) == 1
    else:
        assert (events[1].type, events[1].data) == (EventType.UPDATED, {"expires_at": expected})


@pytest.mark.parametrize("timeout_s", [0, -1, MAX_TIMEOUT_S + 1])
async def test_bad_timeouts(world: World, timeout_s: int) -> None:
    made = await world.create()
    for change in (world.sandboxes.set_timeout, world.sandboxes.extend_timeout):
        with pytest.raises(InvalidArgument, match="timeout_s"):
            await change(world.project.id, made.id, timeout_s)


async def test_network(world: World) -> None:
    made = await world.create()
    changed = await world.sandboxes.set_network(world.project.id, made.id, NetworkPolicy(internet=False))
    assert changed.spec.network == world.node.machine.sandboxes[made.id].network == NetworkPolicy(internet=False)
    assert await world.row(made.id) == changed
    assert (await world.events_of(made.id))[1].data == NetworkPolicy(internet=False).to_json()


async def test_a_traffic_token_is_made_when_it_is_first_needed_and_stays(world: World) -> None:
    made = await world.create()
    assert made.traffic_token is None

    async def change(allow_public_traffic: bool) -> str | None:
        changed = await world.sandboxes.change_network(
            world.project.id, made.id, lambda before: replace(before, allow_public_traffic=allow_public_traffic)
        )
        assert changed == await world.row(made.id)
        return changed.traffic_token

    token = await change(False)
    assert token is not None
    assert await change(True) == await change(False) == token


async def test_the_endpoint_tells_what_the_ports_ask(world: World) -> None:
    policy = NetworkPolicy(allow_public_traffic=False, mask_request_host="app:${PORT}")
    spec = replace(SPEC, network=policy, secure=False)
    made = await world.sandboxes.create(world.project.id, spec)
    for sandboxes in (world.sandboxes, (await world.restart()).sandboxes):
        endpoint = sandboxes.endpoint(made.id)
        assert endpoint is not None
        assert (endpoint.allow_public_traffic, endpoint.mask_request_host, endpoint.secure) == (
            False,
            "app:${PORT}",
            False,
        )
        assert endpoint.traffic_token == made.traffic_token is not None


async def test_network_in_force_is_the_one_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world.create()

    async def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(world.store, "set_network", fail)
    with pytest.raises(OSError, match="disk full"):
        await world.sandboxes.set_network(world.project.id, made.id, NetworkPolicy(internet=False))
    assert world.node.machine.sandboxes[made.id].network.internet
    assert (await world.sandboxes.get(world.project.id, made.id)).spec.network.internet


async def test_calls_on_one_that_is_still_being_created(world: World) -> None:
    gate = world.node.hold("launch")
    creating = spawn(world.create(), name="create")
    await gate.reached.wait()
    (row,) = await world.store.live()
    assert (await world.sandboxes.get(world.project.id, row.id)).state is S.CREATING
    assert world.sandboxes.endpoint(row.id) is None
    for call in (
        world.sandboxes.set_timeout(world.project.id, row.id, 5),
        world.sandboxes.set_network(world.project.id, row.id, NetworkPolicy()),
        world.sandboxes.logs(world.project.id, row.id, 5),
    ):
        with pytest.raises(FailedPrecondition, match="still being created"):
            await call
    gate.opened.set()
    assert (await creating).id == row.id


async def test_logs(world: World) -> None:
    made = await world.create()
    world.node.machine.sandboxes[made.id].log = b'{"message":"hello"}\n'
    assert await world.sandboxes.logs(world.project.id, made.id, 3) == b'"}\n'
    with pytest.raises(InvalidArgument):
        await world.sandboxes.logs(world.project.id, made.id, 0)


async def test_pages(world: World) -> None:
    made = []
    for n in range(5):
        made.append(await world.create(n=str(n % 2)))
        await world.clock.advance(1)
    await world.sandboxes.kill(world.project.id, made[0].id)
    first = await world.sandboxes.list(world.project.id, limit=3)
    assert [item.id for item in first.items] == [one.id for one in (made[4], made[3], made[2])]
    assert first.total_running == 4
    second = await world.sandboxes.list(world.project.id, limit=3, cursor=first.next_cursor)
    assert ([item.id for item in second.items], second.next_cursor) == ([made[1].id], None)


async def test_the_same_key_makes_one_sandbox(world: World) -> None:
    gate = world.node.hold("launch")
    calls = [
        spawn(world.sandboxes.create(world.project.id, SPEC, "key"), name="create", report=False) for _ in range(2)
    ]
    await gate.reached.wait()
    with pytest.raises(Conflict):
        await world.sandboxes.create(world.project.id, replace(SPEC, timeout_s=1), "key")
    gate.opened.set()
    first, second = await asyncio.gather(*calls)
    assert first == second == await world.sandboxes.create(world.project.id, SPEC, "key")
    with pytest.raises(Conflict):
        await world.sandboxes.create(world.project.id, replace(SPEC, timeout_s=1), "key")
    await world.sandboxes.kill(world.project.id, first.id)
    again = await world.sandboxes.create(world.project.id, SPEC, "key")
    assert (again.id, again.state) == (first.id, S.ENDED)
    await world.clock.advance(24 * 3600 + 1)
    assert (await world.sandboxes.create(world.project.id, SPEC, "key")).id != first.id


async def test_a_failed_create_frees_its_key(world: World) -> None:
    world.node.fail("launch", OSError("no"))
    with pytest.raises(OSError, match="no"):
        await world.sandboxes.create(world.project.id, SPEC, "key")
    assert (await world.sandboxes.create(world.project.id, SPEC, "key")).state is S.RUNNING


async def test_shutdown_keeps_or_ends(world: World) -> None:
    kept = await world.create()
    gate = world.node.hold("launch")
    creating = spawn(world.create(), name="create", report=False)
    await gate.reached.wait()
    await world.sandboxes.shutdown(end_all=False)
    with pytest.raises(FailedPrecondition, match="daemon was stopped"):
        await creating
    with pytest.raises(Unavailable):
        await world.create()
    assert list(world.node.machine.sandboxes) == [kept.id]
    assert (await world.row(kept.id)).state is S.RUNNING
    await world.sandboxes.shutdown(end_all=True)
    assert (await world.row(kept.id)).end_reason is EndReason.SHUTDOWN
    assert world.node.machine.sandboxes == {}


async def test_shutdown_tells_what_it_could_not_end_after_trying_all(world: World) -> None:
    made = [await world.create() for _ in range(3)]
    world.node.fail("terminate", OSError("busy"))
    with pytest.raises(ExceptionGroup) as caught:
        await world.sandboxes.shutdown(end_all=True)
    assert [str(error) for error in caught.value.exceptions] == ["busy"]
    assert len(world.node.machine.sandboxes) == 1
    # What was not ended is tried again.
    await world.clock.advance(1.0)
    await until(lambda: world.node.machine.sandboxes == {})
    for one in made:
        assert (await world.ended(one.id)).end_reason is EndReason.SHUTDOWN


async def test_old_rows_go_in_time(world: World) -> None:
    made = await world.create()
    await world.sandboxes.kill(world.project.id, made.id)
    await world.clock.advance(31 * 24 * 3600.0)

    async def gone() -> bool:
        try:
            await world.row(made.id)
        except NotFound:
            return True
        return False

    while not await gone():
        await world.clock.advance(3600.0)


async def test_who_is_up_is_told(world: World) -> None:
    up: list[str] = []
    world.sandboxes.on_up = up.append
    made = await world.create()
    assert up == [made.id]
    await world.sandboxes.pause(world.project.id, made.id)
    await world.sandboxes.resume(world.project.id, made.id)
    await world.sandboxes.connect(world.project.id, made.id)
    assert up == [made.id] * 2
