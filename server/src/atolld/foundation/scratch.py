"""Directories for a moment."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Nothing works in one for so long; a bootstrap, the longest, has an hour.
LEFT_AFTER_S = 2 * 3600


@contextmanager
def scratch(purpose: str, place: Path | None = None) -> Iterator[Path]:
    """A new directory, 0700, in `place` (the system's temporary directory), removed with all in it at the end.

    A process that was killed leaves its own: those of the same purpose and user that are two hours old go first.
    """
    prefix = f"atoll-{purpose}-"
    where = place or Path(tempfile.gettempdir())
    _remove_left(where, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=where) as made:
        yield Path(made)


def _remove_left(where: Path, prefix: str) -> None:
    before = time.time() - LEFT_AFTER_S
    with os.scandir(where) as entries:
        for entry in entries:
            if not entry.name.startswith(prefix) or not entry.is_dir(follow_symlinks=False):
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if found.st_uid == os.geteuid() and found.st_mtime < before:
                # Another one may be at it as well.
                shutil.rmtree(entry.path, ignore_errors=True)
