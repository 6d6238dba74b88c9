"""Template layers seen from the host: which of them saves and builds lie on.

    <cache>/layers/<digest>/root/                 the files (made by `atolld.images`)
    <cache>/layers/<digest>/pins/<instance>.<id>  an empty file: a save, or a build, of that instance needs the layer

The cache is shared by all instances, and is cleaned by a command that knows none of their saves and builds: a layer
with a pin stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from atolld.foundation.errors import Internal
from atolld.foundation.ids import is_build_id
from atolld.host.instance import Instance, check_item

_DIGEST = re.compile(r"[0-9a-z][0-9a-z_-]{0,127}")
_PINS = "pins"


class TemplateLayers:
    """The layers below one directory, and the pins that one instance has in them."""

    def __init__(self, directory: Path, instance: Instance) -> None:
        self.directory = directory
        self._instance = instance

    def root(self, digest: str) -> Path:
        """Where the layer's files are, there or not. Raises Internal on what is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise Internal(f"{digest[:80]!r} is not the digest of a layer")
        return self.directory / digest / "root"

    def digest(self, root: Path) -> str:
        """The digest of the layer at `root`. Raises Internal when that is no layer of this directory."""
        if root.name != "root" or root.parent.parent != self.directory:
            raise Internal(f"{root} is not a layer below {self.directory}")
        return root.parent.name

    def pin(self, save_id: str, digests: Collection[str]) -> None:
        """Keep the layers for a save. Idempotent. Raises OSError (FileNotFoundError when one is gone)."""
        for digest in digests:
            pins = self.root(digest).parent / _PINS
            pins.mkdir(mode=0o700, exist_ok=True)
            (pins / self._name(save_id)).touch(mode=0o600)

    def unpin(self, save_id: str) -> None:
        """Let them go; no pin is success. Raises OSError."""
        for path in self._pins():
            if path.name == self._name(save_id):
                path.unlink(missing_ok=True)

    def unpin_all_but(self, save_ids: Collection[str]) -> None:
        """Let go whatever is kept for other saves than these; what builds keep stays. Raises OSError."""
        names = set(map(self._name, save_ids))
        for path in self._pins():
            if path.name not in names and not is_build_id(path.name.partition(".")[2]):
                path.unlink(missing_ok=True)

    def _pins(self) -> list[Path]:
        return list(self.directory.glob(f"*/{_PINS}/{self._instance.name}.*"))

    def _name(self, save_id: str) -> str:
        return f"{self._instance.name}.{check_item(save_id)}"


def is_pinned(layer: Path) -> bool:
    """Whether a save of any instance needs the layer whose directory (above `root`) this is."""
    try:
        return bool(os.listdir(layer / _PINS))
    except FileNotFoundError:
        return False
