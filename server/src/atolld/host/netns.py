"""One network namespace with its veth pair: made, found and destroyed.

    host:    <inst>-<n>  host address/30    --- veth ---    sandbox: eth0  sandbox address/30, default via the host

The namespace is a file under /run/netns, as `ip netns` makes them, so that any tool can look into it. It is made by
a thread of its own that leaves the host's network for it: a process per namespace would cost ten times as much.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from atolld.foundation.errors import Internal
from atolld.host import mounts, syscalls
from atolld.host.addresses import SLOT_PREFIX, SlotAddresses
from atolld.host.instance import Instance
from atolld.host.netlink import Netlink, VethPeer, link_exists

NAMESPACES = Path("/run/netns")
GUEST_INTERFACE = "eth0"
DEFAULT_MTU = 1500
# The kernel takes a dead namespace apart in the background, 20 to 100 ms after its last user; only a namespace that
# some process still holds lasts longer, and then its veth is cut by hand.
VANISH_TIMEOUT_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A ready namespace. `path` is what a runtime is given; `host_interface` is the host's end of the pair."""

    index: int
    name: str
    path: Path
    host_interface: str
    addresses: SlotAddresses
    mtu: int

    @property
    def sandbox_ip(self) -> IPv4Address:
        """Where the sandbox is reached from the host."""
        return self.addresses.sandbox

    @property
    def host_ip(self) -> IPv4Address:
        """The sandbox's gateway."""
        return self.addresses.host


def describe(instance: Instance, addresses: SlotAddresses, mtu: int = DEFAULT_MTU) -> Namespace:
    """The namespace of a slot, whether it exists or not: its name and paths follow from the slot's number."""
    name = f"{instance.prefix}{addresses.index}"
    return Namespace(addresses.index, name, NAMESPACES / name, name, addresses, mtu)


def list_owned(instance: Instance) -> set[int]:
    """The slots of which anything exists: the namespace's file or the host's end of its veth pair."""
    found: set[int] = set()
    for directory in (NAMESPACES, Path("/sys/class/net")):
        with contextlib.suppress(FileNotFoundError):
            indexes = (instance.slot_index(name) for name in os.listdir(directory))
            found.update(index for index in indexes if index is not None)
    return found


def prepare_directory() -> None:
    """Make /run/netns, shared with other mount namespaces as `ip netns` does. Raises OSError."""
    NAMESPACES.mkdir(mode=0o755, parents=True, exist_ok=True)
    mounts.make_shared(NAMESPACES)


async def create(instance: Instance, addresses: SlotAddresses, mtu: int = DEFAULT_MTU) -> Namespace:
    """Make the namespace of a slot, in about 5 ms; a leftover of the same name is destroyed first.

    Inside: loopback and `eth0` up, default route by the host, IPv6 off, fixed neighbour entries on both ends (the first
    packet needs no ARP). Nothing is forwarded before the firewall knows the slot. `prepare_directory` must have run.
    Raises OSError when the kernel refuses; nothing is left then.
    """
    namespace = describe(instance, addresses, mtu)
    if namespace.path.exists() or link_exists(namespace.host_interface):
        await destroy(namespace)
    try:
        await _in_own_thread(lambda: _build(namespace), name=f"netns-{namespace.name}")
    except BaseException:
        # Cancelled or refused: without a name the kernel takes the rest away by itself.
        unname(namespace)
        raise
    return namespace


def unname(namespace: Namespace) -> None:
    """Take the namespace's name away; the kernel destroys it as soon as no process is in it. Gone is success."""
    while True:
        try:
            syscalls.umount(namespace.path, syscalls.MNT_DETACH)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                break
            raise
    namespace.path.unlink(missing_ok=True)


async def destroy(namespace: Namespace) -> None:
    """Remove the namespace and wait until its veth pair is gone too (20 to 100 ms). Already gone is success.

    A process that still sits in the namespace keeps it, without a name and without a network. Raises OSError.
    """
    unname(namespace)
    await vanished(namespace)


