"""The kernel's table of connections: which of a sandbox's are being made, and forgetting those of a former tenant.

The kernel keeps tracked connections (masqueraded ones too) for minutes to days after both ends are gone. Without
forgetting, a late packet from a former tenant's peer would be passed on to the next tenant of the address.

Spoken to the kernel directly: a hostile tenant leaves thousands of entries, and a general netlink library takes 0.8 ms
of Python for each, this takes 10 microseconds.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

_NETLINK_NETFILTER = 12
_CT_GET = 0x0101
_CT_DELETE = 0x0102
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_NESTED = 0x8000
_TUPLE_ORIG = 1
_PROTOINFO = 4
_TUPLE_IP = 1
_TUPLE_PROTO = 2
_SOURCE, _DESTINATION = 1, 2
_PROTO_NUMBER, _PROTO_SOURCE, _PROTO_DESTINATION = 1, 2, 3
_TCP_INFO, _TCP_STATE = 1, 1
_FILTER = 25
_FILTER_ORIG_FLAGS = 1
_HEADER = struct.Struct("=IHHII")
_NFGEN = struct.pack("!BBH", socket.AF_INET, 0, 0)
_BATCH = 64
_IPV4_BYTES = 4
# linux/netfilter/nf_conntrack_tcp.h: SYN sent, SYN answered, SYN sent by both; and established.
_BEING_MADE = frozenset({1, 2, 9})
_ESTABLISHED = 3


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A TCP connection that a sandbox may believe is still being made: its port, and the other end."""

    port: int
    peer: IPv4Address
    peer_port: int


def unfinished_blocking(address: IPv4Address) -> list[Unfinished]:
    """What `address` may believe is still being made.

    Of those made towards it the established ones are among them: the last packet of three, which makes them so, may
    have been lost on its way to it. Blocks for under a millisecond, as `forget_blocking`. Raises OSError.
    """
    with _netfilter() as netlink:
        outward = [_ends(found) for found in _dump(netlink, address, _SOURCE)]
        inward = [_ends(found) for found in _dump(netlink, address, _DESTINATION)]
    found = [
        Unfinished(ends.source_port, ends.destination, ends.destination_port)
        for ends in outward
        if ends is not None and ends.source == address and ends.state in _BEING_MADE
    ]
    found += [
        Unfinished(ends.destination_port, ends.source, ends.source_port)
        for ends in inward
        if ends is not None and ends.destination == address and ends.state in _BEING_MADE | {_ESTABLISHED}
    ]
    return found


def forget_blocking(address: IPv4Address) -> int:
    """Delete every tracked connection from or to `address`; returns how many.

    Blocks while the kernel walks its table: under a millisecond on an idle machine. Raises OSError.
    """
    count = 0
    with _netfilter() as netlink:
        for direction in (_SOURCE, _DESTINATION):
            tuples = [found[_TUPLE_ORIG] for found in _dump(netlink, address, direction) if _TUPLE_ORIG in found]
            tuples = [found for found in tuples if _mentions(found, address)]
            for start in range(0, len(tuples), _BATCH):
                count += _delete(netlink, tuples[start : start + _BATCH])
    return count


@contextmanager
def _netfilter() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        yield netlink


def _dump(netlink: socket.socket, address: IPv4Address, direction: int) -> Iterator[Mapping[int, bytes]]:
    """The attributes of each, as the kernel wrote them. `direction` of the address in the first packet.

    A kernel older than 5.8 does not know the filter and lists everybody's connections.
    """
    ip = _attribute(_TUPLE_IP | _NESTED, _attribute(direction, address.packed))
    body = _attribute(_TUPLE_ORIG | _NESTED, ip)
    body += _attribute(_FILTER | _NESTED, _attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", direction)))
    netlink.send(_message(_CT_GET, _REQUEST | _DUMP, 1, body))
    while True:
        for kind, payload in _messages(netlink.recv(1 << 18)):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                _raise(payload, "list tracked connections")
            yield dict(_attributes(payload[4:]))


@dataclass(frozen=True, slots=True)
class _Ends:
    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    state: int


def _ends(found: Mapping[int, bytes]) -> _Ends | None:
    """Both ends as in the first packet, and the state; None when it is no TCP over IPv4."""
    original = dict(_attributes(found.get(_TUPLE_ORIG, b"")))
    ips, proto = (dict(_attributes(original.get(name, b""))) for name in (_TUPLE_IP, _TUPLE_PROTO))
    tcp = dict(_attributes(dict(_attributes(found.get(_PROTOINFO, b""))).get(_TCP_INFO, b"")))
    if proto.get(_PROTO_NUMBER) != bytes([socket.IPPROTO_TCP]) or len(ips.get(_SOURCE, b"")) != _IPV4_BYTES:
        return None
    return _Ends(
        IPv4Address(ips[_SOURCE]),
        int.from_bytes(proto[_PROTO_SOURCE], "big"),
        IPv4Address(ips[_DESTINATION]),
        int.from_bytes(proto[_PROTO_DESTINATION], "big"),
        tcp[_TCP_STATE][0],
    )


def _delete(netlink: socket.socket, tuples: list[bytes]) -> int:
    netlink.send(
        b"".join(
            _message(_CT_DELETE, _REQUEST | _ACK, number, _attribute(_TUPLE_ORIG | _NESTED, found))
            for number, found in enumerate(tuples)
        )
    )
    answers = deleted = 0
    while answers < len(tuples):
        for kind, payload in _messages(netlink.recv(1 << 18)):
            if kind != _NLMSG_ERROR:
                continue
            answers += 1
            (code,) = struct.unpack_from("=i", payload)
            if code == 0:
                deleted += 1
            elif code != -errno.ENOENT:  # it ended meanwhile
                _raise(payload, "delete a tracked connection")
    return deleted


def _mentions(found: bytes, address: IPv4Address) -> bool:
    return any(
        value == address.packed
        for name, nested in _attributes(found)
        if name == _TUPLE_IP
        for _, value in _attributes(nested)
    )


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(_NFGEN) + len(body), kind, flags, number, 0) + _NFGEN + body


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _attribute(name: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), name) + value + b"\0" * (-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, name = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield name & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _raise(payload: bytes, what: str) -> None:
    (code,) = struct.unpack_from("=i", payload)
    if code:
        raise OSError(-code, f"{what}: {os.strerror(-code)}")
