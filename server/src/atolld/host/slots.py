"""The pool of ready network slots: a namespace, its addresses and its firewall rules, made before they are needed.

A slot is used once. After its sandbox it is destroyed, its tracked connections are forgotten, and a new one is built
in the background: nothing of a tenant can reach the next. Slot numbers go round, so an address rests for as long as
possible before it is somebody else's. The number of a paused sandbox's slot can be parked: it is handed out only when
no other is left, so that the sandbox finds its old address free when it is resumed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.errors import Capacity, FailedPrecondition
from atolld.host import conntrack, cutoff, handshakes, netns
from atolld.host.addresses import slot_addresses, slot_count
from atolld.host.firewall import Firewall
from atolld.host.instance import Instance
from atolld.host.netns import Namespace
from atolld.host.nftables import Egress, FirewallConfig, SlotRules

log = logging.getLogger("atolld.slots")

_RETRY_S = 1.0
# How long a sandbox that wants its old address back waits while the slot of its last run goes; that takes 0.1 s.
_LEAVING_S = 1.0
# The kernel builds one at a time anyway; more threads only fight over its lock and the interpreter's (200 at once take
# 3.5 s unbounded).
_PARALLEL_BUILDS = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """A network slot in use by one sandbox."""

    namespace: Namespace
    egress: Egress

    @property
    def index(self) -> int:
        """The slot's number; store it with the sandbox, `SlotPool.start` needs it after a restart."""
        return self.namespace.index

    @property
    def netns(self) -> Path:
        """The namespace's file."""
        return self.namespace.path

    @property
    def address(self) -> str:
        """Where the sandbox is reached from the host."""
        return str(self.namespace.sandbox_ip)

    @property
    def gateway(self) -> str:
        """The host's end."""
        return str(self.namespace.host_ip)


@dataclass(frozen=True, slots=True)
class SlotPoolStats:
    """For metrics: slots ready, in use, being destroyed, and how many may exist."""

    ready: int
    in_use: int
    leaving: int
    limit: int


