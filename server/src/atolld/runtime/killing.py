"""How everything of one sandbox is killed, also what a dead daemon left half started."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from atolld.foundation.errors import Internal
from atolld.foundation.ids import SandboxId
from atolld.host import procs
from atolld.host.cgroups import Cgroups
from atolld.host.procs import ProcessIdentity
from atolld.runtime.record import Record

# The kernel takes a killed process down in milliseconds, one with gigabytes of memory in tenths of a second.
TIMEOUT_S = 10.0


async def kill_sandbox(cgroups: Cgroups, record: Record, program: str, living: ProcessIdentity | None) -> None:
    """Kill `living`, every command of `program` that names the sandbox, and what is in its cgroup.

    Returns when all are gone, frozen or not. Commands first: one that is just starting the sandbox would otherwise put
    new processes into an emptied cgroup. They are looked for only when the record knows no process: a start that has
    returned has left none, and reading all of /proc takes 15 microseconds a process.

    Raises Internal when something does not die within 10 s.
    """
    id = record.id
    victims = set() if record.process is not None else set(await asyncio.to_thread(commands_naming, id, program))
    if living is not None:
        victims.add(living)
    for process in victims:
        procs.send_signal(process)
    # Dead already when they are thawed: no code of theirs runs. A frozen process dies of a signal on cgroup v2 only.
    with contextlib.suppress(FileNotFoundError):
        cgroups.thaw(id)
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
