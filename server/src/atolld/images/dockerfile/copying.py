"""COPY and ADD: from the context, from stages and images, and from the Dockerfile itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from atolld.core.build import Copy, Where
from atolld.images.dockerfile.failing import quoted
from atolld.images.dockerfile.flags import first, is_true, read_flags
from atolld.images.dockerfile.scope import Scope
from atolld.images.dockerfile.syntax import Instruction

_COPY_FLAGS = ("from", "chown", "chmod", "link", "parents", "exclude")
_ADD_FLAGS = ("chown", "chmod", "link", "exclude", "unpack", "keep-git-dir", "checksum")
_MAX_SOURCES = 1000
_MODE = re.compile(r"0?[0-7]{3,4}")
_URL = re.compile(r"(?:https?|ftps?|git|ssh)://|git@[\w.-]+:|github\.com/", re.IGNORECASE)


def copy_steps(
    instruction: Instruction,
    where: tuple[Where, ...],
    scope: Scope,
    origins: Mapping[str, str],
    context: str | None,
    *,
    lenient: bool,
) -> list[Copy]:
    """The steps: as many as `copies_of` says, one for each of `where`.

    `origins`: what `--from` may name, to an origin. `lenient`: variables are not known yet, so words with a `$` are not
    judged. Raises ValueError.
    """
    is_add = instruction.name == "ADD"
    flags = read_flags(instruction.flags, _ADD_FLAGS if is_add else _COPY_FLAGS, repeatable=("exclude",))
    for name in ("keep-git-dir", "checksum"):
        if name in flags:
            raise ValueError(f"--{name} belongs to URLs, which ADD does not fetch here")
    if "link" in flags:
        is_true(flags["link"][0], "--link")
    marks, raw_sources, raw_destination = _split(instruction)
    sources = tuple(scope.word(source) for source in raw_sources)
    destination = scope.word(raw_destination)
    _check(sources, destination, len(marks), is_add=is_add)
    mode = _mode(None if (text := first(flags, "chmod")) is None else scope.word(text), lenient=lenient)
    owner = None if (text := first(flags, "chown")) is None else scope.word(text)
    steps = []
    if marks:
        contents = {
            one.name: scope.expander.document(one.contents, scope.visible) if one.expand else one.contents
            for one in instruction.heredocs
        }
        steps.append(Copy(where[0], (), destination, inline=contents, owner=owner, mode=mode))
    if sources:
        origin = _origin(first(flags, "from"), origins, context)
        parents = "parents" in flags and is_true(flags["parents"][0], "--parents")
        unpack = is_add and is_true(flags.get("unpack", ["true"])[0], "--unpack")
        exclude = tuple(scope.word(pattern) for pattern in flags.get("exclude", ()))
        steps.append(
            Copy(
                where[-1],
                sources,
                destination,
                origin=origin,
                owner=owner,
                mode=mode,
                unpack=unpack,
                parents=parents,
                exclude=exclude,
            )
        )
    return steps


def copies_of(instruction: Instruction) -> int:
    """How many steps it is: files and heredocs are one each. Raises ValueError."""
    marks, sources, _ = _split(instruction)
    return bool(marks) + bool(sources)


def origin_of(instruction: Instruction) -> str | None:
    """What `--from` says; None: the context. Raises ValueError."""
    for flag in instruction.flags:
        name, _, value = flag.partition("=")
        if name == "--from" and instruction.name == "COPY":
            if not value:
                raise ValueError("the flag --from has no value: write --from=<stage or image>")
            if "$" in value:
                raise ValueError(
                    "--from takes no variables: name the image in a stage of its own (FROM <image> AS <name>)"
                )
            return value
    return None


def _split(instruction: Instruction) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Marks of heredocs, sources, destination."""
    words = instruction.args
    if len(words) < 2:
        raise ValueError(f"it needs at least a source and a destination: {instruction.name} <source>... <destination>")
    if not instruction.heredocs:
        return (), words[:-1], words[-1]
    marks = tuple(word for word in words[:-1] if word.lstrip("0123456789").startswith("<<"))
    return marks, tuple(word for word in words[:-1] if word not in marks), words[-1]


def _check(sources: tuple[str, ...], destination: str, inline: int, *, is_add: bool) -> None:
    if not destination:
        raise ValueError("its destination is empty")
    if len(sources) > _MAX_SOURCES:
        raise ValueError(f"{len(sources)} sources are too many: {_MAX_SOURCES} are the most, so copy their directory")
    if len(sources) + inline > 1 and not destination.endswith("/"):
        raise ValueError(f"several sources need a directory: end the destination {quoted(destination)} with '/'")
    for source in sources:
        if not source:
            raise ValueError("a source is empty")
        if is_add and _URL.match(source):
            raise ValueError(
                f"{quoted(source)} is a URL, which ADD does not fetch here: fetch it in a RUN with curl or git, "
                "where its checksum can be checked, too"
            )


def _mode(text: str | None, *, lenient: bool) -> int | None:
    if text is None or lenient and "$" in text:
        return None
    if not _MODE.fullmatch(text):
        raise ValueError(f"--chmod takes octal numbers like 0755, not {quoted(text)}")
    return int(text, 8)


def _origin(name: str | None, origins: Mapping[str, str], context: str | None) -> str:
    if name is not None:
        return origins[name]
    if context is None:
        raise ValueError("it reads files of the build's context, but none were given: build with a directory")
    return context
