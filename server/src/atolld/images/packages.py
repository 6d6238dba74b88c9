"""What is installed in a root file system, and which architecture the host's packages have."""

from __future__ import annotations

import platform
from pathlib import Path

from atolld.foundation.errors import FailedPrecondition

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def host_architecture() -> str:
    """dpkg's name of the host's architecture. Raises FailedPrecondition on one that sandboxes do not run on."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise FailedPrecondition(f"sandboxes run on {', '.join(_ARCHITECTURES)}; this machine is {machine!r}")
    return _ARCHITECTURES[machine]


def installed_packages(root: Path) -> dict[str, str]:
    """Name to version of every installed package, from dpkg's own record."""
    found: dict[str, str] = {}
    for stanza in (root / "var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] not in " \t")
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found
