"""The OCI bundle of one container, as runc reads it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from atolld.foundation.units import MIB
from atolld.runtime.driver import LaunchSpec
from atolld.runtime.drivers.container import confinement
from atolld.runtime.drivers.container.seccomp import profile

AGENT_PATH = "/.atoll/agent"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OPEN_FILES = 65536


def bundle(spec: LaunchSpec, machine: str, open_files: int = OPEN_FILES) -> dict[str, object]:
    """The `config.json`. `machine`: as `uname -m` says it, for the system call filter. `open_files`: of each process.

    There are no limits in it: the node has set them on the cgroup, and runc leaves alone what it is not told. There is
    no RLIMIT_NPROC either: without a user namespace it would count a user's processes over all sandboxes.

    Raises ValueError for a machine without a system call filter.
    """
    sets = ("bounding", "effective", "permitted")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [AGENT_PATH],
            "env": environment(spec.env),
            "cwd": "/",
            "noNewPrivileges": False,
            "capabilities": {kind: list(confinement.CAPABILITIES) for kind in sets},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": open_files, "soft": open_files}],
            "oomScoreAdj": 500,
        },
        "root": {"path": str(spec.rootfs), "readonly": False},
        "hostname": spec.hostname,
        "mounts": mounts(spec),
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")),
                {"type": "network", "path": str(spec.netns)},
            ],
            "cgroupsPath": spec.cgroup,
            "resources": {"devices": device_rules()},
            "seccomp": profile(machine),
            "maskedPaths": list(confinement.MASKED_PATHS),
            "readonlyPaths": list(confinement.READONLY_PATHS),
        },
    }


def environment(env: Mapping[str, str]) -> list[str]:
    """`env` as `NAME=value`, with a PATH when it has none."""
    return [f"{name}={value}" for name, value in ({"PATH": DEFAULT_PATH} | dict(env)).items()]


def device_rules() -> list[dict[str, object]]:
    """Everything refused, then the few character devices allowed; nodes may be made, because they then do not open."""
    rules: list[dict[str, object]] = [{"allow": False, "access": "rwm"}]
    rules += [{"allow": True, "type": kind, "access": "m"} for kind in ("c", "b")]
    for major, minor in confinement.OPENABLE:
        rule: dict[str, object] = {"allow": True, "type": "c", "major": major, "access": "rwm"}
        rules.append(rule if minor is None else rule | {"minor": minor})
    return rules


def mounts(spec: LaunchSpec) -> list[dict[str, object]]:
    """The kernel's own file systems, each as closed as it can be, and the agent."""
    closed = ["nosuid", "noexec", "nodev"]
    shm_bytes = spec.resources.memory_mib * MIB // 2
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": closed},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "nodev", "mode=1777", f"size={shm_bytes}"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": closed},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*closed, "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*closed, "relatime", "ro"]},
        {
            "destination": AGENT_PATH,
            "type": "bind",
            "source": str(spec.agent),
            "options": ["bind", "ro", "nosuid", "nodev"],
        },
    ]
