"""A daemon killed at any moment: the next one finds all that was left, whole or half made, and removes it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from atolld.host import netns
from atolld.host.cgroup_layout import read_layout
from atolld.host.cgroups import Cgroups
from atolld.host.instance import Instance
from atolld.host.layerpool import LayerPool
from atolld.host.layers import Layers
from atolld.host.mounts import read_mounts
from atolld.host.nftables import FirewallConfig
from atolld.host.rootfs import RootFilesystems
from atolld.host.slots import SlotPool

SUBNET = "198.19.112.0/24"

# Builds up and takes down without end, several at once, so that a kill meets every step sooner or later.
DAEMON = """
import asyncio, itertools
from ipaddress import IPv4Network
from pathlib import Path
from atolld.core.sandbox import Resources
from atolld.host.cgroup_layout import read_layout
from atolld.host.cgroups import CgroupLimits, Cgroups
from atolld.host.instance import Instance
from atolld.host.layers import Layers
from atolld.host.layerpool import LayerPool
from atolld.host.mounts import read_mounts
from atolld.host.nftables import Egress, FirewallConfig
from atolld.host.rootfs import RootFilesystems
from atolld.host.slots import SlotPool

async def main():
    instance = Instance.named({name!r}, state_dir=Path({state!r}), run_dir=Path({run!r}))
    slots = SlotPool(instance, FirewallConfig(IPv4Network({subnet!r})), ready_target=2)
    layers, roots = Layers(instance), RootFilesystems(instance)
    cgroups = Cgroups(instance, read_layout(read_mounts()))
    pool = LayerPool(layers, disk_mib=32, ready_target=2)
    cgroups.prepare(); roots.prepare()
    await slots.start(); await pool.start([])
    numbers = itertools.count()
    async def worker():
        while True:
            id = f"s{{next(numbers)}}"
            slot = await slots.acquire(Egress(internet=False))
            layer = await pool.acquire(id, 32)
            await roots.mount(id, [Path({lower!r})], layer)
            cgroups.create(id, CgroupLimits.of(Resources()))
            (layer.upper / "data").write_bytes(b"x" * 100000)
            if next(numbers) % 3 == 0:
                continue
            await cgroups.destroy(id); await roots.unmount(id); await layers.destroy(layer); slots.release(slot)
            print("round", flush=True)
    await asyncio.gather(*(worker() for _ in range(3)))

asyncio.run(main())
"""


@pytest.mark.real
@pytest.mark.parametrize("seed", range(5))
async def test_what_a_killed_daemon_leaves_is_removed_by_the_next(
    instance: Instance, clean: None, tmp_path: Path, start_python: Callable[..., Any], seed: int
) -> None:
    lower = tmp_path / "lower"
    await asyncio.to_thread(lower.mkdir)
    names = {"name": instance.name, "state": str(instance.state_dir), "run": str(instance.run_dir)}
    daemon = start_python(DAEMON.format(**names, subnet=SUBNET, lower=str(lower)))
    assert await asyncio.to_thread(daemon.line) == "round"
    await asyncio.sleep(random.Random(seed).uniform(0.01, 0.3))
    assert daemon.popen.poll() is None
    await asyncio.to_thread(daemon.end)

    slots = SlotPool(instance, FirewallConfig(IPv4Network(SUBNET)), ready_target=1)
    layers, roots = Layers(instance), RootFilesystems(instance)
    cgroups = Cgroups(instance, read_layout(read_mounts()))
    assert netns.list_owned(instance)
    for id in cgroups.list_owned():
        await cgroups.destroy(id)
    for id in roots.list_owned():
        await roots.unmount(id)
    pool = LayerPool(layers, disk_mib=32, ready_target=0)
    await pool.start(keep=[])
    await slots.start()
    assert layers.list_owned() == []
    assert roots.list_owned() == []
    assert cgroups.list_owned() == set()
    await slots.remove_all()
    await cgroups.remove_all()
    await asyncio.to_thread(layers.remove_all)
    await asyncio.to_thread(roots.remove_all)
