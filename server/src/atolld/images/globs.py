"""Patterns of paths as COPY takes them: Go's `filepath.Match` for each name, and `**` for any number of directories.

Written out instead of made into regular expressions: a pattern with many stars must not take time beyond all measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atolld.foundation.errors import InvalidArgument

MAX_PATTERN = 4096
_SPECIAL = frozenset("*?[\\")


@dataclass(frozen=True, slots=True)
class _Set:
    """One character of, or not of, these ranges."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def has(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self.ranges) != self.negated


_ANY = _Set((), True)
_Token = _Set | str | None


@dataclass(frozen=True, slots=True)
class Name:
    """The pattern of one name. `literal`: the only name that it matches, None when there may be several."""

    tokens: tuple[_Token, ...]
    literal: str | None
    deep: bool = False

    def matches(self, name: str) -> bool:
        """Whether it is the pattern's; at most the product of both lengths in steps."""
        if self.literal is not None:
            return name == self.literal
        at = place = 0
        star, after = -1, 0
        while place < len(name):
            if at < len(self.tokens) and self.tokens[at] is None:
                star, after = at, place
                at += 1
            elif at < len(self.tokens) and _is_one(self.tokens[at], name[place]):
                at, place = at + 1, place + 1
            elif star >= 0:
                after += 1
                at, place = star + 1, after
            else:
                return False
        return all(token is None for token in self.tokens[at:])


def parse(pattern: str) -> tuple[Name, ...]:
    """The names of a relative pattern, cleaned as Go cleans paths; none for the root. Raises InvalidArgument."""
    if len(pattern) > MAX_PATTERN or "\0" in pattern:
        raise InvalidArgument(f"{pattern[:80]!r} is too long for a path, or holds a NUL")
    names: list[Name] = []
    for part in pattern.split("/"):
        if part == "..":
            del names[-1:]
        elif part not in ("", "."):
            names.append(Name((), None, deep=True) if part == "**" else _parse_name(part))
    return tuple(names)


def matches_path(pattern: Sequence[Name], names: Sequence[str]) -> bool:
    """Whether the whole path is the pattern's."""
    # Which parts of the pattern can be next, name by name.
    states = _behind_deep(pattern, {0})
    for name in names:
        following = set()
        for state in states:
            if state < len(pattern):
                if pattern[state].deep:
                    following.add(state)
                elif pattern[state].matches(name):
                    following.add(state + 1)
        states = _behind_deep(pattern, following)
    return len(pattern) in states


def _behind_deep(pattern: Sequence[Name], states: set[int]) -> set[int]:
    reached = set(states)
    for state in sorted(states):
        while state < len(pattern) and pattern[state].deep:
            state += 1
            reached.add(state)
    return reached


def _is_one(token: _Token, character: str) -> bool:
    if isinstance(token, str):
        return token == character
    return token is not None and token.has(character)


def _parse_name(text: str) -> Name:
    if _SPECIAL.isdisjoint(text):
        return Name((), text)
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        character = text[at]
        if character == "*":
            tokens.append(None)
        elif character == "?":
            tokens.append(_ANY)
        elif character == "[":
            found, at = _parse_set(text, at + 1)
            tokens.append(found)
        else:
            literal, at = _character(text, at)
            tokens.append(literal)
            continue
        at += 1
    if all(isinstance(token, str) for token in tokens):
        return Name((), "".join(token for token in tokens if isinstance(token, str)))
    return Name(tuple(tokens), None)


def _parse_set(text: str, at: int) -> tuple[_Set, int]:
    """The set whose first character is at `at`, and where its `]` is."""
    negated = text[at : at + 1] == "^"
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (text[at : at + 1] == "]" and ranges):
        if at >= len(text) or text[at] in "]-":
            raise InvalidArgument(f"{text[:80]!r} is no pattern: a '[' is not closed, or has a '-' or ']' too many")
        low, at = _character(text, at)
        high = low
        if text[at : at + 1] == "-":
            if at + 1 >= len(text) or text[at + 1] in "]-":
                raise InvalidArgument(f"{text[:80]!r} is no pattern: a range in '[...]' has no end")
            high, at = _character(text, at + 1)
        ranges.append((low, high))
    return _Set(tuple(ranges), negated), at


def _character(text: str, at: int) -> tuple[str, int]:
    """The character at `at`, escaped or not, and where the next one is."""
    if text[at] != "\\":
        return text[at], at + 1
    if at + 1 >= len(text):
        raise InvalidArgument(f"{text[:80]!r} is no pattern: nothing follows its last '\\'")
    return text[at + 1], at + 2
