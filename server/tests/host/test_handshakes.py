"""What a sandbox is told of connections that are being made: the frames as bytes, and the kernel's own table."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from atolld.host import libnftables
from atolld.host.conntrack import Unfinished, _attribute, _ends, unfinished_blocking
from atolld.host.handshakes import Wire, _checksum, unreachable
from atolld.host.instance import Instance

WIRE = Wire("at-1", "02:a7:00:00:01:01", "02:a7:00:00:01:02", IPv4Address("10.192.0.5"), IPv4Address("10.192.0.6"))
PEER = IPv4Address("203.0.113.7")


def test_the_frame_is_a_host_unreachable_that_quotes_what_the_sandbox_sent() -> None:
    frame = unreachable(WIRE, Unfinished(40_000, PEER, 443))
    assert frame[:14] == bytes.fromhex("02a70000010202a7000001010800")
    outer, icmp = frame[14:34], frame[34:]
    assert struct.unpack("!H", outer[2:4]) == (len(frame) - 14,)
    assert outer[9] == socket.IPPROTO_ICMP
    assert (outer[12:16], outer[16:20]) == (WIRE.host.packed, WIRE.sandbox.packed)
    assert icmp[:2] == b"\3\1"
    # RFC 1071: the sum over data with its checksum in place is zero.
    assert _checksum(outer) == _checksum(icmp) == 0
    inner, tcp = icmp[8:28], icmp[28:]
    assert inner[9] == socket.IPPROTO_TCP
    assert (inner[12:16], inner[16:20]) == (WIRE.sandbox.packed, PEER.packed)
    assert struct.unpack("!HHI", tcp) == (40_000, 443, 0)


def entry(protocol: int, source: bytes, destination: bytes, state: int) -> dict[int, bytes]:
    ips = _attribute(1, source) + _attribute(2, destination)
    ports = _attribute(1, bytes([protocol])) + _attribute(2, b"\x9c\x40") + _attribute(3, b"\x01\xbb")
    tcp = _attribute(0x8001, _attribute(1, bytes([state])))
    return {1: _attribute(0x8001, ips) + _attribute(0x8002, ports), 4: tcp}


@pytest.mark.parametrize(
    ("found", "known"),
    [
        (entry(6, WIRE.sandbox.packed, PEER.packed, 1), True),
        (entry(17, WIRE.sandbox.packed, PEER.packed, 1), False),
        (entry(6, b"\0" * 16, b"\0" * 16, 1), False),
        ({}, False),
    ],
)
def test_only_tcp_over_ipv4_counts(found: dict[int, bytes], known: bool) -> None:
    ends = _ends(found)
    assert (ends is not None) is known
    if ends is not None:
        assert (ends.source, ends.source_port, ends.destination, ends.destination_port, ends.state) == (
            WIRE.sandbox, 40_000, PEER, 443, 1,
        )  # fmt: skip


@pytest.fixture
def tracked(instance: Instance) -> Iterator[None]:
    """Connections are tracked, and what goes to port 81 is lost on the way."""
    name = f"{instance.name}hs"
    libnftables.run_blocking(
        f"add table inet {name}\nadd chain inet {name} o {{ type filter hook output priority 0; }}\n"
        f"add rule inet {name} o ct state new counter\n"
        f"add chain inet {name} i {{ type filter hook input priority 0; }}\n"
        f"add rule inet {name} i ip daddr 127.84.0.0/16 tcp dport 81 drop\n"
    )
    yield
    libnftables.run_blocking(f"delete table inet {name}\n")


@pytest.mark.real
def test_what_an_address_may_believe_is_being_made(tracked: None) -> None:
    ours, theirs = IPv4Address("127.81.0.1"), IPv4Address("127.84.0.1")
    with socket.create_server((str(theirs), 0)) as server, socket.socket() as made, socket.socket() as waiting:
        made.bind((str(ours), 0))
        made.connect(server.getsockname())
        waiting.bind((str(ours), 0))
        waiting.setblocking(False)
        waiting.connect_ex((str(theirs), 81))
        lost, port = waiting.getsockname()[1], server.getsockname()[1]
        assert unfinished_blocking(ours) == [Unfinished(lost, theirs, 81)]
        assert sorted(unfinished_blocking(theirs), key=lambda found: found.port) == [
            Unfinished(81, ours, lost),
            Unfinished(port, ours, made.getsockname()[1]),
        ]
    assert unfinished_blocking(IPv4Address("127.85.0.1")) == []
