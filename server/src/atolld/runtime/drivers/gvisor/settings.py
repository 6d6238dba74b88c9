"""What the daemon tells the gVisor driver."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

CACHED_BINARY = Path("/var/cache/atoll/bin/runsc")


@dataclass(frozen=True, slots=True)
class GvisorSettings:
    """`root`: where runsc keeps its state files, one directory per instance, gone after a reboot (`/run/<inst>/runsc`).

    `cache`: directory for the probe's result, may be shared by instances. `binary`: runsc; None looks in
    /var/cache/atoll/bin and then in PATH. `platform`: forces `systrap`, `ptrace` or `kvm` (still probed); None takes
    the first of systrap and ptrace that works. `command_timeout_s` bounds every runsc command but
    those that write or read a guest's memory, which `save_timeout_s` bounds.
    """

    root: Path
    cache: Path
    binary: Path | None = None
    platform: str | None = None
    command_timeout_s: float = 60.0
    save_timeout_s: float = 600.0
    probe_timeout_s: float = 8.0

    def find_binary(self) -> Path | None:
        """The runsc to use; None when there is none."""
        if self.binary is not None:
            return self.binary if self.binary.is_file() else None
        if CACHED_BINARY.is_file():
            return CACHED_BINARY
        found = shutil.which("runsc")
        return Path(found) if found else None
