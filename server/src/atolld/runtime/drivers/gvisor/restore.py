"""A guest that goes on from a saved memory, in surroundings of its own."""

from __future__ import annotations

from pathlib import Path

from atolld.runtime.driver import LaunchSpec
from atolld.runtime.drivers.gvisor.engine import Engine
from atolld.runtime.drivers.gvisor.image import keep_tmp_on_disk
from atolld.runtime.drivers.gvisor.saved import SavedLaunch
from atolld.runtime.drivers.gvisor.starting import start_saved, write_config
from atolld.runtime.record import Record


async def restore(engine: Engine, spec: LaunchSpec, directory: Path) -> Record:
    """See `RuntimeDriver.restore`."""
    saved = SavedLaunch.read(directory)
    write_config(spec.directory, spec.id, saved.bundle(spec))
    # A guest may have emptied its /tmp since: gVisor would mount one over it that the saved guest did not have.
    keep_tmp_on_disk(spec.rootfs)
    return await start_saved(engine, Record(spec.id, spec.directory, spec.log, spec.resources), directory)
