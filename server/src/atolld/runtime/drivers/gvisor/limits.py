"""What the host allows the processes of one gVisor sandbox. Pure.

A guest process is no host process: the sentry keeps two host tasks for each guest address space (2.05 measured from
40 to 1,024 processes), on top of its own threads. Past the host's limit of tasks the sentry panics and the whole
sandbox ends, so that limit must not be the first one a fork bomb meets: the guest's own are RLIMIT_NPROC for users and
the pids controller inside the guest, set by the agent, for root; both answer EAGAIN to the fork.
"""

from __future__ import annotations

from dataclasses import replace

from atolld.core.sandbox import Resources
from atolld.host.cgroups import CgroupLimits
from atolld.runtime.driver import Overhead

# An idle sentry and gofer are charged 15 MiB of their own, a busy sentry (many files and connections) some 60.
MEMORY_MIB = 64
# Of the sentry (a few for each CPU, more while it waits for the host's disk) and the gofer; 22 when idle.
OWN_TASKS = 256
TASKS_PER_GUEST_PROCESS = 3
# The fewest CPUs that runsc shows a guest: with one, programs may drop locks they would need.
LEAST_CPUS = 2.0


def overhead(resources: Resources) -> Overhead:
    """What the sentry needs besides `resources`."""
    return Overhead(MEMORY_MIB, OWN_TASKS + (TASKS_PER_GUEST_PROCESS - 1) * resources.pids_max)


def boot(resources: Resources) -> CgroupLimits:
    """The limits while runsc starts.

    It reads from them, once, what the guest sees: so the memory is the guest's alone, without our overhead. Starting
    takes a tenth of a second of CPU time, and a sandbox with a tenth of a core would need a second for it; two cores
    change nothing for the guest, because it is shown at least two.
    """
    generous = replace(resources, cpu=max(resources.cpu, LEAST_CPUS))
    return CgroupLimits.of(generous, extra_pids=overhead(resources).tasks)


def running(resources: Resources) -> CgroupLimits:
    """The limits from then on."""
    extra = overhead(resources)
    return CgroupLimits.of(resources, extra_memory_mib=extra.memory_mib, extra_pids=extra.tasks)


def loading(resources: Resources) -> CgroupLimits:
    """The limits while a saved guest's memory is read: all of the memory, and CPU as at the start."""
    return replace(running(resources), cpu=boot(resources).cpu)
