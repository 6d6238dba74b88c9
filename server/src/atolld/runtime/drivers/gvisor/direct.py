"""Whether a file system can be read and written past the page cache (O_DIRECT)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

PAGES = "pages.img"


def takes_direct_writes(directory: Path) -> bool:
    """Whether new files in `directory` can be. Raises OSError (ENOSPC and the like)."""
    path = directory / "direct"
    try:
        return _opens(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    finally:
        path.unlink(missing_ok=True)


def takes_direct_reads(image: Path) -> bool:
    """Whether the saved pages in `image` can be; False also when they are missing, which runsc then tells."""
    try:
        return _opens(image / PAGES, os.O_RDONLY)
    except FileNotFoundError:
        return False


def _opens(path: Path, flags: int) -> bool:
    try:
        os.close(os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True
