"""From mmdebstrap's output, line by line, to how far a build has come."""

from __future__ import annotations

import re

from atolld.images.progress import Progress

_PLANNED = re.compile(r"\d+ upgraded, (\d+) newly installed")
_FETCHED_PACKAGE = re.compile(r"Get:\d+ \S+ \S+ \S+ (\S+) ")
_UNPACKING = re.compile(r"Unpacking (\S+)")
_SETTING_UP = re.compile(r"Setting up (\S+)")

# Parts of the whole, measured on a two-core machine: (from, to) in percent for each part of apt's two runs. The first
# run makes the essential packages, the second installs the rest.
_SPANS = {
    (1, "download"): (3.0, 8.0),
    (1, "install"): (8.0, 20.0),
    (2, "download"): (20.0, 25.0),
    (2, "install"): (25.0, 95.0),
}
# Unpacking and setting up take turns, so both count towards one part; unpacking is most of the work.
_WEIGHTS = {"download": 1.0, "unpack": 0.65, "configure": 0.35}
_WORDS = {"download": "Downloading", "unpack": "Unpacking", "configure": "Setting up"}
# mmdebstrap's own remarks that begin a part.
_REMARKS = (
    ("I: running apt-get update", "index", 1.0, "Reading the package index"),
    ("I: extracting archives", "extract", 8.0, "Extracting the essential packages"),
    ("I: running --customize-hook", "setup", 95.0, "Creating the user and settings"),
    ("I: cleaning package lists", "clean", 96.0, "Removing package lists and caches"),
)


class BootstrapProgress:
    """Give it each line in order; it answers with a step when there is something new to tell."""

    def __init__(self) -> None:
        self._run = 0
        self._planned = 1
        self._done: dict[str, int] = {}
        self._percent = 0.0

    def feed(self, line: str) -> Progress | None:
        """The step that `line` stands for, or None. Percentages never fall."""
        for start, phase, percent, message in _REMARKS:
            if line.startswith(start):
                return self._at(phase, percent, message)
        if match := _PLANNED.match(line):
            self._run = min(self._run + 1, 2)
            self._planned = max(1, int(match[1]))
            self._done = {}
            return None
        for step, pattern in (("download", _FETCHED_PACKAGE), ("unpack", _UNPACKING), ("configure", _SETTING_UP)):
            if self._run and (match := pattern.match(line)):
                return self._count(step, match[1])
        return None

    def _count(self, step: str, package: str) -> Progress:
        self._done[step] = self._done.get(step, 0) + 1
        part = "download" if step == "download" else "install"
        steps = ("download",) if part == "download" else ("unpack", "configure")
        share = min(1.0, sum(_WEIGHTS[s] * self._done.get(s, 0) for s in steps) / self._planned)
        low, high = _SPANS[(self._run, part)]
        message = f"{_WORDS[step]} {package.split(':')[0]} ({self._done[step]} of {self._planned})"
        # The essential packages and the rest are two phases for a reader who sees one line for each phase.
        return self._at(f"{part}-{self._run}", low + (high - low) * share, message)

    def _at(self, phase: str, percent: float, message: str) -> Progress:
        self._percent = max(self._percent, percent)
        return Progress(phase, self._percent, message)
