"""runsc's state files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atolld.foundation.ids import SandboxId
from atolld.runtime.drivers.gvisor.state import RunscState, list_ids, read_state, remove_state, state_file

ID = SandboxId("i0123456789abcdefghi")
OTHER = SandboxId("i0123456789abcdefghj")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"goferPid": 5, "sandbox": {"pid": 6}}', RunscState(6, 5)),
        ('{"goferPid": 0, "sandbox": {"pid": 6}}', RunscState(6, None)),
        ('{"goferPid": 5, "sandbox": {"pid": 6}, "status": "running"}', RunscState(6, 5)),
        ('{"goferPid": 5, "sandbox": {"pid": 6}, "status": "paused"}', RunscState(6, 5, paused=True)),
        ('{"sandbox": null}', RunscState(None, None)),
        ('{"goferPid": 5, "san', None),
        ("", None),
    ],
)
def test_read(text: str, expected: RunscState | None, tmp_path: Path) -> None:
    state_file(tmp_path, ID).write_text(text)
    assert read_state(tmp_path, ID) == expected


def test_read_unknown(tmp_path: Path) -> None:
    assert read_state(tmp_path, ID) is None


def test_list_and_remove(tmp_path: Path) -> None:
    assert list_ids(tmp_path / "none") == []
    for name in (
        f"{ID}_sandbox:{ID}.state",
        f"{ID}_sandbox:{ID}.lock",
        f"runsc-{OTHER}.sock",
        "unrelated",
        "runsc-x.sock",
    ):
        (tmp_path / name).write_text(json.dumps({}))
    assert list_ids(tmp_path) == [ID, OTHER]
    remove_state(tmp_path, ID)
    remove_state(tmp_path, ID)
    assert list_ids(tmp_path) == [OTHER]
