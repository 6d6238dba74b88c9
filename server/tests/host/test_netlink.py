"""What the route socket tells of this machine."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address

import pytest

from atolld.host.netlink import Netlink, host_networks, link_exists, read_uplink


async def test_the_hosts_networks_hold_its_loopback_and_no_default_route() -> None:
    networks = await asyncio.to_thread(host_networks)
    assert any(IPv4Address("127.0.0.1") in network for network in networks)
    assert all(network.prefixlen > 0 for network in networks)


async def test_the_uplink_is_an_interface_that_exists() -> None:
    uplink = await asyncio.to_thread(read_uplink)
    if uplink is None:
        pytest.skip("this machine has no default route")
    name, mtu = uplink
    assert link_exists(name)
    assert 576 <= mtu <= 65535


def test_an_interface_that_is_not_there() -> None:
    with Netlink() as netlink:
        with pytest.raises(OSError, match="nosuchif"):
            netlink.index_of("nosuchif")
    assert not link_exists("nosuchif")


@pytest.mark.real
def test_deleting_what_is_gone_is_success() -> None:
    with Netlink() as netlink:
        netlink.delete_link("nosuchif")
