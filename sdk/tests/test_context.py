"""Contexts: found, named and packed."""

from __future__ import annotations

import gzip
import io
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll import InvalidArgument
from atoll._context import read_context, read_file, read_ignore
from atoll._ignore import Ignore


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "src" / "a.py").write_text("print('a')\n")
    (root / "src" / "deep" / "b.bin").write_bytes(b"\0" * 3_000_000)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("/etc/passwd")
    (root / "empty").mkdir()
    return root


def unpacked(data: bytes) -> dict[str, tuple[bytes, int, str]]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        for member in archive:
            assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
            file = archive.extractfile(member) if member.isfile() else None
            found[member.name] = (file.read() if file else member.type, member.mode, member.linkname)
    return found


def test_packed_the_same_each_time(tree: Path) -> None:
    first, second = read_context(tree), read_context(tree)
    told: list[tuple[int, int]] = []
    data = b"".join(first.packed(lambda done, total: told.append((done, total))))
    assert data == b"".join(second.packed()) and first.name == second.name and len(first.name) == 64
    assert told[-1] == (first.size_bytes, first.size_bytes)
    found = unpacked(data)
    assert list(found) == ["empty", "link", "run.sh", "src", "src/a.py", "src/deep", "src/deep/b.bin"]
    assert found["link"] == (tarfile.SYMTYPE, 0o777, "/etc/passwd")
    assert found["run.sh"][1] == 0o755
    assert len(found["src/deep/b.bin"][0]) == 3_000_000


CHANGES: dict[str, Callable[[Path], object]] = {
    "contents": lambda root: (root / "src/a.py").write_text("print('b')\n"),
    "mode": lambda root: (root / "src/a.py").chmod(0o600),
    "name": lambda root: (root / "src/a.py").rename(root / "src/c.py"),
    "link": lambda root: (root / "link").rename(root / "src" / "link"),
    "directory": lambda root: (root / "empty").rmdir(),
    "new file": lambda root: (root / "new").write_text(""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_named_by_what_is_in_it(tree: Path, change: str) -> None:
    before = read_context(tree).name
    os.utime(tree / "run.sh", (1, 1))
    assert read_context(tree).name == before
    CHANGES[change](tree)
    assert read_context(tree).name != before


def test_links_are_not_followed(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (tree / "out").symlink_to(outside)
    assert "out/secret" not in {entry.path for entry in read_context(tree).entries}


def test_what_is_left_out(tree: Path) -> None:
    (tree / ".dockerignore").write_text("src\n!src/deep/*.bin\nlink\n")
    paths = [entry.path for entry in read_context(tree, read_ignore(tree)).entries]
    assert paths == [".dockerignore", "empty", "run.sh", "src/deep/b.bin"]
    (tree / "App.dockerignore").write_text("*\n!run.sh\n")
    ignore = read_ignore(tree, tree / "App")
    assert [entry.path for entry in read_context(tree, ignore).entries] == ["run.sh"]


def test_what_is_left_out_is_not_looked_at(tree: Path) -> None:
    os.mkfifo(tree / "src" / "pipe")
    with pytest.raises(InvalidArgument, match=r"'src/pipe' is a pipe"):
        read_context(tree)
    read_context(tree, Ignore(["src/pipe"]))


def test_sockets_are_refused(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tree / "s"))
        with pytest.raises(InvalidArgument, match="'s' is a socket"):
            read_context(tree)


def test_one_file(tree: Path) -> None:
    context = read_file(tree / "src" / "a.py")
    assert list(unpacked(b"".join(context.packed()))) == ["a.py"]


@pytest.mark.parametrize("contents", [b"", b"longer than it was before"])
def test_a_file_that_changes_meanwhile(tree: Path, contents: bytes) -> None:
    context = read_context(tree)
    (tree / "src" / "a.py").write_bytes(contents)
    with pytest.raises(InvalidArgument, match=r"'src/a.py' was changed"):
        b"".join(context.packed())


def test_a_link_that_took_a_files_place(tree: Path) -> None:
    context = read_context(tree)
    (tree / "src" / "a.py").unlink()
    (tree / "src" / "a.py").symlink_to("/etc/passwd")
    with pytest.raises(OSError):
        b"".join(context.packed())


def test_no_directory(tree: Path) -> None:
    with pytest.raises(InvalidArgument, match="not a directory"):
        read_context(tree / "run.sh")
    with pytest.raises(FileNotFoundError):
        read_file(tree / "nothing")


@pytest.mark.parametrize("contents", [b"\xff\xfe", b"x" * (1024 * 1024 + 1)])
def test_rules_that_are_none(tree: Path, contents: bytes) -> None:
    (tree / ".dockerignore").write_bytes(contents)
    with pytest.raises(InvalidArgument, match="dockerignore"):
        read_ignore(tree)
