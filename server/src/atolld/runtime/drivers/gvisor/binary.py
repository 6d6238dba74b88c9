"""What one runsc binary is and can do, read from itself."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.errors import RuntimeUnusable
from atolld.runtime.commands import Command, run_command

# The first release on Debian 12; what is older lacks flags and fixes this driver relies on.
OLDEST = "20221219"
# Without these there is no sandbox as we mean it. All others are used where they are known.
NEEDED_FLAGS = frozenset({"root", "network", "platform", "file-access", "log"})

_RELEASE = re.compile(r"(?:release-)?(?:\d+\.\d+~)?(20\d{6})(?:\.\d+)?")
_FLAG = re.compile(r"^\s+-{1,2}([A-Za-z][A-Za-z0-9_-]*)", re.MULTILINE)
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class RunscBinary:
    """`version` as the binary says it; `release` its date, `20240729`; `flags` the global flags it knows."""

    path: Path
    version: str
    release: str
    flags: frozenset[str]

    def has(self, flag: str) -> bool:
        """Whether the global flag `flag` (without dashes) is known."""
        return flag in self.flags


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


async def read_binary(path: Path, scratch: Path) -> RunscBinary:
    """Ask the binary. `scratch`: a directory for its output. Raises RuntimeUnusable with the reason."""
    with tempfile.TemporaryDirectory(prefix="ask-", dir=scratch) as directory:
        version, release = parse_version(await _ask(path, "--version", Path(directory)))
        return RunscBinary(path, version, release, parse_flags(await _ask(path, "flags", Path(directory))))


async def _ask(path: Path, question: str, directory: Path) -> str:
    output = directory / question.strip("-")
    try:
        code = await run_command(Command([str(path), question], output), _TIMEOUT_S)
    except OSError as error:
        raise RuntimeUnusable(f"{path} cannot be run: {error.strerror}") from error
    text = output.read_text(errors="replace")
    if code != 0:
        raise RuntimeUnusable(f"{path} {question} failed with status {code}: {text.strip()[-200:]}")
    return text
