"""The node of this machine, from the settings: host mechanisms, drivers, manager."""

from __future__ import annotations

import os
from dataclasses import dataclass

from atolld.core.sandbox import Resources
from atolld.daemon.settings import Settings
from atolld.foundation.clock import Clock
from atolld.foundation.errors import FailedPrecondition
from atolld.foundation.units import MIB
from atolld.host import facts, mounts
from atolld.host.cgroup_layout import read_layout
from atolld.host.cgroups import Cgroups
from atolld.host.diskstore import DiskStore, StoreChoice
from atolld.host.layerpool import LayerPool
from atolld.host.layers import Layers
from atolld.host.network import NetworkSettings, open_network
from atolld.host.ownlogs import OwnLogs
from atolld.host.rootfs import RootFilesystems
from atolld.host.saves import Saves
from atolld.host.templatelayers import TemplateLayers
from atolld.node.capacity import CapacityBook, CapacityLimits
from atolld.node.linux import LinuxMachine
from atolld.node.manager import NodeManager
from atolld.node.mechanisms import Mechanisms
from atolld.runtime.driver import Fingerprint, RuntimeDriver
from atolld.runtime.drivers.container import ContainerDriver, ContainerSettings
from atolld.runtime.drivers.gvisor import GvisorDriver, GvisorSettings


@dataclass(slots=True)
class LinuxNode:
    """The node, and what is needed to take everything of the instance off this machine."""

    node: NodeManager
    machine: LinuxMachine

    async def remove_all(self) -> None:
        """Remove every resource of the instance from the host; the database and the keys stay."""
        await self.machine.remove_all()


async def build(settings: Settings, clock: Clock) -> LinuxNode:
    """The node of this machine; claims the instance's range of addresses.

    Raises FailedPrecondition without root or without the agent, Unavailable without cgroups or libnftables, Conflict
    when another daemon has the instance's name, Capacity when no range of addresses is free.
    """
    if os.geteuid() != 0:
        raise FailedPrecondition("sandboxes need root: start atolld with sudo, or set node=fake for a demonstration")
    if not settings.agent.is_file():
        raise FailedPrecondition(f"the guest agent is missing at {settings.agent}; build it with `make agent`")
    instance = settings.identity
    instance.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    cgroups = Cgroups(instance, read_layout(mounts.read_mounts()))
    network = await open_network(instance, _network(settings))
    layers = Layers(instance)
    machine = LinuxMachine(
        Mechanisms(
            network=network,
            store=store_of(settings),
            layers=layers,
            layer_pool=LayerPool(layers, disk_mib=Resources().disk_mib, ready_target=settings.ready_layers),
            saves=saves_of(settings),
            roots=RootFilesystems(instance),
            own_logs=OwnLogs(instance),
            cgroups=cgroups,
            state_dir=instance.state_dir,
            clock=clock,
            disk_reserve_bytes=settings.disk_reserve_mib * MIB,
            archive_trust=settings.archive_trust,
        )
    )
    node = NodeManager(
        drivers=_drivers(settings, cgroups),
        machine=machine,
        capacity=CapacityBook(_limits(settings)),
        clock=clock,
        agent=settings.agent,
        parallel_launches=settings.parallel_launches or 2 * (os.cpu_count() or 1),
        ready_containers=settings.ready_containers,
    )
    return LinuxNode(node, machine)


async def fingerprints(settings: Settings) -> dict[str, Fingerprint]:
    """What each driver finds on this machine, without a daemon. Raises Unavailable without cgroups."""
    drivers = _drivers(settings, Cgroups(settings.identity, read_layout(mounts.read_mounts())))
    return {name: await driver.fingerprint() for name, driver in drivers.items()}


def store_of(settings: Settings) -> DiskStore:
    """What disks and saves lie on; opened by the machine."""
    return DiskStore(
        settings.identity,
        choice=StoreChoice(settings.disk_store),
        size_mib=settings.disk_store_mib,
        reserve_mib=settings.disk_reserve_mib,
    )


def saves_of(settings: Settings) -> Saves:
    """The saves of the instance; there once the store is open."""
    templates = TemplateLayers(settings.cache_dir / "layers", settings.identity)
    directory = settings.state / "layers" / ".saves"
    return Saves(directory, templates, verify_disk_bytes=settings.verify_disk_mib * MIB)


def _network(settings: Settings) -> NetworkSettings:
    return NetworkSettings(
        subnet=settings.subnet,
        dns_servers=settings.dns_servers,
        allow_private_cidrs=settings.allow_private_cidrs,
        ready_slots=settings.ready_slots,
        max_slots=settings.max_sandboxes,
    )


def _drivers(settings: Settings, cgroups: Cgroups) -> dict[str, RuntimeDriver]:
    gvisor = GvisorSettings(
        root=settings.run / "runsc",
        cache=settings.cache_dir,
        binary=settings.runsc_binary,
        platform=settings.runsc_platform,
    )
    container = ContainerSettings(root=settings.run / "runc", binary=settings.runc_binary)
    drivers: list[RuntimeDriver] = [GvisorDriver(gvisor, cgroups), ContainerDriver(container, cgroups)]
    return {driver.name: driver for driver in drivers}


def _limits(settings: Settings) -> CapacityLimits:
    return CapacityLimits(
        cpu_total=float(os.cpu_count() or 1),
        memory_total_mib=facts.read_memory().total // MIB,
        max_sandboxes=settings.max_sandboxes,
        cpu_overcommit=settings.cpu_overcommit,
        memory_overcommit=settings.memory_overcommit,
        memory_reserve_mib=settings.memory_reserve_mib,
        disk_reserve_mib=settings.disk_reserve_mib,
    )
