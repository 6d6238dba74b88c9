"""What this machine has: each fact a pure parse and a reader. For `doctor`, capacity and the network's settings."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from atolld.host import libnftables
from atolld.host.nftables import NEVER_NETWORKS

# systemd-resolved keeps the real servers here while /etc/resolv.conf names only its own loopback address.
_RESOLV_CONFS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
_MEMINFO = Path("/proc/meminfo")
_CONNTRACK_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_SMALL_CONNTRACK = 65536
_FILESYSTEMS = Path("/proc/filesystems")

# Package of Debian and Ubuntu -> the program or library of it that the host mechanisms call.
PACKAGES = {
    "libnftables1": "libnftables.so.1",
    "e2fsprogs": "mke2fs",
    "util-linux": "nsenter",
    "mount": "mount",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something this machine lacks. `what`: the fact. `cure`: what to do about it."""

    what: str
    cure: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `available`: what new processes can get without swapping, by the kernel's estimate."""

    total: int
    available: int
    swap: int


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of the file system a path lies on."""

    total: int
    free: int


def parse_dns_servers(text: str) -> tuple[IPv4Address, ...]:
    """The IPv4 name servers of a resolv.conf in order, without those no sandbox can reach (loopback, link-local)."""
    found: list[IPv4Address] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = ip_address(words[1].partition("%")[0])
        except ValueError:
            continue
        reachable = isinstance(address, IPv4Address) and not any(address in network for network in NEVER_NETWORKS)
        if reachable and address not in found:
            assert isinstance(address, IPv4Address)
            found.append(address)
    return tuple(found)


def read_dns_servers(paths: Iterable[Path] = _RESOLV_CONFS) -> tuple[IPv4Address, ...]:
    """The host's own name servers, from the first file that names one a sandbox can reach; empty when none does."""
    for path in paths:
        try:
            servers = parse_dns_servers(path.read_text(errors="replace"))
        except OSError:
            continue
        if servers:
            return servers
    return ()


def parse_meminfo(text: str) -> Memory:
    """Raises ValueError when a field is missing."""
    fields = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    try:
        return Memory(fields["MemTotal"], fields["MemAvailable"], fields["SwapTotal"])
    except KeyError as error:
        raise ValueError(f"/proc/meminfo has no {error.args[0]}") from error


def read_memory() -> Memory:
    """The machine's memory now."""
    return parse_meminfo(_MEMINFO.read_text())


def read_disk(path: Path) -> Disk:
    """The disk `path` is on, or would be on once it is made. Raises OSError."""
    while not path.exists():
        path = path.parent
    space = os.statvfs(path)
    return Disk(space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize)


def read_conntrack_max(path: Path = _CONNTRACK_MAX) -> int:
    """How many connections the kernel can track; its smallest usual size while connection tracking is not loaded."""
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return _SMALL_CONNTRACK


def parse_filesystems(text: str) -> frozenset[str]:
    """The file systems the kernel has loaded."""
    return frozenset(line.split("\t")[-1].strip() for line in text.splitlines() if line.strip())


def parse_kernel(release: str) -> tuple[int, int]:
    """Major and minor of a kernel release such as `6.1.0-25-amd64`. Raises ValueError."""
    match = re.match(r"(\d+)\.(\d+)", release)
    if not match:
        raise ValueError(f"not a kernel release: {release!r}")
    return int(match.group(1)), int(match.group(2))


def find_faults() -> list[Fault]:
    """Everything the host mechanisms need and this machine lacks; empty when all is there. Blocks for milliseconds."""
    faults = []
    if os.geteuid() != 0:
        faults.append(Fault("not running as root", "run the daemon as root: namespaces, mounts and rules need it"))
    if parse_kernel(platform.release()) < (5, 10):
        faults.append(Fault(f"kernel {platform.release()} is too old", "use a kernel of 5.10 or newer"))
    missing = {"overlay", "ext4"} - parse_filesystems(_FILESYSTEMS.read_text())
    faults.extend(Fault(f"the file system {name} is not loaded", f"run: modprobe {name}") for name in sorted(missing))
    if not Path("/dev/loop-control").exists():
        faults.append(Fault("loop devices are not available", "run: modprobe loop"))
    problem = libnftables.available()
    if problem:
        faults.append(Fault(problem, "run: apt-get install libnftables1"))
    for package, program in PACKAGES.items():
        if not program.endswith(".1") and shutil.which(program) is None:
            faults.append(Fault(f"{program} is not installed", f"run: apt-get install {package}"))
    if not read_dns_servers():
        faults.append(
            Fault(
                "the host names no DNS server that a sandbox can reach",
                "set the setting for DNS servers; sandboxes resolve no names until then",
            )
        )
    return faults


def forward_dropped_by(ruleset: str) -> list[str]:
    """Tables other than ours whose forward chain drops by default (Docker's, a firewall's), from `nft list chains`.

    Such a chain drops our sandboxes' internet traffic, whatever our own rules say.
    """
    found, table, chain = [], "", ""
    for line in ruleset.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif "hook forward" in line and "policy drop" in line:
            found.append(f"{table} {chain}")
    return found
