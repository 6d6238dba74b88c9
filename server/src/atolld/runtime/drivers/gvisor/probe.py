"""Which platform of gVisor works on this machine, and whether its network needs a cure: found by running it.

A platform counts only after a sandbox of it has run to its end within a time limit: /dev/kvm can be there, open, and
make virtual machines that never get anywhere. The result is kept on disk by binary and kernel.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import platform as machine
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from atolld.foundation.errors import DeadlineExceeded, RuntimeUnusable
from atolld.foundation.ids import SandboxId, new_sandbox_id
from atolld.foundation.scratch import scratch
from atolld.host import procs, syscalls
from atolld.runtime.commands import Command, run_command, tail
from atolld.runtime.drivers.gvisor.arguments import Runsc, config_file, error_log
from atolld.runtime.drivers.gvisor.binary import RunscBinary
from atolld.runtime.drivers.gvisor.settings import GvisorSettings
from atolld.runtime.drivers.gvisor.state import read_state

log = logging.getLogger("atolld.gvisor")

PLATFORMS = ("systrap", "ptrace")
# runsc up to 2024 takes a namespace in which /proc/sys/net/core/rmem_default exists for the host's own and refuses to
# use its network. Newer kernels show the file everywhere; an empty file system over it is the cure.
NETWORK_FAULT = "in root network namespace"
COVER = Path("/proc/sys/net")


@dataclass(frozen=True, slots=True)
class Probe:
    """What works here. `cover_net`: runsc commands that make a sandbox must not see /proc/sys/net."""

    platform: str
    cover_net: bool

    @property
    def cover(self) -> tuple[Path, ...]:
        """What to hide from runsc."""
        return (COVER,) if self.cover_net else ()


async def probe(binary: RunscBinary, settings: GvisorSettings) -> Probe:
    """The remembered result for this binary, kernel and choice, or a fresh one (0.2 to 0.5 s a platform).

    Raises RuntimeUnusable with each platform's own last words when none works; failures are not remembered.
    """
    key = await asyncio.to_thread(_key, binary, settings)
    file = settings.cache / f"gvisor-probe-{key}.json"
    remembered = _remembered(file)
    if remembered is not None:
        return remembered
    candidates = (settings.platform,) if settings.platform else PLATFORMS
    reasons = []
    for platform in candidates:
        for cover_net in (False, True):
            words = await _try(binary, settings, Probe(platform, cover_net))
            if words is None:
                found = Probe(platform, cover_net)
                _remember(file, found)
                log.info("gVisor platform chosen", extra={"platform": platform, "cover_net": cover_net})
                return found
            if NETWORK_FAULT not in words:
                reasons.append(f"{platform}: {words}")
                break
        else:
            reasons.append(f"{platform}: {words}")
    raise RuntimeUnusable(f"gVisor {binary.version} starts no sandbox on this machine ({'; '.join(reasons)})")


async def _try(binary: RunscBinary, settings: GvisorSettings, candidate: Probe) -> str | None:
    """Run /bin/true of the host, read-only, in a namespace of its own. None: it worked; else why not."""
    id = new_sandbox_id()
    with scratch("probe", settings.cache) as place:
        runsc = Runsc(binary, place / "root", candidate.platform)
        try:
            (place / "root").mkdir()
            with _empty_network() as netns:
                config_file(place).write_text(json.dumps(_bundle(netns)))
                argv = [arg for arg in runsc.run(id, place) if arg != "--detach"]
                output = place / "output"
                try:
                    code = await run_command(Command(argv, output, candidate.cover), settings.probe_timeout_s)
                except DeadlineExceeded:
                    return f"a sandbox did not end within {settings.probe_timeout_s:g} s"
                if code == 0:
                    return None
                return (tail(error_log(place), 400) or tail(output, 400) or f"status {code}").splitlines()[-1]
        finally:
            _kill(runsc.root, id)


def _kill(root: Path, id: SandboxId) -> None:
    state = read_state(root, id)
    for pid in (state.sandbox_pid, state.gofer_pid) if state else ():
        process = procs.identify(pid) if pid else None
        # Only just started by us and named by the state file: nobody else's within this time.
        if process is not None:
            procs.send_signal(process)


def _bundle(netns: Path) -> dict[str, object]:
    return {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "env": ["PATH=/bin:/usr/bin"], "cwd": "/"},
        "root": {"path": "/", "readonly": True},
        "hostname": "probe",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
            + [{"type": "network", "path": str(netns)}]
        },
    }


@contextmanager
def _empty_network() -> Iterator[Path]:
    """A network namespace that exists as long as the block, held by a thread."""
    ready, leave = threading.Event(), threading.Event()
    held: list[Path] = []
    failures: list[OSError] = []

    def hold() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            held.append(Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"))
        except OSError as error:
            failures.append(error)
        finally:
            ready.set()
        leave.wait()

    threading.Thread(target=hold, name="probe-netns", daemon=True).start()
    ready.wait()
    try:
        if failures:
            raise RuntimeUnusable(f"no network namespace can be made: {failures[0]}; gVisor sandboxes need root")
        yield held[0]
    finally:
        leave.set()


def _key(binary: RunscBinary, settings: GvisorSettings) -> str:
    digest = hashlib.sha256()
    with binary.path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    digest.update(f"{machine.release()} {machine.version()} {settings.platform or ''}".encode())
    return digest.hexdigest()[:32]


def _remembered(file: Path) -> Probe | None:
    try:
        stored = json.loads(file.read_text())
        platform, cover_net = stored["platform"], stored["cover_net"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        log.warning("an unreadable probe result is made anew", extra={"file": str(file)})
        return None
    return Probe(platform, cover_net) if isinstance(platform, str) and isinstance(cover_net, bool) else None


def _remember(file: Path, found: Probe) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(found)))
    temporary.replace(file)
