"""One namespace: what is in it, and that it goes away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from atolld.host import netns
from atolld.host.addresses import slot_addresses
from atolld.host.instance import Instance

POOL = IPv4Network("198.19.0.0/24")


def test_names_follow_from_the_slot() -> None:
    namespace = netns.describe(Instance.named("at"), slot_addresses(POOL, 7))
    assert (namespace.name, namespace.host_interface) == ("at-7", "at-7")
    assert namespace.path == Path("/run/netns/at-7")
    assert (str(namespace.host_ip), str(namespace.sandbox_ip)) == ("198.19.0.29", "198.19.0.30")


@pytest.mark.parametrize(
    ("index", "host", "guest"),
    [(0, "02:a7:00:00:00:01", "02:a7:00:00:00:02"), (4095, "02:a7:00:0f:ff:01", "02:a7:00:0f:ff:02")],
)
def test_mac_addresses_are_local_and_distinct(index: int, host: str, guest: str) -> None:
    assert netns.macs(index) == (host, guest)


def shell(command: str, *prefix: str) -> str:
    return subprocess.run([*prefix, "sh", "-c", command], capture_output=True, text=True, check=True).stdout


def inside(name: str, command: str) -> str:
    return shell(command, "ip", "netns", "exec", name)


def own_network() -> str:
    return os.readlink("/proc/self/ns/net")


@pytest.mark.real
async def test_a_namespace_is_complete_and_vanishes(instance: Instance, clean: None) -> None:
    netns.prepare_directory()
    threads = threading.active_count()
    namespace = await netns.create(instance, slot_addresses(POOL, 3), mtu=1380)
    try:
        assert netns.list_owned(instance) == {3}
        shown = inside(namespace.name, "ip -o link; ip -o addr; ip route; ip neigh; cat /proc/sys/net/ipv6/conf/all/*6")
        for expected in (
            "lo: <LOOPBACK,UP",
            "mtu 1380",
            "inet 198.19.0.14/30",
            "default via 198.19.0.13",
            "198.19.0.13 dev eth0 lladdr 02:a7:00:00:03:01 PERMANENT",
        ):
            assert expected in shown
        assert "inet6" not in shown
        outside = shell(f"ip -o addr show {namespace.name}; ip neigh show dev {namespace.name}")
        assert "inet 198.19.0.13/30" in outside
        assert "198.19.0.14 lladdr 02:a7:00:00:03:02 PERMANENT" in outside
        assert "inet6" not in outside
    finally:
        await netns.destroy(namespace)
    await netns.destroy(namespace)
    assert netns.list_owned(instance) == set()
    assert threading.active_count() <= threads + 1


@pytest.mark.real
async def test_a_leftover_of_the_same_name_is_replaced(instance: Instance, clean: None) -> None:
    netns.prepare_directory()
    addresses = slot_addresses(POOL, 1)
    await netns.create(instance, addresses)
    namespace = await netns.create(instance, addresses)
    assert "eth0" in inside(namespace.name, "ip -o link")
    await netns.destroy(namespace)


@pytest.mark.real
async def test_a_file_without_a_namespace_is_a_leftover_too(instance: Instance, clean: None) -> None:
    netns.prepare_directory()
    namespace = netns.describe(instance, slot_addresses(POOL, 2))
    namespace.path.touch()
    assert netns.list_owned(instance) == {2}
    await netns.destroy(namespace)
    assert not namespace.path.exists()


@pytest.mark.real
async def test_a_process_that_stays_inside_is_cut_off(
    instance: Instance, clean: None, start_python: Callable[..., Any]
) -> None:
    netns.prepare_directory()
    namespace = await netns.create(instance, slot_addresses(POOL, 5))
    stuck = start_python("print('in'); input()", "ip", "netns", "exec", namespace.name)
    assert stuck.line() == "in"
    await netns.destroy(namespace)
    assert netns.list_owned(instance) == set()
    assert stuck.popen.poll() is None


@pytest.mark.real
async def test_a_cancelled_build_leaves_nothing(
    instance: Instance, clean: None, eventually: Callable[..., Any]
) -> None:
    netns.prepare_directory()
    task = asyncio.get_running_loop().create_task(netns.create(instance, slot_addresses(POOL, 6)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: netns.list_owned(instance) == set())


@pytest.mark.real
async def test_a_failing_build_leaves_nothing_and_the_thread_its_own_network(
    instance: Instance, clean: None, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    netns.prepare_directory()
    before = own_network()

    def refuse(interface: str) -> None:
        raise PermissionError(1, "refused", interface)

    monkeypatch.setattr(netns, "_harden_host_end", refuse)
    with pytest.raises(PermissionError):
        await netns.create(instance, slot_addresses(POOL, 8))
    await eventually(lambda: netns.list_owned(instance) == set())
    assert own_network() == before


@pytest.mark.real
async def test_many_at_once(instance: Instance, clean: None) -> None:
    netns.prepare_directory()
    made = await asyncio.gather(*(netns.create(instance, slot_addresses(POOL, index)) for index in range(40)))
    assert netns.list_owned(instance) == set(range(40))
    await asyncio.gather(*map(netns.destroy, made))
