"""What a runtime can do, asked before anything is begun: the refusal is the driver's own sentence."""

from __future__ import annotations

from atolld.core.policy import LifecyclePolicy, OnIdle, OnTimeout
from atolld.foundation.errors import FailedPrecondition, NotFound
from atolld.node.interface import Node
from atolld.runtime.driver import Fingerprint, Power


class Powers:
    """The powers of the node's runtimes."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def known(self, runtime: str) -> Fingerprint:
        """What `runtime` found on the machine. Raises NotFound when there is no such runtime."""
        found = await self._node.fingerprints()
        if runtime not in found:
            names = ", ".join(sorted(found))
            raise NotFound(f"there is no runtime {runtime!r}; this machine has: {names}")
        return found[runtime]

    async def require(self, runtime: str, power: Power, hint: str = "") -> None:
        """Raises FailedPrecondition with the driver's sentence when `runtime` lacks `power`, NotFound without it."""
        sentence = (await self.known(runtime)).missing.get(power)
        if sentence is not None:
            raise FailedPrecondition(f"runtime {runtime!r}: {sentence}{hint}", power=power.value, runtime=runtime)

    async def check_policy(self, runtime: str, policy: LifecyclePolicy) -> None:
        """Raises FailedPrecondition when `runtime` cannot do what `policy` asks for when its time comes."""
        idle = policy.idle_timeout_s is not None
        pauses = policy.on_timeout is OnTimeout.PAUSE or policy.pause_after_s is not None
        if (pauses or (idle and policy.on_idle is OnIdle.PAUSE)) and policy.keep_memory:
            await self.require(runtime, Power.CHECKPOINT, "; ask for keep_memory false to keep its files")
        if idle and policy.on_idle is OnIdle.FREEZE:
            await self.require(runtime, Power.FREEZE)
