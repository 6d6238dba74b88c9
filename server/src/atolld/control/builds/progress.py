"""How far a stage has come: the layers so far, and what the next step starts with. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from atolld.control.buildmachine import BaseLayers
from atolld.core.build import BaseKind, ImageConfig
from atolld.core.defaults import GuestDefaults

ROOT = "root"


@dataclass(frozen=True, slots=True)
class Progress:
    """`layers`: lowest first. `user`, `workdir`, `envs`: of the next step. `defaults`: of the sandboxes, as far as it
    was said."""

    layers: tuple[str, ...] = ()
    user: str = ROOT
    workdir: str = "/"
    envs: Mapping[str, str] = field(default_factory=dict)
    defaults: GuestDefaults = field(default_factory=GuestDefaults)
    config: ImageConfig = field(default_factory=ImageConfig)

    def with_layer(self, digest: str) -> Progress:
        """With one more layer on top."""
        return replace(self, layers=(*self.layers, digest))

    def with_envs(self, envs: Mapping[str, str]) -> Progress:
        """With variables for the steps to come and for the sandboxes."""
        merged = {**self.envs, **envs}
        return replace(self, envs=merged, defaults=replace(self.defaults, envs=merged))

    def with_user(self, user: str) -> Progress:
        """With another user for both; a group behind the name is the user's own to have."""
        name = user.partition(":")[0]
        return replace(self, user=name, defaults=replace(self.defaults, user=name))

    def with_workdir(self, path: str) -> Progress:
        """With another directory for both, `path` seen from the one before."""
        there = self.resolve(path)
        return replace(self, workdir=there, defaults=replace(self.defaults, workdir=there))

    def without_workdir(self) -> Progress:
        """As if no directory had been set: steps begin in `/`, commands in sandboxes in their user's home."""
        return replace(self, workdir="/", defaults=replace(self.defaults, workdir=None))

    def resolve(self, path: str) -> str:
        """`path` as an absolute one, without `.` and `..`."""
        return posixpath.normpath(posixpath.join(self.workdir, path)).replace("//", "/", 1)


def begin(kind: BaseKind, base: BaseLayers) -> Progress:
    """The progress of a stage that has only its base.

    Steps over a template run as root in `/` unless the plan says otherwise, since its own user is the one of its
    sandboxes and may not install anything; over an image they run as the image says, as Docker does it.
    """
    defaults = base.defaults
    if kind is BaseKind.TEMPLATE:
        return Progress(base.layers, envs=defaults.envs, defaults=defaults, config=base.config)
    if kind is BaseKind.SCRATCH:
        defaults = GuestDefaults(user=ROOT, workdir="/")
    return Progress(base.layers, defaults.user, defaults.workdir or "/", defaults.envs, defaults, base.config)
