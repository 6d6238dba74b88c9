"""What the daemon and the agent tell, as values. Unknown fields are ignored, so that a newer daemon can say more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from atoll._errors import Internal

SandboxState = str
FileType = Literal["file", "dir", "symlink", "other"]
WatchKind = Literal["create", "write", "remove", "rename", "chmod", "gap"]


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox as the daemon knows it now.

    cpu in cores, memory_mib and disk_mib in MiB, pids_max in processes and threads. `expires_at` None: no timeout.
    `state`: "creating", "running", "frozen", "pausing", "paused", "resuming", "stopping" or "ended". `end_reason` and
    `end_message`: why it ended, None while it lives. `on_timeout` to `pause_after_s`: what happens when its time is up
    and while it idles, as in `create`. `paused_at`: since when it is paused, else None. `head_id`: the checkpoint that
    it stands on. `timings_ms` (where the time of its creation went) and `from_pool` (whether a warm pool had it ready):
    only in the answer to create. `raw`: the daemon's whole answer.
    """

    id: str
    template: str
    runtime: str
    state: SandboxState
    cpu: float
    memory_mib: int
    disk_mib: int
    pids_max: int
    internet: bool
    metadata: Mapping[str, str]
    created_at: datetime | None
    started_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None
    end_message: str | None
    on_timeout: str
    keep_memory: bool
    auto_resume: bool
    idle_timeout_s: int | None
    on_idle: str
    pause_after_s: int | None
    paused_at: datetime | None
    head_id: str | None
    timings_ms: Mapping[str, float]
    from_pool: bool | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Any) -> SandboxInfo:
        """Read the daemon's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            raise Internal("the daemon's answer is not a sandbox")
        return cls(
            id=value["id"],
            template=str(value.get("template", "")),
            runtime=str(value.get("runtime", "")),
            state=str(value.get("state", "")),
            cpu=float(value.get("cpu") or 0),
            memory_mib=int(value.get("memory_mib") or 0),
            disk_mib=int(value.get("disk_mib") or 0),
            pids_max=int(value.get("pids_max") or 0),
            internet=bool(value.get("internet", True)),
            metadata=dict(value.get("metadata") or {}),
            created_at=parse_time(value.get("created_at")),
            started_at=parse_time(value.get("started_at")),
            expires_at=parse_time(value.get("expires_at")),
            ended_at=parse_time(value.get("ended_at")),
            end_reason=value.get("end_reason"),
            end_message=value.get("end_message"),
            on_timeout=str(value.get("on_timeout", "kill")),
            keep_memory=bool(value.get("keep_memory", True)),
            auto_resume=bool(value.get("auto_resume", True)),
            idle_timeout_s=value.get("idle_timeout_s"),
            on_idle=str(value.get("on_idle", "freeze")),
            pause_after_s=value.get("pause_after_s"),
            paused_at=parse_time(value.get("paused_at")),
            head_id=value.get("head_id"),
            timings_ms=dict(value.get("timings_ms") or {}),
            from_pool=value.get("from_pool"),
            raw=value,
        )


@dataclass(frozen=True)
class ProcessInfo:
    """A process that was started through the agent and still runs. `tag`: the starter's name for it, or None."""

    pid: int
    cmd: str
    args: tuple[str, ...]
    cwd: str | None
    tag: str | None

    @classmethod
    def from_json(cls, value: Any) -> ProcessInfo:
        """Read the agent's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("pid"), int):
            raise Internal("the agent's answer is not a process")
        config = value.get("config") or {}
        return cls(
            pid=value["pid"],
            cmd=str(config.get("cmd", "")),
            args=tuple(str(item) for item in config.get("args") or ()),
            cwd=config.get("cwd"),
            tag=value.get("tag"),
        )


_FILE_TYPES: dict[object, FileType] = {
    "FILE_TYPE_FILE": "file",
    "FILE_TYPE_DIRECTORY": "dir",
    "FILE_TYPE_SYMLINK": "symlink",
    "file": "file",
    "dir": "dir",
    "directory": "dir",
    "symlink": "symlink",
}


@dataclass(frozen=True)
class FileInfo:
    """One entry of the sandbox's file system.

    type: "file", "dir", "symlink" (with no target) or "other"; a link that leads somewhere has its target's type, and
    `symlink_target` set. size in bytes. mode: permission bits as a number. permissions: as `ls -l` shows them.
    """

    name: str
    path: str
    type: FileType
    size: int = 0
    mode: int = 0
    permissions: str = ""
    owner: str = ""
    group: str = ""
    modified_at: datetime | None = None
    symlink_target: str | None = None

    @classmethod
    def from_json(cls, value: Any) -> FileInfo:
        """Read the agent's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("path"), str):
            raise Internal("the agent's answer is not a file")
        return cls(
            name=str(value.get("name", "")),
            path=value["path"],
            type=_FILE_TYPES.get(value.get("type"), "other"),
            size=_integer(value.get("size")),
            mode=_integer(value.get("mode")),
            permissions=str(value.get("permissions", "")),
            owner=str(value.get("owner", "")),
            group=str(value.get("group", "")),
            modified_at=parse_time(value.get("modifiedTime")),
            symlink_target=value.get("symlinkTarget"),
        )


