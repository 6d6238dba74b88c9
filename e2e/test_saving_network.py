"""Saves of sandboxes whose network does not keep still: connections never answered, and a storm of requests."""

from __future__ import annotations

import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from atoll import Config, Sandbox

# RFC 5737: for documentation, so nobody's; closed to no sandbox.
SILENT, HERE = "203.0.113.2", "203.0.113.1/30"
DENIED = "169.254.169.254"
CONNECT = """
import socket, sys, time
host, began = sys.argv[1], time.monotonic()
try:
    socket.create_connection((host, 81), timeout=100)
    said = "connected"
except OSError as error:
    said = error.strerror or repr(error)
print(f"{said} after {time.monotonic() - began:.0f} s", flush=True)
time.sleep(1000)
"""
SNAPSHOTS = 8
CLIENTS = 3


@pytest.fixture
def silence() -> Iterator[None]:
    """A network behind this machine in which nobody answers."""
    name = "t" + secrets.token_hex(3)
    for command in (
        f"netns add {name}",
        f"link add {name} type veth peer name eth0 netns {name}",
        f"-n {name} link set eth0 up",
        f"link set {name} up",
        f"addr add {HERE} dev {name}",
        f"neigh add {SILENT} lladdr 02:00:00:00:00:01 nud permanent dev {name}",
    ):
        subprocess.run(["ip", *command.split()], check=True, timeout=10)
    yield
    subprocess.run(["ip", "link", "del", name], check=True, timeout=10)
    subprocess.run(["ip", "netns", "del", name], check=True, timeout=10)


def said(sandbox: Sandbox, file: str) -> str:
    """What a connecting program has said, up to 10 s waited for."""
    return sandbox.run(f"for i in $(seq 100); do test -s {file} && break; sleep 0.1; done; cat {file}").stdout


def test_a_connection_that_nothing_answers_does_not_stand_in_the_way(gvisor: Sandbox, silence: None) -> None:
    gvisor.files.write("/tmp/connect.py", CONNECT)
    gvisor.start(f"python3 /tmp/connect.py {DENIED} >/tmp/denied")
    assert said(gvisor, "/tmp/denied") == "Connection refused after 0 s\n"
    for save, file in ((gvisor.snapshot, "/tmp/one"), (gvisor.pause, "/tmp/two")):
        gvisor.start(f"python3 /tmp/connect.py {SILENT} >{file}")
        # SYN sent, as the guest's own table has it.
        waiting = "for i in $(seq 100); do grep -q ' 02 ' /proc/net/tcp && break; sleep 0.1; done; cat /proc/net/tcp"
        assert " 02 " in gvisor.run(waiting).stdout
        assert gvisor.run(f"cat {file}").stdout == ""
        save()
        gvisor.resume()
        assert said(gvisor, file).startswith("No route to host after")
    assert gvisor.run("cat /proc/net/tcp").stdout.count(" 02 ") == 0


def test_saves_under_a_storm_of_requests(gvisor: Sandbox, client: Config) -> None:
    """Nobody's request fails, every save is whole, and what is made from it answers."""
    gvisor.start("mkdir /tmp/empty && cd /tmp/empty && python3 -m http.server 8000")
    headers = {"Authorization": f"Bearer {client.api_key}"}
    over = threading.Event()

    def ask(sandbox: Sandbox, timeout_s: float = 30) -> int:
        return httpx.get(sandbox.get_url(8000), headers=headers, timeout=timeout_s).status_code

    def storm() -> list[int]:
        answers = []
        while not over.is_set():
            answers.append(ask(gvisor))
        return answers

    deadline = time.monotonic() + 20
    while ask(gvisor) != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    with ThreadPoolExecutor(CLIENTS) as pool:
        storms = [pool.submit(storm) for _ in range(CLIENTS)]
        try:
            snapshots = [gvisor.snapshot() for _ in range(SNAPSHOTS)]
        finally:
            over.set()
    answers = [status for one in storms for status in one.result()]
    assert len(answers) > SNAPSHOTS and set(answers) == {200}
    for snapshot in snapshots:
        with Sandbox.create(template=snapshot.id, config=client) as copy:
            assert ask(copy, 5) == 200
        snapshot.delete()
