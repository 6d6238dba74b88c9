"""Containers (`runc`): the guest's system calls are served by the host's own kernel. Weaker than gVisor."""

from atolld.runtime.drivers.container.driver import ContainerDriver
from atolld.runtime.drivers.container.settings import ContainerSettings

__all__ = ["ContainerDriver", "ContainerSettings"]
