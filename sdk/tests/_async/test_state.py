"""Pauses, forks and rewinding."""

from __future__ import annotations

from typing import Any

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import AsyncSandbox, Capacity, Config, FailedPrecondition, ForkFailed, NotFound, SandboxEnded

FULL = {"code": "capacity", "message": "the machine is full", "details": {"needed_mib": 512}}


async def state(sandbox: AsyncSandbox) -> str:
    return (await sandbox.info()).state


async def test_each_verb_twice(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    assert (await sandbox.pause(), await sandbox.pause(), await state(sandbox)) == (True, False, "paused")
    assert (await sandbox.resume(), await sandbox.resume(), await state(sandbox)) == (True, False, "running")
    assert [(await sandbox.freeze()).state for _ in range(2)] == ["frozen", "frozen"]
    assert await sandbox.resume() is True
    assert await sandbox.is_running()


async def test_what_is_sent(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    await sandbox.pause()
    assert daemon.seen[-1].json() == {}
    await sandbox.resume(timeout_s=60, keep_memory=False)
    assert daemon.seen[-1].json() == {"timeout_s": 60, "kind": "filesystem"}
    await sandbox.pause(keep_memory=False)
    assert daemon.seen[-1].json() == {"kind": "filesystem"}


async def test_a_pause_that_is_refused_for_another_reason(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    daemon.sandboxes[sandbox.id]["state"] = "stopping"
    with pytest.raises(FailedPrecondition, match="stopping") as caught:
        await sandbox.pause()
    assert caught.value.details == {"state": "stopping"}


async def test_found_again_it_runs_or_stays_as_it_is(daemon: FakeDaemon, config: Config) -> None:
    made = await AsyncSandbox.create(config=config)
    await made.pause()
    assert (await AsyncSandbox.get(made.id, config=config)).created.state == "paused"
    assert (await AsyncSandbox.connect(made.id, config=config)).created.state == "running"
    await made.pause()
    again = await AsyncSandbox.resume(made.id, timeout_s=9, config=config)
    assert (again.id, daemon.seen[-1].json(), await state(made)) == (made.id, {"timeout_s": 9}, "running")
    assert (await AsyncSandbox.resume(made.id, config=config)).id == made.id
    for find in (AsyncSandbox.get, AsyncSandbox.connect, AsyncSandbox.resume):
        with pytest.raises(NotFound):
            await find("nope", config=config)


async def test_a_policy_is_changed_in_parts(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(idle_timeout_s=60, on_timeout="pause", config=config)
    assert (sandbox.created.idle_timeout_s, sandbox.created.on_timeout) == (60, "pause")
    info = await sandbox.set_lifecycle(idle_timeout_s=None, auto_resume=False)
    assert (daemon.seen[-1].method, daemon.seen[-1].json()) == ("PATCH", {"idle_timeout_s": None, "auto_resume": False})
    assert (info.idle_timeout_s, info.auto_resume) == (None, False)


async def test_forks(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(metadata={"a": "1"}, config=config)
    siblings = await sandbox.fork(3)
    assert [(one.id, one.created.metadata) for one in siblings] == [(f"sbx{n}", {"a": "1"}) for n in (2, 3, 4)]
    await sandbox.fork(timeout_s=5)
    assert daemon.seen[-1].json() == {"count": 1, "timeout_s": 5}


@pytest.mark.parametrize(("failing", "left"), [(1, 3), (3, 1)])
async def test_forks_that_fail(failing: int, left: int, daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    daemon.fork_faults = [FULL] * failing
    with pytest.raises(ForkFailed, match=f"{failing} of 3 .* the machine is full") as caught:
        await sandbox.fork(3)
    (fault, *_) = caught.value.errors
    assert (type(fault), fault.details, len(caught.value.errors)) == (Capacity, {"needed_mib": 512}, failing)
    assert list(daemon.sandboxes) == [sandbox.id]
    daemon.fork_faults = [FULL] * failing
    if failing == 3:
        with pytest.raises(ForkFailed):
            await sandbox.fork(3, partial=True)
    else:
        assert len(await sandbox.fork(3, partial=True)) == 2
    assert len(daemon.sandboxes) == left


async def test_a_fork_is_never_sent_twice(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    for verb, call in (("fork", sandbox.fork), ("snapshots", sandbox.snapshot)):
        daemon.answers[f"POST /v1/sandboxes/{sandbox.id}/{verb}"] = [(0, {}, b"")]
        with pytest.raises(Exception, match="broke"):
            await call()
        assert len(daemon.requests_to(verb)) == 1


async def test_rewinding(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    first = await sandbox.snapshot("first")
    await sandbox.snapshot()
    assert (await sandbox.rollback(first)).head_id == first.id
    assert daemon.seen[-1].json() == {"snapshot": first.id}
    await sandbox.rollback("first")
    with pytest.raises(NotFound, match="no snapshot nope") as caught:
        await sandbox.rollback("nope")
    assert not isinstance(caught.value, SandboxEnded)


@pytest.mark.parametrize("verb", ["pause", "resume", "freeze", "snapshot", "fork", "checkpoints"])
async def test_of_what_has_ended(verb: str, daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    await sandbox.kill()
    call: Any = getattr(sandbox, verb)
    with pytest.raises(SandboxEnded):
        await call()
    with pytest.raises(SandboxEnded):
        await sandbox.rollback("x")


async def test_waits_as_long_as_memory_takes(daemon: FakeDaemon, config: Config) -> None:
    """A pause outlasts the time that is enough for other answers."""
    sandbox = await AsyncSandbox.create(config=config)
    assert sandbox._state._call("/pause", {}, is_safe=True).read_timeout_s == 300
