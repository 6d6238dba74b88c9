"""What the daemon tells the container driver."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """`root`: where runc keeps its state, one directory per instance, gone after a reboot (`/run/<inst>/runc`).

    `binary`: runc; None looks in PATH and /usr/sbin. `command_timeout_s` bounds every runc command.
    """

    root: Path
    binary: Path | None = None
    command_timeout_s: float = 30.0

    def find_binary(self) -> Path | None:
        """The runc to use; None when there is none."""
        if self.binary is not None:
            return self.binary if self.binary.is_file() else None
        found = shutil.which("runc") or shutil.which("runc", path="/usr/local/sbin:/usr/sbin:/sbin")
        return Path(found) if found else None
