"""All of the host's networking, opened and taken down together."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from atolld.host import libnftables
from atolld.host.instance import Instance
from atolld.host.network import NetworkSettings, connection_limit, open_network
from atolld.host.nftables import Egress
from atolld.host.subnets import SubnetRegistry


def tables() -> str:
    return libnftables.run_blocking("list tables")


@pytest.mark.parametrize(
    ("conntrack_max", "max_slots", "expected"),
    [(262144, 16, 4096), (262144, 64, 2048), (262144, 4088, 256), (65536, 64, 512), (8192, 1, 4096), (1, 1, 256)],
)
def test_all_sandboxes_together_leave_the_host_room_for_connections(
    conntrack_max: int, max_slots: int, expected: int
) -> None:
    assert connection_limit(conntrack_max, max_slots) == expected


@pytest.mark.real
async def test_open_start_close_and_come_back(instance: Instance, clean: None, tmp_path: Path) -> None:
    registry = SubnetRegistry()
    settings = NetworkSettings(ready_slots=1, dns_servers=(IPv4Address("9.9.9.9"),))
    network = await open_network(instance, settings, registry)
    assert network.dns_servers == (IPv4Address("9.9.9.9"),)
    await network.start()
    slot = await network.slots.acquire()
    await network.close()
    assert slot.netns.exists()
    assert instance.name in tables()
    again = await open_network(instance, settings, registry)
    assert (await again.start({slot.index: Egress()}))[slot.index].address == slot.address
    for _ in range(2):
        await again.remove_all()
    assert instance.name not in tables()


@pytest.mark.real
async def test_two_instances_side_by_side(instance: Instance, clean: None) -> None:
    other = Instance.named(f"{instance.name}b")
    one = await open_network(instance, NetworkSettings(ready_slots=1))
    two = await open_network(other, NetworkSettings(ready_slots=1))
    await one.start()
    await two.start()
    try:
        a, b = await one.slots.acquire(), await two.slots.acquire()
        pools = [network.slots.config.pool for network in (one, two)]
        assert not pools[0].overlaps(pools[1])
        assert IPv4Address(a.address) in pools[0]
        assert IPv4Address(b.address) in pools[1]
        await one.remove_all()
        assert b.netns.exists()
        assert other.name in tables()
    finally:
        await one.remove_all()
        await two.remove_all()


@pytest.mark.real
async def test_a_range_by_hand(instance: Instance, clean: None) -> None:
    settings = NetworkSettings(subnet=IPv4Network("198.19.96.0/28"), ready_slots=1)
    network = await open_network(instance, settings)
    await network.start()
    assert (await network.slots.acquire()).address.startswith("198.19.96.")
    await network.remove_all()
