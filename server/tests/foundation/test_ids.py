from __future__ import annotations

import re
import uuid

import pytest

from atolld.foundation import ids
from atolld.foundation.errors import InvalidArgument


def test_sandbox_ids_parse_and_differ() -> None:
    made = {ids.new_sandbox_id() for _ in range(1000)}
    assert len(made) == 1000
    for one in made:
        assert ids.parse_sandbox_id(one) == one
        assert one.startswith("i")
        # A DNS label together with any port.
        assert len(f"65535-{one}") <= 63


@pytest.mark.parametrize("new", [ids.new_project_id, ids.new_key_id, ids.new_event_id])
def test_uuid_ids(new: object) -> None:
    assert callable(new)
    assert uuid.UUID(new()).version == 4


def test_request_id() -> None:
    assert re.fullmatch(r"req_[0-9a-z]{16}", ids.new_request_id())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "i" + "0" * 18,
        "i" + "0" * 20,
        "0" * 20,
        "I" + "0" * 19,
        "i" + "0" * 18 + "/",
        "i" + "0" * 18 + "\n",
        "i" + "0" * 19 + "\n",
        "i../../../../../etc/",
        "i" + "0" * 18 + "é",
        "i" + "0" * 18 + "٣",
    ],
)
def test_not_sandbox_ids(text: str) -> None:
    with pytest.raises(InvalidArgument):
        ids.parse_sandbox_id(text)


@pytest.mark.parametrize("text", ["a", "0", "base", "python-3.11", "a_b", "a" * 64])
def test_names(text: str) -> None:
    assert ids.parse_name(text, "template") == text


@pytest.mark.parametrize(
    "text", ["", "a" * 65, "-a", "a-", ".a", "a.", "a..b", "A", "a/b", "a b", "a\n", "..", "ä", "a:b"]
)
def test_not_names(text: str) -> None:
    with pytest.raises(InvalidArgument, match="template name"):
        ids.parse_name(text, "template")


def test_error_does_not_repeat_a_huge_value() -> None:
    with pytest.raises(InvalidArgument) as caught:
        ids.parse_name("x" * 100_000, "template")
    assert len(caught.value.message) < 300
