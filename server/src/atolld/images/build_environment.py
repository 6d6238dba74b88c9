"""What a build takes over from the host.

Builds run commands of the distribution's packages, not of sandbox users, and may need the machine's mirror, proxy,
certificates and credentials to reach packages at all. The setting `build_inherit_host` switches that; sandboxes never
get any of it: `atolld.images.scrub` checks each finished image for traces.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from atolld.foundation.errors import FailedPrecondition
from atolld.images.apt_sources import AptSource, mirror_hosts, read_sources, select_release

# apt's settings that decide how a mirror is reached; everything else of the host's configuration stays behind.
_INHERITED_APT = (
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::ftp::",
    "Acquire::Retries",
    "Acquire::ForceIPv4",
    "Acquire::ForceIPv6",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Max-ValidTime",
)
_INHERITED_VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class Release:
    """A distribution's release. `keyring`: the file of its keys, in every image of it. `public_sources`: where its
    packages are in public, once somebody has asked (`atolld.images.public_hosts`)."""

    distribution: str
    codename: str
    components: tuple[str, ...]
    keyring: str
    public_sources: tuple[AptSource, ...] = ()


def release_of(distribution: str, codename: str) -> Release:
    """The release `codename` of `debian` or `ubuntu`.

    Raises FailedPrecondition for another distribution.
    """
    if distribution == "debian":
        return Release(distribution, codename, ("main",), "/usr/share/keyrings/debian-archive-keyring.gpg")
    if distribution == "ubuntu":
        return Release(distribution, codename, ("main", "universe"), "/usr/share/keyrings/ubuntu-archive-keyring.gpg")
    raise FailedPrecondition(
        f"the template 'base' can be built on Debian and Ubuntu hosts; /etc/os-release says {distribution!r}"
    )


def host_release(os_release: Path = Path("/etc/os-release")) -> Release:
    """The host's own release: the one its mirror and its keyring are sure to serve.

    Raises FailedPrecondition when the host is neither Debian nor Ubuntu.
    """
    fields: dict[str, str] = {}
    for line in os_release.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        fields[name] = value.strip().strip("\"'")
    return release_of(fields.get("ID", "unknown"), fields.get("VERSION_CODENAME", "unknown"))


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """Everything a build may know of the host; values may hold credentials, so it is never logged.

    `sources`: where packages come from. `apt_options`: settings in apt.conf form (`Name "value";`). `variables`:
    environment of the build. `secrets_of_host`: texts that must not be found in a finished image.
    """

    release: Release
    sources: tuple[AptSource, ...]
    apt_options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets_of_host: tuple[str, ...] = ()


def public_environment(release: Release) -> BuildEnvironment:
    """Nothing of the host: the distribution's public mirror, reached directly. `release`: with its public sources."""
    return BuildEnvironment(release, release.public_sources)


async def inherited_environment(release: Release, etc_apt: Path = Path("/etc/apt")) -> BuildEnvironment:
    """The machine's own mirrors, keys, proxies, certificates and credentials for apt. `release`: with its public
    sources.

    Raises FailedPrecondition when apt is missing or no source of the machine serves the release.
    """
    sources = tuple(select_release(read_sources(etc_apt), release.codename, release.components))
    settings = await inherited_apt_settings()
    options = [f'{name} "{value}";' for name, value in settings]
    # apt runs outside the new root but with its directories inside it; absolute paths lead back to the host's.
    options += [f'Dir::Etc::netrc "{etc_apt / "auth.conf"}";', f'Dir::Etc::netrcparts "{etc_apt / "auth.conf.d"}";']
    variables = proxy_variables(os.environ)
    public = mirror_hosts(release.public_sources)
    proxies = [value for name, value in settings if "proxy" in name.lower()] + [
        value for name, value in variables.items() if name.lower() != "no_proxy"
    ]
    hosts = mirror_hosts(sources) | {host for proxy in proxies if (host := urlsplit(proxy).hostname)}
    secrets = in_urls(hosts - public) | {proxy for proxy in proxies if "://" in proxy}
    return BuildEnvironment(release, sources, tuple(options), variables, tuple(sorted(secrets)))


def proxy_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of `environ` that name proxies, or what is reached without."""
    names = (name for lower in _INHERITED_VARIABLES for name in (lower, lower.upper()))
    return {name: value for name in names if (value := environ.get(name))}


async def inherited_apt_settings() -> list[tuple[str, str]]:
    """Name and value of each setting of the machine's apt that decides how a mirror is reached.

    Raises FailedPrecondition when apt is missing or misconfigured.
    """
    return _inherited_settings(await _apt_config_dump())


def in_urls(hosts: set[str]) -> set[str]:
    """The texts that give away one of `hosts`."""
    # As part of a URL only: a mirror may be called `apt`, and that word is everywhere.
    named = hosts - {"localhost", "127.0.0.1", "::1"}
    return {f"{before}{host}{after}" for host in named for before in ("//", "@") for after in ("/", ":")}


def _inherited_settings(dump: str) -> list[tuple[str, str]]:
    settings = []
    for line in dump.splitlines():
        name, _, value = line.rstrip(";").partition(" ")
        value = value.strip().strip('"')
        if value and name.startswith(_INHERITED_APT):
            settings.append((name, value))
    return settings


async def _apt_config_dump() -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "apt-config", "dump", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise FailedPrecondition("apt-config is missing: templates are built from the host's apt sources") from error
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise FailedPrecondition(
            f"'apt-config dump' failed with status {process.returncode}: fix the apt configuration"
        )
    return output.decode(errors="replace")
