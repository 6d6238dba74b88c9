"""Taking all CPU from a sandbox by its control group: the same for every driver that runs host processes."""

from __future__ import annotations

from atolld.foundation.errors import Internal, NotFound
from atolld.foundation.ids import SandboxId
from atolld.host.cgroups import Cgroups


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
