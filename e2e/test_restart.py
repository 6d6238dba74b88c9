"""`kill -9` of the daemon loses nothing, wherever it strikes."""

from __future__ import annotations

import os
import signal
import threading
import time

import httpx
import pytest

from atoll import Sandbox, Stdout
from e2e.conftest import Daemon

CREATE_POINTS = [
    "create.after_insert",
    "launch.before_prepare",
    "launch.after_prepare",
    "launch.after_create",
    "launch.after_start",
    "launch.after_ready",
    "create.after_launch",
    "create.after_running",
]
KILL_POINTS = [
    "kill.after_stopping",
    "terminate.before_destroy",
    "terminate.after_destroy",
    "terminate.after_release",
    "kill.after_terminate",
    "kill.after_ended",
]


@pytest.mark.parametrize("runtime", ["gvisor", "container"])
def test_sandboxes_outlive_the_daemon(own_daemon: Daemon, runtime: str) -> None:
    client = own_daemon.config
    sb = Sandbox.create(runtime=runtime, timeout_s=300, metadata={"keep": "me"}, config=client)
    counter = sb.start(["sh", "-c", "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done"])
    sb.files.write("/home/user/kept", "kept")
    expires_before = sb.info().expires_at
    own_daemon.kill_hard()
    own_daemon.start()
    again = Sandbox.connect(sb.id, config=client)
    assert again.info().expires_at == expires_before
    assert again.files.read("/home/user/kept") == "kept"
    assert counter.pid in [one.pid for one in again.processes()]
    assert next(event for event in again.attach(counter.pid) if isinstance(event, Stdout)).data
    assert again.run("echo on").stdout == "on\n"
    again.kill()
    assert not own_daemon.census().processes


def test_a_reader_goes_on_across_a_restart_without_loss(own_daemon: Daemon) -> None:
    client = own_daemon.config
    with Sandbox.create(config=client) as sb:
        process = sb.start(["sh", "-c", "for i in $(seq 1 200); do echo $i; sleep 0.03; done"])
        lines = ""
        for event in process:
            lines += getattr(event, "text", "")
            if lines.endswith("\n40\n"):
                own_daemon.kill_hard()
                threading.Thread(target=own_daemon.start).start()
        assert lines.split() == [str(number) for number in range(1, 201)]


def test_expiry_holds_across_a_restart(own_daemon: Daemon) -> None:
    client = own_daemon.config
    sb = Sandbox.create(timeout_s=5, config=client)
    late = Sandbox.create(timeout_s=60, config=client)
    own_daemon.kill_hard()
    time.sleep(6)
    own_daemon.start()
    deadline = time.monotonic() + 3
    while own_daemon.api("GET", f"/v1/sandboxes/{sb.id}").status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    killed = [event for event in own_daemon.events(sb.id) if event["type"] == "sandbox.killed"]
    assert len(killed) == 1 and "expired" in str(killed[0])
    assert late.run("echo here").stdout == "here\n"
    late.kill()


def test_a_sandbox_that_died_meanwhile_is_told(own_daemon: Daemon) -> None:
    client = own_daemon.config
    sb = Sandbox.create(config=client)
    own_daemon.kill_hard()
    for process in own_daemon.census().processes:
        os.kill(int(process.split(":")[0]), signal.SIGKILL)
    own_daemon.start()
    assert own_daemon.api("GET", f"/v1/sandboxes/{sb.id}").status_code == 404
    assert "crashed" in str([event for event in own_daemon.events(sb.id) if event["type"] == "sandbox.killed"])
    _nothing_but_pools(own_daemon)


@pytest.mark.parametrize("point", CREATE_POINTS)
def test_killed_while_creating(stopped_daemon: Daemon, point: str) -> None:
    daemon = stopped_daemon
    daemon.start(crash=point)
    with pytest.raises(httpx.TransportError):
        daemon.api("POST", "/v1/sandboxes", json={})
    assert daemon.wait_end() == -9
    daemon.start()
    live = daemon.api("GET", "/v1/sandboxes").json()["items"]
    if point == "create.after_running":
        assert [one["state"] for one in live] == ["running"]
        daemon.api("DELETE", f"/v1/sandboxes/{live[0]['id']}").raise_for_status()
    else:
        assert live == []
    _nothing_but_pools(daemon)


@pytest.mark.parametrize("point", KILL_POINTS)
def test_killed_while_killing(stopped_daemon: Daemon, point: str) -> None:
    daemon = stopped_daemon
    daemon.start(crash=point)
    sb = Sandbox.create(config=daemon.config)
    with pytest.raises(httpx.TransportError):
        daemon.api("DELETE", f"/v1/sandboxes/{sb.id}")
    assert daemon.wait_end() == -9
    daemon.start()
    assert daemon.api("GET", "/v1/sandboxes").json()["items"] == []
    killed = [event for event in daemon.events(sb.id) if event["type"] == "sandbox.killed"]
    assert len(killed) == 1 and "killed" in str(killed[0]["data"])
    _nothing_but_pools(daemon)


def _nothing_but_pools(daemon: Daemon) -> None:
    """No process, no sandbox directory, no cgroup; then `stop` takes the pools too, and it stays stopped."""
    now = daemon.census()
    assert not now.processes
    assert not now.cgroups
    assert not [name for name in now.files if name.startswith("sandboxes")]
    daemon.stop()
    after = daemon.census()
    assert not (after.processes | after.mounts | after.namespaces | after.links | after.cgroups | after.loops)
    assert after.rules == ""
