from __future__ import annotations

import dataclasses

import pytest

from atolld.images.build_environment import release_of
from atolld.images.recipe import Recipe, base_recipe

BASE = base_recipe(release_of("debian", "bookworm"), "amd64")


def test_the_same_inputs_give_the_same_digest() -> None:
    assert base_recipe(release_of("debian", "bookworm"), "amd64").digest() == BASE.digest()
    assert len(BASE.digest()) == 64


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(BASE, distribution="ubuntu"),
        dataclasses.replace(BASE, codename="trixie"),
        dataclasses.replace(BASE, architecture="arm64"),
        dataclasses.replace(BASE, packages=BASE.packages[1:]),
        dataclasses.replace(BASE, excludes=()),
        dataclasses.replace(BASE, includes=()),
        dataclasses.replace(BASE, setup_script=BASE.setup_script + "\n"),
        dataclasses.replace(BASE, format_version=BASE.format_version + 1),
    ],
)
def test_every_input_is_part_of_the_digest(other: Recipe) -> None:
    assert other.digest() != BASE.digest()
    assert other.inputs() != BASE.inputs()
