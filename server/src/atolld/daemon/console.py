"""What `atolld` prints."""

from __future__ import annotations

import sys
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
    """A line for who asked, at once; to standard output unless `stream` is another."""
    target = stream or sys.stdout
    target.write(text + "\n")
    target.flush()
