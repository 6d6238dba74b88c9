"""The host's side of all sandbox networking, put together: addresses, forwarding, firewall and the slot pool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.host import facts, netns
from atolld.host.addresses import DEFAULT_PREFIX, slot_count
from atolld.host.firewall import Firewall
from atolld.host.instance import Instance
from atolld.host.netlink import host_networks, read_uplink
from atolld.host.nftables import MAX_CONNECTIONS, Egress, FirewallConfig
from atolld.host.slots import Slot, SlotPool
from atolld.host.subnets import SubnetRegistry

log = logging.getLogger("atolld.network")

_WATCH_RETRY_S = 1.0
MIN_CONNECTIONS = 256


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What an operator may set. Each default is found from the machine.

    `subnet`: the range sandboxes get their addresses from. `dns_servers`: what sandboxes resolve names with.
    `allow_private_cidrs`: private ranges that sandboxes may reach. `max_connections`: at once, per sandbox; None: see
    `connection_limit`. `ready_slots`: kept prepared. `max_slots`: in use at once.
    """

    subnet: IPv4Network | None = None
    dns_servers: tuple[IPv4Address, ...] = ()
    allow_private_cidrs: tuple[IPv4Network, ...] = ()
    max_connections: int | None = None
    ready_slots: int = 8
    max_slots: int | None = None


class HostNetwork:
    """An instance's networking while its daemon runs; made by `open_network`."""

    def __init__(
        self, instance: Instance, pool: SlotPool, dns_servers: tuple[IPv4Address, ...], registry: SubnetRegistry
    ) -> None:
        self._instance = instance
        self._registry = registry
        self.slots = pool
        self.dns_servers = dns_servers
        self._watch: asyncio.Task[None] | None = None

    async def start(self, recovered: Mapping[int, Egress] | None = None) -> dict[int, Slot]:
        """Start the slot pool (see `SlotPool.start`) and watch over the firewall from now on."""
        slots = await self.slots.start(recovered)
        self._watch = spawn(_watch_for_ever(self.slots.firewall), name="firewall-watch")
        return slots

    async def close(self) -> None:
        """Leave sandboxes, their slots, the firewall and the range as they are, for the next daemon."""
        await cancel_and_wait(self._watch)
        await self.slots.close()

    async def remove_all(self) -> None:
        """Destroy every slot, the firewall table and the claim on the range; forwarding goes back to what it was."""
        await cancel_and_wait(self._watch)
        await self.slots.remove_all()
        await asyncio.to_thread(self._registry.release, self._instance)


async def open_network(
    instance: Instance, settings: NetworkSettings | None = None, registry: SubnetRegistry | None = None
) -> HostNetwork:
    """Claim the instance's range, turn forwarding on and make the (not yet started) slot pool.

    Raises Conflict when the range or the instance is taken, Capacity when no range is free, Unavailable when
    libnftables is missing, OSError.
    """
    settings, registry = settings or NetworkSettings(), registry or SubnetRegistry()
    dns_servers = settings.dns_servers or facts.read_dns_servers()
    subnet = await asyncio.to_thread(
        registry.claim, instance, host_networks, wanted=settings.subnet, prefix=DEFAULT_PREFIX
    )
    uplink = await asyncio.to_thread(read_uplink)
    if uplink is None:
        log.warning("the host has no default route: sandboxes will have no internet")
    limit = settings.max_connections or connection_limit(
        facts.read_conntrack_max(), settings.max_slots or slot_count(subnet)
    )
    config = FirewallConfig(subnet, dns_servers, settings.allow_private_cidrs, limit)
    pool = SlotPool(
        instance,
        config,
        mtu=uplink[1] if uplink else netns.DEFAULT_MTU,
        ready_target=settings.ready_slots,
        limit=settings.max_slots,
    )
    return HostNetwork(instance, pool, dns_servers, registry)


def connection_limit(conntrack_max: int, max_slots: int) -> int:
    """How many connections one sandbox may have, so that all of them together fill half of the kernel's table.

    A full table drops new connections of the host itself. Between 256, below which ordinary work fails, and 4096.
    """
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, conntrack_max // 2 // max_slots))


async def _watch_for_ever(firewall: Firewall) -> None:
    while True:
        try:
            await firewall.watch()
        except OSError as error:
            log.error("cannot watch over the firewall, trying again in %.0f s: %s", _WATCH_RETRY_S, error)
            await asyncio.sleep(_WATCH_RETRY_S)
