"""Containers that wait for guests: used by a resume, gone with the daemon however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from atoll import AtollError, Sandbox, Stdout
from e2e.conftest import Daemon, make_daemon

_CONNECTED = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('198.51.100.1', 53))"


@pytest.fixture
def prepared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that keeps a container ready."""
    yield from make_daemon(tmp_path_factory.mktemp("atoll-ready"), ATOLL_READY_CONTAINERS="1")


def _waiting(daemon: Daemon) -> set[str]:
    """Control groups of what runs or waits."""
    return {path.rsplit("/", 1)[-1] for path in daemon.census().cgroups}


def test_a_resume_goes_on_in_one(prepared_daemon: Daemon) -> None:
    daemon = prepared_daemon
    sb = Sandbox.create(runtime="gvisor", timeout_s=300, config=daemon.config)
    counter = sb.start(["sh", "-c", "i=0; while true; do i=$((i+1)); echo $i > /home/user/count; sleep 0.05; done"])
    sb.pause()
    daemon.settle()
    (waits,) = _waiting(daemon)
    sb.resume()
    assert waits in _waiting(daemon)
    assert counter.pid in [one.pid for one in sb.processes()]
    first = int(sb.run("sleep 0.3; cat /home/user/count").stdout)
    assert int(sb.run("sleep 0.3; cat /home/user/count").stdout) > first
    assert sb.run("sudo id -u", user="user").stdout == "0\n"
    # It outlives the daemon as any other does, and the one that waits instead does not.
    daemon.settle()
    daemon.kill_hard()
    left = _waiting(daemon) - {waits}
    daemon.start()
    daemon.settle()
    assert left and waits in _waiting(daemon) and left.isdisjoint(_waiting(daemon))
    assert int(sb.run("cat /home/user/count").stdout) > first
    # A second time round, from what went on in one.
    sb.pause()
    sb.resume()
    assert sb.run("echo on").stdout == "on\n"
    sb.kill()


def test_a_create_starts_in_one(prepared_daemon: Daemon) -> None:
    daemon = prepared_daemon
    (waits,) = _waiting(daemon)
    sb = Sandbox.create(runtime="gvisor", timeout_s=300, config=daemon.config)
    assert waits in _waiting(daemon)
    assert sb.run("hostname").stdout == f"{sb.id}\n"
    assert sb.run("sudo id -u; cat /etc/resolv.conf | wc -l; df --output=target / | tail -1").stdout == "0\n1\n/\n"
    sb.files.write("/home/user/kept", "before")
    daemon.settle()
    daemon.kill_hard()
    daemon.start()
    daemon.settle()
    assert waits in _waiting(daemon) and sb.files.read("/home/user/kept") == "before"
    sb.pause()
    sb.resume()
    assert sb.run("hostname; cat /home/user/kept").stdout == f"{sb.id}\nbefore"
    sb.kill()
    daemon.settle()
    assert waits not in _waiting(daemon)


@pytest.mark.parametrize("point", ["launch.after_prepare", "launch.after_start", "launch.after_ready"])
def test_killed_while_one_starts_in_it(prepared_daemon: Daemon, point: str) -> None:
    daemon = prepared_daemon
    daemon.kill_hard()
    daemon.start(crash=point)
    daemon.settle()
    with pytest.raises(AtollError):
        Sandbox.create(runtime="gvisor", config=replace(daemon.config, resume_timeout_s=0))
    assert daemon.wait_end() == -9
    daemon.start()
    daemon.settle()
    (waits,) = _waiting(daemon)
    assert daemon.api("GET", "/v1/sandboxes").json()["items"] == []
    now = daemon.census()
    assert {name.split("/")[1] for name in now.files if name.startswith("sandboxes/")} <= {waits}


@pytest.mark.parametrize(
    "socket",
    [
        _CONNECTED,
        # Its own address is the one that it sends from.
        f"{_CONNECTED}; own = s.getsockname()[0]; s.close(); s = socket.create_server((own, 8080))",
    ],
)
def test_a_guest_that_needs_its_address_keeps_it(prepared_daemon: Daemon, socket: str) -> None:
    daemon = prepared_daemon
    sb = Sandbox.create(runtime="gvisor", timeout_s=300, config=daemon.config)
    held = sb.start(["python3", "-c", f"import socket, time; {socket}; print('held', flush=True); time.sleep(1000)"])
    assert next(event for event in held if isinstance(event, Stdout)).text == "held\n"
    sb.pause()
    daemon.settle()
    (waits,) = _waiting(daemon)
    sb.resume()
    assert held.pid in [one.pid for one in sb.processes()]
    sb.kill()
    daemon.settle()
    assert _waiting(daemon) == {waits}


@pytest.mark.parametrize("point", ["shell.after_surroundings", "shell.after_prepare", "shell.after_freeze"])
def test_killed_while_one_is_made(stopped_daemon: Daemon, point: str) -> None:
    daemon = stopped_daemon
    making = replace(daemon, settings={"ATOLL_READY_CONTAINERS": "1"})
    making.start(crash=point, wait=False)
    assert making.wait_end() == -9
    daemon.start()
    now = daemon.census()
    assert not (now.processes | now.cgroups)
    assert not [name for name in now.files if name.startswith("sandboxes")]
    daemon.stop()
    after = daemon.census()
    assert not (after.processes | after.mounts | after.namespaces | after.links | after.cgroups | after.loops)
