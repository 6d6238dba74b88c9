"""What a sandbox can reach, tried with real sockets: two slots, the host, and a made-up internet behind it.

slot A, slot B --- host (203.0.113.1) --- veth --- internet (203.0.113.2, and addresses that must stay out of reach)
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from atolld.core.network import NetworkPolicy
from atolld.foundation.aio import spawn
from atolld.host import conntrack, libnftables
from atolld.host.instance import Instance
from atolld.host.netlink import host_networks
from atolld.host.nftables import Egress, FirewallConfig
from atolld.host.slots import Slot, SlotPool
from atolld.host.subnets import SubnetRegistry

pytestmark = pytest.mark.real

HOST, INTERNET, SECOND = "203.0.113.1", "203.0.113.2", "203.0.113.3"
PRIVATE, OPENED, METADATA, RESOLVER = "10.77.0.2", "10.78.0.2", "169.254.169.254", "10.77.0.53"
PORT = 18080

# One process per namespace: it does what its lines say and answers one line each.
PROBE = """
import json, select, socket, sys, threading, time
kept = {}
def echo(s):
    def serve(c):
        while True:
            try: data = c.recv(4096)
            except OSError: return
            if not data: return
            c.sendall(data)
    while True:
        c, _ = s.accept()
        threading.Thread(target=serve, args=(c,), daemon=True).start()
seen = []
def hear(s):
    while True:
        data, peer = s.recvfrom(4096)
        seen.append([data.decode(), peer[0]])
        s.sendto(data, peer)
