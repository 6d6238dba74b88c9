"""Code in a sandbox tries to reach what it must not."""

from __future__ import annotations

import http.server
import os
import platform
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from atoll import Config, Sandbox
from e2e.conftest import Daemon

CONNECT = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
        print("REACHED", target)
    except OSError as error:
        print("no", target, error)
"""


@contextmanager
def listener(address: str) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer((address, 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def host_addresses() -> list[str]:
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.connect(("198.51.100.1", 9))  # sends nothing: a connected datagram socket only looks up the route
        return [str(probe.getsockname()[0])]
    except OSError:
        return []
    finally:
        probe.close()


def as_root(sandbox: Sandbox) -> Sandbox:
    """The sandbox, after a proof that `sudo` makes root there: a refused sudo would look like a closed door."""
    assert sandbox.run("sudo id -u").stdout.strip() == "0"
    return sandbox


def test_the_kernel_is_the_guests(gvisor: Sandbox) -> None:
    release = gvisor.run("uname -r").stdout.strip()
    assert release != platform.release()
    assert "gVisor" in gvisor.run("dmesg").stdout or "gvisor" in gvisor.run("cat /proc/version").stdout.lower()


@pytest.mark.parametrize("runtime", ["gvisor", "container"])
def test_host_files_and_processes_are_out_of_sight(daemon: Daemon, client: Config, runtime: str) -> None:
    marker = daemon.state_dir / "host-secret"
    marker.write_text("top")
    with Sandbox.create(runtime=runtime, config=client) as sb:
        as_root(sb)
        assert sb.run(f"sudo cat {marker}").exit_code != 0
        assert sb.run("sudo find / -xdev -name host-secret").stdout == ""
        pids = [int(name) for name in sb.run("ls /proc").stdout.split() if name.isdigit()]
        assert 1 in pids and len(pids) < 20
        assert sb.run("cat /proc/1/comm").stdout.strip() == "agent"
        assert str(os.getpid()) not in [str(pid) for pid in pids if pid > 1000]
        assert sb.run("sudo kill -0 " + str(os.getpid())).exit_code != 0 or os.getpid() in pids


@pytest.mark.parametrize("runtime", ["gvisor", "container"])
def test_host_neighbour_and_metadata_are_out_of_reach(daemon: Daemon, client: Config, runtime: str) -> None:
    with (
        listener("0.0.0.0") as port,
        Sandbox.create(runtime=runtime, config=client) as neighbour,
        Sandbox.create(runtime=runtime, config=client) as sb,
    ):
        server = neighbour.start(["python3", "-m", "http.server", "8000", "--bind", "0.0.0.0"])
        own = sb.run("hostname -I").stdout.split()
        other = neighbour.run("hostname -I").stdout.split()
        assert own and other and own != other
        gateway = sb.run("ip route show default").stdout.split()[2]
        targets = [f"{address}:{port}" for address in [*host_addresses(), gateway, "127.0.0.1"]]
        targets += [f"{gateway}:{daemon.port}", f"{other[0]}:8000", f"{other[0]}:49983", "169.254.169.254:80"]
        sb.files.write("/tmp/connect.py", CONNECT)
        said = sb.run(["python3", "/tmp/connect.py", *targets], timeout_s=60).stdout
        assert "REACHED" not in said
        assert len([line for line in said.splitlines() if line.startswith("no ")]) == len(targets)
        server.kill()


def test_the_agent_is_closed_to_who_has_no_token(gvisor: Sandbox) -> None:
    code = (
        "import urllib.request,urllib.error\n"
        "r=urllib.request.Request('http://127.0.0.1:49983/process.Process/List',data=b'{}',"
        "headers={'content-type':'application/json'})\n"
        "try: print(urllib.request.urlopen(r).status)\n"
        "except urllib.error.HTTPError as e: print(e.code)\n"
    )
    assert gvisor.run(["python3", "-c", code]).stdout.strip() == "401"


def test_the_agent_binary_cannot_be_changed(client: Config, gvisor: Sandbox) -> None:
    as_root(gvisor)
    before = gvisor.run("stat -c '%a %U %s' /.atoll/agent").stdout
    # gVisor lets its root take the flag off; what counts is that the host does not.
    gvisor.run("sudo mount -o remount,rw /.atoll/agent; sudo mount -o remount,rw /usr/bin/sudo")
    for change in ("chmod 4777", "chown user"):
        gvisor.run(f"sudo {change} /.atoll/agent; sudo {change} /usr/bin/sudo")
    with Sandbox.create(runtime="gvisor", config=client) as other:
        assert other.run("stat -c '%a %U %s' /.atoll/agent").stdout == before
    assert gvisor.run("sudo sh -c 'echo x >> /.atoll/agent'").exit_code != 0
    assert gvisor.run("sudo rm -f /.atoll/agent").exit_code != 0
    if gvisor.run("grep -q ' /usr/bin/sudo ' /proc/mounts").exit_code == 0:
        assert gvisor.run("sudo sh -c 'echo x >> /usr/bin/sudo'").exit_code != 0
    assert gvisor.run("true").exit_code == 0


def test_no_internet_means_nothing_leaves(client: Config) -> None:
    with Sandbox.create(internet=False, config=client) as sb:
        sb.files.write("/tmp/connect.py", CONNECT)
        said = sb.run(["python3", "/tmp/connect.py", "1.1.1.1:53", "8.8.8.8:53"], timeout_s=30).stdout
        assert "REACHED" not in said