async def vanished(namespace: Namespace) -> None:
    """Wait until the kernel has taken the veth pair of an unnamed namespace away; cut it after a second."""
    deadline = asyncio.get_running_loop().time() + VANISH_TIMEOUT_S
    while link_exists(namespace.host_interface):
        if asyncio.get_running_loop().time() > deadline:
            await asyncio.to_thread(_delete_link, namespace.host_interface)
            return
        await asyncio.sleep(0.01)


def _delete_link(name: str) -> None:
    with Netlink() as netlink:
        netlink.delete_link(name)


def _build(namespace: Namespace) -> None:
    """Runs in a thread that ends afterwards: it changes the thread's own network namespace."""
    addresses = namespace.addresses
    host_mac, guest_mac = macs(addresses.index)
    host_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Netlink() as outside:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            # Before any interface exists, so that not even a link-local address appears.
            _set_net("ipv6/conf/all/disable_ipv6", "1")
            _set_net("ipv6/conf/default/disable_ipv6", "1")
            namespace.path.touch(mode=0o444)
            syscalls.mount("/proc/thread-self/ns/net", namespace.path, None, syscalls.MS_BIND)
            with Netlink() as inside:
                peer = VethPeer(namespace.host_interface, host_mac, host_fd)
                inside.add_veth(GUEST_INTERFACE, guest_mac, namespace.mtu, peer)
                index = inside.index_of(GUEST_INTERFACE)
                inside.add_address(index, addresses.sandbox, SLOT_PREFIX)
                inside.set_up(inside.index_of("lo"))
                inside.set_up(index)
                inside.add_neighbour(index, addresses.host, host_mac)
                inside.add_default_route(addresses.host)
            # /proc/sys/net shows the namespace of the thread that looks: go back before touching the host's end.
            syscalls.setns(host_fd, syscalls.CLONE_NEWNET)
            _harden_host_end(namespace.host_interface)
            index = outside.index_of(namespace.host_interface)
            outside.add_address(index, addresses.host, SLOT_PREFIX)
            outside.set_up(index)
            outside.add_neighbour(index, addresses.sandbox, guest_mac)
    finally:
        os.close(host_fd)


def _harden_host_end(interface: str) -> None:
    _set_net(f"ipv6/conf/{interface}/disable_ipv6", "1")
    # Answer ARP only for the address of this interface: a sandbox must not learn which others the host has.
    _set_net(f"ipv4/conf/{interface}/arp_ignore", "1")
    _set_net(f"ipv4/conf/{interface}/rp_filter", "1")
    _set_net(f"ipv4/conf/{interface}/accept_redirects", "0")
    _set_net(f"ipv4/conf/{interface}/send_redirects", "0")
    _set_net(f"ipv4/conf/{interface}/accept_source_route", "0")
    _set_net(f"ipv4/conf/{interface}/route_localnet", "0")


def _set_net(key: str, value: str) -> None:
    path = Path("/proc/sys/net") / key
    try:
        path.write_text(value)
    except FileNotFoundError:
        # A kernel without IPv6 has no such keys, and nothing to turn off; every IPv4 key is always there.
        if not key.startswith("ipv6/"):
            raise


def macs(index: int) -> tuple[str, str]:
    """The locally administered MAC addresses of a slot: the host's end, the sandbox's end."""
    middle = f"02:a7:00:{index >> 8:02x}:{index & 0xFF:02x}"
    return f"{middle}:01", f"{middle}:02"


async def _in_own_thread(work: Callable[[], T], *, name: str) -> T:
    """Run `work` in a new thread that ends with it, so that no namespace change outlives the call."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result = work()
        except OSError as error:
            loop.call_soon_threadsafe(deliver, None, error)
        except Exception as error:
            loop.call_soon_threadsafe(deliver, None, Internal(f"{name} failed: {error!r}"))
        else:
            loop.call_soon_threadsafe(deliver, result, None)

    threading.Thread(target=run, name=name, daemon=True).start()
    # Shielded: the thread cannot be stopped half way, so a cancelled caller still waits for its end.
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
