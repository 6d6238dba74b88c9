from __future__ import annotations

import pytest

from atolld.api.e2b.templatenames import new_name, own_ref, shown_names, tags_of
from atolld.foundation.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "tags", "name", "all_tags"),
    [
        ("box", [], "box", ()),
        (" My-Box ", [], "my-box", ()),
        ("box:V1.0", [], "box", ("v1.0",)),
        ("box:v1", ["Stable", "v1", "stable "], "box", ("v1", "stable")),
        ("box", ["a"], "box", ("a",)),
        ("box:default", [], "box", ("default",)),
        ("Team/box:v1", [], "box", ("v1",)),
    ],
)
def test_names_of_new_builds(text: str, tags: list[str], name: str, all_tags: tuple[str, ...]) -> None:
    assert new_name(text, tags, "team") == (name, all_tags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":v1",
        "box:",
        "a b",
        "../box",
        "a..b",
        "bo\nx",
        "other/box",
        "team/",
        "/box",
        "a/b/c",
        "x" * 65,
        "box:a:b",
        "box:-",
        "t" + "1" * 19,
    ],
)
def test_bad_names(text: str) -> None:
    with pytest.raises(InvalidArgument):
        new_name(text, [], "team")


@pytest.mark.parametrize(
    "tags", [[""], ["a b"], ["x" * 129], ["11111111-2222-3333-4444-555555555555"], [f"t{n}" for n in range(65)]]
)
def test_bad_tags(tags: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        tags_of(tags)


def test_the_name_of_another_project() -> None:
    with pytest.raises(InvalidArgument, match="namespace 'other' must match your project 'team'"):
        own_ref("other/box", "team")


def test_what_everybody_calls_it() -> None:
    assert shown_names("box", "team") == ["team/box"]
