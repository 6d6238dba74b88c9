"""Keeping what a sandbox changed on a real host: its upper directory becomes a layer of the machine's store."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.images.layers import LayerStore
from atolld.images.sealing import Upper, seal


def seal_into(
    store: LayerStore,
    upper: Upper,
    digest: str,
    manifest: Mapping[str, object],
    *,
    forbidden: Sequence[str],
    clock: Clock,
    stop: threading.Event,
) -> bool:
    """See `Machine.seal`. Blocks; nothing is left of it when it raises."""
    for root in upper.lower:
        store.use(_digest(root), clock.now())
    if store.use(digest, clock.now()) is not None:
        return True
    building = store.begin()
    try:
        # What is set-user-id in it would be so for every user of the host who could reach it.
        building.chmod(0o700)
        crash_point("seal_files.begun")
        entries = seal(upper, building / "root", forbidden=forbidden, stop=stop)
        crash_point("seal_files.filled")
        if entries:
            whole = {"built_at": clock.now(), **manifest, "entries": entries}
            store.commit(building, digest, whole, used_at=clock.now())
            crash_point("seal_files.named")
            return True
    except BaseException:
        store.abandon(building)
        raise
    store.abandon(building)
    return False


def _digest(root: Path) -> str:
    return root.parent.name
