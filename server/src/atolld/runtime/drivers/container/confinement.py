"""What a container's root may not do although it is root: data, by reason.

Capabilities are those a package manager and an init need inside, and none that reaches the host: no CAP_SYS_ADMIN, no
CAP_NET_ADMIN, no CAP_NET_RAW (a container could forge packets of its neighbours), no CAP_SYS_PTRACE.
"""

from __future__ import annotations

CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)

# Files of /proc and /sys that tell of the host or its hardware, or let root of the guest act on them.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sysvipc",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# The only devices there are, besides the terminals of the guest's own devpts: (path, major, minor).
DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
# Character devices a container may open, by (major, minor); None: any. Opening anything else is refused by the cgroup.
OPENABLE = (*((major, minor) for _, major, minor in DEVICES), (5, 2), (136, None))
