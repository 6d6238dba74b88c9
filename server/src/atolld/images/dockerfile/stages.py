"""Stages: what each begins with, which of the others it needs, and which of all a target needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atolld.core.build import MAX_STAGES, Base, BaseKind
from atolld.foundation.errors import AtollError, InvalidArgument
from atolld.images.dockerfile.copying import origin_of
from atolld.images.dockerfile.expansion import Expander
from atolld.images.dockerfile.failing import quoted, wrong
from atolld.images.dockerfile.flags import first, read_flags
from atolld.images.dockerfile.inputs import Inputs
from atolld.images.dockerfile.scope import Scope, platform_args
from atolld.images.dockerfile.syntax import Dockerfile, Instruction
from atolld.images.oci import Platform
from atolld.images.reference import parse_reference

# What begins with it names a template, which no reference to an image looks like.
TEMPLATE_SCHEME = "template://"
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,127}")
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}


@dataclass(slots=True)
class Part:
    """One stage as it is written. `base`: with STAGE, its name is the index among all parts. `reads`: the parts and
    images that its COPYs name, to the line of the first."""

    start: Instruction
    base: Base
    name: str
    body: list[Instruction] = field(default_factory=list)
    reads: dict[str, int | Base] = field(default_factory=dict)


def read_stages(dockerfile: Dockerfile, inputs: Inputs) -> tuple[list[Part], Mapping[str, str]]:
    """All stages, and the variables that their ARGs may take. Raises InvalidArgument."""
    scope = Scope(Expander(dockerfile.escape), inputs.args, {}, platform_args(inputs.platform))
    parts: list[Part] = []
    for instruction in dockerfile.instructions:
        try:
            if instruction.name == "FROM":
                if len(parts) == MAX_STAGES:
                    raise ValueError(f"there are more than {MAX_STAGES} stages")
                parts.append(_begin(instruction, parts, scope, inputs.platform))
            elif parts:
                parts[-1].body.append(instruction)
            elif instruction.name == "ARG":
                read_flags(instruction.flags, ())
                scope.declare(instruction)
            else:
                raise ValueError("a Dockerfile begins with FROM; only ARG may stand before it")
        except ValueError as error:
            raise wrong(instruction.line, instruction.name, str(error)) from None
        except AtollError as error:
            raise wrong(instruction.line, instruction.name, error.message) from None
    if not parts:
        raise InvalidArgument("Dockerfile: it has no FROM, so there is nothing to begin with")
    for index, part in enumerate(parts):
        _find_reads(index, parts, part)
    return parts, {**scope.envs, **scope.args}


def pick(parts: Sequence[Part], target: str | None) -> list[int]:
    """The indexes of the parts that `target` needs, itself last. Raises InvalidArgument when there is no such."""
    last = len(parts) - 1 if target is None else _find(parts, target)
    needed: set[int] = set()
    queue = [last]
    while queue:
        index = queue.pop()
        if index in needed:
            continue
        needed.add(index)
        part = parts[index]
        queue += [read for read in part.reads.values() if isinstance(read, int)]
        if part.base.kind is BaseKind.STAGE:
            queue.append(int(part.base.name))
    # What it needs stands before it, so it is the last of them.
    return sorted(needed)


def _find(parts: Sequence[Part], target: str) -> int:
    for index, part in enumerate(parts):
        if part.name and part.name == target.lower():
            return index
    if target.isascii() and target.isdecimal() and len(target) < 4 and int(target) < len(parts):
        return int(target)
    names = ", ".join(part.name for part in parts if part.name) or "none with a name"
    raise InvalidArgument(f"Dockerfile: it has no stage {quoted(target)}: there are {names[:400]}")


def _begin(instruction: Instruction, parts: Sequence[Part], scope: Scope, platform: Platform) -> Part:
    flags = read_flags(instruction.flags, ("platform",))
    wanted = first(flags, "platform")
    if wanted is not None:
        _check_platform(scope.word(wanted), platform)
    words = instruction.args
    if len(words) not in (1, 3) or len(words) == 3 and words[1].upper() != "AS":
        raise ValueError("it is FROM <image> [AS <name>]")
    name = words[2].lower() if len(words) == 3 else ""
    if name and (not _NAME.fullmatch(name) or name == "scratch"):
        raise ValueError(f"{quoted(words[2])} cannot name a stage: use letters, digits, '_', '.' and '-'")
    if name and any(part.name == name for part in parts):
        raise ValueError(f"there is a stage {quoted(name)} already")
    return Part(instruction, _base(scope.word(words[0]), parts), name)


def _base(text: str, parts: Sequence[Part]) -> Base:
    if not text:
        raise ValueError("the name of its image is empty: an ARG before the first FROM has no value")
    for index, part in enumerate(parts):
        if part.name and part.name == text.lower():
            return Base(BaseKind.STAGE, str(index))
    return Base(BaseKind.SCRATCH) if text == "scratch" else outside(text)


def outside(text: str) -> Base:
    """A template or an image. Raises InvalidArgument, ValueError."""
    if text.startswith(TEMPLATE_SCHEME):
        name = text.removeprefix(TEMPLATE_SCHEME)
        if not name:
            raise ValueError(f"{TEMPLATE_SCHEME} is followed by the name of a template")
        return Base(BaseKind.TEMPLATE, name)
    parse_reference(text)
    return Base(BaseKind.IMAGE, text)


def _check_platform(text: str, platform: Platform) -> None:
    os, _, rest = text.lower().partition("/")
    architecture, _, _ = rest.partition("/")
    # One word is an architecture, or the system.
    if not rest:
        os, architecture = ("linux", os) if os not in ("linux", "windows", "darwin") else (os, platform.architecture)
    if (os, _ALIASES.get(architecture, architecture)) != (platform.os, platform.architecture):
        raise ValueError(f"this machine builds for {platform} only, not for {quoted(text)}")


def _find_reads(index: int, parts: Sequence[Part], part: Part) -> None:
    for instruction in part.body:
        try:
            name = origin_of(instruction)
            if name is not None and name not in part.reads:
                part.reads[name] = _read(name, index, parts)
        except ValueError as error:
            raise wrong(instruction.line, instruction.name, str(error)) from None
        except AtollError as error:
            raise wrong(instruction.line, instruction.name, error.message) from None


def _read(name: str, index: int, parts: Sequence[Part]) -> int | Base:
    found = next((at for at, part in enumerate(parts) if part.name and part.name == name.lower()), None)
    if found is None and name.isascii() and name.isdecimal() and len(name) < 4:
        found = int(name)
        if found >= len(parts):
            raise ValueError(f"--from={name}: there are {len(parts)} stages, counted from 0")
    if found is None:
        return outside(name)
    if found >= index:
        raise ValueError(f"--from={quoted(name)[1:-1]}: a stage copies from those before it only, so move it up")
    return found
