"""A sandbox as the daemon knows it: what was asked for, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.policy import LifecyclePolicy
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import BuildId, ProjectId, SandboxId, SnapshotId, TemplateId

MIN_MEMORY_MIB = 64
MAX_MEMORY_MIB = 1024 * 1024
MIN_DISK_MIB = 64
MAX_DISK_MIB = 1024 * 1024
MAX_CPU = 256.0
MIN_CPU = 0.1
MAX_PIDS = 1_000_000
MIN_PIDS = 16
MAX_TIMEOUT_S = 365 * 24 * 3600
MAX_ENVS = 256
MAX_ENV_BYTES = 128 * 1024
MAX_METADATA = 64
MAX_METADATA_KEY = 128
MAX_METADATA_VALUE = 2048

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


@dataclass(frozen=True, slots=True)
class Resources:
    """Bounds of one sandbox: CPU in cores, memory and disk in MiB, guest processes and threads in number."""

    cpu: float = 1.0
    memory_mib: int = 512
    disk_mib: int = 10 * 1024
    pids_max: int = 1024

    def check(self) -> None:
        """Raises InvalidArgument when a bound is out of its range, naming it and the range."""
        _within("cpu", self.cpu, MIN_CPU, MAX_CPU)
        _within("memory_mib", self.memory_mib, MIN_MEMORY_MIB, MAX_MEMORY_MIB)
        _within("disk_mib", self.disk_mib, MIN_DISK_MIB, MAX_DISK_MIB)
        _within("pids_max", self.pids_max, MIN_PIDS, MAX_PIDS)


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a caller asks for.

    `timeout_s`: seconds from the start after which the sandbox is ended; None means never. `envs` are given to every
    process in the sandbox; `metadata` is the caller's own and is only stored and filtered by. `secure` False: the agent
    answers whoever knows the sandbox's id, through a dialect that has this (E2B's first); its token is sent for them.
    `template` may name a snapshot (id or name); runtime and resources are then the snapshot's. `lifecycle`: what
    happens when its time is up, and while nobody uses it.
    """

    template: str = "base"
    runtime: str = "gvisor"
    resources: Resources = field(default_factory=Resources)
    timeout_s: int | None = 300
    envs: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    secure: bool = True
    lifecycle: LifecyclePolicy = field(default_factory=LifecyclePolicy)

    def check(self) -> None:
        """Raises InvalidArgument when a value is out of its range or form, naming it."""
        self.resources.check()
        check_timeout(self.timeout_s)
        check_envs(self.envs)
        check_metadata(self.metadata)
        self.lifecycle.check()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One sandbox's row.

    Times are Unix seconds. `expires_at` None: no timeout. `handle` is the driver's own versioned record (JSON),
    `endpoint` where the agent answers; both are None until known. `agent_token` guards the agent and is a secret:
    it is shown only where a dialect's client must have it. `traffic_token` opens the sandbox's ports to who sends it;
    None as long as they never were closed to the public. `save_id`: the save that a paused one resumes from and that a
    resumed one came from. `pending_save_id`: what is being written while it is `pausing`. `head_id`: the snapshot that
    the next one's parent will be. `paused_at`: since when it is paused. `build_id`: the version of a project's template
    that it began with; None with others.
    """

    id: SandboxId
    project_id: ProjectId
    template_id: TemplateId
    template_name: str
    spec: SandboxSpec
    state: SandboxState
    created_at: float
    agent_token: str
    started_at: float | None = None
    expires_at: float | None = None
    ended_at: float | None = None
    end_reason: EndReason | None = None
    end_message: str | None = None
    address: str | None = None
    handle: Mapping[str, object] | None = None
    traffic_token: str | None = None
    save_id: SnapshotId | None = None
    pending_save_id: SnapshotId | None = None
    head_id: SnapshotId | None = None
    paused_at: float | None = None
    build_id: BuildId | None = None


def check_envs(envs: Mapping[str, str]) -> None:
    """Raises InvalidArgument on a bad variable name, a NUL or broken text in a value, or too many or too large ones."""
    if len(envs) > MAX_ENVS:
        raise InvalidArgument(f"envs has {len(envs)} variables; at most {MAX_ENVS} are allowed")
    total = 0
    for name, value in envs.items():
        if not _ENV_NAME.fullmatch(name):
            raise InvalidArgument(f"envs: {name[:80]!r} is not a variable name (letters, digits and '_')")
        total += len(name) + _utf8_length(value, f"envs: the value of {name}")
    if total > MAX_ENV_BYTES:
        raise InvalidArgument(f"envs takes {total} bytes; at most {MAX_ENV_BYTES} are allowed")


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raises InvalidArgument on too many, too long, empty or broken entries."""
    if len(metadata) > MAX_METADATA:
        raise InvalidArgument(f"metadata has {len(metadata)} entries; at most {MAX_METADATA} are allowed")
    for key, value in metadata.items():
        if not key or len(key) > MAX_METADATA_KEY:
            raise InvalidArgument(f"metadata: a key has {len(key)} characters; 1 to {MAX_METADATA_KEY} are allowed")
        if len(value) > MAX_METADATA_VALUE:
            raise InvalidArgument(
                f"metadata: the value of {key[:80]!r} has {len(value)} characters; "
                f"at most {MAX_METADATA_VALUE} are allowed"
            )
        _utf8_length(key, "metadata: a key")
        _utf8_length(value, f"metadata: the value of {key[:80]!r}")


def _utf8_length(text: str, what: str) -> int:
    # Neither the agent's environment nor the database can hold these.
    if "\0" in text:
        raise InvalidArgument(f"{what} holds a NUL byte")
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} is not valid text: it holds half of a surrogate pair") from None


def check_timeout(timeout_s: int | None) -> None:
    """Raises InvalidArgument when it is neither None (never) nor from 1 to `MAX_TIMEOUT_S`."""
    if timeout_s is not None and not 1 <= timeout_s <= MAX_TIMEOUT_S:
        raise InvalidArgument(f"timeout_s is {timeout_s}; it must be between 1 and {MAX_TIMEOUT_S}, or none at all")


def _within(name: str, value: float, low: float, high: float) -> None:
    # Written so that NaN fails too.
    if not low <= value <= high:
        raise InvalidArgument(f"{name} is {value:g}; it must be between {low:g} and {high:g}")
