from __future__ import annotations

import io

from atolld.images.bootstrap_progress import BootstrapProgress
from atolld.images.progress import Progress, ProgressPrinter

OUTPUT = """\
I: chroot architecture amd64 is equal to the host's architecture
I: running apt-get update...
Get:1 http://m.example/debian bookworm InRelease [151 kB]
0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.
Get:1 http://m.example/debian bookworm/main amd64 libc6 amd64 2.36 [2 kB]
Get:2 http://m.example/debian bookworm/main amd64 bash amd64 5.2 [2 kB]
I: extracting archives...
Unpacking libc6:amd64 (2.36) ...
Unpacking bash (5.2) ...
Setting up libc6:amd64 (2.36) ...
Setting up bash (5.2) ...
0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Get:1 http://m.example/debian bookworm/main amd64 git amd64 2.39 [2 kB]
Unpacking git (1:2.39) ...
Setting up git (1:2.39) ...
Setting up git (1:2.39) ...
I: running --customize-hook directly: /tmp/setup.sh /root
I: cleaning package lists and apt cache...
I: success in 38 seconds
"""


def test_steps_follow_the_output_and_never_fall() -> None:
    told = BootstrapProgress()
    steps = [step for line in OUTPUT.splitlines() if (step := told.feed(line)) is not None]
    assert [(step.phase, round(step.percent or 0), step.message) for step in steps] == [
        ("index", 1, "Reading the package index"),
        ("download-1", 6, "Downloading libc6 (1 of 2)"),
        ("download-1", 8, "Downloading bash (2 of 2)"),
        ("extract", 8, "Extracting the essential packages"),
        ("install-1", 12, "Unpacking libc6 (1 of 2)"),
        ("install-1", 16, "Unpacking bash (2 of 2)"),
        ("install-1", 18, "Setting up libc6 (1 of 2)"),
        ("install-1", 20, "Setting up bash (2 of 2)"),
        ("download-2", 25, "Downloading git (1 of 1)"),
        ("install-2", 70, "Unpacking git (1 of 1)"),
        ("install-2", 95, "Setting up git (1 of 1)"),
        ("install-2", 95, "Setting up git (2 of 1)"),
        ("setup", 95, "Creating the user and settings"),
        ("clean", 96, "Removing package lists and caches"),
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_output_is_a_line_for_each_phase_and_one_each_ten_seconds() -> None:
    now = [0.0]
    stream = io.StringIO()
    printer = ProgressPrinter(stream, clock=lambda: now[0])
    for second, phase, message in ((1, "a", "one"), (2, "a", "two"), (12, "a", "three"), (13, "b", "four")):
        now[0] = float(second)
        printer(Progress(phase, None if phase == "b" else 5.0, message))
    printer.close()
    assert stream.getvalue() == "    5% one (1.0 s)\n    5% three (12.0 s)\n       four (13.0 s)\n"


def test_a_terminal_gets_one_line_rewritten_in_place() -> None:
    stream = _Terminal()
    printer = ProgressPrinter(stream, clock=lambda: 0.0)
    printer(Progress("a", 1.0, "one"))
    printer(Progress("a", 2.0, "x" * 200))
    printer.close()
    first, second = stream.getvalue().split("\r\x1b[2K")[1:]
    assert first.startswith("    1% one")
    assert len(second.rstrip("\n")) == 100 and second.endswith("\n")
