"""Which layer a build's step stands for, where that is not the layer named by the step's key.

    <cache>/layers/steps/<key>    the digest of the layer that was made last for it

A layer never changes. When a step is made anew although it was there, its new layer gets another name, and this says
that the key means it from now on.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from atolld.foundation.errors import Internal

_DIGEST = re.compile(r"[0-9a-f]{64}")


class StepCache:
    """Those below one cache directory, shared by all daemons of the machine. Everything blocks for a moment."""

    def __init__(self, cache: Path) -> None:
        self._directory = cache / "layers" / "steps"

    def latest(self, key: str) -> str:
        """The digest that `key` stands for: its own when nothing else was said."""
        try:
            found = self._path(key).read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return key
        return found if _DIGEST.fullmatch(found) else key

    def put(self, key: str, digest: str) -> None:
        """From now on `key` stands for `digest`. Raises OSError."""
        path = self._path(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{key}.{os.getpid()}")
        new.write_text(digest + "\n", encoding="ascii")
        new.rename(path)

    def _path(self, key: str) -> Path:
        if not _DIGEST.fullmatch(key):
            raise Internal(f"{key[:80]!r} is not the key of a step")
        return self._directory / key
