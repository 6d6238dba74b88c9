"""Forgetting connections: the messages as bytes, and the kernel's own table."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from atolld.host import libnftables
from atolld.host.conntrack import _attribute, _attributes, _mentions, _message, _messages, forget_blocking
from atolld.host.instance import Instance


@pytest.mark.parametrize("value", [b"", b"a", b"abc", b"abcd", b"abcde" * 100])
def test_attributes_come_back_as_they_went(value: bytes) -> None:
    data = _attribute(3, value) + _attribute(0x8001, b"x")
    assert len(data) % 4 == 0
    assert list(_attributes(data)) == [(3, value), (1, b"x")]


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0", b"\2\0\1\0", b"\0" * 64, b"\xff" * 3])
def test_broken_data_ends_instead_of_looping(data: bytes) -> None:
    assert list(_attributes(data)) == []
    assert list(_messages(data)) == []


def test_messages_come_back_as_they_went() -> None:
    data = _message(0x101, 1, 1, b"abcd") + _message(0x102, 1, 2, b"")
    assert [(kind, payload[4:]) for kind, payload in _messages(data)] == [(0x101, b"abcd"), (0x102, b"")]


@pytest.mark.parametrize(("address", "expected"), [("10.0.0.1", True), ("10.0.0.2", True), ("10.0.0.3", False)])
def test_only_tuples_of_the_address_count(address: str, expected: bool) -> None:
    ips = _attribute(1, IPv4Address("10.0.0.1").packed) + _attribute(2, IPv4Address("10.0.0.2").packed)
    found = _attribute(0x8001, ips) + _attribute(0x8002, _attribute(1, b"\x11"))
    assert _mentions(found, IPv4Address(address)) is expected


@pytest.fixture
def tracked(instance: Instance) -> Iterator[None]:
    """Connections are tracked only while a rule asks for their state."""
    name = f"{instance.name}ct"
    libnftables.run_blocking(
        f"add table inet {name}\nadd chain inet {name} c {{ type filter hook output priority 0; }}\n"
        f"add rule inet {name} c ct state new counter\n"
    )
    yield
    libnftables.run_blocking(f"delete table inet {name}\n")


@pytest.mark.real
def test_all_of_one_address_go_and_others_stay(tracked: None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.81.0.1", 0))
        for port in range(2000, 2300):
            sender.sendto(b"x", ("127.82.0.1", port))
        for port in range(2000, 2005):
            sender.sendto(b"x", ("127.83.0.1", port))
    assert forget_blocking(IPv4Address("127.82.0.1")) == 300
    assert forget_blocking(IPv4Address("127.82.0.1")) == 0
    assert forget_blocking(IPv4Address("127.81.0.1")) == 5
