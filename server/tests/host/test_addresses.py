"""Address arithmetic and the choice of a range."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from atolld.foundation.errors import Capacity, InvalidArgument
from atolld.host.addresses import CANDIDATES, check_pool, choose_pool, slot_addresses, slot_count

POOL = IPv4Network("10.192.0.0/18")


@pytest.mark.parametrize(
    ("index", "host", "sandbox"),
    [(0, "10.192.0.1", "10.192.0.2"), (1, "10.192.0.5", "10.192.0.6"), (4095, "10.192.63.253", "10.192.63.254")],
)
def test_each_slot_has_its_own_pair(index: int, host: str, sandbox: str) -> None:
    addresses = slot_addresses(POOL, index)
    assert (str(addresses.host), str(addresses.sandbox)) == (host, sandbox)
    assert addresses.host in addresses.network
    assert addresses.sandbox in addresses.network


def test_no_two_slots_share_an_address() -> None:
    networks = [slot_addresses(POOL, index).network for index in range(slot_count(POOL))]
    assert len(set(networks)) == 4096
    assert all(network.subnet_of(POOL) for network in networks)


@pytest.mark.parametrize("index", [-1, 4096])
def test_slots_outside_the_pool_are_refused(index: int) -> None:
    with pytest.raises(InvalidArgument):
        slot_addresses(POOL, index)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "10.192.0.0/18"),
        (["0.0.0.0/0"], "10.192.0.0/18"),
        (["10.192.0.7/32"], "10.192.64.0/18"),
        (["10.192.0.0/17"], "10.192.128.0/18"),
        (["10.0.0.0/8"], "100.96.0.0/18"),
        (["10.0.0.0/8", "100.64.0.0/10"], "172.24.0.0/18"),
        (["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12"], "198.18.0.0/18"),
    ],
)
def test_the_first_free_range_is_chosen(taken: list[str], expected: str) -> None:
    assert choose_pool(map(IPv4Network, taken)) == IPv4Network(expected)


def test_a_host_that_routes_everything_is_told_what_to_set() -> None:
    with pytest.raises(Capacity, match="set a subnet"):
        choose_pool(CANDIDATES)


@pytest.mark.parametrize("pool", ["8.8.0.0/18", "10.0.0.0/8", "10.0.0.0/31", "0.0.0.0/16", "169.254.0.0/16"])
def test_ranges_that_hide_the_internet_or_hold_nothing_are_refused(pool: str) -> None:
    with pytest.raises(InvalidArgument):
        check_pool(IPv4Network(pool))


@pytest.mark.parametrize("pool", ["10.5.0.0/16", "172.20.1.0/24", "192.168.7.0/30", "198.18.0.0/16", "100.64.0.0/20"])
def test_private_ranges_pass(pool: str) -> None:
    assert check_pool(IPv4Network(pool)) == IPv4Network(pool)
