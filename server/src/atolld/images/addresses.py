"""Which addresses a registry may send us to.

The user names a registry, which may be anywhere: on the Internet, in the private network, on this machine. What that
registry answers (a redirect to where a blob lies, the server that gives tokens) must not lead further in than the
registry itself is: else every public registry could have this machine ask its metadata service or its neighbours.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from enum import IntEnum

from atolld.foundation.errors import PermissionDenied, Unavailable

_RESOLVE_TIMEOUT_S = 15.0


class Reach(IntEnum):
    """How far in an address lies; a smaller one may not lead to a greater one."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    FORBIDDEN = 3


def reach_of(address: str) -> Reach:
    """Of an IP address. Link-local (where metadata services are), multicast and reserved ones are FORBIDDEN."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # Every form that carries an IPv4 address is as near as that one.
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or _nat64(ip)
        if inner is not None:
            return reach_of(str(inner))
    if ip.is_loopback:
        return Reach.LOOPBACK
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or (ip.version == 4 and ip.is_reserved):
        return Reach.FORBIDDEN
    return Reach.PUBLIC if ip.is_global else Reach.PRIVATE


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in ipaddress.ip_network("64:ff9b::/96") else None


async def resolve(host: str, port: int, limit: Reach) -> tuple[str, Reach]:
    """One address of `host` that lies no further in than `limit`, and how far in it lies.

    The caller connects to this very address: a name that is resolved again may have moved meanwhile.
    Raises Unavailable when there is none, PermissionDenied when one of them lies further in.
    """
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise Unavailable(f"the address of {host!r} cannot be found: {error or 'no answer in time'}") from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        reach = reach_of(address)
        if reach > limit:
            raise PermissionDenied(
                f"{host!r} is at {address}, where "
                + ("no registry is asked" if reach is Reach.FORBIDDEN else "the registry may not send this machine")
            )
    # IPv4 first: a machine with half an IPv6 would wait for nothing.
    best = min(addresses, key=lambda address: ":" in address)
    return best, max(map(reach_of, addresses))
