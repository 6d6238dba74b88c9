"""The OCI bundle of one sandbox: what is to run, as runsc reads it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atolld.foundation.units import MIB
from atolld.runtime.driver import LaunchSpec

AGENT_PATH = "/.atoll/agent"
SUDO_PATH = "/usr/bin/sudo"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Capabilities over the guest's own kernel (gVisor's), which is why there may be many: root in the guest can mount,
# trace and configure the guest's network stack, and none of it reaches the host.
CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
)

OPEN_FILES = 65536


def bundle(spec: LaunchSpec, *, agent_sudo: bool = False) -> dict[str, object]:
    """The `config.json` of a sandbox.

    `agent_sudo`: the agent takes the place of the image's `/usr/bin/sudo`, which must be a regular file.

    There is no `linux.resources`: the node has set the limits on the cgroup, and runsc leaves a cgroup that exists as
    it is. runsc reads from it how many CPUs and how much memory the guest is to see.
    """
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [AGENT_PATH],
            "env": environment(dict(spec.env) | ({"ATOLL_SUDO": "1"} if agent_sudo else {})),
            "cwd": "/",
            "noNewPrivileges": False,
            "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "rlimits": rlimits(spec),
        },
        "root": {"path": str(spec.rootfs), "readonly": False},
        "hostname": spec.hostname,
        "mounts": mounts(spec) + ([agent_mount(spec, SUDO_PATH)] if agent_sudo else []),
        "linux": {
            "namespaces": [
                {"type": "pid"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "network", "path": str(spec.netns)},
            ],
            "cgroupsPath": spec.cgroup,
        },
    }


def bind_sources(config: Mapping[str, Any]) -> tuple[Path, ...]:
    """The host's files that a bundle mounts into the guest, each once."""
    return tuple(sorted({Path(mount["source"]) for mount in config["mounts"] if mount["type"] == "bind"}))


def rlimits(spec: LaunchSpec) -> list[dict[str, object]]:
    """Bounds of each process. The guest's kernel enforces the one on processes for every user but root."""
    bounds = {"RLIMIT_NOFILE": OPEN_FILES, "RLIMIT_NPROC": spec.resources.pids_max}
    return [{"type": name, "hard": value, "soft": value} for name, value in bounds.items()]


def environment(env: Mapping[str, str]) -> list[str]:
    """`env` as `NAME=value`, with a PATH when it has none."""
    return [f"{name}={value}" for name, value in ({"PATH": DEFAULT_PATH} | dict(env)).items()]


def mounts(spec: LaunchSpec) -> list[dict[str, object]]:
    """The kernel's own file systems and the agent. /tmp is not among them: it lies on the disk and under its limit."""
    shm_bytes = spec.resources.memory_mib * MIB // 2
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec"]},
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "nodev", "mode=1777", f"size={shm_bytes}"],
        },
        agent_mount(spec, AGENT_PATH),
    ]


def agent_mount(spec: LaunchSpec, destination: str) -> dict[str, object]:
    """The agent's program, read-only, at `destination`."""
    return {"destination": destination, "type": "bind", "source": str(spec.agent), "options": ["bind", "ro", "nosuid"]}
