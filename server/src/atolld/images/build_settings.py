"""What the machine lends to sandboxes of builds, so that their package managers work where its own do.

Variables of commands, and files on a file system in memory: nothing of it is in a layer, and `Node.seal` refuses one
that names a mirror or proxy of the machine. It is no secret to whoever may build: a step can read all of it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from atolld.core.network import NetworkPolicy
from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import FailedPrecondition
from atolld.host import nftables
from atolld.images.build_apt import apt_files
from atolld.images.build_environment import (
    Release,
    host_release,
    in_urls,
    inherited_apt_settings,
    proxy_variables,
)
from atolld.images.build_tools import Tools, read_tools
from atolld.images.build_trust import VARIABLES, own_bundle
from atolld.images.hostfiles import Host
from atolld.images.public_hosts import PublicHosts
from atolld.images.tree import Refused, file_in

log = logging.getLogger("atolld.builds")

# In memory in every runtime.
DIRECTORY = "/dev/shm/.atoll-build"
# How long what was read of the machine counts.
FRESH_S = 60.0
MAX_OS_RELEASE_BYTES = 64 * 1024
ANSWER_S = 2.0
RESOLVE_S = 5.0
# A port of the sandbox's own on which nothing listens.
NOWHERE = "http://127.0.0.1:9/"
_MIN_SECRET = 6
_PRIVATE = tuple(map(IPv4Network, nftables.PRIVATE))


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """For one sandbox. `envs`: variables of each command; the step's own go first. `files`: path in the sandbox to
    contents, to be put there before the first command. `network`: what it may reach. `forbidden`: texts that must be in
    no layer, for `Node.seal`. May hold credentials: never logged."""

    envs: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    forbidden: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class _Machine:
    """What holds for every image. `public`: hosts that its tools come with."""

    proxies: Mapping[str, str]
    bundle: bytes | None
    tools: Tools
    apt: Sequence[tuple[str, str]]
    release: Release | None
    public: frozenset[str]


async def answers(host: str) -> bool:
    """Whether a web server of that name takes a connection within two seconds."""
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host, 80)
    except OSError:
        return False
    writer.close()
    return True


async def addresses_of(host: str) -> Sequence[str]:
    """The IPv4 addresses of a name, as the machine resolves it within five seconds; none when it does not."""
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET)
    except OSError:
        return ()
    return sorted({str(entry[4][0]) for entry in found})


class BuildSettings:
    """`inherit_host`: the setting `build_inherit_host`; False: nothing is lent. `host`: where settings are read.
    `answering`: whether a public mirror can be reached from here. `resolve`: a name's IPv4 addresses. `public`: which
    hosts are public."""

    def __init__(
        self,
        inherit_host: bool = True,
        *,
        host: Host | None = None,
        clock: Clock | None = None,
        answering: Callable[[str], Awaitable[bool]] = answers,
        resolve: Callable[[str], Awaitable[Sequence[str]]] = addresses_of,
        public: PublicHosts | None = None,
    ) -> None:
        self._inherit = inherit_host
        self._host = host
        self._clock = clock or SystemClock()
        self._read: tuple[float, _Machine] | None = None
        self._answers: dict[str, tuple[float, bool]] = {}
        self._answering = answering
        self._addresses: dict[str, tuple[float, Sequence[str]]] = {}
        self._resolve = resolve
        self._public = public or PublicHosts()
        self._warned: set[str] = set()

    async def for_sandbox(self, layers: Sequence[Path]) -> SandboxSettings:
        """For a sandbox over `layers`, the lowest first."""
        if not self._inherit:
            return SandboxSettings()
        host = self._host or Host()
        machine = await self._machine(host)
        image = await asyncio.to_thread(release_in, layers[::-1])
        own, mirrors = await self._mirrors(machine.release, image)
        apt = await asyncio.to_thread(apt_files, host, machine.apt, own, image[1], mirrors, DIRECTORY)
        public = machine.public | mirrors
        files = dict(apt.files)
        envs = {**machine.proxies, **machine.tools.envs}
        if machine.bundle is not None:
            files["ca.crt"] = machine.bundle
            envs |= dict.fromkeys(VARIABLES, f"{DIRECTORY}/ca.crt")
            files["apt.conf"] = files.get("apt.conf", b"") + _trust_for_apt(files.get("apt.conf", b""))
        if machine.tools.npmrc:
            files["npmrc"] = machine.tools.npmrc.encode()
            envs["npm_config_globalconfig"] = f"{DIRECTORY}/npmrc"
        if apt.replaced and not machine.proxies:
            files["apt.conf"] += await self._without(apt.replaced, files["apt.conf"])
        if "apt.conf" in files:
            envs["APT_CONFIG"] = f"{DIRECTORY}/apt.conf"
        urls = {*apt.urls, *machine.tools.urls, *_proxy_urls(machine.proxies)}
        return SandboxSettings(
            envs=envs,
            files={f"{DIRECTORY}/{name}": data for name, data in files.items() if data},
            network=NetworkPolicy(private=await self._private({urlsplit(url).hostname for url in urls} - public)),
            forbidden=_forbidden(urls, (*apt.secrets, *machine.tools.secrets), public),
        )

    async def _mirrors(self, own: Release | None, image: tuple[str, str]) -> tuple[Release | None, frozenset[str]]:
        """The machine's release when its mirrors serve the image, which is of the same distribution then, and the hosts
        of the distribution's own."""
        if own is None or image[0] != own.distribution:
            return None, frozenset()
        try:
            return own, await self._public.of_release(own)
        except FailedPrecondition as error:
            self._warn(f"apt's mirrors of this machine are not lent to builds: {error.message}")
            return None, frozenset()

    async def _private(self, hosts: Iterable[str | None]) -> tuple[str, ...]:
        """The private addresses of mirrors and proxies: closed to sandboxes, but for these of builds."""
        now = self._clock.monotonic()
        found: set[str] = set()
        for host in hosts:
            if host is None:
                continue
            known = self._addresses.get(host)
            if known is None or now - known[0] > FRESH_S:
                known = self._addresses[host] = (now, await self._resolve(host))
            found |= {address for address in known[1] if _is_private(address)}
        return tuple(f"{address}/32" for address in sorted(found))

    async def _without(self, hosts: Sequence[str], conf: bytes) -> bytes:
        """Settings by which apt gives up public mirrors at once that a machine with its own cannot reach: an image
        names them beside it, and each would cost minutes."""
        if b"::proxy" in conf.lower():
            return b""
        now = self._clock.monotonic()
        lines: list[str] = []
        for host in hosts:
            known = self._answers.get(host)
            if known is None or now - known[0] > 10 * FRESH_S:
                known = self._answers[host] = (now, await self._answering(host))
            if not known[1]:
                lines.append(f'Acquire::http::Proxy::{host} "{NOWHERE}";')
        return "".join(
            f"{line}\n" for line in [*lines, *(['Acquire::Retries::Delay "false";'] if lines else [])]
        ).encode()

    async def _machine(self, host: Host) -> _Machine:
        now = self._clock.monotonic()
        if self._read is not None and now - self._read[0] < FRESH_S:
            return self._read[1]
        apt: Sequence[tuple[str, str]] = ()
        try:
            apt = await inherited_apt_settings()
        except FailedPrecondition as error:
            self._warn(f"apt's settings of this machine are not lent to builds: {error.message}")
        # Asking takes a second, and most machines have told their tools nothing.
        named = (await asyncio.to_thread(read_tools, host)).urls
        public = await self._public.of_tools() if named else frozenset[str]()
        found = await asyncio.to_thread(self._read_files, host, apt, public)
        self._read = (now, found)
        return found

    def _read_files(self, host: Host, apt: Sequence[tuple[str, str]], public: frozenset[str]) -> _Machine:
        try:
            release: Release | None = host_release(host.root / "etc/os-release")
        except (FailedPrecondition, OSError):
            release = None
        reachable = {
            name: value for name, value in proxy_variables(host.environ).items() if self._reachable(name, value)
        }
        apt = [(name, value) for name, value in apt if "proxy" not in name.lower() or self._reachable(name, value)]
        return _Machine(reachable, own_bundle(host), read_tools(host, public), apt, release, public)

    def _reachable(self, name: str, value: str) -> bool:
        """Whether a proxy can be reached from a sandbox; the machine's own loopback cannot."""
        host = urlsplit(value if "://" in value else f"//{value}").hostname or ""
        if name.lower() != "no_proxy" and _is_loopback(host):
            self._warn(f"{name} names a proxy on this machine's loopback address, which builds cannot reach")
            return False
        return True

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning(text)


