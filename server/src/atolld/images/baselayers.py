"""What a stage of a build begins with."""

from __future__ import annotations

from dataclasses import dataclass, field

from atolld.core.build import ImageConfig
from atolld.core.defaults import GuestDefaults


@dataclass(frozen=True, slots=True)
class BaseLayers:
    """`layers`: digests, lowest first; none for SCRATCH. `defaults`, `config`: of the image or template."""

    layers: tuple[str, ...]
    defaults: GuestDefaults
    config: ImageConfig = field(default_factory=ImageConfig)
