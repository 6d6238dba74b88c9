"""The host processes of one gVisor sandbox: which they are, and which of them the kernel is to end first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from atolld.foundation.ids import SandboxId
from atolld.host import procs
from atolld.host.procs import ProcessIdentity
from atolld.runtime.drivers.gvisor import state
from atolld.runtime.record import Record

# As if they used half of all memory more than they do.
GUEST_OOM_SCORE = 500


def living(root: Path, record: Record) -> ProcessIdentity | None:
    """The sentry's process, by the handle or, when the handle was stored before the start, by runsc's own state."""
    if record.process is not None:
        return record.living()
    known = state.read_state(root, record.id)
    if known is None or known.sandbox_pid is None:
        return None
    process = procs.identify(known.sandbox_pid)
    if process is None or record.id.encode() not in command_line(process.pid) or not procs.is_alive(process):
        return None
    return process


def own_pids(root: Path, id: SandboxId, sentry: ProcessIdentity) -> set[int]:
    """The sentry and the gofer: everything else in the group stands for a guest process."""
    known = state.read_state(root, id)
    return {sentry.pid, known.gofer_pid if known is not None and known.gofer_pid else 0}


def offer(pids: Iterable[int]) -> None:
    """Make these the first the kernel ends when memory is short, of the sandbox or of the whole machine.

    They are the host processes that stand for guest processes, and count the memory those have mapped: ending the
    biggest ends one guest process, as Linux would, and not the sentry with the whole sandbox, nor the daemon. Those
    that start later inherit it. (Lowering the sentry's own score instead would need CAP_SYS_RESOURCE.)
    """
    for pid in pids:
        try:
            Path("/proc", str(pid), "oom_score_adj").write_text(str(GUEST_OOM_SCORE))
        except (FileNotFoundError, ProcessLookupError):
            continue


def command_line(pid: int) -> bytes:
    """The arguments of a process, each ended by a zero byte; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