def run(do, host=None, port=None, name=None, text=None, source=None, count=0):
    if do == "listen":
        s = socket.create_server((host, port)); threading.Thread(target=echo, args=(s,), daemon=True).start()
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind((host, port))
        threading.Thread(target=hear, args=(u,), daemon=True).start()
        return True
    if do == "tcp":
        with socket.create_connection((host, port), timeout=0.4) as c:
            c.sendall(b"hello"); return c.recv(100).decode()
    if do == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
            if source: u.bind((source, 0))
            u.settimeout(0.4); u.sendto((text or "hello").encode(), (host, port)); return u.recv(100).decode()
    if do == "reach":
        # Both at once, because "no answer" has to be waited for.
        u, c = (socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        with u, c:
            u.setblocking(False); c.setblocking(False)
            u.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            try: u.sendto(b"hello", (host, port)); c.connect((host, port))
            except BlockingIOError: pass
            u.settimeout(0.4)
            ready = select.select([u], [c], [], 0.4)
            udp = bool(ready[0]) and u.recv(100) == b"hello"
            return udp or (bool(ready[1]) and c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0)
    if do == "open":
        kept[name] = socket.create_connection((host, port), timeout=1); return True
    if do == "say":
        kept[name].settimeout(0.6); kept[name].sendall(text.encode()); return kept[name].recv(100).decode()
    if do == "many":
        opened = 0
        for i in range(count):
            try: kept[i] = socket.create_connection((host, port), timeout=0.15); opened += 1
            except OSError: break
        return opened
    if do == "drip":
        # To several hosts in turn, a datagram every 2 ms, each with its number.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
            for n in range(count):
                for to in host: u.sendto(("%s %d" % (to, n)).encode(), (to, port))
                time.sleep(0.002)
        return True
    if do == "ipv6":
        with socket.create_server(("::1", 0), family=socket.AF_INET6): return "has ipv6"
    if do == "seen": return seen
for line in sys.stdin:
    try: answer = run(**json.loads(line))
    except OSError as error: answer = "refused: " + type(error).__name__
    print(json.dumps(answer), flush=True)
"""


class Probe:
    """A place to try from."""

    def __init__(self, process: Any) -> None:
        self._process = process

    async def do(self, do: str, **arguments: object) -> Any:
        def talk() -> Any:
            self._process.send(json.dumps({"do": do, **arguments}))
            return json.loads(self._process.line())

        return await asyncio.to_thread(talk)

    def end(self) -> None:
        self._process.end()

    async def reaches(self, host: str, port: int = PORT) -> bool:
        """Whether TCP or UDP gets an answer from there."""
        answer = await self.do("reach", host=host, port=port)
        assert answer in (True, False) or str(answer).startswith("refused")
        return answer is True


@dataclass
class World:
    pool: SlotPool
    a: Slot
    b: Slot
    in_a: Probe
    in_b: Probe
    on_host: Probe
    in_internet: Probe


def run(*command: str) -> None:
    subprocess.run(command, check=True)


@contextlib.contextmanager
def made_up_internet(instance: Instance) -> Any:
    name, link = f"{instance.name}w", f"w{instance.name}"
    # Its addresses exist once per machine: two test runs at a time would answer for each other.
    lock = os.open("/run/lock/atoll-test-internet", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "up0", "netns", name)
        run("ip", "addr", "add", f"{HOST}/24", "dev", link)
        run("ip", "link", "set", link, "up")
        inside = [f"addr add {address}/32 dev up0" for address in (SECOND, PRIVATE, OPENED, METADATA, RESOLVER)]
        for command in (f"addr add {INTERNET}/24 dev up0", *inside, "link set up0 up", "link set lo up"):
            run("ip", "-n", name, *command.split())
        for address in (PRIVATE, OPENED, METADATA, RESOLVER):
            run("ip", "route", "add", f"{address}/32", "dev", link)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", link], check=False)
        run("ip", "netns", "del", name)
        os.close(lock)


@pytest.fixture
async def world(instance: Instance, clean: None, start_python: Callable[..., Any]) -> AsyncIterator[World]:
    registry = SubnetRegistry()
    with made_up_internet(instance) as internet:
        subnet = await asyncio.to_thread(registry.claim, instance, host_networks)
        config = FirewallConfig(
            subnet, (IPv4Address(RESOLVER),), (IPv4Network(f"{OPENED}/32"), IPv4Network("169.254.0.0/16")), 40
        )
        pool = SlotPool(instance, config, ready_target=1)
        await pool.start()
        probes: list[Probe] = []
        try:
            a, b = await pool.acquire(), await pool.acquire()

            def probe(*prefix: str) -> Probe:
                probes.append(Probe(start_python(PROBE, *prefix)))
                return probes[-1]

            world = World(
                pool,
                a,
                b,
                probe("ip", "netns", "exec", a.namespace.name),
                probe("ip", "netns", "exec", b.namespace.name),
                probe(),
                probe("ip", "netns", "exec", internet),
            )
            await world.in_internet.do("listen", host="0.0.0.0", port=PORT)
            await world.in_internet.do("listen", host=RESOLVER, port=53)
            await world.in_b.do("listen", host="0.0.0.0", port=PORT)
            yield world
        finally:
            for started in probes:
                started.end()
            await pool.remove_all()
            registry.release(instance)


async def test_the_internet_is_reached_under_the_hosts_address(world: World) -> None:
    assert await world.in_a.do("tcp", host=INTERNET, port=PORT) == "hello"
    assert await world.in_a.do("udp", host=INTERNET, port=PORT) == "hello"
    assert {peer for _, peer in await world.in_internet.do("seen")} == {HOST}


async def test_the_host_is_out_of_reach_but_reaches_the_sandbox(world: World) -> None:
    uplink = "127.0.0.2"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lookup, contextlib.suppress(OSError):
        # Without a default route there is no uplink, and one address less to try.
        lookup.connect(("192.0.2.1", 9))
        uplink = lookup.getsockname()[0]
    await world.on_host.do("listen", host="0.0.0.0", port=PORT + 1)
    assert await world.on_host.reaches("127.0.0.1", PORT + 1)
    for address in (world.a.gateway, world.b.gateway, HOST, uplink, "127.0.0.1", "255.255.255.255"):
        assert not await world.in_a.reaches(address, PORT + 1), address
    assert await world.on_host.reaches(world.b.address)


async def test_other_sandboxes_are_out_of_reach(world: World) -> None:
    assert not await world.in_a.reaches(world.b.address)
    assert not await world.in_internet.reaches(world.b.address)


@pytest.mark.parametrize("address", [METADATA, PRIVATE])
async def test_metadata_and_private_addresses_are_out_of_reach(world: World, address: str) -> None:
    assert await world.on_host.reaches(address)
    assert not await world.in_a.reaches(address)


async def test_a_private_range_can_be_opened(world: World) -> None:
    assert await world.in_a.reaches(OPENED)


async def test_a_private_address_can_be_opened_to_one_sandbox(world: World) -> None:
    await world.pool.set_egress(world.a, Egress(private=(IPv4Network(f"{PRIVATE}/32"), IPv4Network(f"{METADATA}/32"))))
    assert await world.in_a.reaches(PRIVATE)
    assert not await world.in_a.reaches(METADATA)
    await world.pool.set_egress(world.a, Egress())
    assert not await world.in_a.reaches(PRIVATE)


async def test_the_resolver_is_reached_for_names_only(world: World) -> None:
    assert await world.in_a.do("udp", host=RESOLVER, port=53) == "hello"
    assert not await world.in_a.reaches(RESOLVER)
    await world.pool.set_egress(world.a, Egress(internet=False))
    assert not await world.in_a.reaches(RESOLVER, 53)


async def test_there_is_no_ipv6(world: World) -> None:
    assert str(await world.in_a.do("ipv6")).startswith("refused")


async def test_a_false_source_address_goes_nowhere(world: World) -> None:
    for false in (world.b.address, "198.51.100.9", HOST):
        run("ip", "-n", world.a.namespace.name, "addr", "add", f"{false}/32", "dev", "eth0")
        await world.in_a.do("udp", host=INTERNET, port=PORT, source=false, text=f"as {false}")
    await world.in_a.do("udp", host=INTERNET, port=PORT, text="honest")
    assert [text for text, _ in await world.in_internet.do("seen")] == ["honest"]


async def test_a_published_port_of_the_host_is_no_way_in(world: World, instance: Instance) -> None:
    table = f"{instance.name}dnat"
    libnftables.run_blocking(
        f"add table ip {table}\n"
        f"add counter ip {table} hits\n"
        f"add chain ip {table} c {{ type nat hook prerouting priority dstnat; }}\n"
        f"add rule ip {table} c tcp dport {PORT + 2} counter name hits dnat to {INTERNET}:{PORT}\n"
    )

    def hits() -> int:
        listed = libnftables.run_blocking(f"list counter ip {table} hits")
        return int(listed.split("packets")[1].split()[0])

    try:
        for address in (HOST, world.a.gateway):
            assert not await world.in_a.reaches(address, PORT + 2)
        assert hits() == 0
        await world.in_internet.do("tcp", host=HOST, port=PORT + 2)
        assert hits() > 0
    finally:
        libnftables.run_blocking(f"delete table ip {table}")


async def test_internet_goes_off_and_on_under_open_connections(world: World) -> None:
    await world.in_a.do("open", host=INTERNET, port=PORT, name="c")
    assert await world.in_a.do("say", name="c", text="one") == "one"
    await world.pool.set_egress(world.a, Egress(internet=False))
    assert str(await world.in_a.do("say", name="c", text="two")).startswith("refused")
    assert not await world.in_a.reaches(INTERNET)
    # The neighbour is not concerned.
    assert await world.in_b.reaches(INTERNET)
    assert await world.on_host.reaches(world.b.address)
    await world.pool.set_egress(world.a, Egress())
    assert await world.in_a.reaches(INTERNET)


async def test_allow_beats_deny_for_one_slot_only(world: World) -> None:
    everything = (IPv4Network("0.0.0.0/0"),)
    await world.pool.set_egress(world.a, Egress(deny=everything, allow=(IPv4Network(f"{INTERNET}/32"),)))
    assert await world.in_a.reaches(INTERNET)
    assert not await world.in_a.reaches(SECOND)
    assert await world.in_b.reaches(SECOND)
    await world.pool.set_egress(world.a, Egress(deny=(IPv4Network(f"{INTERNET}/32"),)))
    assert not await world.in_a.reaches(INTERNET)
    assert await world.in_a.reaches(SECOND)
    await world.pool.set_egress(world.a, Egress(allow=(IPv4Network(f"{PRIVATE}/32"), IPv4Network("169.254.0.0/16"))))
    assert not await world.in_a.reaches(PRIVATE)
    assert not await world.in_a.reaches(METADATA)


@pytest.mark.parametrize(
    ("policy", "first", "second", "names"),
    [
        (NetworkPolicy.of(), True, True, True),
        (NetworkPolicy.of(internet=False), False, False, False),
        (NetworkPolicy.of(deny_out=["0.0.0.0/0"]), False, False, False),
        (NetworkPolicy.of(deny_out=["0.0.0.0/0", "::/0", INTERNET]), False, False, False),
        (NetworkPolicy.of(deny_out=[INTERNET]), False, True, True),
        (NetworkPolicy.of(allow_out=[INTERNET]), True, True, True),
        (NetworkPolicy.of(allow_out=[INTERNET], deny_out=["0.0.0.0/0"]), True, False, False),
        (NetworkPolicy.of(allow_out=[INTERNET], deny_out=[INTERNET]), True, True, True),
        (NetworkPolicy.of(allow_out=[INTERNET], internet=False), True, False, False),
        (NetworkPolicy.of(allow_out=[INTERNET, RESOLVER], internet=False), True, False, True),
        (NetworkPolicy.of(allow_out=["203.0.113.0/24"], deny_out=[SECOND]), True, True, True),
        (NetworkPolicy.of(allow_out=["0.0.0.0/0", SECOND], internet=False), True, True, True),
        (NetworkPolicy.of(deny_out=["203.0.113.2/31", "203.0.113.0/24"]), False, False, True),
        (NetworkPolicy.of(allow_out=["::/0"], internet=False), False, False, False),
    ],
    ids=str,
)
async def test_precedence(world: World, policy: NetworkPolicy, first: bool, second: bool, names: bool) -> None:
    # From another policy to this one in one change, and once more to the same.
    await world.pool.set_egress(world.a, Egress.of(NetworkPolicy.of(allow_out=["8.0.0.0/8"], deny_out=["9.9.9.9"])))
    for _ in range(2):
        await world.pool.set_egress(world.a, Egress.of(policy))
    found = [await world.in_a.reaches(address) for address in (INTERNET, SECOND)]
    assert [*found, await world.in_a.reaches(RESOLVER, 53)] == [first, second, names]
    assert await world.in_b.reaches(SECOND)
    assert await world.on_host.reaches(world.b.address)


async def test_a_change_leaves_no_gap(world: World) -> None:
    """Whatever is allowed before and after a change always passes, and whatever is denied before and after never."""
    policies = [
        NetworkPolicy.of(internet=False, allow_out=[INTERNET]),
        NetworkPolicy.of(deny_out=[SECOND]),
        NetworkPolicy.of(allow_out=[INTERNET], deny_out=["203.0.113.0/24", "9.0.0.0/8"]),
        NetworkPolicy.of(allow_out=[INTERNET], deny_out=["0.0.0.0/0", SECOND]),
    ]
    await world.pool.set_egress(world.a, Egress.of(policies[0]))
    drip = spawn(world.in_a.do("drip", host=[INTERNET, SECOND], port=PORT, count=400), name="drip")
    changes = 0
    while not drip.done():
        changes += 1
        await world.pool.set_egress(world.a, Egress.of(policies[changes % len(policies)]))
    seen = {text for text, _ in await world.in_internet.do("seen")}
    assert changes >= 8
    assert [text for text in seen if text.startswith(SECOND)] == []
    assert {f"{INTERNET} {n}" for n in range(400)} <= seen


async def test_a_denied_peer_is_cut_off_in_both_directions(world: World) -> None:
    await world.in_a.do("open", host=INTERNET, port=PORT, name="denied")
    await world.in_a.do("open", host=SECOND, port=PORT, name="allowed")
    await world.pool.set_egress(world.a, Egress.of(NetworkPolicy.of(deny_out=[INTERNET])))
    assert str(await world.in_a.do("say", name="denied", text="x")).startswith("refused")
    assert await world.in_a.do("say", name="allowed", text="still") == "still"


async def test_a_sandbox_without_internet_never_had_it(world: World, start_python: Callable[..., Any]) -> None:
    slot = await world.pool.acquire(Egress(internet=False))
    inside = Probe(start_python(PROBE, "ip", "netns", "exec", slot.namespace.name))
    assert not await inside.reaches(INTERNET)
    assert not await inside.reaches(OPENED)


async def test_connections_of_one_sandbox_are_bounded(world: World) -> None:
    assert await world.in_a.do("many", host=INTERNET, port=PORT, count=60) == 40
    assert await world.in_b.reaches(INTERNET)


async def test_a_released_slot_leaves_no_tracked_connection(world: World) -> None:
    await world.in_a.do("many", host=INTERNET, port=PORT, count=30)
    world.pool.release(world.a)
    await world.pool.settle()
    assert not world.a.netns.exists()
    assert await asyncio.to_thread(conntrack.forget_blocking, world.a.namespace.sandbox_ip) == 0


async def test_a_new_daemon_takes_over_without_a_gap(world: World, instance: Instance) -> None:
    await world.in_a.do("open", host=INTERNET, port=PORT, name="c")
    await world.pool.close()
    second = SlotPool(instance, world.pool.config, ready_target=1)
    try:
        kept = await second.start({world.a.index: Egress()})
        assert set(kept) == {world.a.index}
        assert await world.in_a.do("say", name="c", text="still") == "still"
        assert not world.b.netns.exists()
        await second.set_egress(kept[world.a.index], Egress(internet=False))
        assert not await world.in_a.reaches(INTERNET)
    finally:
        await second.remove_all()
