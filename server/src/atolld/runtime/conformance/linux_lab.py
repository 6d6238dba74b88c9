"""The suite on this machine: real root file systems, namespaces, cgroups and guests. Needs root."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.aio import CleanupStack
from atolld.foundation.errors import GuestUnreachable, Internal
from atolld.foundation.ids import SandboxId, new_sandbox_id
from atolld.host import mounts, netns, syscalls
from atolld.host.addresses import slot_addresses
from atolld.host.cgroup_layout import read_layout
from atolld.host.cgroups import CgroupLimits, Cgroups
from atolld.host.instance import Instance
from atolld.host.layers import Layer, Layers, frozen
from atolld.host.rootfs import RootFilesystems
from atolld.runtime.conformance import guest_client
from atolld.runtime.conformance.lab import Ground, GuestAnswer, guest_of
from atolld.runtime.driver import Handle, LaunchSpec, RuntimeDriver, ShellKind, ShellSpec

GUEST_PROGRAM = Path(__file__).parent / "guest_program.py"
# Set aside for benchmarks by RFC 2544 and taken by no instance that chooses its range itself before all others are.
_POOL = IPv4Network("198.19.0.0/18")
_WAIT = """
import asyncio, json, sys
from atolld.runtime.conformance.linux_lab import elsewhere
print(asyncio.run(elsewhere(json.loads(sys.stdin.read()))))
"""


@dataclass(frozen=True, slots=True)
class Place:
    """What a driver is made from: the instance's directories and cgroups, and a cache for probes."""

    instance: Instance
    cgroups: Cgroups
    cache: Path


# An importable function (see `factories`): another process must be able to call it by name.
DriverFactory = Callable[[Place], RuntimeDriver]


