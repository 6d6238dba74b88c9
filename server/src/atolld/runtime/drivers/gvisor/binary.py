"""What one runsc binary is and can do, read from itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.errors import RuntimeUnusable
from atolld.foundation.scratch import scratch
from atolld.runtime.commands import Command, run_command
from atolld.runtime.refuse import slow_calls

# The first release on Debian 12; what is older lacks flags and fixes this driver relies on.
OLDEST = "20221219"
# Without these there is no sandbox as we mean it. All others are used where they are known.
NEEDED_FLAGS = frozenset({"root", "network", "platform", "file-access", "log"})
NEEDED_CHECKPOINT_FLAGS = frozenset({"image-path", "leave-running", "compression"})

_RELEASE = re.compile(r"(?:release-)?(?:\d+\.\d+~)?(20\d{6})(?:\.\d+)?")
_FLAG = re.compile(r"^\s+-{1,2}([A-Za-z][A-Za-z0-9_-]*)", re.MULTILINE)
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class RunscBinary:
    """`version` as the binary says it; `release` its date, `20240729`; `flags` the global flags it knows,
    `checkpoint_flags` and `restore_flags` those of its commands.
    """

    path: Path
    version: str
    release: str
    flags: frozenset[str]
    checkpoint_flags: frozenset[str] = frozenset()
    restore_flags: frozenset[str] = frozenset()

    def has(self, flag: str) -> bool:
        """Whether the global flag `flag` (without dashes) is known."""
        return flag in self.flags

    @property
    def can_save(self) -> bool:
        """Whether guests can be saved and restored as this driver does it.

        Before 2024 a guest with a connection to the outside cannot be saved at all, and images are always compressed,
        at a tenth of the speed.
        """
        return self.has("net-disconnect-ok") and self.checkpoint_flags >= NEEDED_CHECKPOINT_FLAGS


def parse_version(text: str) -> tuple[str, str]:
    """`runsc --version` -> (version, release date).

    Knows `release-20240729.0`, `0.0~20221219.0` and the like. Raises RuntimeUnusable for anything else and for what
    is older than `OLDEST`.
    """
    first = text.strip().splitlines()[0] if text.strip() else ""
    version = first.removeprefix("runsc version").strip()
    match = _RELEASE.search(version)
    if not first.startswith("runsc version") or match is None:
        raise RuntimeUnusable(
            f"runsc says its version is {first[:80]!r}, which has no release date; install a release of {OLDEST} or "
            "newer (Debian: bookworm-backports)"
        )
    if match.group(1) < OLDEST:
        raise RuntimeUnusable(f"runsc {version} is too old: {OLDEST} or newer is needed (Debian: bookworm-backports)")
    return version, match.group(1)


def parse_flags(text: str) -> frozenset[str]:
    """`runsc flags` -> names. Raises RuntimeUnusable when one is missing that every sandbox needs."""
    flags = frozenset(_FLAG.findall(text))
    missing = sorted(NEEDED_FLAGS - flags)
    if missing:
        raise RuntimeUnusable(f"this runsc lacks the flags {', '.join(missing)}; install a release build of gVisor")
    return flags


async def read_binary(path: Path, place: Path) -> RunscBinary:
    """Ask the binary. `place`: where there is room for its output. Raises RuntimeUnusable with the reason."""
    with scratch("ask", place) as directory:
        version, release = parse_version(await _ask(path, "--version", directory))
        flags = parse_flags(await _ask(path, "flags", directory))
        checkpoint, restore = [
            frozenset(_FLAG.findall(await _ask(path, f"help {verb}", directory))) for verb in ("checkpoint", "restore")
        ]
        return RunscBinary(path, version, release, flags, checkpoint, restore)


async def _ask(path: Path, question: str, directory: Path) -> str:
    output = directory / question.strip("-")
    command = Command([str(path), *question.split()], output, filter=slow_calls())
    try:
        code = await run_command(command, _TIMEOUT_S)
    except OSError as error:
        raise RuntimeUnusable(f"{path} cannot be run: {error.strerror}") from error
    text = output.read_text(errors="replace")
    if code != 0:
        raise RuntimeUnusable(f"{path} {question} failed with status {code}: {text.strip()[-200:]}")
    return text
