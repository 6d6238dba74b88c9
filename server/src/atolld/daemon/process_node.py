"""A node that isolates nothing: each sandbox is a guest agent as an ordinary process on loopback.

For demonstrations and for tests of clients, without root and without a runtime. Setting `node=fake`.

Started by root all the same, each agent sees this machine read-only, except /tmp, with an empty home and only its own
processes: what a client removes or kills must not be the machine's. That is a guard against mistakes and no isolation.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import pwd
import shutil
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from atolld.core.lifecycle import EndReason
from atolld.core.sandbox import Resources
from atolld.core.snapshot import Saved, SaveKind
from atolld.foundation.aio import CleanupStack, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import FailedPrecondition, NotFound
from atolld.foundation.ids import SandboxId, SnapshotId, TemplateId
from atolld.guest.client import GuestClient, GuestInit
from atolld.host.procs import ProcessIdentity, identify, wait_death
from atolld.images.templates import Template
from atolld.node.fake import FakeNode
from atolld.node.interface import Admit, After, Claim, Launch, Launched
from atolld.node.phases import Phases
from atolld.runtime.driver import Fingerprint, Power

READY_DEADLINE_S = 10.0
ISOLATION = "none: commands run as the daemon's own user on this machine"
CANNOT_SAVE = "node=fake runs sandboxes as ordinary processes, which can be neither saved nor frozen; use gvisor"
CANNOT_SEAL = "node=fake runs sandboxes as ordinary processes: they have no files of their own to build; use gvisor"

_GUARD = """\
set -e
mount --make-rprivate /
mount --rbind /tmp /tmp
mount -o remount,bind,ro /
mount -t tmpfs -o mode=0755 atoll-run /run
mount -t tmpfs -o mode=0700 atoll-home "$1"
exec "$2"
"""
_NAMESPACES = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


class ProcessNode(FakeNode):
    """Implements `Node`. `agent`: the guest agent's binary; `directory`: for each sandbox's log.

    Its sandboxes end with the daemon: nothing could find them again.
    """

    def __init__(self, clock: Clock, agent: Path, directory: Path) -> None:
        super().__init__(clock)
        self._agent = agent
        self._directory = directory
        self._processes: dict[SandboxId, asyncio.subprocess.Process] = {}
        self._ports: dict[SandboxId, int] = {}
        self.missing = {power: CANNOT_SAVE for power in (Power.CHECKPOINT, Power.RESTORE, Power.FREEZE)}

    async def fingerprints(self) -> dict[str, Fingerprint]:
        """See `Node.fingerprints`."""
        found = await super().fingerprints()
        return {name: replace(fingerprint, isolation=ISOLATION) for name, fingerprint in found.items()}

    async def launch(self, what: Launch) -> Launched:
        """See `Node.launch`; the only runtime is `fake`."""
        phases = Phases(self._clock)
        async with CleanupStack() as undo:
            launched = await super().launch(what)
            undo.push("entry", lambda: FakeNode.terminate(self, what.id))
            port = free_port()
            log = self._log(what.id)
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with log.open("wb") as stream:
                process = await asyncio.create_subprocess_exec(
                    *guarded(self._agent),
                    env={"PATH": "/usr/local/bin:/usr/bin:/bin", "ATOLL_AGENT_PORT": str(port)},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                )
            phases.end("start")
            self._processes[what.id] = process
            self._ports[what.id] = port
            undo.push("agent", lambda: self._end(what.id))
            init = GuestInit(
                access_token=what.agent_token,
                now=self._clock.now(),
                sandbox_id=what.id,
                template_id=what.template_id,
                hostname=what.hostname,
                default_user=getpass.getuser(),
                envs=what.envs,
            )
            await GuestClient("127.0.0.1", port).wait_ready(init, READY_DEADLINE_S)
            phases.end("agent")
            undo.keep()
        spawn(self._watch(what.id, process), name=f"watch-{what.id}")
        return replace(launched, address=f"127.0.0.1:{port}", phases_s=phases.seconds)

    async def terminate(self, id: SandboxId, grace_s: float = 0.0, *, keep_address: bool = False) -> None:
        """See `Node.terminate`."""
        await self._end(id)
        await super().terminate(id, grace_s)

    async def save(self, id: SandboxId, save_id: SnapshotId, kind: SaveKind, after: After) -> Saved:
        """Raises NotFound, FailedPrecondition: it cannot be done here."""
        self._here(id)
        raise FailedPrecondition(CANNOT_SAVE)

    async def seal(
        self, id: SandboxId, digest: str, manifest: Mapping[str, object], *, forbidden: Sequence[str] = ()
    ) -> bool:
        """Raises NotFound, FailedPrecondition: it cannot be done here."""
        self._here(id)
        await self.terminate(id)
        raise FailedPrecondition(CANNOT_SEAL)

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        """Raises FailedPrecondition: it cannot be done here."""
        raise FailedPrecondition(CANNOT_SAVE)

    async def claim(self, id: SandboxId, what: Claim) -> None:
        """See `Node.claim`."""
        await super().claim(id, what)
        token = self._here(id).agent_token
        init = GuestInit(None, self._clock.now(), default_user=None, envs=what.envs)
        await GuestClient("127.0.0.1", self._ports[id], token).wait_ready(init, READY_DEADLINE_S)

    async def logs(self, id: SandboxId, limit_bytes: int) -> bytes:
        """See `Node.logs`."""
        if id not in self._processes:
            raise NotFound(f"sandbox {id} does not run on this node")
        return await asyncio.to_thread(lambda: self._log(id).read_bytes()[-limit_bytes:])

    async def close(self) -> None:
        """End every process."""
        for id in list(self._processes):
            await self._end(id)
        await super().close()

    async def _end(self, id: SandboxId) -> None:
        process = self._processes.pop(id, None)
        self._ports.pop(id, None)
        if process is not None and process.returncode is None:
            # Behind the guard the agent is the first process of its namespace: with it all others go. Otherwise it ends
            # what it started before it ends itself.
            children = _children(process.pid)
            if children:
                process.kill()
            else:
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 4.0)
            except TimeoutError:
                process.kill()
                await process.wait()
            for child in children:
                await wait_death(child, 4.0)
        self._log(id).unlink(missing_ok=True)

    async def _watch(self, id: SandboxId, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        if self._processes.pop(id, None) is not None:
            await self.die(id, EndReason.CRASHED, f"its agent ended with {process.returncode}")

    def _log(self, id: SandboxId) -> Path:
        return self._directory / f"{id}.log"


class OneTemplate:
    """Templates of a node without root file systems: `base`, which is the machine itself."""

    def list(self) -> tuple[Template, ...]:
        """See `TemplateSource`."""
        return (Template(TemplateId("tbase"), "base", (Path("/"),), 0.0, "", 0, Resources()),)

    def get(self, name: str) -> Template:
        """See `TemplateSource`."""
        if name != "base":
            raise NotFound(f"there is no template {name!r} (known: base)")
        return self.list()[0]


def _children(pid: int) -> list[ProcessIdentity]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    found = [identify(int(child)) for child in text.split()] if os.geteuid() == 0 else []
    return [one for one in found if one is not None]


def guarded(agent: Path) -> tuple[str, ...]:
    """The command that runs `agent`: under root behind the guard, otherwise as it is."""
    if os.geteuid() != 0:
        return (str(agent),)
    return (*_NAMESPACES, "/bin/sh", "-c", _GUARD, "guard", pwd.getpwuid(0).pw_dir, str(agent))


def find_agent(wanted: Path) -> Path:
    """Raises FailedPrecondition when there is no agent to run."""
    if not wanted.is_file() or shutil.which(wanted) is None:
        raise FailedPrecondition(f"there is no guest agent at {wanted}; build it with `make agent`")
    return wanted


def free_port() -> int:
    """A TCP port of loopback that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
