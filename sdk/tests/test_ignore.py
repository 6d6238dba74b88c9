"""`.dockerignore`, against tables of Docker's and against another port of its matcher."""

from __future__ import annotations

import pytest
from e2b_dockerfile_utils import PatternMatcher
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll import InvalidArgument
from atoll._ignore import Ignore

TABLE = [
    ("*.log", "a.log", True),
    ("*.log", "b/a.log", False),
    ("**/*.log", "b/a.log", True),
    ("**/*.log", "a.log", True),
    ("b", "b/c/d", True),
    ("b/", "b/c", True),
    ("/b", "b", True),
    ("./b", "b", True),
    ("b/../c", "c", True),
    ("b/*", "b/c/d", True),
    ("b/**", "b", False),
    ("b/**", "b/c/d", True),
    ("**", "x/y", True),
    ("**/b", "a/b/c", True),
    ("a/**/b", "a/b", True),
    ("a/**/b", "a/x/y/b", True),
    ("a?c", "abc", True),
    ("a?c", "a/c", False),
    ("[a-c]x", "bx", True),
    ("[^a-c]x", "bx", False),
    ("[^a-c]x", "dx", True),
    ("\\*a", "*a", True),
    ("\\*a", "ba", False),
    ("a.c", "abc", False),
    ("a+b(c)", "a+b(c)", True),
    (" b ", "b", True),
    ("#b", "#b", False),
    ("", "b", False),
    (".", "b", False),
    ("/", "b", False),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), TABLE)
def test_single_patterns(pattern: str, path: str, expected: bool) -> None:
    assert Ignore([pattern]).leaves_out(path) is expected


@pytest.mark.parametrize(
    ("lines", "path", "expected"),
    [
        (["*.md", "!README.md"], "README.md", False),
        (["*.md", "!README.md"], "a.md", True),
        (["!README.md", "*.md"], "README.md", True),
        (["*", "!src"], "src/a/b", False),
        (["*", "!src", "src/secret"], "src/secret/x", True),
        (["node_modules", "!node_modules/keep"], "node_modules/keep/x", False),
        (["node_modules", "!node_modules/keep"], "node_modules/other", True),
        (["\ufeff*.md"], "a.md", True),
        (["  # no comment"], "# no comment", True),
    ],
)
def test_the_last_pattern_decides(lines: list[str], path: str, expected: bool) -> None:
    assert Ignore(lines).leaves_out(path) is expected


@pytest.mark.parametrize(
    ("pattern", "directory", "expected"),
    [
        ("!a/b/c", "a", True),
        ("!a/b/c", "a/b", True),
        ("!a/b/c", "a/b/c", False),
        ("!a/b/c", "x", False),
        ("!**/keep", "x/y", True),
        ("!*/keep", "x", True),
        ("a/b", "a", False),
    ],
)
def test_what_has_to_be_looked_into(pattern: str, directory: str, expected: bool) -> None:
    assert Ignore([pattern]).may_take_back_below(directory) is expected


@pytest.mark.parametrize("pattern", ["[", "[a", "[]a]", "[a-]", "[c-a]", "a\\", "!", "! ", "x" * 5000])
def test_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="dockerignore"):
        Ignore([pattern])


PIECE = st.sampled_from(["a", "b", "ab", "*", "**", "?", "*a", "a*", "[ab]", "a?"])
PATTERN = st.tuples(st.sampled_from(["", "!"]), st.lists(PIECE, min_size=1, max_size=3)).map(
    lambda parts: parts[0] + "/".join(parts[1])
)
PATH = st.lists(st.sampled_from(["a", "b", "ab", "aa", "ba", "c"]), min_size=1, max_size=4).map("/".join)


@settings(max_examples=500, deadline=None)
@given(st.lists(PATTERN, max_size=4), PATH)
def test_agrees_with_another_port(patterns: list[str], path: str) -> None:
    assert Ignore(patterns).leaves_out(path) == PatternMatcher(patterns).matches(path)
