"""What is kept beside a saved memory: how the guest had been started, because a restore must mount and run the same.

In a small file of its own and not as a copy of the bundle: a save may come from elsewhere, and a bundle can name any
file of this host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atolld.core.sandbox import Resources
from atolld.foundation.errors import Internal
from atolld.runtime.driver import LaunchSpec
from atolld.runtime.drivers.gvisor.bundle import SUDO_PATH, bundle

FORMAT = 1
FILE = "launch.json"


@dataclass(frozen=True, slots=True)
class SavedLaunch:
    """`memory_mib` and `pids_max` are the bounds of its mounts and processes, `agent_sudo` as `bundle` takes it."""

    hostname: str
    env: Mapping[str, str]
    agent_sudo: bool
    memory_mib: int
    pids_max: int

    @staticmethod
    def of(config: Mapping[str, Any], resources: Resources) -> SavedLaunch:
        """From a running sandbox's bundle and its bounds."""
        pairs = (entry.partition("=") for entry in config["process"]["env"])
        return SavedLaunch(
            hostname=config["hostname"],
            env={name: value for name, _, value in pairs if name != "ATOLL_SUDO"},
            agent_sudo=any(mount["destination"] == SUDO_PATH for mount in config["mounts"]),
            memory_mib=resources.memory_mib,
            pids_max=resources.pids_max,
        )

    def bundle(self, spec: LaunchSpec) -> dict[str, object]:
        """The bundle that the saved guest is restored with, in the places of `spec`."""
        resources = replace(spec.resources, memory_mib=self.memory_mib, pids_max=self.pids_max)
        old = replace(spec, hostname=self.hostname, env=self.env, resources=resources)
        return bundle(old, agent_sudo=self.agent_sudo)

    def write(self, directory: Path) -> None:
        """Beside the memory. Raises OSError."""
        (directory / FILE).write_text(json.dumps({"format": FORMAT, **asdict(self)}))

    @staticmethod
    def read(directory: Path) -> SavedLaunch:
        """Raises Internal when it is missing or damaged."""
        try:
            stored = json.loads((directory / FILE).read_text())
            if stored.pop("format") != FORMAT:
                raise ValueError("another format")
            saved = SavedLaunch(**stored)
            texts = (saved.hostname, *saved.env, *saved.env.values())
            numbers = (saved.memory_mib, saved.pids_max)
            if not (
                all(isinstance(text, str) for text in texts)
                and all(isinstance(number, int) and number > 0 for number in numbers)
                and isinstance(saved.agent_sudo, bool)
            ):
                raise TypeError("a wrong type")
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Internal(f"the saved memory is damaged: {FILE} cannot be read ({error!r})") from error
        return saved