class SlotPool:
    """Network slots of one instance.

    `ready_target`: how many are kept ready. `limit`: how many may be in use at once (default: what the range holds
    less the ready ones).
    """

    def __init__(
        self,
        instance: Instance,
        config: FirewallConfig,
        *,
        mtu: int = netns.DEFAULT_MTU,
        ready_target: int = 8,
        limit: int | None = None,
    ) -> None:
        self._instance = instance
        self.config = config
        self._mtu = mtu
        room = slot_count(config.pool)
        self._ready_target = min(ready_target, max(1, room // 4))
        self._limit = min(limit or room, room - self._ready_target)
        self._count = room
        self._next = 0
        self._ready: list[Slot] = []
        self._used: dict[int, Slot] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self._building: set[int] = set()
        self._parked: set[int] = set()
        self._builds: set[asyncio.Task[Slot]] = set()
        self._waiting = 0
        self._room_to_build = asyncio.Semaphore(_PARALLEL_BUILDS)
        self._refill: asyncio.Task[None] | None = None
        self.firewall = Firewall(instance, config)
        self._open = False

    @property
    def stats(self) -> SlotPoolStats:
        return SlotPoolStats(len(self._ready), len(self._used), len(self._leaving), self._limit)

    def describe(self, index: int) -> Slot:
        """Slot `index` as its paths and addresses are, whether it exists or not; InvalidArgument past the range."""
        return Slot(self._describe(index), Egress())

    async def start(self, recovered: Mapping[int, Egress] | None = None) -> dict[int, Slot]:
        """Take over what an earlier daemon left, destroy the rest, write the firewall anew and begin to refill.

        `recovered`: slot number -> egress of every sandbox that is still to live; its namespace is kept and its
        connections go on. Returns the recovered slots by number.

        Raises FailedPrecondition when a recovered slot's namespace is gone (nothing was changed then), OSError.
        """
        wanted = dict(recovered or {})
        netns.prepare_directory()
        found = netns.list_owned(self._instance)
        for index in wanted:
            if not self._describe(index).path.exists():
                raise FailedPrecondition(f"network namespace {self._describe(index).name} is gone", slot=index)
        self._used = {index: Slot(self._describe(index), egress) for index, egress in wanted.items()}
        await self.firewall.replace({index: _rules(slot) for index, slot in self._used.items()})
        # One may have been cut off for a save that the daemon did not live to end.
        await asyncio.gather(*(self.reconnect(slot) for slot in self._used.values()))
        await asyncio.gather(*(self._destroy(self._describe(index)) for index in found - wanted.keys()))
        self._next = max(found, default=-1) + 1
        self._open = True
        self._wake_refill()
        return dict(self._used)

    async def acquire(self, egress: Egress | None = None, index: int | None = None) -> Slot:
        """A slot with these rules in force, from the pool when one is ready (below a millisecond), else built now.

        `index`: that slot if it is free, else any. One that is being destroyed is waited for, at most a second.
        Raises Capacity when `limit` slots are in use, FailedPrecondition when the pool is not started, OSError.
        """
        egress = egress or Egress()
        if not self._open:
            raise FailedPrecondition("the network slot pool is not running")
        if len(self._used) + self._waiting >= self._limit:
            raise Capacity(f"all {self._limit} network slots are in use; end a sandbox first")
        self._waiting += 1
        try:
            if index is not None and index in self._leaving:
                await asyncio.wait([self._leaving[index]], timeout=_LEAVING_S)
            slot = self._take_ready(index) or await self._build_now(index)
            self._used[slot.index] = slot
        finally:
            self._waiting -= 1
        self._wake_refill()
        try:
            return await self.set_egress(slot, egress)
        except BaseException:
            self.release(slot)
            raise

    def park(self, index: int) -> None:
        """Hand this number out only when no other is left, or when it is asked for. Past the range: nothing."""
        if 0 <= index < self._count:
            self._parked.add(index)

    def unpark(self, index: int) -> None:
        """Undo `park`; not parked is success."""
        self._parked.discard(index)

    async def set_egress(self, slot: Slot, egress: Egress) -> Slot:
        """Change what the sandbox may reach, in one transaction on the running sandbox.

        Open connections to what is now closed carry no packet any more. Returns the slot as it is now.
        Raises FailedPrecondition when the slot is not in use, OSError.
        """
        current = self._used.get(slot.index)
        if current is None:
            raise FailedPrecondition(f"network slot {slot.index} is not in use")
        if current.egress == egress:
            return current
        new = Slot(current.namespace, egress)
        await self.firewall.put(slot.index, _rules(new))
        self._used[slot.index] = new
        return new

    async def cut_off(self, slot: Slot) -> int:
        """Let no packet reach the sandbox, and end the connections that it is just making; returns how many at most.

        For a sandbox whose programs stand still. Under a millisecond where nothing is being made. Raises OSError:
        ENOENT when the slot is gone.
        """
        return await asyncio.to_thread(_cut_off, slot.namespace)

    async def reconnect(self, slot: Slot) -> None:
        """Undo `cut_off`, not the ends of connections. Idempotent, also when the slot is gone. Raises OSError."""
        await asyncio.to_thread(cutoff.reconnect, slot.namespace.host_interface)

    def release(self, slot: Slot) -> None:
        """Give the slot up: its name is gone at return, the rest within 100 ms. Idempotent. Raises OSError.

        Its processes must be dead: one that is not keeps the bare namespace, and is cut off after a second.
        """
        if self._used.pop(slot.index, None) is not None:
            self._take_down(slot)

    async def close(self) -> None:
        """Stop refilling and destroy the ready slots; those in use stay as they are, for the next daemon."""
        self._open = False
        await cancel_and_wait(self._refill)
        await asyncio.gather(*self._builds, return_exceptions=True)
        ready, self._ready = self._ready, []
        for slot in ready:
            self._take_down(slot)
        await self.settle()

    async def settle(self) -> None:
        """Wait until every released slot has left the machine."""
        while self._leaving:
            await asyncio.gather(*self._leaving.values(), return_exceptions=True)

    async def remove_all(self) -> None:
        """Destroy every slot, used or not, and our nftables table: nothing of this pool is left. Idempotent."""
        await self.close()
        self._used.clear()
        found = netns.list_owned(self._instance)
        await asyncio.gather(*(self._destroy(self._describe(index)) for index in found))
        await self.firewall.remove()

    def _take_ready(self, wanted: int | None) -> Slot | None:
        """A ready slot: the wanted one if it is there; none at all when the wanted one could be built instead."""
        if not self._ready or (wanted is not None and self._is_free(wanted)):
            return None
        best = min(self._ready, key=lambda slot: (slot.index != wanted, slot.index in self._parked))
        self._ready.remove(best)
        return best

    async def _build_now(self, wanted: int | None = None) -> Slot:
        work = spawn(self._build(wanted), name="slot-build")
        self._builds.add(work)
        work.add_done_callback(self._builds.discard)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # A build cannot be stopped half way; what comes of it serves the next one.
            work.add_done_callback(self._keep_ready)
            raise

    def _keep_ready(self, work: asyncio.Task[Slot]) -> None:
        if not work.cancelled() and work.exception() is None:
            self._ready.append(work.result())

    async def _build(self, wanted: int | None) -> Slot:
        index = wanted if wanted is not None and self._is_free(wanted) else self._free_index()
        while index is None:
            if not self._leaving:
                raise Capacity(f"all {self._count} network slots exist; end a sandbox first")
            await asyncio.wait(self._leaving.values(), return_when=asyncio.FIRST_COMPLETED)
            index = self._free_index()
        self._building.add(index)
        try:
            async with self._room_to_build:
                namespace = await netns.create(self._instance, slot_addresses(self.config.pool, index), self._mtu)
            return Slot(namespace, Egress())
        finally:
            self._building.discard(index)

    def _taken(self) -> set[int]:
        return self._used.keys() | self._leaving.keys() | self._building | {slot.index for slot in self._ready}

    def _is_free(self, index: int) -> bool:
        return 0 <= index < self._count and index not in self._taken()

    def _free_index(self) -> int | None:
        taken = self._taken()
        for avoided in (taken | self._parked, taken):
            for step in range(self._count):
                index = (self._next + step) % self._count
                if index not in avoided:
                    self._next = index + 1
                    return index
        return None

    def _take_down(self, slot: Slot) -> None:
        netns.unname(slot.namespace)
        self._leaving[slot.index] = spawn(self._leave(slot.namespace), name=f"slot-{slot.index}-leaves")

    async def _leave(self, namespace: Namespace) -> None:
        try:
            await self._destroy(namespace)
        finally:
            del self._leaving[namespace.index]
            self._wake_refill()

    async def _destroy(self, namespace: Namespace) -> None:
        """Rules and tracked connections go last: only when the interface is gone can nothing add to them."""
        await netns.destroy(namespace)
        await asyncio.to_thread(conntrack.forget_blocking, namespace.sandbox_ip)
        await self.firewall.put(namespace.index, None)

    def _describe(self, index: int) -> Namespace:
        return netns.describe(self._instance, slot_addresses(self.config.pool, index), self._mtu)

    def _wake_refill(self) -> None:
        if self._open and (self._refill is None or self._refill.done()):
            self._refill = spawn(self._fill(), name="slot-refill")

    async def _fill(self) -> None:
        while self._open and len(self._ready) < self._ready_target:
            try:
                self._ready.append(await self._build_now())
            except (OSError, Capacity) as error:
                log.warning("cannot prepare a network slot, trying again in %.0f s: %s", _RETRY_S, error)
                await asyncio.sleep(_RETRY_S)


def _cut_off(namespace: Namespace) -> int:
    cutoff.cut_off(namespace.host_interface)
    host_mac, sandbox_mac = netns.macs(namespace.index)
    wire = handshakes.Wire(namespace.host_interface, host_mac, sandbox_mac, namespace.host_ip, namespace.sandbox_ip)
    return handshakes.end_blocking(wire)


def _rules(slot: Slot) -> SlotRules:
    return SlotRules(slot.namespace.sandbox_ip, slot.egress)
