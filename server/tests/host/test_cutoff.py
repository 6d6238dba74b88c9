"""An interface that sends nothing on, until it does again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest

from atolld.host import netns
from atolld.host.addresses import slot_addresses
from atolld.host.cutoff import cut_off, reconnect
from atolld.host.instance import Instance

POOL = IPv4Network("198.19.84.0/24")


def test_an_interface_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        cut_off("nosuchif")
    reconnect("nosuchif")


@pytest.fixture
def slot(instance: Instance, clean: None) -> Iterator[netns.Namespace]:
    namespace = asyncio.run(netns.create(instance, slot_addresses(POOL, 3)))
    yield namespace
    asyncio.run(netns.destroy(namespace))


def carried(interface: str) -> int:
    with open(f"/sys/class/net/{interface}/statistics/tx_packets") as file:
        return int(file.read())


@pytest.mark.real
def test_nothing_passes_until_it_is_reconnected(slot: netns.Namespace) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

        def passes() -> bool:
            before = carried(slot.host_interface)
            sender.sendto(b"x", (str(slot.sandbox_ip), 9))
            return carried(slot.host_interface) > before

        assert passes()
        reconnect(slot.host_interface)
        for _ in range(2):
            cut_off(slot.host_interface)
            cut_off(slot.host_interface)
            assert not passes()
            reconnect(slot.host_interface)
            reconnect(slot.host_interface)
            assert passes()
