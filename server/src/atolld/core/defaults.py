"""How what a sandbox is started from wants to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GuestDefaults:
    """`user`: name or number of who runs commands that name nobody. `workdir`: where they start; None: in that user's
    home. `envs`: variables of every process; those that a caller gives go first."""

    user: str = "user"
    workdir: str | None = None
    envs: Mapping[str, str] = field(default_factory=dict)
