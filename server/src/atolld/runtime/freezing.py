"""Taking all CPU from a sandbox by its control group: the same for every driver that runs host processes."""

from __future__ import annotations

from atolld.foundation.errors import Internal, NotFound
from atolld.foundation.ids import SandboxId
from atolld.host import procs
from atolld.host.cgroups import Cgroups
from atolld.host.procs import ProcessIdentity


async def freeze(cgroups: Cgroups, id: SandboxId) -> None:
    """Return when nothing of the group runs any more; frozen already is success.

    Raises NotFound when the group is gone, Internal when a process cannot be stopped; it runs on then.
    """
    try:
        await cgroups.freeze(id)
    except FileNotFoundError:
        raise NotFound(f"sandbox {id} is gone") from None
    except TimeoutError as error:
        raise Internal(f"sandbox {id} cannot be frozen: {error}") from error


def thaw(cgroups: Cgroups, id: SandboxId) -> None:
    """Let it run on; not frozen is success. Raises NotFound when the group is gone."""
    try:
        cgroups.thaw(id)
    except FileNotFoundError:
        raise NotFound(f"sandbox {id} is gone") from None


def wake(cgroups: Cgroups, id: SandboxId, process: ProcessIdentity | None) -> None:
    """As `thaw`, for whoever is to use it then. `process`: its own, None when that has ended.

    Raises NotFound also when that is gone, or was killed while it could not even die.
    """
    doomed = process is None or procs.is_killed(process)
    thaw(cgroups, id)
    if doomed:
        raise NotFound(f"sandbox {id} is gone")
