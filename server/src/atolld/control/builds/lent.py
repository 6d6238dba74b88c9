"""What the host lends to the sandboxes of builds: how to reach packages. Nothing of it is in what is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from atolld.core.network import NetworkPolicy


class Lent(Protocol):
    """What one sandbox gets; `atolld.images.build_settings` makes them."""

    @property
    def envs(self) -> Mapping[str, str]:
        """Variables of every command of a step; the step's own go first."""
        ...

    @property
    def files(self) -> Mapping[str, bytes]:
        """Path in the sandbox to contents: all below directories in memory, which no layer has."""
        ...

    @property
    def network(self) -> NetworkPolicy:
        """What the sandbox may reach."""
        ...

    @property
    def forbidden(self) -> Sequence[str]:
        """Texts that no file of the layer may hold."""
        ...


class Lender(Protocol):
    """Gives what there is to lend, by the setting `build_inherit_host`."""

    async def for_sandbox(self, layers: Sequence[Path]) -> Lent:
        """For one over `layers`, lowest first. Asked each time: the host's settings may have changed."""
        ...


@dataclass(frozen=True, slots=True)
class Nothing:
    """Lends nothing."""

    envs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    forbidden: Sequence[str] = ()

    async def for_sandbox(self, layers: Sequence[Path]) -> Nothing:
        """See `Lender.for_sandbox`."""
        return self
