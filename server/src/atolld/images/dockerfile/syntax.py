"""The text of a Dockerfile as instructions.

`e2b-dockerfile-utils`, a port of BuildKit's own parser, does it: directives, comments (within continuations, too),
continuations, flags, JSON forms and heredocs. Around it stand bounds, since the text is anybody's, and one leniency: a
text whose every line ends with CR LF is read as if they ended with LF, so that the scripts in it run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from e2b_dockerfile_utils import (
    DockerfileInstruction,
    DockerfileSyntaxError,
    chomp_heredoc_content,
    parse_dockerfile_ast,
)

from atolld.foundation.errors import InvalidArgument
from atolld.images.dockerfile.failing import quoted, wrong

MAX_BYTES = 1024 * 1024
MAX_INSTRUCTIONS = 2000
# A directive is looked for with a pattern that takes quadratic time.
_MAX_DIRECTIVE = 1024
_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z]+)[ \t]*=[ \t]*(\S*)")
_FRONTEND = re.compile(r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A text within the Dockerfile. `expand`: variables in it are replaced where the instruction does that."""

    name: str
    contents: str
    expand: bool


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `name` in capitals. `line`: its first, counted from 1. `text`: with continuations joined.

    `flags` as written, without quotes. `args`: for ENV and LABEL name, value and `=` or nothing, again and again.
    `json`: they were given as a JSON list.
    """

    name: str
    line: int
    text: str
    flags: tuple[str, ...]
    args: tuple[str, ...]
    json: bool
    heredocs: tuple[Heredoc, ...]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """All instructions, and the character that escapes: a backslash or a backtick."""

    instructions: tuple[Instruction, ...]
    escape: str


def parse(text: str) -> Dockerfile:
    """Raises InvalidArgument."""
    text = _checked(text)
    try:
        found = parse_dockerfile_ast(text)
    except DockerfileSyntaxError as error:
        message = str(error).rpartition("Dockerfile parse error")[2].partition(": ")[2] or str(error)
        raise wrong(error.line or 1, "", message[:400]) from None
    except RecursionError:
        raise InvalidArgument("Dockerfile: something in it is nested too deeply to be read") from None
    if len(found.instructions) > MAX_INSTRUCTIONS:
        raise InvalidArgument(
            f"Dockerfile: {len(found.instructions)} instructions are too many: {MAX_INSTRUCTIONS} are the most"
        )
    return Dockerfile(tuple(map(_instruction, found.instructions)), found.escape_token)


def _instruction(found: DockerfileInstruction) -> Instruction:
    return Instruction(
        found.name,
        found.start_line,
        found.original.strip(),
        tuple(found.flags),
        tuple(found.args),
        found.json,
        tuple(
            Heredoc(one.name, chomp_heredoc_content(one.content) if one.chomp else one.content, one.expand)
            for one in found.heredocs
        ),
    )


def _checked(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgument("Dockerfile: it is not valid Unicode: it has half of a surrogate pair") from None
    if size > MAX_BYTES:
        raise InvalidArgument(f"Dockerfile: it has {size} bytes: {MAX_BYTES} are the most")
    nul = text.find("\0")
    if nul >= 0:
        raise wrong(text.count("\n", 0, nul) + 1, "", "it has a NUL byte: save it as UTF-8 text")
    text = text.removeprefix("\ufeff")
    if text.count("\r\n") == text.count("\n"):
        text = text.replace("\r\n", "\n")
    _check_directives(text)
    return text


def _check_directives(text: str) -> None:
    start, number = 0, 1
    while start < len(text):
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)].strip()
        if not line.startswith("#"):
            return
        found = _DIRECTIVE.match(line)
        if found is None:
            return
        if len(line) > _MAX_DIRECTIVE:
            raise wrong(number, "", f"a directive of more than {_MAX_DIRECTIVE} characters: shorten it")
        if found[1].lower() == "syntax" and not _FRONTEND.fullmatch(found[2]):
            raise wrong(
                number,
                "",
                f"it wants the frontend {quoted(found[2])}, and frontends are not run here: use the syntax of "
                "docker/dockerfile, and leave '# syntax=' out",
            )
        if end < 0:
            return
        start, number = end + 1, number + 1
