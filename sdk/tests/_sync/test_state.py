# Generated from `tests/_async/test_state.py` by `scripts/unasync.py`: change that, not this.
"""Pauses, forks and rewinding."""

from __future__ import annotations

from typing import Any

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import Sandbox, Capacity, Config, FailedPrecondition, ForkFailed, NotFound, SandboxEnded

FULL = {"code": "capacity", "message": "the machine is full", "details": {"needed_mib": 512}}


def state(sandbox: Sandbox) -> str:
    return (sandbox.info()).state


def test_each_verb_twice(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    assert (sandbox.pause(), sandbox.pause(), state(sandbox)) == (True, False, "paused")
    assert (sandbox.resume(), sandbox.resume(), state(sandbox)) == (True, False, "running")
    assert [(sandbox.freeze()).state for _ in range(2)] == ["frozen", "frozen"]
    assert sandbox.resume() is True
    assert sandbox.is_running()


def test_what_is_sent(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    sandbox.pause()
    assert daemon.seen[-1].json() == {}
    sandbox.resume(timeout_s=60, keep_memory=False)
    assert daemon.seen[-1].json() == {"timeout_s": 60, "kind": "filesystem"}
    sandbox.pause(keep_memory=False)
    assert daemon.seen[-1].json() == {"kind": "filesystem"}


def test_a_pause_that_is_refused_for_another_reason(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    daemon.sandboxes[sandbox.id]["state"] = "stopping"
    with pytest.raises(FailedPrecondition, match="stopping") as caught:
        sandbox.pause()
    assert caught.value.details == {"state": "stopping"}


def test_found_again_it_runs_or_stays_as_it_is(daemon: FakeDaemon, config: Config) -> None:
    made = Sandbox.create(config=config)
    made.pause()
    assert (Sandbox.get(made.id, config=config)).created.state == "paused"
    assert (Sandbox.connect(made.id, config=config)).created.state == "running"
    made.pause()
    again = Sandbox.resume(made.id, timeout_s=9, config=config)
    assert (again.id, daemon.seen[-1].json(), state(made)) == (made.id, {"timeout_s": 9}, "running")
    assert (Sandbox.resume(made.id, config=config)).id == made.id
    for find in (Sandbox.get, Sandbox.connect, Sandbox.resume):
        with pytest.raises(NotFound):
            find("nope", config=config)


def test_a_policy_is_changed_in_parts(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(idle_timeout_s=60, on_timeout="pause", config=config)
    assert (sandbox.created.idle_timeout_s, sandbox.created.on_timeout) == (60, "pause")
    info = sandbox.set_lifecycle(idle_timeout_s=None, auto_resume=False)
    assert (daemon.seen[-1].method, daemon.seen[-1].json()) == ("PATCH", {"idle_timeout_s": None, "auto_resume": False})
    assert (info.idle_timeout_s, info.auto_resume) == (None, False)


def test_forks(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(metadata={"a": "1"}, config=config)
    siblings = sandbox.fork(3)
    assert [(one.id, one.created.metadata) for one in siblings] == [(f"sbx{n}", {"a": "1"}) for n in (2, 3, 4)]
    sandbox.fork(timeout_s=5)
    assert daemon.seen[-1].json() == {"count": 1, "timeout_s": 5}


@pytest.mark.parametrize(("failing", "left"), [(1, 3), (3, 1)])
def test_forks_that_fail(failing: int, left: int, daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    daemon.fork_faults = [FULL] * failing
    with pytest.raises(ForkFailed, match=f"{failing} of 3 .* the machine is full") as caught:
        sandbox.fork(3)
    (fault, *_) = caught.value.errors
    assert (type(fault), fault.details, len(caught.value.errors)) == (Capacity, {"needed_mib": 512}, failing)
    assert list(daemon.sandboxes) == [sandbox.id]
    daemon.fork_faults = [FULL] * failing
    if failing == 3:
        with pytest.raises(ForkFailed):
            sandbox.fork(3, partial=True)
    else:
        assert len(sandbox.fork(3, partial=True)) == 2
    assert len(daemon.sandboxes) == left


def test_a_fork_is_never_sent_twice(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    for verb, call in (("fork", sandbox.fork), ("snapshots", sandbox.snapshot)):
        daemon.answers[f"POST /v1/sandboxes/{sandbox.id}/{verb}"] = [(0, {}, b"")]
        with pytest.raises(Exception, match="broke"):
            call()
        assert len(daemon.requests_to(verb)) == 1


def test_rewinding(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    first = sandbox.snapshot("first")
    sandbox.snapshot()
    assert (sandbox.rollback(first)).head_id == first.id
    assert daemon.seen[-1].json() == {"snapshot": first.id}
    sandbox.rollback("first")
    with pytest.raises(NotFound, match="no snapshot nope") as caught:
        sandbox.rollback("nope")
    assert not isinstance(caught.value, SandboxEnded)


@pytest.mark.parametrize("verb", ["pause", "resume", "freeze", "snapshot", "fork", "checkpoints"])
def test_of_what_has_ended(verb: str, daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    sandbox.kill()
    call: Any = getattr(sandbox, verb)
    with pytest.raises(SandboxEnded):
        call()
    with pytest.raises(SandboxEnded):
        sandbox.rollback("x")


def test_waits_as_long_as_memory_takes(daemon: FakeDaemon, config: Config) -> None:
    """A pause outlasts the time that is enough for other answers."""
    sandbox = Sandbox.create(config=config)
    assert sandbox._state._call("/pause", {}, is_safe=True).read_timeout_s == 300
