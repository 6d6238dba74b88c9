"""The few rtnetlink requests we make, typed.

To be called in a thread without a running event loop (pyroute2 runs one of its own there). Every call blocks for less
than a millisecond, but `delete_link`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

NUD_PERMANENT = 0x80
INTERFACES = Path("/sys/class/net")


class Netlink:
    """A route socket of the network namespace its thread is in; it stays bound to it when the thread moves on."""

    def __init__(self) -> None:
        self._route: Any = IPRoute()

    def close(self) -> None:
        self._route.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_veth(self, name: str, mac: str, mtu: int, peer: VethPeer) -> None:
        """Make `name` here and its other end in the namespace `peer.namespace_fd`. Raises OSError (EEXIST)."""
        with _os_errors(f"add veth {name}"):
            self._route.link(
                "add",
                ifname=name,
                kind="veth",
                address=mac,
                mtu=mtu,
                peer={"ifname": peer.name, "address": peer.mac, "mtu": mtu, "net_ns_fd": peer.namespace_fd},
            )

    def index_of(self, name: str) -> int:
        """The interface's number. Raises OSError (ENODEV) when there is none of that name."""
        found = self._route.link_lookup(ifname=name)
        if not found:
            raise OSError(errno.ENODEV, f"no interface {name}")
        return int(found[0])

    def set_up(self, index: int) -> None:
        with _os_errors(f"set interface {index} up"):
            self._route.link("set", index=index, state="up")

    def add_address(self, index: int, address: IPv4Address, prefix: int) -> None:
        with _os_errors(f"add address {address}"):
            self._route.addr("add", index=index, address=str(address), prefixlen=prefix)

    def add_neighbour(self, index: int, address: IPv4Address, mac: str) -> None:
        with _os_errors(f"add neighbour {address}"):
            self._route.neigh("replace", ifindex=index, dst=str(address), lladdr=mac, state=NUD_PERMANENT)

    def add_default_route(self, gateway: IPv4Address) -> None:
        with _os_errors(f"add default route via {gateway}"):
            self._route.route("add", dst="default", gateway=str(gateway))

    def delete_link(self, name: str) -> None:
        """Delete the interface; already gone is success. Waits for the kernel's grace periods: 15 to 40 ms."""
        found = self._route.link_lookup(ifname=name)
        if not found:
            return
        try:
            with _os_errors(f"delete interface {name}"):
                self._route.link("del", index=found[0])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def networks(self) -> list[IPv4Network]:
        """Every IPv4 network the machine has an address in or a route to, the default route left out."""
        found = []
        for address in self._route.get_addr(family=2):
            text = address.get_attr("IFA_ADDRESS")
            if text:
                found.append(IPv4Network((text, address["prefixlen"]), strict=False))
        for route in self._route.get_routes(family=2):
            text = route.get_attr("RTA_DST")
            if text:
                found.append(IPv4Network((text, route["dst_len"]), strict=False))
        return found

    def uplink(self) -> tuple[str, int] | None:
        """Name and MTU of the interface the default IPv4 route leaves by; None when there is none."""
        for route in self._route.get_default_routes(family=2):
            index = route.get_attr("RTA_OIF")
            if index is not None:
                link = self._route.get_links(index)[0]
                return str(link.get_attr("IFLA_IFNAME")), int(link.get_attr("IFLA_MTU"))
        return None


class VethPeer:
    """The other end of a veth pair: its name, MAC and the namespace it is put into."""

    __slots__ = ("mac", "name", "namespace_fd")

    def __init__(self, name: str, mac: str, namespace_fd: int) -> None:
        self.name = name
        self.mac = mac
        self.namespace_fd = namespace_fd


def host_networks() -> list[IPv4Network]:
    """Every IPv4 network of the host, for choosing addresses beside them. Blocks; not in the event loop's thread."""
    with Netlink() as netlink:
        return netlink.networks()


def read_uplink() -> tuple[str, int] | None:
    """The uplink's name and MTU; None without a default route. Blocks; not in the event loop's thread."""
    with Netlink() as netlink:
        return netlink.uplink()


def link_exists(name: str) -> bool:
    """Whether this namespace has an interface `name`."""
    return (INTERFACES / name).exists()


@contextmanager
def _os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, f"{what}: {error}") from error
