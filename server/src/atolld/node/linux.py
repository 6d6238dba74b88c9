"""The `Machine` of a real Linux host: slots, writable layers, overlays and control groups put together.

An execution's layer, overlay and group bear its id; only the network slot has a number of its own, so id and number are
all that has to be stored with the sandbox.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.foundation.aio import CleanupStack, to_the_end
from atolld.foundation.errors import Capacity, FailedPrecondition, NotFound
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.foundation.units import MIB
from atolld.host.cgroups import CgroupLimits
from atolld.host.layers import Layer, thaw
from atolld.host.nftables import Egress
from atolld.host.saves import DISK
from atolld.host.slots import Slot
from atolld.images.layers import LayerStore
from atolld.images.sealing import Upper
from atolld.images.tree import Found, Refused, directory_in, take_attributes
from atolld.node.linux_saves import LinuxSaves
from atolld.node.linux_seals import seal_into
from atolld.node.machine import Consumption, Prepared
from atolld.node.mechanisms import Mechanisms
from atolld.runtime.driver import Overhead

log = logging.getLogger("atolld.node.linux")

LOG_NAME = "agent.log"


class LinuxMachine(LinuxSaves):
    """Implements `atolld.node.machine.Machine`."""

    def __init__(self, mechanisms: Mechanisms) -> None:
        super().__init__(mechanisms)
        self._used_slots: dict[SandboxId, Slot] = {}
        self._adopted: dict[SandboxId, tuple[int, Egress]] = {}

    async def open(self) -> None:
        """See `Machine.open`."""
        self._host.cgroups.prepare()
        await asyncio.to_thread(self._host.store.open)
        self._host.layers.prepare()
        self._host.roots.prepare()

    async def prepare(
        self,
        id: SandboxId,
        layers: tuple[Path, ...],
        resources: Resources,
        overhead: Overhead,
        network: NetworkPolicy,
        *,
        source: SnapshotId | None = None,
        formerly: Mapping[str, object] | None = None,
    ) -> Prepared:
        """See `Machine.prepare`."""
        host = self._host
        async with CleanupStack() as undo:
            wanted = _slot_of(formerly or {})
            slot = await host.network.slots.acquire(Egress.of(network), wanted)
            undo.push("network slot", lambda: host.network.slots.release(slot))
            layer = await self._new_layer(id, resources, source)
            undo.push("writable layer", lambda: host.layers.destroy(layer))
            if source is None:
                await asyncio.to_thread(_begin, layer.upper, layers[::-1], host.network.dns_servers)
            # overlayfs names its lower layers from the top.
            await host.roots.mount(id, layers[::-1], layer)
            undo.push("root file system", lambda: host.roots.unmount(id))
            self._bounds(undo, id, resources, overhead)
            undo.keep()
        if wanted is not None:
            host.network.slots.unpark(wanted)
        self._used_slots[id] = slot
        return self._prepared(id, slot, layer)

    async def prepare_shell(self, id: SandboxId, resources: Resources, overhead: Overhead) -> Prepared:
        """See `Machine.prepare_shell`."""
        host = self._host
        async with CleanupStack() as undo:
            slot = await host.network.slots.acquire(Egress())
            undo.push("network slot", lambda: host.network.slots.release(slot))
            self._bounds(undo, id, resources, overhead)
            undo.push("log", lambda: host.own_logs.remove(id))
            host.own_logs.create(id)
            undo.keep()
        self._used_slots[id] = slot
        return self._prepared(id, slot, host.layers.get(id))

    async def furnish(
        self,
        shell: Prepared,
        layers: tuple[Path, ...],
        resources: Resources,
        overhead: Overhead,
        network: NetworkPolicy,
        *,
        source: SnapshotId | None = None,
        formerly: Mapping[str, object] | None = None,
    ) -> None:
        """See `Machine.furnish`."""
        await self.set_network(shell, network)
        await self.set_resources(shell, resources, overhead)
        layer = await self._new_layer(shell.id, resources, source)
        if source is None:
            await asyncio.to_thread(_begin, layer.upper, layers[::-1], self._host.network.dns_servers)
        await self._host.roots.mount(shell.id, layers[::-1], layer)
        self.unpark(formerly or {})

    async def adopt(self, id: SandboxId, record: Mapping[str, object], network: NetworkPolicy) -> Prepared:
        """See `Machine.adopt`. The slot itself is taken over by `sweep`, with all others at once."""
        index = _slot_of(record)
        if index is None:
            raise FailedPrecondition(f"the stored surroundings of {id} are damaged: {record!r}")
        execution = SandboxId(str(record.get("execution", id)))
        slot = self._host.network.slots.describe(index)
        layer = self._host.layers.get(execution)
        prepared = self._prepared(execution, slot, layer)
        for what, path in (
            ("network namespace", slot.netns),
            ("root file system", prepared.rootfs),
            ("disk", layer.log),
        ):
            if not await asyncio.to_thread(path.exists):
                raise FailedPrecondition(f"the {what} of {id} is gone")
        # A daemon that was killed in the middle of a save left it frozen.
        await asyncio.to_thread(thaw, layer)
        self._adopted[execution] = (index, Egress.of(network))
        return prepared

    def park(self, record: Mapping[str, object]) -> None:
        """See `Machine.park`."""
        if (index := _slot_of(record)) is not None:
            self._host.network.slots.park(index)

    def unpark(self, record: Mapping[str, object]) -> None:
        """See `Machine.unpark`."""
        if (index := _slot_of(record)) is not None:
            self._host.network.slots.unpark(index)

    async def seal(
        self,
        prepared: Prepared,
        layers: tuple[Path, ...],
        digest: str,
        manifest: Mapping[str, object],
        forbidden: Sequence[str] = (),
    ) -> bool:
        """See `Machine.seal`."""
        store = LayerStore(self._host.saves.templates.directory.parent)
        upper = Upper(self._host.layers.get(prepared.id).upper, prepared.rootfs, layers[::-1])
        stop = threading.Event()
        work = asyncio.to_thread(
            seal_into, store, upper, digest, manifest, forbidden=forbidden, clock=self._host.clock, stop=stop
        )
        return await to_the_end(work, name=f"seal-files-{prepared.id}", on_cancel=stop.set)

    async def release(self, prepared: Prepared) -> None:
        """See `Machine.release`."""
        id = prepared.id
        layer = self._host.layers.get(id)
        async with CleanupStack() as undo:
            # Last first: processes, then the mount they used, then what the mount used. What the sandbox wrote last is
            # dropped before the unmount, which would else write it all out for nobody.
            slot = self._used_slots.pop(id, None)
            if slot is not None:
                undo.push("network slot", lambda: self._host.network.slots.release(slot))
            undo.push("writable layer", lambda: self._host.layers.destroy(layer))
            undo.push("root file system", lambda: self._host.roots.unmount(id))
            undo.push("log", lambda: self._host.own_logs.remove(id))
            undo.push("unwritten data", lambda: asyncio.to_thread(self._host.layers.abandon, layer))
            undo.push("driver directory", lambda: self._remove_directory(id))
            undo.push("control group", lambda: self._host.cgroups.destroy(id))

    async def sweep(self, keep: frozenset[SandboxId]) -> None:
        """See `Machine.sweep`."""
        host = self._host
        for group in host.cgroups.list_owned() - keep:
            await host.cgroups.destroy(group)
        for root in host.roots.list_owned():
            if root not in keep:
                await asyncio.to_thread(host.layers.abandon, host.layers.get(root))
                await host.roots.unmount(root)
        for name in await asyncio.to_thread(_names, host.roots.directory):
            if name not in keep:
                host.own_logs.remove(name)
                await asyncio.to_thread(shutil.rmtree, host.roots.directory / name, True)
        await host.layer_pool.start(keep)
        wanted = {index: egress for id, (index, egress) in self._adopted.items() if id in keep}
        slots = await host.network.start(wanted)
        self._used_slots |= {id: slots[index] for id, (index, _) in self._adopted.items() if id in keep}
        self._adopted.clear()

    async def consumption(self, prepared: Prepared) -> Consumption:
        """See `Machine.consumption`."""
        layer = self._host.layers.get(prepared.id)
        try:
            group = self._host.cgroups.stats(prepared.id)
            disk = self._host.layers.usage(layer)
        except FileNotFoundError as error:
            raise NotFound(f"the surroundings of {prepared.id} are gone") from error
        return Consumption(
            cpu_usec=group.cpu_usec,
            memory_bytes=group.memory_bytes,
            memory_cache_bytes=0,
            disk_used_bytes=disk.used_bytes,
            disk_total_bytes=disk.limit_bytes,
            out_of_memory_kills=group.oom_kills,
        )

    async def set_network(self, prepared: Prepared, policy: NetworkPolicy) -> None:
        """See `Machine.set_network`."""
        slot = self._used_slots.get(prepared.id)
        if slot is None:
            raise NotFound(f"the surroundings of {prepared.id} are gone")
        self._used_slots[prepared.id] = await self._host.network.slots.set_egress(slot, Egress.of(policy))

    async def cut_off(self, prepared: Prepared) -> None:
        """See `Machine.cut_off`."""
        slot = self._used_slots.get(prepared.id)
        try:
            ended = 0 if slot is None else await self._host.network.slots.cut_off(slot)
        except FileNotFoundError:
            slot = None
        if slot is None:
            raise NotFound(f"the surroundings of {prepared.id} are gone")
        if ended:
            log.debug("%s may have been making %d connections, which were ended", prepared.id, ended)

    async def reconnect(self, prepared: Prepared) -> None:
        """See `Machine.reconnect`."""
        slot = self._used_slots.get(prepared.id)
        if slot is not None:
            await self._host.network.slots.reconnect(slot)

    async def set_resources(self, prepared: Prepared, resources: Resources, overhead: Overhead) -> None:
        """See `Machine.set_resources`."""
        limits = CgroupLimits.of(resources, extra_memory_mib=overhead.memory_mib, extra_pids=overhead.tasks)
        try:
            self._host.cgroups.set_limits(prepared.id, limits)
        except FileNotFoundError as error:
            raise NotFound(f"the surroundings of {prepared.id} are gone") from error
        except OSError as error:
            raise FailedPrecondition(f"the bounds of {prepared.id} cannot be changed now: {error}") from error

    def driver_directory(self, id: SandboxId) -> Path:
        """See `Machine.driver_directory`."""
        return self._host.roots.directory / id / "driver"

    def free(self) -> tuple[int, int]:
        """See `Machine.free`."""
        with open("/proc/meminfo", encoding="ascii") as file:
            available = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
        return available // 1024, self._host.store.free_bytes() // MIB

    def gauges(self) -> Mapping[str, float]:
        """See `Machine.gauges`."""
        slots = self._host.network.slots.stats
        return {
            "pool_network_slots_ready": float(slots.ready),
            "pool_network_slots_used": float(slots.in_use),
            "pool_layers_ready": float(self._host.layer_pool.ready),
        }

    async def close(self) -> None:
        """See `Machine.close`."""
        await self._host.network.close()
        await self._host.layer_pool.close()

    async def remove_all(self) -> None:
        """Remove every resource of the instance from the host, in use or not. For `stop --all`, after all ended."""
        host = self._host
        await host.cgroups.remove_all()
        for root in host.roots.list_owned():
            await host.roots.unmount(root)
        await host.layer_pool.close()
        await asyncio.to_thread(host.roots.remove_all)
        await asyncio.to_thread(host.saves.remove_all)
        await asyncio.to_thread(host.layers.remove_all)
        await asyncio.to_thread(host.store.remove)
        await asyncio.to_thread(shutil.rmtree, self._views, True)
        await host.network.remove_all()

    def _bounds(self, undo: CleanupStack, id: SandboxId, resources: Resources, overhead: Overhead) -> None:
        """The control group, and a place for the driver."""
        limits = CgroupLimits.of(resources, extra_memory_mib=overhead.memory_mib, extra_pids=overhead.tasks)
        self._host.cgroups.create(id, limits)
        undo.push("control group", lambda: self._host.cgroups.destroy(id))
        directory = self.driver_directory(id)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        undo.push("driver directory", lambda: shutil.rmtree(directory, ignore_errors=True))

    async def _new_layer(self, id: SandboxId, resources: Resources, source: SnapshotId | None) -> Layer:
        host = self._host
        try:
            if source is None:
                return await host.layer_pool.acquire(id, resources.disk_mib)
            return await host.layers.from_image(host.saves.home(source) / DISK, id)
        except FileNotFoundError as error:
            raise NotFound(f"there is no save {source} on this machine") from error
        except OSError as error:
            raise Capacity(f"no writable layer can be made: {error}") from error

    def _prepared(self, id: SandboxId, slot: Slot, layer: Layer) -> Prepared:
        own_log = self._host.own_logs.path(id)
        return Prepared(
            id=id,
            rootfs=self._host.roots.path(id),
            netns=slot.netns,
            address=slot.address,
            log=own_log if own_log.exists() else layer.log / LOG_NAME,
            directory=self.driver_directory(id),
            cgroup=self._host.cgroups.path(id),
            record={"slot": slot.index, "execution": id},
        )

    async def _remove_directory(self, id: SandboxId) -> None:
        await asyncio.to_thread(shutil.rmtree, self.driver_directory(id), True)


def _slot_of(record: Mapping[str, object]) -> int | None:
    index = record.get("slot")
    return index if isinstance(index, int) else None


def _begin(upper: Path, lower: Sequence[Path], servers: tuple[IPv4Address, ...]) -> None:
    """What a new disk has before its overlay is mounted, so that no symbolic link of a template leads it anywhere: the
    attributes of what it lies on, and the resolver's configuration. `lower`: the topmost first. Raises OSError."""
    directory = upper / "etc"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    try:
        etc = directory_in(lower, ("etc",))
    except Refused:
        # A link: the directory takes its place.
        etc = None
    if etc is not None:
        # In an overlay it is the upper directory's owner and mode that count.
        take_attributes(directory, etc)
    file = directory / "resolv.conf"
    file.write_text("".join(f"nameserver {server}\n" for server in servers), encoding="ascii")
    file.chmod(0o644)
    if etc is not None:
        _take_times(directory, etc)
    root = directory_in(lower, ())
    if root is not None:
        take_attributes(upper, root)
        _take_times(upper, root)


def _take_times(directory: Path, below: Found) -> None:
    os.utime(directory, ns=(below.status.st_mtime_ns, below.status.st_mtime_ns))


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
