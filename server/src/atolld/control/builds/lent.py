"""What the host lends to the sandboxes of builds: how to reach packages. Nothing of it is in what is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from atolld.core.network import NetworkPolicy


@dataclass(frozen=True, slots=True)
class Lent:
    """`envs`: variables of every command of a step. `files`: path in the sandbox to contents; all below directories in
    memory, which no layer has. `network`: what such a sandbox may reach."""

    envs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)


class Lender(Protocol):
    """Gives what there is to lend, by the setting `build_inherit_host`."""

    async def lend(self) -> Lent:
        """Asked for each sandbox: the host's settings may have changed."""
        ...


class Nothing:
    """Lends nothing."""

    async def lend(self) -> Lent:
        """See `Lender.lend`."""
        return Lent()