_WATCH_KINDS: dict[object, WatchKind] = {
    "EVENT_TYPE_CREATE": "create",
    "EVENT_TYPE_WRITE": "write",
    "EVENT_TYPE_REMOVE": "remove",
    "EVENT_TYPE_RENAME": "rename",
    "EVENT_TYPE_CHMOD": "chmod",
}


@dataclass(frozen=True)
class WatchEvent:
    """A change under a watched directory.

    type: "create", "write", "remove", "rename" (with the old name; a "create" with the new one follows), "chmod", or
    "gap": the connection broke, changes may have been missed, look at the directory again. name: relative to the
    watched directory. entry: the file after the change, when it was asked for and still exists.
    """

    type: WatchKind
    name: str
    entry: FileInfo | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WatchEvent | None:
        """Read the agent's form; None for a kind of event that this SDK does not know."""
        kind = _WATCH_KINDS.get(value.get("type"))
        if kind is None:
            return None
        entry = value.get("entry")
        return cls(kind, str(value.get("name", "")), FileInfo.from_json(entry) if isinstance(entry, dict) else None)


@dataclass(frozen=True)
class Metrics:
    """One sample of what a sandbox uses: CPU in percent of one core, memory and disk in bytes."""

    timestamp: datetime | None
    cpu_count: float
    cpu_used_pct: float
    memory_used_bytes: int
    memory_total_bytes: int
    memory_cache_bytes: int
    disk_used_bytes: int
    disk_total_bytes: int

    @classmethod
    def from_json(cls, value: Any) -> Metrics:
        """Read the daemon's form. Raises Internal when it is none."""
        if not isinstance(value, dict):
            raise Internal("the daemon's answer is not a sample of metrics")
        return cls(
            timestamp=parse_time(value.get("timestamp", value.get("at"))),
            cpu_count=float(value.get("cpu_count") or 0),
            cpu_used_pct=float(value.get("cpu_used_pct") or 0),
            memory_used_bytes=_integer(value.get("memory_used_bytes")),
            memory_total_bytes=_integer(value.get("memory_total_bytes")),
            memory_cache_bytes=_integer(value.get("memory_cache_bytes")),
            disk_used_bytes=_integer(value.get("disk_used_bytes")),
            disk_total_bytes=_integer(value.get("disk_total_bytes")),
        )


@dataclass(frozen=True)
class LogEntry:
    """One line of a sandbox's log. It was written inside the sandbox: do not trust what it says."""

    timestamp: datetime | None
    level: str
    message: str
    fields: Mapping[str, Any]

    @classmethod
    def from_json(cls, value: Any) -> LogEntry:
        """Read the daemon's form. Raises Internal when it is none."""
        if not isinstance(value, dict):
            raise Internal("the daemon's answer is not a log entry")
        fields = value.get("fields")
        return cls(
            timestamp=parse_time(value.get("timestamp")),
            level=str(value.get("level") or "info"),
            message=str(value.get("message") or ""),
            fields=fields if isinstance(fields, dict) else {},
        )


def parse_time(value: object) -> datetime | None:
    """An RFC 3339 text or Unix seconds as an aware datetime; None when it is neither."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime.fromtimestamp(value).astimezone()
    if not isinstance(value, str) or not value:
        return None
    text = value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value
    try:
        return datetime.fromisoformat(_microseconds(text))
    except ValueError:
        return None


def _microseconds(text: str) -> str:
    # Python before 3.11 reads three or six digits after the point, no others; agents send up to nine.
    head, point, rest = text.partition(".")
    if not point:
        return text
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{head}.{rest[:digits][:6].ljust(6, '0')}{rest[digits:]}"


def _integer(value: object) -> int:
    # 64-bit numbers are strings in protobuf's JSON.
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return int(value)
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        return int(value)
    return 0