def release_in(layers: Sequence[Path]) -> tuple[str, str]:
    """Distribution and code name of the image whose layers these are, the topmost first; empty texts when unknown."""
    for names in (("usr", "lib", "os-release"), ("etc", "os-release")):
        try:
            data = file_in(layers, names, MAX_OS_RELEASE_BYTES)
        except (Refused, OSError):
            continue
        if data is not None:
            fields: dict[str, str] = {}
            for line in data.decode("utf-8", "replace").splitlines():
                name, _, value = line.partition("=")
                fields[name] = value.strip().strip("\"'")
            return fields.get("ID", ""), fields.get("VERSION_CODENAME", "")
    return "", ""


def _trust_for_apt(conf: bytes) -> bytes:
    # The machine's own setting for this counts.
    return b"" if b"::cainfo " in conf.lower() else f'Acquire::https::CaInfo "{DIRECTORY}/ca.crt";\n'.encode()


def _proxy_urls(proxies: Mapping[str, str]) -> Iterable[str]:
    return (
        value if "://" in value else f"http://{value}" for name, value in proxies.items() if name.lower() != "no_proxy"
    )


def _forbidden(urls: Iterable[str], secrets: Iterable[str], public: Collection[str]) -> tuple[str, ...]:
    hosts: set[str] = set()
    texts = {secret for secret in secrets if len(secret) >= _MIN_SECRET}
    for url in urls:
        parts = urlsplit(url)
        if parts.hostname and parts.hostname not in public:
            hosts.add(parts.hostname)
        if parts.password and len(parts.password) >= _MIN_SECRET:
            texts |= {parts.password, unquote(parts.password)}
    return tuple(sorted(texts | in_urls(hosts)))


def _is_private(address: str) -> bool:
    return any(IPv4Address(address) in network for network in _PRIVATE)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
