"""Which addresses the sandboxes get: a subnet that collides with nothing, cut into one /30 per slot.

A /30 holds the host's end (`.1` of it) and the sandbox's end (`.2`). The range for a whole instance is a /18 (4096
slots) from ranges that few networks use, and is written into a registry shared by all instances of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from atolld.foundation.errors import Capacity, InvalidArgument

SLOT_PREFIX = 30
DEFAULT_PREFIX = 18
MAX_SLOTS = 10_000

# Tried in this order. The upper end of 10/8 and the middle of 100.64/10 are rarely routed; 198.18/15 is set aside for
# benchmarks and never on the internet. All of them are closed to sandboxes, so one sandbox's address is to another
# just one more address it may not reach.
CANDIDATES = (
    IPv4Network("10.192.0.0/11"),
    IPv4Network("100.96.0.0/12"),
    IPv4Network("172.24.0.0/14"),
    IPv4Network("198.18.0.0/15"),
)


@dataclass(frozen=True, slots=True)
class SlotAddresses:
    """The two ends of slot `index`."""

    index: int
    network: IPv4Network
    host: IPv4Address
    sandbox: IPv4Address


def check_pool(pool: IPv4Network) -> IPv4Network:
    """`pool` as the range of an instance.

    Raises InvalidArgument when it is smaller than one slot, larger than /16 or not in a private range: a public one
    would hide a part of the internet from the host.
    """
    if not 16 <= pool.prefixlen <= SLOT_PREFIX:
        raise InvalidArgument(f"subnet {pool} must have a prefix from /16 to /{SLOT_PREFIX}")
    private = (*CANDIDATES, *map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
    if not any(pool.subnet_of(whole) for whole in private):
        raise InvalidArgument(f"subnet {pool} is not private; choose one in 10.0.0.0/8 or 172.16.0.0/12")
    return pool


def slot_count(pool: IPv4Network) -> int:
    """How many slots `pool` holds."""
    return min(MAX_SLOTS, 1 << (SLOT_PREFIX - pool.prefixlen))


def slot_addresses(pool: IPv4Network, index: int) -> SlotAddresses:
    """The addresses of slot `index`. Raises InvalidArgument when the pool has no such slot."""
    if not 0 <= index < slot_count(pool):
        raise InvalidArgument(f"slot {index} does not exist: {pool} has {slot_count(pool)}")
    base = int(pool.network_address) + 4 * index
    return SlotAddresses(
        index, IPv4Network((base, SLOT_PREFIX)), host=IPv4Address(base + 1), sandbox=IPv4Address(base + 2)
    )


def choose_pool(taken: Iterable[IPv4Network], prefix: int = DEFAULT_PREFIX) -> IPv4Network:
    """The first candidate range of `prefix` bits that overlaps none of `taken`.

    `taken`: the host's addresses, routes and name servers, and other instances' ranges. The default route takes
    everything and is left out. Raises Capacity when every candidate overlaps.
    """
    used = [network for network in taken if network.prefixlen > 0]
    for network in _candidates(prefix):
        if not any(network.overlaps(other) for other in used):
            return network
    raise Capacity(
        f"no free /{prefix} for sandbox addresses: the host's routes cover all of "
        f"{', '.join(map(str, CANDIDATES))}; set a subnet that is free by hand"
    )


def _candidates(prefix: int) -> Iterator[IPv4Network]:
    for whole in CANDIDATES:
        if prefix >= whole.prefixlen:
            yield from whole.subnets(new_prefix=prefix)
