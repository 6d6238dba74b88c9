"""Names: only what fits interfaces, paths and mount options gets through."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.errors import InvalidArgument
from atolld.host.instance import Instance, check_item

HOSTILE = ["", ".", "..", "a/b", "../x", "a\nb", "a b", "a\0b", "A", "é", "-a", "a;b", "a$b", "x" * 65, "a.b", "a\n"]


@pytest.mark.parametrize("name", [*HOSTILE, "1a", "a-b", "a_b", "abcdefghijk"])
def test_bad_instance_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        Instance.named(name)


@pytest.mark.parametrize("name", ["a", "atoll", "t3f9", "abcdefghij"])
def test_good_instance_names_give_short_interface_names(name: str) -> None:
    instance = Instance.named(name)
    assert len(f"{instance.prefix}9999") <= 15
    assert instance.state_dir == Path("/var/lib") / name
    assert instance.run_dir == Path("/run") / name


@pytest.mark.parametrize("path", ["relative", "/with space", "/a:b", "/a,b", "/a\\b", "/a\nb"])
def test_directories_that_mount_options_cannot_take_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument):
        Instance.named("a", state_dir=Path(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at-0", 0),
        ("at-17", 17),
        ("at-9999", 9999),
        ("at-10000", None),
        ("at-01", None),
        ("at-", None),
        ("at-1x", None),
        ("at-1\n", None),
        ("at1-1", None),
        ("xat-1", None),
        ("at--1", None),
        ("at-¹", None),
    ],
)
def test_slot_numbers_are_read_only_from_own_names(text: str, expected: int | None) -> None:
    assert Instance.named("at").slot_index(text) == expected


@pytest.mark.parametrize("name", HOSTILE)
def test_bad_items_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        check_item(name)


@pytest.mark.parametrize("name", ["a", "i3f9", "ready-1", "x" * 64, "0_a-b"])
def test_good_items_pass(name: str) -> None:
    assert check_item(name) == name
