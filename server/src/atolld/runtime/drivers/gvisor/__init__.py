"""gVisor (`runsc`): the guest's system calls end in a kernel written in Go, in a process of its own."""

from atolld.runtime.drivers.gvisor.driver import GvisorDriver
from atolld.runtime.drivers.gvisor.settings import GvisorSettings

__all__ = ["GvisorDriver", "GvisorSettings"]
