"""One daemon per state directory, and one per database."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from atolld.foundation.errors import FailedPrecondition


class FileLock:
    """Holds `path` for this process; the kernel lets go of it however the process ends. `what` names it in errors."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock and write this process's id into the file.

        Raises FailedPrecondition, naming the holder, when it is held already.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            raise FailedPrecondition(
                f"another daemon (process {holder}) uses {self._what}; stop it with `atolld stop`, or give this one "
                "another instance name"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode("ascii"), 0)
        self._file = file

    def release(self) -> None:
        """Let go; nothing happens when it is not held. The file stays: removing it would let two daemons in."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class StateLock(FileLock):
    """The lock of a state directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "daemon.lock", f"the state directory {directory}")
