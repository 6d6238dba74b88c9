"""Drivers over a lab's place, importable by name, so that another process can make the same one."""

from __future__ import annotations

from atolld.runtime.conformance.linux_lab import Place
from atolld.runtime.drivers.container import ContainerDriver, ContainerSettings
from atolld.runtime.drivers.gvisor import GvisorDriver, GvisorSettings


def gvisor(place: Place) -> GvisorDriver:
    """gVisor as the machine has it."""
    return GvisorDriver(GvisorSettings(root=place.instance.run_dir / "runsc", cache=place.cache), place.cgroups)


def container(place: Place) -> ContainerDriver:
    """runc as the machine has it."""
    return ContainerDriver(ContainerSettings(root=place.instance.run_dir / "runc"), place.cgroups)
