"""Which files of a build's context are left out: the rules of `.dockerignore`, as Docker reads them.

A pattern that matches a directory leaves out everything below it; `!` takes back in; the last one that matches decides.
`*` and `?` do not cross `/`, `**` does. Unlike git's, patterns are relative to the root of the context and match whole
paths.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from atoll._errors import InvalidArgument

MAX_PATTERNS = 10_000
MAX_PATTERN = 4096


class Ignore:
    """The patterns of one file. Raises InvalidArgument for one that is none."""

    def __init__(self, lines: Iterable[str] = (), name: str = ".dockerignore") -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        self._taken_back: list[str] = []
        for number, line in enumerate(lines, 1):
            pattern = line.lstrip("\ufeff") if number == 1 else line
            # Only at the very beginning of a line it is a comment.
            if pattern.startswith("#") or not pattern.strip():
                continue
            if len(self._rules) == MAX_PATTERNS or len(pattern) > MAX_PATTERN:
                raise InvalidArgument(f"{name} has more than {MAX_PATTERNS} patterns, or one of over {MAX_PATTERN}")
            self._add(pattern.strip(), f"{name}, line {number}")

    def _add(self, pattern: str, at: str) -> None:
        takes_back = pattern.startswith("!")
        if takes_back:
            pattern = pattern[1:].strip()
            if not pattern:
                raise InvalidArgument(f"{at}: '!' alone takes nothing back in")
        pattern = posixpath.normpath(re.sub("/+", "/", pattern)).lstrip("/")
        if pattern in ("", "."):
            # The root itself is never left out.
            return
        try:
            self._rules.append((takes_back, re.compile(_expression(pattern))))
        except (re.error, ValueError) as error:
            raise InvalidArgument(f"{at}: {pattern[:80]!r} is not a pattern: {error}") from None
        if takes_back:
            self._taken_back.append(pattern)

    def leaves_out(self, path: str) -> bool:
        """Whether `path`, relative to the context and with `/`, is left out. The paths above it count, too."""
        # As moby's patternmatcher: what a pattern did to the directories above, it does to what is below them; and one
        # that could not change anything up there is not held to have matched.
        parts = path.split("/")
        above = [False] * len(self._rules)
        out = False
        for depth in range(1, len(parts) + 1):
            here = "/".join(parts[:depth])
            out = False
            for index, (takes_back, rule) in enumerate(self._rules):
                matches = above[index] or (takes_back == out and rule.fullmatch(here) is not None)
                above[index] = matches
                if matches:
                    out = not takes_back
        return out

    def and_not(self, other: Ignore) -> Ignore:
        """These rules, and then those of `other`."""
        both = Ignore()
        both._rules = [*self._rules, *other._rules]
        both._taken_back = [*self._taken_back, *other._taken_back]
        return both

    def may_take_back_below(self, directory: str) -> bool:
        """Whether something below a directory that is left out may be taken back in: it has to be looked into."""
        parts = directory.split("/")
        return any(_may_be_below(pattern.split("/"), parts) for pattern in self._taken_back)


def _may_be_below(pattern: list[str], directory: list[str]) -> bool:
    for wanted, part in zip(pattern, directory, strict=False):
        if "**" in wanted:
            return True
        if not re.search(r"[*?\[\\]", wanted) and wanted != part:
            return False
    return len(pattern) > len(directory)


def _expression(pattern: str) -> str:
    out = ""
    at = 0
    while at < len(pattern):
        one = pattern[at]
        at += 1
        if one == "*":
            if pattern.startswith("*", at):
                while pattern.startswith("*", at):
                    at += 1
                if pattern.startswith("/", at):
                    at += 1
                    out += "(?:.*/)?"
                else:
                    out += ".*"
            else:
                out += "[^/]*"
        elif one == "?":
            out += "[^/]"
        elif one == "[":
            group, at = _group(pattern, at)
            out += group
        elif one == "\\":
            if at == len(pattern):
                raise ValueError("a backslash stands at its end")
            out += re.escape(pattern[at])
            at += 1
        else:
            out += re.escape(one)
    return f"(?s:{out})"


def _group(pattern: str, at: int) -> tuple[str, int]:
    """The regular expression of `[...]`, whose content begins at `at`, and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges = ""
    while at < len(pattern) and (pattern[at] != "]" or not ranges):
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _member(pattern, at + 1)
        if low > high:
            raise ValueError(f"{low}-{high} is no range")
        ranges += re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}"
    if at >= len(pattern):
        raise ValueError("'[' has no end")
    return f"(?!/)[{'^' if negated else ''}{ranges}]", at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern.startswith("\\", at):
        at += 1
    elif at < len(pattern) and pattern[at] in "-]":
        raise ValueError(f"{pattern[at]!r} in '[...]' needs a backslash")
    if at >= len(pattern):
        raise ValueError("'[' has no end")
    return pattern[at], at + 1
