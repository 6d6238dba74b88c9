"""runc's state files: which containers it knows and their first process.

Written by hand because each runc command takes 10 to 20 ms, and `runc delete` removes the cgroup that is the node's.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import SandboxId, parse_sandbox_id
from atolld.host.procs import ProcessIdentity


def directory(root: Path, id: SandboxId) -> Path:
    """Where runc keeps what it knows of `id`."""
    return root / id


def first_process(root: Path, id: SandboxId) -> ProcessIdentity | None:
    """PID 1 of the container as the host sees it; None when runc does not know `id` or has not come so far."""
    try:
        stored = json.loads((directory(root, id) / "state.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    pid, started = stored.get("init_process_pid"), stored.get("init_process_start")
    return ProcessIdentity(pid, started) if isinstance(pid, int) and isinstance(started, int) and pid > 0 else None


def list_ids(root: Path) -> list[SandboxId]:
    """Every container of which runc has any file."""
    found = []
    with suppress(FileNotFoundError):
        for path in root.iterdir():
            with suppress(InvalidArgument):
                found.append(parse_sandbox_id(path.name))
    return sorted(found)


def remove_state(root: Path, id: SandboxId) -> None:
    """Remove what runc knows of `id`, which must be dead. Already gone is success. Raises OSError."""
    with suppress(FileNotFoundError):
        shutil.rmtree(directory(root, id))
