"""The end of a sandbox whose changes are kept as a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atolld.foundation.crash import crash_point
from atolld.foundation.errors import FailedPrecondition
from atolld.node.instance import Instance
from atolld.node.machine import Machine


async def seal(
    machine: Machine, instance: Instance, digest: str, manifest: Mapping[str, object], forbidden: Sequence[str]
) -> bool:
    """End its processes and keep what it changed; its surroundings are the caller's to remove. See `Node.seal`."""
    if instance.layers is None:
        raise FailedPrecondition(f"what sandbox {instance.id} lies on was not noted, so its changes cannot be kept")
    crash_point("seal.before_destroy")
    await instance.driver.destroy(instance.handle)
    crash_point("seal.after_destroy")
    changed = await machine.seal(instance.prepared, instance.layers, digest, manifest, forbidden)
    crash_point("seal.after_layer")
    return changed
