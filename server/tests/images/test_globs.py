from __future__ import annotations

import time

import pytest

from atolld.foundation.errors import InvalidArgument
from atolld.images.globs import matches_path, parse


# Those of Go's path/filepath tests, names only.
@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "abc", True),
        ("a*b*c*d*e*", "axbxcxdxe", True),
        ("a*b*c*d*e*", "axbxcxdxexxx", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True),
        (r"a\*b", "a*b", True),
        (r"a\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        (r"[\]a]", "]", True),
        (r"[\-]", "-", True),
        (r"[x\-]", "x", True),
        (r"[x\-]", "z", False),
        (r"[\-x]", "a", False),
        ("*x", "xxx", True),
        ("?", "", False),
        ("[!a]", "!", True),
        (".*", ".hidden", True),
        ("*", ".hidden", True),
    ],
)
def test_names(pattern: str, name: str, expected: bool) -> None:
    assert parse(pattern)[0].matches(name) is expected


@pytest.mark.parametrize(
    "pattern",
    ["[]a]", "[-]", "[x-]", "[-x]", "a[", "[a", "[a-", "[a-]", "[^", "[^bc", "\\", "a\\", "[]", "a\0", "x" * 5000],
)
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", []), (".", []), ("/", []), ("a/./b//c/", ["a", "b", "c"]), ("/a", ["a"]), ("../../a", ["a"]),
        ("a/../b", ["b"]), ("..", []), (r"a\*", ["a*"]),
    ],
)  # fmt: skip
def test_paths_are_cleaned(pattern: str, expected: list[str]) -> None:
    assert [name.literal for name in parse(pattern)] == expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.py", "a.py", True),
        ("*.py", "d/a.py", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "d/e/a.py", True),
        ("**/*.py", "d/e/a.txt", False),
        ("d/**", "d/e/a", True),
        ("d/**", "d/e", True),
        ("d/**", "x/e", False),
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/x/y/c", False),
        ("a/**/**/b", "a/b", True),
        ("**/**", "x", True),
        ("a", "a/b", False),
    ],
)
def test_whole_paths(pattern: str, path: str, expected: bool) -> None:
    assert matches_path(parse(pattern), path.split("/")) is expected


def test_hostile_patterns_end_soon() -> None:
    began = time.monotonic()
    assert not parse("*a" * 100 + "b")[0].matches("a" * 255)
    assert not matches_path(parse("**/a/" * 200 + "b"), ["a"] * 128)
    assert time.monotonic() - began < 1