class LinuxLab:
    """One instance of its own.

    `layers`: read-only layers with python3 and a shell, lowest first. `directory`: for all its files, short-lived.
    """

    def __init__(self, directory: Path, factory: DriverFactory, layers: Sequence[Path]) -> None:
        name = f"c{secrets.token_hex(3)}"
        instance = Instance.named(name, state_dir=directory / "state", run_dir=directory / "run")
        self.place = Place(instance, Cgroups(instance, read_layout(mounts.read_mounts())), directory / "cache")
        self._directory = directory
        self._factory = factory
        self._lower = list(layers)[::-1]
        self._layers = Layers(instance)
        self._roots = RootFilesystems(instance)
        self._undo = CleanupStack()
        self._guest = directory / "guest"
        self._slot = secrets.randbelow(4000)
        self._addresses: dict[SandboxId, str] = {}

    async def __aenter__(self) -> LinuxLab:
        for directory in (self.place.cache, self.place.instance.state_dir, self.place.instance.run_dir):
            directory.mkdir(parents=True, exist_ok=True)
        self.place.cgroups.prepare()
        self._undo.push("control groups", self.place.cgroups.remove_all)
        self._layers.prepare()
        self._undo.push("layers", self._layers.remove_all)
        self._roots.prepare()
        self._undo.push("root file systems", self._roots.remove_all)
        netns.prepare_directory()
        # A copy: an installed package need not keep the program's mode.
        shutil.copyfile(GUEST_PROGRAM, self._guest)
        self._guest.chmod(0o755)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.undo_all()

    def driver(self) -> RuntimeDriver:
        """See `Lab.driver`."""
        return self._factory(self.place)

    async def prepare(
        self, resources: Resources | None = None, *, ignores_term: bool = False, disk_of: Ground | None = None
    ) -> Ground:
        """See `Lab.prepare`."""
        resources = resources or Resources(disk_mib=256)
        id = new_sandbox_id()
        namespace = await self._network(id)
        layer, rootfs = await self._root(id, disk_of)
        directory, cgroup = self._bounds(id, resources)
        spec = LaunchSpec(
            id=id,
            rootfs=rootfs,
            netns=namespace,
            agent=self._guest,
            log=layer.log / "agent.log",
            directory=directory,
            cgroup=cgroup,
            resources=resources,
            hostname=f"box-{id[:6]}",
            env={"ATOLL_TEST_IGNORES_TERM": "1"} if ignores_term else {},
        )
        return Ground(spec, self._addresses[id])

    async def prepare_shell(self, kind: ShellKind, resources: Resources | None = None) -> ShellSpec:
        """See `Lab.prepare_shell`."""
        resources = resources or Resources(disk_mib=256)
        id = new_sandbox_id()
        namespace = await self._network(id)
        directory, cgroup = self._bounds(id, resources)
        log = self._directory / f"{id}.log"
        return ShellSpec(id, namespace, self._guest, log, directory, cgroup, resources, kind)

    async def furnish(self, shell: ShellSpec, disk_of: Ground) -> Ground:
        """See `Lab.furnish`."""
        await self._root(shell.id, disk_of)
        # Undone last first, and the sandbox must be gone before its root file system is.
        driver = self.driver()
        self._undo.push("driver", lambda: driver.destroy(driver.handle_for(shell.id, shell.directory)))
        return self.ground_of(shell)

    def ground_of(self, shell: ShellSpec) -> Ground:
        """See `Lab.ground_of`."""
        return Ground(guest_of(shell, self._roots.path(shell.id)), self._addresses[shell.id])

    async def _network(self, id: SandboxId) -> Path:
        self._slot += 1
        namespace = await netns.create(self.place.instance, slot_addresses(_POOL, self._slot % 4096))
        self._undo.push("network namespace", lambda: netns.destroy(namespace))
        self._addresses[id] = str(namespace.sandbox_ip)
        return namespace.path

    async def _root(self, id: SandboxId, disk_of: Ground | None) -> tuple[Layer, Path]:
        layer = await self._new_layer(id, disk_of)
        self._undo.push("layer", lambda: self._layers.destroy(layer))
        rootfs = await self._roots.mount(id, self._lower, layer)
        self._undo.push("root file system", lambda: self._roots.unmount(id))
        return layer, rootfs

    def _bounds(self, id: SandboxId, resources: Resources) -> tuple[Path, str]:
        driver = self.driver()
        extra = driver.overhead(resources)
        limits = CgroupLimits.of(resources, extra_memory_mib=extra.memory_mib, extra_pids=extra.tasks)
        cgroup = self.place.cgroups.create(id, limits)
        self._undo.push("control group", lambda: self.place.cgroups.destroy(id))
        directory = self.place.instance.state_dir / "drivers" / id
        directory.mkdir(parents=True)
        self._undo.push("driver", lambda: driver.destroy(driver.handle_for(id, directory)))
        return directory, cgroup

    def empty_directory(self) -> Path:
        """See `Lab.empty_directory`."""
        return Path(tempfile.mkdtemp(prefix="image-", dir=self._directory))

    def full_directory(self, room_kib: int) -> Path:
        """See `Lab.full_directory`."""
        directory = self.empty_directory()
        syscalls.mount("none", directory, "tmpfs", 0, f"size={room_kib}k")
        self._undo.push("full directory", lambda: mounts.detach(directory))
        return directory

    async def _new_layer(self, id: SandboxId, disk_of: Ground | None) -> Layer:
        if disk_of is None:
            return await self._layers.create(id, 256)
        source = self._layers.get(disk_of.spec.id)
        async with frozen(source):
            return await self._layers.clone(source, id)

    async def run(self, ground: Ground, command: str, timeout_s: float = 30.0) -> GuestAnswer:
        """See `Lab.run`."""
        return await guest_client.ask(ground.address, {"sh": command}, timeout_s)

    async def end_by_itself(self, ground: Ground, handle: Handle) -> None:
        """See `Lab.end_by_itself`."""
        try:
            await guest_client.ask(ground.address, {"exit": 3}, 10.0)
        except GuestUnreachable:
            return
        raise Internal("the guest answered a request to end")

    async def wait_elsewhere(self, handle: Handle) -> str:
        """See `Lab.wait_elsewhere`."""
        factory = f"{self._factory.__module__}:{getattr(self._factory, '__qualname__', '')}"
        place = self.place
        request = {
            "factory": factory,
            "name": place.instance.name,
            "state": str(place.instance.state_dir),
            "run": str(place.instance.run_dir),
            "cache": str(place.cache),
            "handle": handle.to_json(),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WAIT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate(json.dumps(request).encode())
        return output.decode().strip()

    def leftovers(self, ground: Ground) -> list[str]:
        """See `Lab.leftovers`."""
        id = ground.spec.id
        found = [f"process {pid} in its cgroup" for pid in self.place.cgroups.pids(id)]
        found += [f"process {pid}: {words}" for pid, words in _processes_naming(id)]
        found += [f"mount {mount.target}" for mount in mounts.read_mounts() if _is_foreign(mount.target, ground)]
        for directory in (self.place.instance.run_dir, ground.spec.directory):
            if directory.exists():
                found += [f"file {path}" for path in directory.rglob(f"*{id}*")]
        if ground.spec.directory.exists():
            found.append(f"directory {ground.spec.directory}")
        return found


def _is_foreign(target: Path, ground: Ground) -> bool:
    """A mount that only the driver can have made."""
    below = target.is_relative_to(ground.spec.rootfs) or target.is_relative_to(ground.spec.directory)
    return below and target != ground.spec.rootfs


def _processes_naming(id: str) -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                line = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if id in line:
                found.append((int(name), line[:120]))
    return found


async def elsewhere(request: dict[str, object]) -> str:
    """The other process of `wait_elsewhere`: make the driver anew from names, and wait."""
    module, _, name = str(request["factory"]).partition(":")
    factory = getattr(importlib.import_module(module), name)
    instance = Instance.named(
        str(request["name"]), state_dir=Path(str(request["state"])), run_dir=Path(str(request["run"]))
    )
    place = Place(instance, Cgroups(instance, read_layout(mounts.read_mounts())), Path(str(request["cache"])))
    stored = request["handle"]
    assert isinstance(stored, dict)
    status = await factory(place).wait(Handle.from_json(stored))
    return str(status.state.value)


def newest_layer(cache: Path = Path("/var/cache/atoll")) -> Path | None:
    """The base template's layer, for tests; None when it was not built on this machine."""
    try:
        digests = json.loads((cache / "templates" / "base.json").read_text())["layers"]
    except FileNotFoundError:
        return None
    return cache / "layers" / str(digests[0]) / "root"


def have_root() -> bool:
    """Whether the suite can run here at all."""
    return os.geteuid() == 0 and shutil.which("mke2fs") is not None
