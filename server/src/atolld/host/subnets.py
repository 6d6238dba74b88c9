"""Which instance of the machine has which range of addresses, and whether we turned packet forwarding on.

A directory under /run shared by all instances, guarded by one lock file: it is empty after a reboot, when nothing of
ours runs either. An instance that comes back finds its own range again, because its sandboxes still use it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from atolld.foundation.errors import Conflict
from atolld.host import netns
from atolld.host.addresses import DEFAULT_PREFIX, check_pool, choose_pool
from atolld.host.instance import Instance
from atolld.host.procs import ProcessIdentity, identify, is_alive

REGISTRY = Path("/run/atoll-subnets")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_FORWARD_MARK = "forwarding-was-off"


@dataclass(frozen=True, slots=True)
class Claim:
    """One instance's line in the registry."""

    instance: str
    pool: IPv4Network
    owner: ProcessIdentity


class SubnetRegistry:
    """The registry in `directory`. Its calls block for about a millisecond, longer while another instance holds it."""

    def __init__(self, directory: Path = REGISTRY, ip_forward: Path = IP_FORWARD) -> None:
        self._directory = directory
        self._ip_forward = ip_forward

    def claim(
        self,
        instance: Instance,
        host_networks: Callable[[], Iterable[IPv4Network]],
        *,
        wanted: IPv4Network | None = None,
        prefix: int = DEFAULT_PREFIX,
    ) -> IPv4Network:
        """The range of `instance`: the one it has, else `wanted`, else a free one of `prefix` bits.

        Turns IPv4 forwarding on and remembers whether it was. Ranges of instances of which neither the daemon nor a
        namespace lives are given up.

        Raises Conflict when a living daemon has this instance's name, or when `wanted` overlaps another instance or
        differs from the range that sandboxes of this instance still use; Capacity when nothing is free.
        """
        with self._locked():
            claims = {claim.instance: claim for claim in self._claims()}
            own = claims.pop(instance.name, None)
            if own is not None and own.owner.pid != os.getpid() and is_alive(own.owner):
                raise Conflict(
                    f"instance {instance.name!r} is already run by process {own.owner.pid}; "
                    "stop that daemon or choose another instance name"
                )
            for claim in list(claims.values()):
                if not _lives(claim):
                    self._path(claim.instance).unlink(missing_ok=True)
                    del claims[claim.instance]
            others = [claim.pool for claim in claims.values()]
            pool = self._choose(instance, own, wanted, others, host_networks, prefix)
            self._write(instance, pool)
            self._turn_forwarding_on()
            return pool

    def _choose(
        self,
        instance: Instance,
        own: Claim | None,
        wanted: IPv4Network | None,
        others: list[IPv4Network],
        host_networks: Callable[[], Iterable[IPv4Network]],
        prefix: int,
    ) -> IPv4Network:
        in_use = bool(netns.list_owned(instance))
        if own is not None and wanted in (None, own.pool):
            return own.pool
        if own is not None and in_use:
            raise Conflict(f"sandboxes of {instance.name!r} still use {own.pool}; end them before changing to {wanted}")
        if wanted is None:
            return choose_pool([*others, *host_networks()], prefix)
        for other in others:
            if check_pool(wanted).overlaps(other):
                raise Conflict(f"subnet {wanted} overlaps {other} of another instance on this machine")
        return wanted

    def release(self, instance: Instance) -> None:
        """Give the range up; the last one to leave turns forwarding off if it was off before. Gone is success."""
        if not self._directory.exists():
            return
        with self._locked():
            self._path(instance.name).unlink(missing_ok=True)
            if any(self._claims()):
                return
            mark = self._directory / _FORWARD_MARK
            if mark.exists():
                self._ip_forward.write_text("0\n")
                mark.unlink()

    def _turn_forwarding_on(self) -> None:
        if self._ip_forward.read_text().strip() == "0":
            # The mark first: a crash in between then turns off what was off, never what others turned on.
            (self._directory / _FORWARD_MARK).touch()
            self._ip_forward.write_text("1\n")

    def _claims(self) -> Iterator[Claim]:
        for path in sorted(self._directory.glob("*.json")):
            try:
                data = json.loads(path.read_text())
                owner = ProcessIdentity(int(data["pid"]), int(data["started_ticks"]))
                yield Claim(path.stem, IPv4Network(data["pool"]), owner)
            except (ValueError, KeyError, TypeError) as error:
                raise Conflict(f"{path} is damaged ({error}); remove it if no daemon {path.stem!r} runs") from error

    def _write(self, instance: Instance, pool: IPv4Network) -> None:
        me = identify(os.getpid())
        assert me is not None
        path = self._path(instance.name)
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"pool": str(pool), "pid": me.pid, "started_ticks": me.started_ticks}))
        new.replace(path)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _lives(claim: Claim) -> bool:
    if is_alive(claim.owner):
        return True
    instance = Instance.named(claim.instance)
    return bool(netns.list_owned(instance))
