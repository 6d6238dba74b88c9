"""What runsc says of itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from atolld.foundation.errors import RuntimeUnusable
from atolld.runtime.drivers.gvisor.binary import (
    NEEDED_CHECKPOINT_FLAGS,
    NEEDED_FLAGS,
    RunscBinary,
    parse_flags,
    parse_version,
    read_binary,
)

FLAGS = """  -file-access value
    \twhich filesystem validation (default exclusive)
  -log string
  -network value
    \twhich network, -not a flag
  -platform string
  -root string
  -overlay2 value
"""


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("runsc version 0.0~20240729.0\nspec: 1.0.2-dev\n", "20240729"),
        ("runsc version 0.0~20221219.0\nspec: 1.0.2-dev\n", "20221219"),
        ("runsc version release-20250407.0\nspec: 1.1.0-rc.1\n", "20250407"),
    ],
)
def test_version(text: str, release: str) -> None:
    assert parse_version(text)[1] == release


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no release date"),
        ("runsc version VERSION_MISSING\n", "no release date"),
        ("runc version 1.1.5\n", "no release date"),
        ("runsc version release-20220815.0\n", "too old"),
    ],
)
def test_bad_version(text: str, reason: str) -> None:
    with pytest.raises(RuntimeUnusable, match=reason):
        parse_version(text)


def test_flags() -> None:
    assert parse_flags(FLAGS) == {"file-access", "log", "network", "platform", "root", "overlay2"}


def test_flag_poor() -> None:
    with pytest.raises(RuntimeUnusable, match="lacks the flags log, network, platform"):
        parse_flags("  -root string\n  -file-access value\n")


@pytest.mark.parametrize(
    ("flags", "checkpoint_flags", "expected"),
    [
        ({"net-disconnect-ok"}, NEEDED_CHECKPOINT_FLAGS, True),
        ({"net-disconnect-ok"}, NEEDED_CHECKPOINT_FLAGS - {"compression"}, False),
        (set(), NEEDED_CHECKPOINT_FLAGS, False),
    ],
)
def test_can_save(flags: set[str], checkpoint_flags: frozenset[str], expected: bool) -> None:
    binary = RunscBinary(Path("/r"), "v", "20240729", NEEDED_FLAGS | flags, checkpoint_flags)
    assert binary.can_save is expected


@pytest.mark.parametrize(("script", "reason"), [("exit 3", "status 3"), ("echo nonsense", "no release date")])
async def test_a_broken_binary(script: str, reason: str, tmp_path: Path) -> None:
    binary = tmp_path / "runsc"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    with pytest.raises(RuntimeUnusable, match=reason):
        await read_binary(binary, tmp_path)
    assert os.listdir(tmp_path) == ["runsc"]


@pytest.mark.real
async def test_the_real_one(tmp_path: Path) -> None:
    found = shutil.which("runsc")
    if found is None:
        pytest.skip("runsc is not installed")
    binary = await read_binary(Path(found), tmp_path)
    assert "platform" in binary.flags
    assert "image-path" in binary.checkpoint_flags & binary.restore_flags
