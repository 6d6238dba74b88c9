"""`atoll snapshot export` and `import`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from sdk.tests.fake_daemon import FakeDaemon

from .conftest import Atoll


@pytest.fixture
def snapshot(daemon: FakeDaemon, atoll: Atoll) -> str:
    daemon.archive = b"archive" * 1000
    id = atoll("sandbox", "create").out.strip()
    return atoll("snapshot", "create", id, "kept").out.strip()


@pytest.fixture
def key(tmp_path: Path) -> str:
    (tmp_path / "key.txt").write_text("correct horse\nnot this line\n")
    return str(tmp_path / "key.txt")


def test_there_and_back(atoll: Atoll, daemon: FakeDaemon, snapshot: str, key: str, tmp_path: Path) -> None:
    file = tmp_path / "box.atoll"
    done = atoll("snapshot", "export", "kept", "--output", str(file), "--passphrase-file", key)
    assert (done.code, done.out.startswith(f"{file}: ")) == (0, True)
    back = atoll("snapshot", "import", str(file), "--name", "box", "--passphrase-file", key)
    assert (back.code, back.out) == (0, "imported\n")
    assert daemon.imported == [("box", daemon.archive)]
    told = atoll("snapshot", "import", str(file), "--json", "--passphrase-file", key)
    assert json.loads(told.out)["id"] == "imported"


def test_a_file_that_is_there_stays(atoll: Atoll, snapshot: str, key: str, tmp_path: Path) -> None:
    file = tmp_path / "box.atoll"
    file.write_text("mine")
    refused = atoll("snapshot", "export", "kept", "-o", str(file), "--passphrase-file", key)
    assert (refused.code, file.read_text()) == (2, "mine")
    assert "--force" in refused.err
    forced = atoll("snapshot", "export", "kept", "-o", str(file), "--passphrase-file", key, "--force", "--json")
    assert json.loads(forced.out)["size_bytes"] == file.stat().st_size


def test_the_passphrase_is_asked_for(
    atoll: Atoll, snapshot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def prompt(text: str, *, hide_input: bool, confirmation_prompt: bool, err: bool) -> str:
        assert hide_input
        assert err
        asked.append(confirmation_prompt)
        return "typed"

    monkeypatch.setattr(click, "prompt", prompt)
    file = str(tmp_path / "box")
    assert atoll("snapshot", "export", "kept", "-o", file).code == 0
    assert atoll("snapshot", "import", file).code == 0
    # Twice where a mistake would lose the archive, once where it is only told.
    assert asked == [True, False]


@pytest.mark.parametrize("content", ["", "\nsecond line"])
def test_an_empty_passphrase_file(atoll: Atoll, snapshot: str, tmp_path: Path, content: str) -> None:
    (tmp_path / "empty").write_text(content)
    refused = atoll(
        "snapshot", "export", "kept", "-o", str(tmp_path / "b"), "--passphrase-file", str(tmp_path / "empty")
    )
    assert refused.code == 2
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-1], "cut off"),
        (lambda content: b"x" + content, "no archive"),
        (lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "damaged"),
    ],
)
def test_what_is_refused(
    atoll: Atoll, snapshot: str, key: str, tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    file = tmp_path / "box"
    atoll("snapshot", "export", "kept", "-o", str(file), "--passphrase-file", key)
    file.write_bytes(damage(file.read_bytes()))
    refused = atoll("snapshot", "import", str(file), "--passphrase-file", key)
    assert refused.code == 1
    assert reason in refused.err
