from __future__ import annotations

import pytest

from atolld.api.e2b.query import PAUSED_STATES, RUNNING_STATES, metadata_filter, sandbox_id, sandbox_ids, states_of
from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import InvalidArgument, NotFound

ID = "i" + "0" * 19


@pytest.mark.parametrize("text", [ID, f"{ID}-atoll", f"{ID}-"])
def test_ids(text: str) -> None:
    assert sandbox_id(text) == ID


@pytest.mark.parametrize(
    ("text", "kind"),
    [("", InvalidArgument), ("A", InvalidArgument), ("../x", InvalidArgument), ("abc", NotFound), ("0" * 20, NotFound)],
)
def test_what_is_no_id(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        sandbox_id(text)


def test_lists_of_ids_leave_out_what_is_not_ours() -> None:
    assert sandbox_ids(f"{ID},short,{ID}") == [ID, ID]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        (None, {}),
        ("", {}),
        ("a=b", {"a": "b"}),
        ("a=", {"a": ""}),
        ("a%2520b=c%2526d", {"a b": "c&d"}),
        ("a+b=c", {"a b": "c"}),
        ("a%252Bb=%25C3%25A9", {"a+b": "é"}),
    ],
)
def test_metadata(text: str | None, pairs: dict[str, str]) -> None:
    assert metadata_filter(text) == pairs


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        ([], RUNNING_STATES | PAUSED_STATES),
        (["running"], RUNNING_STATES),
        (["paused"], PAUSED_STATES),
        (["paused,running"], RUNNING_STATES | PAUSED_STATES),
        (["paused", "running"], RUNNING_STATES | PAUSED_STATES),
        ([","], RUNNING_STATES | PAUSED_STATES),
    ],
)
def test_states(states: list[str], wanted: frozenset[SandboxState]) -> None:
    assert states_of(states) == wanted
