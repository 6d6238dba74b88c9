"""Facts of a machine, parsed from their texts."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from atolld.host import facts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 10.0.0.53\nnameserver 1.1.1.1\n", ["10.0.0.53", "1.1.1.1"]),
        ("nameserver 127.0.0.53\noptions edns0\n", []),
        ("nameserver 169.254.169.253\nnameserver 9.9.9.9", ["9.9.9.9"]),
        ("nameserver 1.1.1.1\nnameserver 1.1.1.1", ["1.1.1.1"]),
        ("nameserver fe80::1%eth0\nnameserver 2001:4860:4860::8888\nnameserver 8.8.8.8", ["8.8.8.8"]),
        ("# nameserver 1.1.1.1\nnameserver\nnameserver what\nsearch a.b", []),
        ("", []),
    ],
)
def test_name_servers_a_sandbox_can_reach(text: str, expected: list[str]) -> None:
    assert facts.parse_dns_servers(text) == tuple(map(IPv4Address, expected))


def test_the_first_file_with_a_reachable_server_counts(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nameserver 127.0.0.53")
    (tmp_path / "b").write_text("nameserver 9.9.9.9")
    paths = [tmp_path / name for name in ("none", "a", "b")]
    assert facts.read_dns_servers(paths) == (IPv4Address("9.9.9.9"),)
    assert facts.read_dns_servers(paths[:2]) == ()


def test_memory() -> None:
    text = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   500 kB\nSwapTotal: 0 kB\nHugePages_Total: 0\n"
    assert facts.parse_meminfo(text) == facts.Memory(total=1024000, available=512000, swap=0)
    with pytest.raises(ValueError, match="MemAvailable"):
        facts.parse_meminfo("MemTotal: 1 kB\n")


@pytest.mark.parametrize(
    ("release", "expected"), [("6.1.0-25-amd64", (6, 1)), ("5.15.0", (5, 15)), ("6.18.44-fc", (6, 18))]
)
def test_kernel_releases(release: str, expected: tuple[int, int]) -> None:
    assert facts.parse_kernel(release) == expected


def test_a_kernel_release_that_is_none() -> None:
    with pytest.raises(ValueError, match="kernel"):
        facts.parse_kernel("generic")


def test_the_size_of_the_connection_table(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("262144\n")
    assert facts.read_conntrack_max(tmp_path / "max") == 262144
    assert facts.read_conntrack_max(tmp_path / "none") == 65536


def test_file_systems() -> None:
    assert facts.parse_filesystems("nodev\toverlay\n\text4\nnodev\tproc\n") == {"overlay", "ext4", "proc"}


def test_the_disk_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    assert facts.read_disk(tmp_path / "a/b/c").total == facts.read_disk(tmp_path).total


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ("", []),
        (
            "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n"
            "\tchain INPUT {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n",
            ["ip filter FORWARD"],
        ),
        (
            "table inet at {\n\tchain forward {\n\t\ttype filter hook forward priority 0; policy accept;\n\t}\n}\n",
            [],
        ),
    ],
)
def test_other_tables_that_drop_forwarded_packets_are_found(listing: str, expected: list[str]) -> None:
    assert facts.forward_dropped_by(listing) == expected


def test_memory_of_this_machine() -> None:
    memory = facts.read_memory()
    assert 0 < memory.available <= memory.total


@pytest.mark.real
def test_this_machine_has_all_that_is_needed() -> None:
    assert facts.find_faults() == []


def test_a_machine_that_lacks_programs_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("platform.release", lambda: "4.19.0")
    faults = {fault.what: fault.cure for fault in facts.find_faults()}
    assert faults["mke2fs is not installed"] == "run: apt-get install e2fsprogs"
    assert any("4.19.0" in what for what in faults)
