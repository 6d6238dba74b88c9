"""Trees of checkpoints as people see them."""

from __future__ import annotations

import pytest

from atoll import SnapshotInfo
from atoll._tree import draw


def tree(edges: str, **more: object) -> list[SnapshotInfo]:
    """`a b:a c:b`: each checkpoint with its parent."""
    values = [edge.partition(":") for edge in edges.split()]
    return [SnapshotInfo.from_json({"id": id, "parent_id": parent or None, **more}) for id, _, parent in values]


@pytest.mark.parametrize(
    ("edges", "drawn"),
    [
        ("", []),
        ("a", ["a"]),
        ("a b:a c:b", ["a", "`- b", "   `- c"]),
        ("a b:a c:a d:b e:b", ["a", "|- b", "|  |- d", "|  `- e", "`- c"]),
        ("b:gone c:b", ["b", "`- c"]),
        ("a b", ["a", "b"]),
    ],
)
def test_lines(edges: str, drawn: list[str]) -> None:
    lines = draw(tree(edges, kind="memory"), None).splitlines()
    assert [line.replace("(unnamed)  ", "").removesuffix("  0.0 MiB") for line in lines] == drawn


def test_what_a_line_tells() -> None:
    (one,) = tree("a", name="n", kind="filesystem", size_bytes=3 * 2**20, created_at="2026-11-26T05:00:00Z")
    assert draw([one], "a").startswith("n  a  filesystem  3.0 MiB  2026-11-2") and draw([one], "a").endswith("<- here")
    assert draw(tree("a", role="pause", kind="memory"), None) == "(pause)  a  0.0 MiB"


def test_a_long_chain() -> None:
    edges = " ".join(f"c{number}:c{number - 1}" for number in range(5000))
    assert draw(tree(edges), None).count("\n") == 4999
