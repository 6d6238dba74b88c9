"""The variables of a stage: build arguments, of which nothing stays, and the environment, which stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atolld.images.dockerfile.expansion import Expander
from atolld.images.dockerfile.syntax import Instruction
from atolld.images.oci import Platform

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Given with a build, these reach every RUN without an ARG.
PROXIES = tuple(
    spelling
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for spelling in (name, name.lower())
)


def platform_args(platform: Platform) -> dict[str, str]:
    """What can be told of the machine, which builds for itself only."""
    variant = platform.variant or ""
    name = "/".join(one for one in (platform.os, platform.architecture, variant) if one)
    found: dict[str, str] = {}
    for side in ("TARGET", "BUILD"):
        found |= {
            f"{side}PLATFORM": name,
            f"{side}OS": platform.os,
            f"{side}ARCH": platform.architecture,
            f"{side}VARIANT": variant,
        }
    return found


@dataclass(slots=True)
class Scope:
    """`given`: build arguments of the caller. `outer`: those that an ARG without a value takes its value from: of the
    machine, and of ARGs before the first FROM. `args`, `envs`: as far as the stage has come; a variable of `envs` goes
    before an argument of the same name.
    """

    expander: Expander
    given: Mapping[str, str]
    outer: Mapping[str, str]
    envs: dict[str, str]
    args: dict[str, str] = field(default_factory=dict)

    @property
    def visible(self) -> Mapping[str, str]:
        """All that a word may refer to."""
        return {**self.args, **self.envs}

    def word(self, text: str) -> str:
        """`text` with its variables replaced. Raises ValueError."""
        return self.expander.word(text, self.visible)

    def words(self, text: str) -> tuple[str, ...]:
        """`text` with its variables replaced, then split. Raises ValueError."""
        return self.expander.words(text, self.visible)

    def declare(self, instruction: Instruction) -> None:
        """Take the arguments of an ARG. Raises ValueError."""
        if not instruction.args:
            raise ValueError("it names no argument: write ARG <name>[=<default>]")
        for argument in instruction.args:
            raw, has_default, default = argument.partition("=")
            name = self.word(raw)
            if not name:
                raise ValueError("an argument has no name: write ARG <name>[=<default>]")
            if name in self.given:
                self.args[name] = self.given[name]
            elif has_default:
                self.args[name] = self.word(default)
            elif name in self.outer:
                self.args[name] = self.outer[name]
            else:
                # Declared without a value: there is none, not even an empty one.
                self.args.pop(name, None)

    def of_command(self) -> Mapping[str, str]:
        """What a RUN sees beside the environment, and nothing after it."""
        proxies = {name: self.given[name] for name in PROXIES if name in self.given}
        return {name: value for name, value in {**proxies, **self.args}.items() if name not in self.envs}
