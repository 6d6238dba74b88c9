"""Whether a file system can be written past the page cache (O_DIRECT)."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def takes_direct_writes(directory: Path) -> bool:
    """Whether new files in `directory` can be. Raises OSError (ENOSPC and the like)."""
    path = directory / "direct"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    else:
        return True
    finally:
        path.unlink(missing_ok=True)
