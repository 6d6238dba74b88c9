"""The table as the kernel has it: what it knows of each slot, changed one transaction at a time."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Mapping

from atolld.host import libnftables
from atolld.host.instance import Instance
from atolld.host.nftables import FirewallConfig, SlotRules, render_removal, render_slot, render_table

log = logging.getLogger("atolld.firewall")


_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 1 << 6
# Subsystem 10 is nftables; 2 is the deletion of a table.
_TABLE_DELETED = 10 << 8 | 2
_HEADER = struct.Struct("=IHHII")


class Firewall:
    """Our nftables table of one instance. Every method applies one atomic transaction of 0.1 to a few ms."""

    def __init__(self, instance: Instance, config: FirewallConfig) -> None:
        self._instance = instance
        self._config = config
        self._known: dict[int, SlotRules] = {}
        # libnftables reads the sets it changes first: two transactions at once could miss each other's elements.
        self._lock = asyncio.Lock()

    async def replace(self, slots: Mapping[int, SlotRules]) -> None:
        """Write the whole table with the rules of exactly `slots`; packets see either the old table or the new one.

        Raises NftError.
        """
        async with self._lock:
            self._known = dict(slots)
            await self._write_all()

    async def put(self, index: int, rules: SlotRules | None) -> None:
        """Make slot `index` follow `rules`; None: the default. No transaction when nothing changes. Raises NftError."""
        async with self._lock:
            old = self._known.get(index)
            if rules is None:
                self._known.pop(index, None)
            else:
                self._known[index] = rules
            commands = render_slot(self._instance, old, rules)
            if not commands:
                return
            try:
                await libnftables.run(commands)
            except libnftables.NftError as error:
                # Somebody flushed the machine's ruleset: an open door until all of ours is written again.
                log.warning("the nftables table is not as it was left (%s); writing it anew", error)
                await self._write_all()

    async def ensure(self) -> bool:
        """Write the table again when it is gone; returns whether it was. Raises NftError."""
        async with self._lock:
            try:
                await libnftables.run(f"list chain inet {self._instance.name} from_sandbox\n")
                return False
            except libnftables.NftError as error:
                log.warning("the nftables table was removed by somebody (%s); writing it anew", error)
                await self._write_all()
                return True

    async def watch(self) -> None:
        """Write the table again as soon as somebody removes it (`nft flush ruleset`, a firewall's restart). Endless.

        Without it sandboxes would reach the host until the next change of a rule. Listens to the kernel's own events:
        the gap is a few milliseconds. Raises OSError.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        with _event_socket() as events:
            loop.add_reader(events, _read_events, events, changed)
            try:
                while True:
                    await self.ensure()
                    await changed.wait()
                    changed.clear()
            finally:
                loop.remove_reader(events)

    async def remove(self) -> None:
        """Delete our table and nothing else. Gone is success. Raises NftError."""
        async with self._lock:
            self._known.clear()
            await libnftables.run(render_removal(self._instance))

    async def _write_all(self) -> None:
        await libnftables.run(render_table(self._instance, self._config, self._known.values()))


def _event_socket() -> socket.socket:
    events = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER
    )
    events.bind((0, _GROUP_NFTABLES))
    return events


def _read_events(events: socket.socket, deleted: asyncio.Event) -> None:
    while True:
        try:
            data = events.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # More happened than the socket holds: a deletion may have been among it.
            deleted.set()
            continue
        while len(data) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data)
            if kind == _TABLE_DELETED:
                deleted.set()
            data = data[max(_HEADER.size, (length + 3) & ~3) :]
