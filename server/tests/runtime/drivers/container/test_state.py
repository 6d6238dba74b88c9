"""runc's state files."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.ids import SandboxId
from atolld.host.procs import ProcessIdentity
from atolld.runtime.drivers.container.state import directory, first_process, list_ids, remove_state

ID = SandboxId("i0123456789abcdefghi")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"init_process_pid": 7, "init_process_start": 9}', ProcessIdentity(7, 9)),
        ('{"init_process_pid": 0, "init_process_start": 9}', None),
        ('{"init_process_pid": 7}', None),
        ("{", None),
    ],
)
def test_first_process(text: str, expected: ProcessIdentity | None, tmp_path: Path) -> None:
    directory(tmp_path, ID).mkdir()
    (directory(tmp_path, ID) / "state.json").write_text(text)
    assert first_process(tmp_path, ID) == expected


def test_list_and_remove(tmp_path: Path) -> None:
    assert list_ids(tmp_path / "none") == []
    directory(tmp_path, ID).mkdir()
    (tmp_path / "unrelated").mkdir()
    assert list_ids(tmp_path) == [ID]
    remove_state(tmp_path, ID)
    remove_state(tmp_path, ID)
    assert list_ids(tmp_path) == []
