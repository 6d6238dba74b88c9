"""The daemon's settings: defaults, then a file of JSON, then environment variables `ATOLL_<NAME>`.

Every unit is in the name. docs/configuration.md is made from this table and checked against it.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from atolld.foundation.errors import InvalidArgument
from atolld.host.archivekeys import parse_public_key
from atolld.host.diskstore import MIN_STORE_MIB
from atolld.host.instance import Instance

ENV_PREFIX = "ATOLL_"
DEFAULT_FILE = Path("/etc/atoll/atolld.json")

# Read by parts that are no setting of the daemon: the client's address and key, where the daemon's settings file lies,
# and a test's crash point.
_NOT_SETTINGS = frozenset({"API_URL", "API_KEY", "SETTINGS", "CRASH_POINT", "AGENT_PORT", "CONFIG"})

_LISTS = frozenset({"dns_servers", "allow_private_cidrs", "archive_trust"})

Port = Annotated[int, Field(ge=1, le=65535)]


def _archive_key(text: str) -> str:
    try:
        parse_public_key(text)
    except InvalidArgument as error:
        raise ValueError(error.message) from None
    return text.strip()


ArchiveKey = Annotated[str, AfterValidator(_archive_key)]


class Settings(BaseModel):
    """All settings. Directories None: derived from the instance's name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance: str = Field("atoll", description="Name every resource on the host derives from; 1 to 10 of a-z and 0-9.")
    node: Literal["linux", "fake"] = Field(
        "linux",
        description="`fake` runs no isolation at all: each sandbox is an agent as an ordinary process on loopback. "
        "For demonstrations and tests of clients, without root.",
    )
    bind_host: str = Field("127.0.0.1", description="Address the API listens on.")
    bind_port: Port = Field(8880, description="Port the API listens on.")
    domain: str | None = Field(
        None,
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
        max_length=200,
        description="Domain under which `<port>-<sandbox>.<domain>` and `api.<domain>` lead to this daemon; told to "
        "E2B's clients. See docs/tls.md.",
    )
    tls: Literal["off", "auto", "files"] = Field(
        "off",
        description="`auto` serves with a certificate for `domain` from an authority of its own, `files` with "
        "`tls_cert` and `tls_key`.",
    )
    tls_cert: Path | None = Field(None, description="Certificate chain in PEM, for `tls` files.")
    tls_key: Path | None = Field(None, description="The certificate's private key in PEM, for `tls` files.")
    tls_port: Port = Field(443, description="Port for TLS, beside `bind_port`.")
    state_dir: Path | None = Field(None, description="Database and disks; default `/var/lib/<instance>`.")
    run_dir: Path | None = Field(None, description="What is gone after a reboot; default `/run/<instance>`.")
    cache_dir: Path = Field(Path("/var/cache/atoll"), description="Templates and tools, shared by all instances.")
    database_url: str | None = Field(
        None, description="`sqlite:///<file>` or `postgresql://...`; default a file in the state directory."
    )
    agent_binary: Path | None = Field(None, description="The guest agent; default: `bin/atoll-agent` in the cache.")
    runsc_binary: Path | None = Field(None, description="gVisor's runsc; default: found in the cache, then in PATH.")
    runc_binary: Path | None = Field(None, description="runc, for the container runtime; default: found in PATH.")
    runsc_platform: str | None = Field(None, description="systrap, ptrace or kvm; default: the first that works.")
    parallel_launches: int | None = Field(None, ge=1, le=256, description="Starts at once; default 2 per core.")
    max_sandboxes: int = Field(1000, ge=1, le=100_000, description="Sandboxes at once on this machine.")
    memory_overcommit: float = Field(4.0, ge=0.1, le=100, description="Sum of memory limits over the memory there is.")
    cpu_overcommit: float = Field(64.0, ge=0.1, le=1000, description="Sum of CPU limits over the cores there are.")
    memory_reserve_mib: int = Field(512, ge=0, description="Memory that must stay free for a start, in MiB.")
    disk_reserve_mib: int = Field(2048, ge=0, description="Disk that must stay free for a start, in MiB.")
    disk_store: Literal["auto", "plain", "xfs"] = Field(
        "auto",
        description="What disks and saves lie on. `plain`: the state directory's file system. `xfs`: an image of our "
        "own in it, whose files are cloned without a copy. `auto`: plain where that can clone, else xfs where the "
        "machine has it. A store that exists stays as it is. See docs/host.md.",
    )
    disk_store_mib: int | None = Field(
        None,
        ge=MIN_STORE_MIB,
        description="Size of a new `xfs` store in MiB; default: what is free, less `disk_reserve_mib`.",
    )
    verify_disk_mib: int = Field(
        128, ge=0, description="Data on a saved disk up to which it is verified at each start from it, in MiB."
    )
    ready_slots: int = Field(32, ge=0, le=256, description="Network namespaces kept prepared.")
    ready_layers: int = Field(16, ge=0, le=256, description="Writable disks kept prepared.")
    ready_containers: int = Field(
        2,
        ge=0,
        le=64,
        description="Containers kept prepared for sandboxes with default resources, 13 MiB each; 0: none.",
    )
    awake_ms: int = Field(
        20,
        ge=0,
        le=1000,
        description="Idle cores stay awake while a sandbox is started, resumed or saved, and for so many milliseconds "
        "more; 0: they do not. See docs/runtimes.md.",
    )
    subnet: IPv4Network | None = Field(None, description="Range of sandbox addresses; default: a free private one.")
    dns_servers: tuple[IPv4Address, ...] = Field(
        (), description="What sandboxes resolve names with; default: this machine's own name servers."
    )
    allow_private_cidrs: tuple[IPv4Network, ...] = Field(
        (), description="Private ranges that sandboxes may reach; default none."
    )
    archive_trust: tuple[ArchiveKey, ...] = Field(
        (),
        description="Public keys (`atolld archive-key`) of machines whose archives of snapshots may be imported here, "
        "beside this machine's own. See docs/archives.md.",
    )
    build_inherit_host: bool = Field(
        True,
        description="Builds use this machine's package mirrors, proxies, certificates and credentials; whoever may "
        "build can read them. See docs/templates.md.",
    )
    versions_kept: int = Field(
        10,
        ge=0,
        le=1_000_000,
        description="Versions without a tag that a template keeps, and as many failed builds; older ones that nothing "
        "needs are deleted. See docs/templates.md.",
    )
    max_versions: int = Field(
        1000, ge=1, le=1_000_000, description="Versions of templates that one project may have, in all."
    )
    e2b_runtime: str = Field("gvisor", description="What sandboxes made by E2B's clients run in.")
    e2b_max_timeout_h: int = Field(
        365 * 24, ge=1, le=365 * 24, description="Longest timeout that E2B's clients may ask for, in hours."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON lines otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_max_mib: int = Field(64, ge=1, description="Size at which the background daemon's log starts anew, in MiB.")
    metrics_public: bool = Field(False, description="Whether `/metrics` answers clients on other machines.")
    head_timeout_s: float = Field(15.0, gt=0, le=600, description="Time a client has for a request's headers.")
    keep_alive_s: int = Field(75, ge=1, le=3600, description="How long an idle connection of a client is kept.")
    max_connections: int = Field(10_000, ge=16, description="Client connections at once.")
    stop_grace_s: float = Field(
        3.0, ge=0, le=60, description="Time that requests in flight have when the daemon stops."
    )

    @property
    def identity(self) -> Instance:
        """The instance. Raises InvalidArgument."""
        return Instance.named(self.instance, state_dir=self.state_dir, run_dir=self.run_dir)

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.identity.state_dir

    @property
    def run(self) -> Path:
        """The directory that a reboot empties."""
        return self.identity.run_dir

    @property
    def database(self) -> str | Path:
        """What `open_database` takes."""
        return self.database_url or self.state / "atoll.db"

    @property
    def agent(self) -> Path:
        """The guest agent's binary."""
        return self.agent_binary or self.cache_dir / "bin" / "atoll-agent"

    @property
    def public_domain(self) -> str | None:
        """The domain as clients must write it, with the port when it is not the usual one."""
        if self.domain is None or self.tls == "off" or self.tls_port == 443:
            return self.domain
        return f"{self.domain}:{self.tls_port}"

    @property
    def url(self) -> str:
        """Where clients on this machine reach the API."""
        host = self.bind_host
        try:
            address = ipaddress.ip_address(host)
            if address.is_unspecified:
                host = "127.0.0.1" if address.version == 4 else "[::1]"
            elif address.version == 6:
                host = f"[{host}]"
        except ValueError:
            pass
        return f"http://{host}:{self.bind_port}"


def load(environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Settings from the file (ATOLL_SETTINGS, else /etc/atoll/atolld.json if it is there), then the environment, then
    `overrides` that are not None.

    Raises InvalidArgument naming the setting, its value and what is expected. Variables that name no setting are left
    alone: other programs have theirs.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = _from_file(environ.get(f"{ENV_PREFIX}SETTINGS"))
    for variable, text in environ.items():
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name in _NOT_SETTINGS or name.lower() not in Settings.model_fields:
            continue
        values[name.lower()] = text.split(",") if name.lower() in _LISTS else text
    values |= {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise InvalidArgument(f"setting {name} is {fault['input']!r}: {fault['msg']}") from None
    # A bad instance name is told now and not at its first use.
    _ = settings.identity
    _check_tls(settings)
    return settings


def _check_tls(settings: Settings) -> None:
    if settings.tls == "auto" and settings.domain is None:
        raise InvalidArgument("setting tls is 'auto', which needs the setting domain, for example sandbox.test")
    if settings.tls == "files" and (settings.tls_cert is None or settings.tls_key is None):
        raise InvalidArgument("setting tls is 'files', which needs the settings tls_cert and tls_key")
    if settings.tls != "off" and settings.tls_port == settings.bind_port:
        raise InvalidArgument(f"tls_port and bind_port are both {settings.tls_port}; they must differ")


def _from_file(path_text: str | None) -> dict[str, object]:
    path = Path(path_text) if path_text else DEFAULT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path_text:
            raise InvalidArgument(f"there is no settings file {path} (named by {ENV_PREFIX}SETTINGS)") from None
        return {}
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"the settings file {path} is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise InvalidArgument(f"the settings file {path} holds no object of names and values")
    return parsed
