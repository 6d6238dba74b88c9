"""The logs of builds: a file of JSON lines each, below the state directory.

    <state>/builds/<build id>.jsonl

Lines are numbered from 0 and never change, so that a reader can go on from where it was, also after the daemon was
restarted. What a build says is untrusted and is bounded here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from atolld.core.build import LogEntry
from atolld.foundation.errors import Internal
from atolld.foundation.ids import BuildId

MAX_BYTES = 16 << 20
_ID = re.compile(r"[0-9a-f-]{36}")


class BuildLogs:
    """Those below one directory. Everything blocks for a moment."""

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._sizes: dict[BuildId, int] = {}

    def append(self, build_id: BuildId, entry: LogEntry) -> bool:
        """Add a line; False when the log is full and the line was dropped. Raises OSError."""
        path = self._path(build_id)
        size = self._sizes.get(build_id)
        if size is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            size = path.stat().st_size if path.exists() else 0
        line = json.dumps([entry.at, entry.level, entry.message, entry.step]).encode() + b"\n"
        if size > self._max_bytes:
            return False
        if size + len(line) > self._max_bytes:
            full = [entry.at, "warn", f"the log is full at {self._max_bytes >> 20} MiB; the rest is left out", None]
            line = json.dumps(full).encode() + b"\n"
            size = self._max_bytes
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "ab", buffering=0) as file:
            file.write(line)
        self._sizes[build_id] = size + len(line)
        return True

    def close(self, build_id: BuildId) -> None:
        """Nothing more will be appended."""
        self._sizes.pop(build_id, None)

    def read(self, build_id: BuildId) -> Iterator[LogEntry]:
        """Every whole line, oldest first; none when there is no log."""
        try:
            file = self._path(build_id).open("rb")
        except FileNotFoundError:
            return
        with file:
            for line in file:
                if not line.endswith(b"\n"):
                    # The daemon was killed while it wrote it.
                    return
                at, level, message, step = json.loads(line)
                yield LogEntry(at, level, message, step)

    def remove(self, build_id: BuildId) -> None:
        """Delete a log; gone is success."""
        self.close(build_id)
        self._path(build_id).unlink(missing_ok=True)

    def sweep(self, keep: Collection[BuildId]) -> None:
        """Delete those of builds that are not there any more."""
        if self._directory.is_dir():
            for path in self._directory.glob("*.jsonl"):
                if path.stem not in keep:
                    path.unlink(missing_ok=True)

    def _path(self, build_id: BuildId) -> Path:
        if not _ID.fullmatch(build_id):
            raise Internal(f"{build_id[:80]!r} is not the id of a build")
        return self._directory / f"{build_id}.jsonl"
