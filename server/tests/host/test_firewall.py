"""The table in the kernel follows what it is told, whatever others do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.host import libnftables
from atolld.host.firewall import Firewall
from atolld.host.instance import Instance
from atolld.host.nftables import Egress, FirewallConfig, SlotRules

pytestmark = pytest.mark.real

CONFIG = FirewallConfig(IPv4Network("198.19.80.0/28"))
OFF = SlotRules(IPv4Address("198.19.80.2"), Egress(internet=False))
DENY = SlotRules(IPv4Address("198.19.80.6"), Egress(deny=(IPv4Network("8.8.8.0/24"),)))


def table(instance: Instance) -> str:
    return libnftables.run_blocking(f"list table inet {instance.name}")


def exists(instance: Instance) -> bool:
    return f"table inet {instance.name}\n" in libnftables.run_blocking("list tables")


async def test_rules_come_and_go_with_their_slots(instance: Instance, clean: None) -> None:
    firewall = Firewall(instance, CONFIG)
    await firewall.replace({0: OFF})
    await firewall.put(1, DENY)
    shown = table(instance)
    assert "198.19.80.2 }" in shown
    assert "198.19.80.6 . 8.8.8.0/24" in shown
    await firewall.put(0, None)
    await firewall.put(1, None)
    shown = table(instance)
    assert "8.8.8.0/24" not in shown
    for _ in range(2):
        await firewall.remove()
    assert not exists(instance)


async def test_a_table_somebody_removed_is_written_again_whole(instance: Instance, clean: None) -> None:
    firewall = Firewall(instance, CONFIG)
    await firewall.replace({0: OFF})
    assert not await firewall.ensure()
    libnftables.run_blocking(f"delete table inet {instance.name}")
    await firewall.put(1, DENY)
    assert "8.8.8.0/24" in table(instance)
    assert "198.19.80.2 }" in table(instance)
    libnftables.run_blocking(f"delete table inet {instance.name}")
    assert await firewall.ensure()
    assert "8.8.8.0/24" in table(instance)
    await firewall.remove()


async def test_the_watch_closes_the_gap_by_itself(
    instance: Instance, clean: None, eventually: Callable[..., Any]
) -> None:
    firewall = Firewall(instance, CONFIG)
    await firewall.replace({0: OFF})
    watch = spawn(firewall.watch(), name="watch")
    for _ in range(2):
        await asyncio.sleep(0.05)
        libnftables.run_blocking(f"delete table inet {instance.name}")
        await eventually(lambda: exists(instance))
    assert "198.19.80.2 }" in table(instance)
    await cancel_and_wait(watch)
    await firewall.remove()


async def test_a_refused_transaction_changes_nothing(instance: Instance, clean: None) -> None:
    firewall = Firewall(instance, CONFIG)
    await firewall.replace({0: OFF})
    before = table(instance)
    with pytest.raises(libnftables.NftError, match="No such file"):
        libnftables.run_blocking(
            f"delete element inet {instance.name} offline {{ 198.19.80.2 }}\n"
            f"add element inet {instance.name} nope {{ 1.1.1.1 }}\n"
        )
    assert table(instance) == before
    await firewall.remove()


async def test_many_changes_at_once_all_arrive(instance: Instance, clean: None) -> None:
    firewall = Firewall(instance, FirewallConfig(IPv4Network("198.19.80.0/24")))
    await firewall.replace({})
    addresses = [IPv4Address(f"198.19.80.{4 * n + 2}") for n in range(60)]
    await asyncio.gather(*(firewall.put(n, SlotRules(a, Egress(internet=False))) for n, a in enumerate(addresses)))
    listed = libnftables.run_blocking(f"list set inet {instance.name} offline")
    assert all(str(address) in listed for address in addresses)
    await firewall.remove()
