from __future__ import annotations

import pytest

from atolld.api.e2b.names import candidates, full_name, new_name
from atolld.foundation.errors import InvalidArgument

from .conftest import snapshot

ID = "s" + "0" * 19


@pytest.mark.parametrize(
    ("name", "shown"),
    [(None, None), ("data", "acme/data:default"), ("data:v2", "acme/data:v2"), ("a/b", "acme/a/b:default")],
)
def test_full_names(name: str | None, shown: str | None) -> None:
    assert full_name(snapshot(ID, name), "acme") == shown


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ID, [ID]),
        (f"{ID}:default", [ID]),
        (f"{ID}:v2", []),
        ("data", ["data"]),
        (" Data:DEFAULT ", ["data"]),
        ("data:v2", ["data:v2"]),
        ("acme/data:default", ["data", "acme/data"]),
        ("acme/data:v2", ["data:v2", "acme/data:v2"]),
        ("acme/a/b", ["a/b", "acme/a/b"]),
        ("other/data", ["other/data"]),
        ("", []),
        ("acme/", ["acme/"]),
        (":v2", []),
    ],
)
def test_what_a_text_may_name(text: str, found: list[str]) -> None:
    assert candidates(text, "acme") == found


@pytest.mark.parametrize("name", ["data", "data:v2", "a/b", "a/b:v2", "acme/x", None])
def test_what_is_shown_is_found_again(name: str | None) -> None:
    shown = full_name(snapshot(ID, name), "acme") or f"{ID}:default"
    assert candidates(shown, "acme")[0] == (name or ID)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("data", "data"),
        (" Data ", "data"),
        ("data:default", "data"),
        ("data:v2", "data:v2"),
        ("acme/data:v2", "data:v2"),
    ],
)
def test_new_names(text: str, name: str) -> None:
    assert new_name(text, "acme") == name


@pytest.mark.parametrize("text", ["data:", ":v2", "other/data", "a b", "../x", "x" * 200, "/data", "acme/"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument):
        new_name(text, "acme")
