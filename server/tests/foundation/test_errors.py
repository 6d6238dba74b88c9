from __future__ import annotations

import inspect

import pytest

from atolld.foundation import errors
from atolld.foundation.errors import AtollError, all_error_types


def test_every_kind_is_drawn_in_the_tree_with_its_code() -> None:
    drawn = inspect.getdoc(errors) or ""
    for kind in all_error_types()[1:]:
        line = next(line for line in drawn.splitlines() if f" {kind.__name__} " in line)
        assert f" {kind.code} " in line


def test_codes_are_unique() -> None:
    kinds = all_error_types()[1:]
    assert len({kind.code for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("kind", all_error_types())
def test_message_and_details(kind: type[AtollError]) -> None:
    error = kind("cpu is 0; ask for more", limit=2)
    assert str(error) == error.message == "cpu is 0; ask for more"
    assert error.details == {"limit": 2}
    assert kind.__doc__
