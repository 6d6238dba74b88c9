"""The plan of the code interpreter's template, and its files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TypeGuard

import pytest

from atolld.core.build import Base, BaseKind, Copy, Run
from atolld.foundation.errors import FailedPrecondition, InvalidArgument
from atolld.images.interpreter import SOURCE, InterpreterRecipe, interpreter_files, interpreter_plan


def names(files: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        return archive.getnames()


def test_files_are_the_same_bytes_each_time_and_hold_nothing_made() -> None:
    found = interpreter_files()
    assert found == interpreter_files()
    assert {"kernels/javascript/package-lock.json", "requirements/server.txt"} <= set(names(found))
    assert not [name for name in names(found) if "node_modules" in name or "__pycache__" in name or "tests" in name]


def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="source tree"):
        interpreter_files(tmp_path)


def test_every_copy_finds_its_sources() -> None:
    for step in interpreter_plan("files").stages[0].steps:
        if isinstance(step, Copy):
            assert step.origin == "files"
            assert [match for source in step.sources for match in SOURCE.glob(source)], step.sources


def test_our_own_code_comes_after_all_packages() -> None:
    stage = interpreter_plan("files").stages[0]
    assert stage.base == Base(BaseKind.TEMPLATE, "base")
    texts = [step.where.text for step in stage.steps]
    assert texts.index("copy src/") > max(index for index, text in enumerate(texts) if "install" in text)
    assert [step.where.number for step in stage.steps] == list(range(1, len(texts) + 1))


def test_packages_are_locked_and_no_place_to_download_from_is_named() -> None:
    for step in interpreter_plan("files", ("r", "java")).stages[0].steps:
        if isinstance(step, Run):
            script = step.argv[-1]
            assert "://" not in script
            assert "pip install" not in script or "--require-hashes" in script
            assert "npm" not in step.where.text or "npm ci" in script
    for lock in (SOURCE / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(encoding="utf-8"), lock
    assert "resolved" not in (SOURCE / "kernels/javascript/package-lock.json").read_text(encoding="utf-8")


def test_a_language_more_adds_its_packages_alone() -> None:
    plain, more = (interpreter_plan("files", languages).stages[0].steps for languages in ((), ("r",)))
    assert len(more) == len(plain) + 1
    assert "r-cran-irkernel" in more[0].argv[-1]  # type: ignore[union-attr]


def test_kernels_of_languages_that_are_not_there_are_left_out() -> None:
    for languages, missing in (((), ("r", "java")), (("java",), ("r",)), (("r", "java"), ())):
        [step] = [step for step in interpreter_plan("files", languages).stages[0].steps if _copies_kernels(step)]
        # From the source on, which is the directory itself.
        assert step.exclude == missing
        assert all((SOURCE / "kernels" / name / "kernel.json").is_file() for name in missing)


def _copies_kernels(step: object) -> TypeGuard[Copy]:
    return isinstance(step, Copy) and step.sources == ("kernels/",)


@pytest.mark.parametrize("name", ["cobol", "", "R", "../x", "r; rm -rf /"])
def test_an_unknown_language_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="there are python"):
        InterpreterRecipe().plan("files", (name,))
