"""How everything of one sandbox is killed, also what a dead daemon left half started."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from atolld.foundation.errors import Internal
from atolld.foundation.ids import SandboxId
from atolld.host import procs
from atolld.host.cgroups import Cgroups
from atolld.host.procs import ProcessIdentity

# The kernel takes a killed process down in milliseconds, one with gigabytes of memory in tenths of a second.
TIMEOUT_S = 10.0


async def kill_sandbox(cgroups: Cgroups, id: SandboxId, program: str, known: Iterable[ProcessIdentity]) -> None:
    """Kill `known`, every command of `program` that names `id`, and what is in the cgroup; returns when all are gone.

    Commands first: one that is just starting the sandbox would otherwise put new processes into an emptied cgroup.
    Raises Internal when something does not die within 10 s.
    """
    victims = {*commands_naming(id, program), *known}
    for process in victims:
        procs.send_signal(process)
    ended = await asyncio.gather(*(procs.wait_death(process, TIMEOUT_S) for process in victims))
    if not all(ended):
        raise Internal(f"processes of sandbox {id} do not die: {sorted(process.pid for process in victims)}")
    try:
        await cgroups.kill(id)
    except TimeoutError as error:
        raise Internal(str(error)) from error


def commands_naming(id: SandboxId, program: str) -> list[ProcessIdentity]:
    """Host processes of `program` (by the beginning of its name) with `id` among their arguments.

    An id has 100 random bits and a guest does not choose a host process's name and arguments under gVisor; under runc
    it could take the name of a sandbox it knows, which is its own.
    """
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            arguments = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.path.basename(arguments[0]).startswith(program.encode()) and any(id.encode() in a for a in arguments):
            process = procs.identify(int(name))
            if process is not None:
                found.append(process)
    return found
