"""Whether requirements/*.txt and interpreter/requirements/*.txt are what scripts/lock.sh would write.

As far as that can be told without a network.
Every dependency that a pyproject.toml pins must be locked with that version and with hashes, and no lock file may name
a place to download from. Exit status 0, or 1 with a line for each fault.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)")


def pins(lines: list[str]) -> dict[str, str]:
    """Normalised name to version of each `name==version` line."""
    found = {}
    for line in lines:
        if match := PIN.match(line):
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def faults(lock: Path, wanted: list[str]) -> list[str]:
    """What is wrong with one lock file."""
    text = lock.read_text(encoding="utf-8")
    locked = pins(text.splitlines())
    found = [
        f"{lock.name}: {name} is locked as {locked.get(name)}, but {version} is asked for: run scripts/lock.sh"
        for name, version in pins(wanted).items()
        if locked.get(name) != version
    ]
    for place in re.findall(r"^(?:--|-f |-i ).*|\S+://\S+", text, re.MULTILINE):
        found.append(f"{lock.name}: it names a place to download from: {place}")
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        if PIN.match(block) and "--hash=sha256:" not in block:
            found.append(f"{lock.name}: {block.splitlines()[0]} has no hash")
    return found


def main() -> int:
    projects = [
        tomllib.loads((ROOT / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for name in ("server", "sdk", "interpreter")
    ]
    build = (ROOT / "requirements/build.in").read_text(encoding="utf-8").splitlines()
    *installed, interpreter = [project.get("dependencies", []) for project in projects]
    runtime = build + [line for lines in installed for line in lines]
    kernels = (ROOT / "interpreter/requirements/kernels.in").read_text(encoding="utf-8").splitlines()
    extras = [project.get("optional-dependencies", {}) for project in projects]
    dev = [line for extra in extras for name in ("dev", "archive") for line in extra.get(name, [])]
    found = [
        *faults(ROOT / "requirements/runtime.txt", runtime),
        *faults(ROOT / "requirements/dev.txt", runtime + interpreter + dev),
        *faults(ROOT / "interpreter/requirements/server.txt", interpreter),
        *faults(ROOT / "interpreter/requirements/kernels.txt", kernels),
    ]
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
