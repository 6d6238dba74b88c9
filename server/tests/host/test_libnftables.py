"""The library's answers become Python's."""

from __future__ import annotations

import errno
import json

import pytest

from atolld.host import libnftables

pytestmark = pytest.mark.real


def test_the_library_is_there() -> None:
    assert libnftables.available() is None


def test_nonsense_is_refused_with_the_librarys_words() -> None:
    with pytest.raises(libnftables.NftError, match="syntax error") as caught:
        libnftables.run_blocking("nonsense here\n")
    assert caught.value.errno == errno.EINVAL


def test_what_does_not_exist_is_told_apart() -> None:
    with pytest.raises(libnftables.NftError) as caught:
        libnftables.run_blocking("list table inet atollnosuch\n")
    assert caught.value.errno == errno.ENOENT


async def test_answers_as_text_and_json() -> None:
    assert isinstance(await libnftables.run("list tables\n"), str)
    assert "nftables" in json.loads(libnftables.run_blocking("list tables\n", json=True))
