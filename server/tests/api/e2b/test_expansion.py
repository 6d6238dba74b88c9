from __future__ import annotations

import pytest

from atolld.api.e2b.expansion import ALWAYS, expand, refers
from atolld.foundation.errors import InvalidArgument

ENVS = {"A": "1", "EMPTY": "", "DIR": "/opt/x"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$A", "1"),
        ("${A}2", "12"),
        ("$A2", ""),
        ("$DIR/$A:${A}", "/opt/x/1:1"),
        ("$NOT_SET", ""),
        ("${NOT_SET:-b c}", "b c"),
        ("${EMPTY-b}", ""),
        ("${EMPTY:-b}", "b"),
        ("${A:+yes}${EMPTY:+no}${EMPTY+there}", "yesthere"),
        ("${A:?must be set}", "1"),
        ("/my/path:${PATH}", f"/my/path:{ALWAYS['PATH']}"),
        ("$HOME", "/root"),
        # Nothing is run, and what is no reference stays.
        ("$(id)", "$(id)"),
        ("`id`", "`id`"),
        ("costs 5$", "costs 5$"),
        ("$1 $$ ${1}", "$1 $$ ${1}"),
        ("\\$x", "\\"),
        ("${A", "${A"),
        ("${A##x}", "${A##x}"),
        ("${}", "${}"),
    ],
)
def test_expand(text: str, expanded: str) -> None:
    assert expand(text, ENVS) == expanded


def test_what_is_set_goes_before_what_always_is() -> None:
    assert expand("$PATH:/x", {"PATH": "/usr/local/go/bin"}) == "/usr/local/go/bin:/x"


@pytest.mark.parametrize("text", ["${EMPTY:?}", "${NOT_SET?say so}"])
def test_what_must_be_set(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"is not set: (it is needed|say so)"):
        expand(text, ENVS)


@pytest.mark.parametrize(("text", "does"), [("a$B", True), ("${B:-x}", True), ("$(B)", False), ("$", False)])
def test_refers(text: str, does: bool) -> None:
    assert refers(text) is does


def test_a_long_value_takes_no_long_time() -> None:
    hostile = "${A" * 20_000 + "$" * 20_000
    assert expand(hostile, ENVS) == hostile
