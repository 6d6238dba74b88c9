"""Changes to a sandbox that runs: freezing it, letting it run again, keeping it warm and making it somebody's."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.foundation.clock import Clock
from atolld.foundation.errors import AtollError, FailedPrecondition, Internal
from atolld.guest.client import GuestInit
from atolld.node.instance import Instance
from atolld.node.interface import Claim
from atolld.node.launching import GuestFactory
from atolld.node.machine import Machine
from atolld.runtime.driver import Power

log = logging.getLogger("atolld.node")

# The agent runs already: one that takes longer is not worth waiting for.
CLAIM_DEADLINE_S = 5.0
REHEARSAL_DEADLINE_S = 5.0


class Changer:
    """Changes sandboxes in place."""

    def __init__(self, machine: Machine, clock: Clock, guest: GuestFactory) -> None:
        self._machine = machine
        self._clock = clock
        self._guest = guest

    async def freeze(self, instance: Instance) -> None:
        """See `Node.freeze`."""
        async with instance.lock:
            instance.check_alive()
            missing = (await instance.driver.fingerprint()).missing
            if Power.FREEZE in missing:
                raise FailedPrecondition(missing[Power.FREEZE])
            # Noted before: after a cancellation it may be either.
            instance.frozen = True
            try:
                await instance.driver.freeze(instance.handle)
            except AtollError:
                instance.frozen = False
                raise

    async def thaw(self, instance: Instance) -> None:
        """See `Node.thaw`."""
        async with instance.lock:
            instance.check_alive()
            if instance.frozen:
                await instance.driver.thaw(instance.handle)
                instance.frozen = False

    async def set_network(self, instance: Instance, policy: NetworkPolicy) -> None:
        """See `Node.set_network`."""
        await self._machine.set_network(instance.prepared, policy)
        instance.network = policy

    async def stand_by(self, instance: Instance) -> None:
        """See `Node.stand_by`."""
        async with instance.lock:
            instance.check_alive()
            try:
                await self._guest(instance.prepared.address, instance.token).rehearse(REHEARSAL_DEADLINE_S)
                instance.has_rehearsed = True
            except AtollError as error:
                # It is as good without; whether it can be used at all, its claim tells.
                log.info("a warm sandbox did not run a command: %s", error.message, extra={"sandbox_id": instance.id})
            if Power.FREEZE in (await instance.driver.fingerprint()).missing:
                return
            instance.frozen = True
            try:
                await instance.driver.freeze(instance.handle)
            except Internal as error:
                log.warning("a warm sandbox does not stand still: %s", error.message, extra={"sandbox_id": instance.id})
                instance.frozen = False

    async def claim(self, instance: Instance, what: Claim) -> None:
        """See `Node.claim`."""
        async with instance.lock:
            instance.check_alive()
            own_kernel = Power.OWN_KERNEL not in (await instance.driver.fingerprint()).missing
            check_change(instance.resources, what.resources, own_kernel)
            if what.resources != instance.resources:
                overhead = instance.driver.overhead(what.resources)
                await self._machine.set_resources(instance.prepared, what.resources, overhead)
                instance.resources = what.resources
            if what.network != instance.network:
                await self.set_network(instance, what.network)
            if instance.frozen:
                await instance.driver.thaw(instance.handle)
                instance.frozen = False
            if what.envs or not instance.has_rehearsed:
                # Last: what its owner gives it comes only under its owner's policy. Without any there is nothing to
                # tell an agent that ran a command before it was frozen; asking costs an eighth of a warm create.
                init = GuestInit(None, self._clock.now(), default_user=None, envs=what.envs)
                await self._guest(instance.prepared.address, instance.token).wait_ready(init, CLAIM_DEADLINE_S)


def check_change(old: Resources, new: Resources, own_kernel: bool) -> None:
    """Raises FailedPrecondition when a running sandbox cannot get from `old` to `new`."""
    if replace(new, cpu=old.cpu) != old:
        raise FailedPrecondition("of a running sandbox's resources only cpu can be changed")
    if own_kernel and guest_cpus(new.cpu) != guest_cpus(old.cpu):
        raise FailedPrecondition(
            f"cpu is {new.cpu:g}, but the sandbox was started with {old.cpu:g}: its kernel shows "
            f"{guest_cpus(old.cpu)} CPUs for as long as it runs"
        )


def guest_cpus(cpu: float) -> int:
    """How many CPUs gVisor shows a guest that may use `cpu` cores."""
    return max(2, math.ceil(cpu))
