from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.foundation.errors import InvalidArgument
from atolld.images.imageusers import owner_of, read_small
from atolld.images.rootwalk import Root
from atolld.images.tree import Refused


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("the host's")
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/sh").write_text("sh")
    (root / "etc").mkdir()
    for name, target in (
        ("bin", "usr/bin"),
        ("abs", "/usr/bin"),
        ("out", "../../.."),
        ("up", "../secret"),
        ("host", str(tmp_path / "secret")),
        ("circle", "circle"),
        ("ping", "pong"),
        ("pong", "ping"),
        ("dangling", "/data/app"),
        ("file", "usr/bin/sh"),
        ("usr/back", "../etc"),
        ("usr/root", "/"),
        ("chain", "abs/../root/bin"),
    ):
        (root / name).symlink_to(target)
    return root


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ""),
        ("", ""),
        (".", ""),
        ("/usr/bin", "usr/bin"),
        ("usr//bin/./", "usr/bin"),
        ("/bin/sh", "usr/bin/sh"),
        ("/abs/sh", "usr/bin/sh"),
        ("/out", ""),
        ("/out/etc", "etc"),
        ("../../etc", "etc"),
        ("/usr/back/passwd", None),
        ("/usr/back", "etc"),
        ("/usr/root/usr", "usr"),
        ("/chain", "usr/bin"),
        ("/file", "usr/bin/sh"),
        ("/file/x", None),
        ("/up", None),
        ("/host", None),
        ("/dangling", None),
        ("/nothing", None),
        ("/usr/bin/sh/", "usr/bin/sh"),
    ],
)
def test_links_stay_within_the_root(tree: Path, path: str, expected: str | None) -> None:
    with Root(tree) as root:
        found = root.find(path)
        assert (None if found is None else "/".join(found.names)) == expected


def test_the_last_link_can_be_what_is_wanted(tree: Path) -> None:
    with Root(tree) as root:
        found = root.find("/bin", follow=False)
        assert found is not None and found.names == ("bin",) and not found.is_directory
        found = root.find("sh", start=("usr", "bin"))
        assert found is not None and found.names == ("usr", "bin", "sh")


@pytest.mark.parametrize("path", ["/circle", "/ping", "/circle/x", "/pong/y"])
def test_circles_are_refused(tree: Path, path: str) -> None:
    with Root(tree) as root, pytest.raises(Refused, match="links on its way"):
        root.find(path)


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/a/b", "a/b"),
        ("/bin/new", "usr/bin/new"),
        ("/out/../x", "x"),
        ("/dangling/deep", "data/app/deep"),
        ("/dangling", "data/app"),
        ("/usr/back/x/../y", "etc/y"),
    ],
)
def test_directories_are_made_where_links_lead(tree: Path, path: str, made: str) -> None:
    def make(parent: int, name: str, names: tuple[str, ...]) -> None:
        os.mkdir(name, dir_fd=parent)

    with Root(tree) as root:
        assert "/".join(root.make(path, make).names) == made
        assert (tree / made).is_dir()
        assert sorted(os.listdir(tree.parent)) == ["root", "secret"]


def test_a_file_in_the_way_and_depths(tree: Path) -> None:
    def make(parent: int, name: str, names: tuple[str, ...]) -> None:
        os.mkdir(name, dir_fd=parent)

    with Root(tree) as root:
        for path in ("/file", "/usr/bin/sh/x", "/bin/sh"):
            with pytest.raises(Refused, match="not a directory"):
                root.make(path, make)
        with pytest.raises(Refused, match="deeper than 128"):
            root.make("/d" * 200, make)
    before = len(os.listdir("/proc/self/fd"))
    with Root(tree) as root:
        for _ in range(20):
            root.find("/chain/sh")
            with pytest.raises(Refused):
                root.find("/circle")
    assert len(os.listdir("/proc/self/fd")) == before


PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\nbad:x:many:1::/:\nshort:x\n\n"
GROUP = "root:x:0:\nstaff:x:50:app\nbad:x:y:\n"


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("", (0, 0)), ("root", (0, 0)), ("app", (1000, 1001)), ("app:staff", (1000, 50)), ("app:7", (1000, 7)),
        ("5", (5, 5)), ("5:6", (5, 6)), ("5:staff", (5, 50)), (":staff", (0, 50)), ("app:", (1000, 1001)),
        ("nobody", "no user 'nobody'"), ("app:nogroup", "no group 'nogroup'"), ("bad", "no user 'bad'"),
        ("short", "no user"), ("1:bad", "no group 'bad'"), ("4294967295", "too large"), ("1:99999999999", "too large"),
    ],
)  # fmt: skip
def test_owners(tree: Path, owner: str, expected: tuple[int, int] | str) -> None:
    (tree / "etc/passwd").write_text(PASSWD)
    (tree / "etc/group").write_text(GROUP)
    with Root(tree) as root:
        if isinstance(expected, tuple):
            assert owner_of(root, owner) == expected
        else:
            with pytest.raises(InvalidArgument, match=expected):
                owner_of(root, owner)


def test_an_image_without_users_has_root(tree: Path) -> None:
    with Root(tree) as root:
        assert owner_of(root, "root:root") == (0, 0)
        (tree / "etc/passwd").symlink_to("/../secret")
        assert read_small(root, "/etc/passwd") is None
        (tree / "etc/passwd").unlink()
        os.mkfifo(tree / "etc/passwd")
        assert not read_small(root, "/etc/passwd")
        (tree / "etc/group").write_bytes(b"x" * (2 << 20))
        assert read_small(root, "/etc/group") is None
