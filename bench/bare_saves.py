"""The bare runtime's own way to bring a saved guest back: `runsc checkpoint` once, `runsc restore` each time.

Flags as its manual has them, and not compressed, which is the faster choice.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.bare import BareRuntime
from bench.setting import wait_until


class BareSave:
    """A guest of `args`, saved to `image` as soon as the command `ready` succeeds in it."""

    def __init__(self, bare: BareRuntime, image: Path, args: Sequence[str], ready: Sequence[str]) -> None:
        self._bare = bare
        self._image = image
        image.mkdir()
        source = bare.prepare(args)
        bare.start(source)

        def is_ready() -> bool:
            return subprocess.run(bare.command("exec", source.name, *ready), capture_output=True).returncode == 0

        wait_until(is_ready, "the bare guest is not ready")
        subprocess.run(
            bare.command("checkpoint", "--compression=none", f"--image-path={image}", source.name),
            check=True,
            capture_output=True,
        )
        bare.delete(source)
        self._box = bare.prepare(args)

    def resume(self, args: Sequence[str]) -> float:
        """Seconds of a restore into a new container, and `args` run in it."""
        bare, box = self._bare, self._box
        begun = time.perf_counter()
        # Not captured: a detached guest would keep the pipe open.
        subprocess.run(
            bare.command("restore", "--detach", f"--image-path={self._image}", f"--bundle={box.bundle}", box.name),
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        bare.execute(box, args)
        seconds = time.perf_counter() - begun
        bare.delete(box)
        bare.give_addresses(box)
        return seconds
