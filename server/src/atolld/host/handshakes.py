"""Ending the connections that a sandbox is just making, as a router on the way would: nothing can be reached there.

gVisor cannot save a TCP connection whose handshake is not over: it ends every connection to the outside at a save, and
follows a null pointer where there is none to reset yet (mended by its authors in 2026). A program that connects to what
never answers is in that state for two minutes. So each such program is told EHOSTUNREACH beforehand, by the message for
it (RFC 792, destination unreachable), which needs none of the connection's sequence numbers.

The messages go to the interface itself and not by way of the host's routes, rules and queues.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from atolld.host.conntrack import Unfinished, unfinished_blocking

log = logging.getLogger("atolld.network")

_ETHERTYPE_IPV4 = 0x0800
_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20
_UNREACHABLE, _HOST, _ECHO, _ECHO_REPLY = 3, 1, 8, 0
_IP = struct.Struct("!BBHHHBBH4s4s")
_ICMP = struct.Struct("!BBHHH")
_TTL = 64
_BATCH = 64
# What it was sent before it has read when it answers; a guest that gets no CPU is not waited for.
_ANSWER_S = 0.2


@dataclass(frozen=True, slots=True)
class Wire:
    """Where to send: the host's interface, the MAC addresses of its end and the sandbox's, and their IP addresses."""

    interface: str
    host_mac: str
    sandbox_mac: str
    host: IPv4Address
    sandbox: IPv4Address


def end_blocking(wire: Wire) -> int:
    """End what the sandbox is just making; returns how many may have been. Blocks: a millisecond, 0.2 s at most
    for each 64 of them. To be called when nothing else reaches it and its programs stand still. Raises OSError.
    """
    unfinished = unfinished_blocking(wire.sandbox)
    if not unfinished:
        return 0
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_PACKET, kind, socket.htons(_ETHERTYPE_IPV4)) as link:
        link.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        link.bind((wire.interface, _ETHERTYPE_IPV4))
        # Before the first, too: what had reached it is then worked off, and takes no turn in the middle.
        _wait(link, wire)
        for start in range(0, len(unfinished), _BATCH):
            _end(link, wire, unfinished[start : start + _BATCH])
            _wait(link, wire)
    return len(unfinished)


def unreachable(wire: Wire, connection: Unfinished) -> bytes:
    """The Ethernet frame that tells the sandbox that `connection.peer` cannot be reached."""
    tcp = struct.pack("!HHI", connection.port, connection.peer_port, 0)
    quoted = _ip(wire.sandbox, connection.peer, socket.IPPROTO_TCP, 20) + tcp
    return _frame(wire, _icmp(_UNREACHABLE, _HOST, 0, 0, quoted))


def _end(link: socket.socket, wire: Wire, connections: Sequence[Unfinished]) -> None:
    for connection in connections:
        link.send(unreachable(wire, connection))


def _wait(link: socket.socket, wire: Wire) -> None:
    """Until it has answered an echo request: it reads what it is sent in turn."""
    mark = int.from_bytes(os.urandom(2), "big")
    link.send(_frame(wire, _icmp(_ECHO, 0, mark, 1, b"")))
    deadline = time.monotonic() + _ANSWER_S
    while (left_s := deadline - time.monotonic()) > 0:
        link.settimeout(left_s)
        try:
            packet = link.recv(2048)[14:]
        except TimeoutError:
            break
        if len(packet) < _IP.size or packet[9] != socket.IPPROTO_ICMP:
            continue
        message = packet[(packet[0] & 0xF) * 4 :]
        if len(message) >= _ICMP.size and message[0] == _ECHO_REPLY and message[4:6] == mark.to_bytes(2, "big"):
            return
    log.info("the network of %s did not answer within %g s", wire.sandbox, _ANSWER_S)


def _frame(wire: Wire, icmp: bytes) -> bytes:
    macs = bytes.fromhex((wire.sandbox_mac + wire.host_mac).replace(":", ""))
    return (
        macs + _ETHERTYPE_IPV4.to_bytes(2, "big") + _ip(wire.host, wire.sandbox, socket.IPPROTO_ICMP, len(icmp)) + icmp
    )


def _ip(source: IPv4Address, destination: IPv4Address, protocol: int, payload_bytes: int) -> bytes:
    size = _IP.size + payload_bytes
    fields = (0x45, 0, size, 0, 0, _TTL, protocol)
    checksum = _checksum(_IP.pack(*fields, 0, source.packed, destination.packed))
    return _IP.pack(*fields, checksum, source.packed, destination.packed)


def _icmp(kind: int, code: int, first: int, second: int, body: bytes) -> bytes:
    checksum = _checksum(_ICMP.pack(kind, code, 0, first, second) + body)
    return _ICMP.pack(kind, code, checksum, first, second) + body


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
