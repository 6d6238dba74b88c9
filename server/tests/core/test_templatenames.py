from __future__ import annotations

import pytest

from atolld.core.templatenames import (
    MAX_TAG,
    TemplateRef,
    check_tag,
    check_tags,
    check_template_name,
    parse_template_ref,
)
from atolld.foundation.errors import InvalidArgument

# Fixed: tests that run side by side must be called the same in every process.
BUILD = "0f8fad5b-d9cb-469f-a165-70867728950e"
ID = "t0123456789abcdefghi"
SANDBOX, SNAPSHOT = "i0123456789abcdefghi", "s0123456789abcdefghi"


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("app", TemplateRef(None, "app")),
        ("app:default", TemplateRef(None, "app", "default")),
        ("app:v1.2", TemplateRef(None, "app", "v1.2")),
        ("team/app", TemplateRef("team", "app")),
        ("team/app:v1", TemplateRef("team", "app", "v1")),
        (f"app:{BUILD}", TemplateRef(None, "app", BUILD)),
        (ID, TemplateRef(None, ID)),
        (f"{ID}:v1", TemplateRef(None, ID, "v1")),
    ],
)
def test_what_a_name_says(text: str, ref: TemplateRef) -> None:
    assert parse_template_ref(text) == ref


def test_ids_in_names() -> None:
    assert parse_template_ref(f"{ID}:{BUILD}").template_id == ID
    assert parse_template_ref(f"{ID}:{BUILD}").build_id == BUILD
    assert parse_template_ref("app:v1").template_id is None
    assert parse_template_ref("app:v1").build_id is None
    # Under a project it is a name like any other, and there is none.
    assert parse_template_ref(f"team/{ID}").template_id is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no template"),
        (":v1", "names no template"),
        (":", "names no template"),
        ("app:", "ends with ':'"),
        ("team/app:", "ends with ':'"),
        ("App", "'App' is not the name of a template"),
        ("app:V1", "not a valid tag"),
        ("app:a:b", "not a valid tag"),
        ("/app", "not a valid project name"),
        ("team/", "not a valid template name"),
        ("a/b/c", "not a valid project name"),
        ("a b", "not a valid template name"),
        ("..", "not a valid template name"),
        ("a" * 65, "not a valid template name"),
        ("app:" + "v" * (MAX_TAG + 1), "not a valid tag"),
        ("app\0", "not a valid template name"),
    ],
)
def test_what_is_no_name(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        parse_template_ref(text)


@pytest.mark.parametrize("text", ["a", "base", "my-app_1.2", "0", "a" * 64, SANDBOX])
def test_names_of_templates(text: str) -> None:
    assert check_template_name(text) == text


@pytest.mark.parametrize("text", ["", "A", "a/b", "a:b", "-a", "a..b", ID, BUILD, SNAPSHOT])
def test_what_cannot_be_the_name_of_a_template(text: str) -> None:
    with pytest.raises(InvalidArgument):
        check_template_name(text)


@pytest.mark.parametrize("text", ["a", "default", "v1.2.3", "_x_", "2024-01-01", "v" * MAX_TAG])
def test_tags(text: str) -> None:
    assert check_tag(text) == text


@pytest.mark.parametrize("text", ["", "A", "-a", "a-", ".a", "a b", "a/b", "é", "v" * (MAX_TAG + 1)])
def test_what_is_no_tag(text: str) -> None:
    with pytest.raises(InvalidArgument, match="not a valid tag"):
        check_tag(text)


def test_tags_of_a_build() -> None:
    assert check_tags(("b", "a", "b")) == ("b", "a")
    assert check_tags(()) == ()
    with pytest.raises(InvalidArgument, match="form of a build's id"):
        check_tags(("a", BUILD))
    with pytest.raises(InvalidArgument, match="65 tags; at most 64"):
        check_tags(tuple(f"t{number}" for number in range(65)))
