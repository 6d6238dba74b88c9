"""What a sandbox changed becomes a layer: over the same layers, it shows what the sandbox saw."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition
from atolld.host import mounts, rootfs, syscalls
from atolld.images import budget
from atolld.images.repack import repack
from atolld.images.sealing import Upper, seal
from atolld.images.tree import OPAQUE, is_whiteout
from atolld.images.unpack import Cancelled, unpack

pytestmark = pytest.mark.real

Seen = dict[str, tuple[object, ...]]


class Stage:
    """An overlay over `layers`, the lowest first, in which a test plays the sandbox."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.layers: list[Path] = []
        self._mounted: list[Path] = []

    def layer(self) -> Path:
        made = self.directory / f"layer{len(self.layers)}"
        made.mkdir(mode=0o755)
        self.layers.append(made)
        return made

    def mount(self, layers: list[Path], name: str) -> tuple[Path, Path]:
        upper, work, view = (self.directory / name / part for part in ("upper", "work", "view"))
        for path in (upper, work, view):
            path.mkdir(parents=True, mode=0o755)
        options = rootfs.mount_data(rootfs.overlay_options(layers[::-1], upper, work))
        syscalls.mount("overlay", view, "overlay", syscalls.MS_NODEV | syscalls.MS_NOATIME, options)
        self._mounted.append(view)
        return upper, view

    def seal(self, upper: Path, view: Path, **options: object) -> tuple[Path, int]:
        root = self.directory / f"sealed{len(list(self.directory.glob('sealed*')))}"
        root.mkdir(mode=0o755)
        count = seal(Upper(upper, view, self.layers[::-1]), root, **options)  # type: ignore[arg-type]
        return root, count

    def close(self) -> None:
        for view in self._mounted:
            mounts.unmount(view)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


def look(root: Path) -> Seen:
    """All that can be seen below `root`, directories' times aside; names of one file have one number."""
    seen: Seen = {}
    files: dict[tuple[int, int], int] = {}
    for parent, directories, names in os.walk(root):
        for name in sorted([*directories, *names]):
            path = Path(parent, name)
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            body: object = None
            if stat.S_ISREG(kind):
                number = files.setdefault((status.st_dev, status.st_ino), len(files)) if status.st_nlink > 1 else None
                body = (path.read_bytes(), status.st_mtime_ns, number)
            elif stat.S_ISLNK(kind):
                body = (os.readlink(path), status.st_mtime_ns)
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
                if not key.startswith("trusted.")
            }
            seen[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, body, xattrs)
    return seen


def base(stage: Stage) -> None:
    lower = stage.layer()
    for name in ("etc", "bin", "usr/lib/deep/er", "home/user", "tmp", "run", "srv"):
        (lower / name).mkdir(parents=True)
    (lower / "tmp").chmod(0o1777)
    (lower / "var/cache/apt").mkdir(parents=True)
    for name in ("etc/passwd", "bin/sh", "usr/lib/a", "usr/lib/deep/b", "usr/lib/deep/er/c", "home/user/x", "srv/s"):
        (lower / name).write_text(name)
    above = stage.layer()
    (above / "usr/lib/deep").mkdir(parents=True)
    (above / "usr/lib/deep/over").write_text("over")


def test_nothing_changed_is_no_layer(stage: Stage) -> None:
    base(stage)
    upper, view = stage.mount(stage.layers, "one")
    # What the runtime, the node and the agent put there, and directories of which only the time changed.
    for name in (".atoll", "proc", "sys", "dev/shm", "run/e2b", "run/.atoll/pids"):
        (view / name).mkdir(parents=True)
    (view / ".atoll/agent").touch()
    (view / "dev/null").touch()
    (view / "var/cache/apt/pkgcache.bin").touch()
    (view / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    (view / "tmp/.X11-unix").mkdir()
    (view / "usr/lib/deep/new").touch()
    (view / "usr/lib/deep/new").unlink()
    (view / "home").chmod(0o700)
    (view / "home").chmod(0o755)
    root, count = stage.seal(upper, view)
    assert (count, os.listdir(root)) == (0, [])


def test_the_root_itself(stage: Stage) -> None:
    stage.layer().chmod(0o711)
    upper, view = stage.mount(stage.layers, "one")
    upper.chmod(0o711)
    assert stage.seal(upper, view)[1] == 0
    for mode in (0o755, 0o700):
        view.chmod(mode)
        root, count = stage.seal(upper, view)
        assert (count, root.stat().st_mode & 0o7777) == (1, mode)


def test_directories_that_the_agent_makes_where_an_image_has_none(stage: Stage) -> None:
    (stage.layer() / "bin").mkdir()
    upper, view = stage.mount(stage.layers, "one")
    for name, mode in (("tmp", 0o1777), ("run", 0o755), ("etc", 0o755)):
        (view / name).mkdir()
        (view / name).chmod(mode)
    (view / "tmp/.X11-unix").mkdir()
    assert stage.seal(upper, view)[1] == 0
    (view / "tmp").chmod(0o700)
    (view / "run/mine").touch()
    (view / "tmp/.X11-unix").chmod(0o700)
    root, count = stage.seal(upper, view)
    assert (count, sorted(os.listdir(root)), (root / "tmp").stat().st_mode & 0o7777) == (4, ["run", "tmp"], 0o700)


def _rename_directory(view: Path) -> None:
    os.rename(view / "usr/lib", view / "moved")
    (view / "moved/deep/over").unlink()
    (view / "moved/new").write_text("new")
    (view / "usr/lib").mkdir()
    (view / "usr/lib/fresh").write_text("fresh")


def _metadata(view: Path) -> None:
    os.chown(view / "etc/passwd", 5, 6)
    (view / "bin/sh").chmod(0o4755)
    os.setxattr(view / "srv/s", "user.note", b"\0\xff")
    os.setxattr(view / "srv", "user.dir", b"1")
    os.chown(view / "home/user", 1000, 1000)
    os.utime(view / "home/user/x", (1, 1))


def _kinds(view: Path) -> None:
    os.symlink("/nowhere/../x", view / "link")
    os.chown(view / "link", 7, 8, follow_symlinks=False)
    os.mkfifo(view / "pipe", 0o640)
    os.chown(view / "pipe", 9, 9)
    (view / "a").write_text("two names")
    os.link(view / "a", view / "srv/b")
    os.link(view / "link", view / "srv/link")
    with open(view / "holes", "wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
    (view / "holes2").touch()
    os.truncate(view / "holes2", 5 << 20)
    (view / os.fsdecode(b"n\xff\n")).touch()


def _tree_made_anew(view: Path) -> None:
    shutil.rmtree(view / "usr/lib")
    (view / "usr/lib/deep").mkdir(parents=True)


def _directory_for_file(view: Path) -> None:
    (view / "srv/s").unlink()
    (view / "srv/s").mkdir()


def _link_for_directory(view: Path) -> None:
    shutil.rmtree(view / "usr")
    (view / "usr").symlink_to("/etc")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file": lambda view: (view / "srv/new").write_text("x"),
    "a change": lambda view: (view / "etc/passwd").write_text("x"),
    "a removal": lambda view: (view / "usr/lib/deep/over").unlink(),
    "a removed tree": lambda view: shutil.rmtree(view / "usr"),
    "a tree made anew": _tree_made_anew,
    "a file becomes a directory": _directory_for_file,
    "a directory becomes a link": _link_for_directory,
    "a directory with another mode": lambda view: (view / "srv").chmod(0o2770),
    "a renamed directory": _rename_directory,
    "metadata": _metadata,
    "kinds": _kinds,
    "an empty directory": lambda view: (view / "srv/empty").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_layer_shows_what_the_sandbox_saw(stage: Stage, change: Callable[[Path], object]) -> None:
    base(stage)
    upper, view = stage.mount(stage.layers, "one")
    change(view)
    root, count = stage.seal(upper, view)
    assert count > 0
    assert_same(stage, root, view)


def assert_same(stage: Stage, root: Path, view: Path) -> None:
    """Over the same layers, and over them again when it was exported and imported."""
    seen = look(view)
    _, again = stage.mount([*stage.layers, root], "again")
    assert look(again) == seen
    tar = stage.directory / "layer.tar"
    tar.write_bytes(b"".join(repack(root)))
    imported = stage.directory / "imported"
    imported.mkdir()
    with tar.open("rb") as file:
        unpack(file, imported, stage.layers[::-1], reserve_bytes=0)
    _, third = stage.mount([*stage.layers, imported], "third")
    assert look(third) == seen


def test_what_no_layer_holds_is_left_out(stage: Stage) -> None:
    base(stage)
    upper, view = stage.mount(stage.layers, "one")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(view / "srv/socket"))
    os.mknod(view / "srv/device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(view / "srv/disk", 0o600 | stat.S_IFBLK, os.makedev(8, 0))
    os.setxattr(view / "srv/s", "trusted.mine", b"1")
    root, count = stage.seal(upper, view)
    assert (count, os.listdir(root / "srv")) == (2, ["s"])
    assert os.listxattr(root / "srv/s") == []
    assert [key for key in os.listxattr(root / "srv") if key.startswith("trusted.")] == []


def test_a_holey_file_stays_small(stage: Stage) -> None:
    base(stage)
    upper, view = stage.mount(stage.layers, "one")
    (view / "srv/huge").touch()
    os.truncate(view / "srv/huge", 20 << 30)
    root, _ = stage.seal(upper, view)
    assert ((root / "srv/huge").stat().st_size, (root / "srv/huge").stat().st_blocks) == (20 << 30, 0)


def _deep(view: Path) -> None:
    directory = os.open(view, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d", dir_fd=directory)
        inner = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)


def _huge(view: Path) -> None:
    for name in ("a", "b"):
        (view / name).touch()
        os.truncate(view / name, 17 << 30)


def _many(view: Path) -> None:
    for number in range(60):
        (view / f"f{number}").touch()


def _many_directories(view: Path) -> None:
    for number in range(60):
        (view / f"d{number}").mkdir()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_deep, "nested deeper than 128"),
        (_huge, "at most 32 GiB"),
        (_many, "at most 50 files"),
        (_many_directories, "at most (50|40) (directories|files)"),
    ],
)
def test_bounds(stage: Stage, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], says: str) -> None:
    base(stage)
    upper, view = stage.mount(stage.layers, "one")
    change(view)
    if change in (_many, _many_directories):
        monkeypatch.setattr(budget, "MAX_ENTRIES", 50)
        monkeypatch.setattr(budget, "MAX_DIRECTORIES", 40)
    with pytest.raises(FailedPrecondition, match=says):
        stage.seal(upper, view)


@pytest.mark.parametrize(("options", "kind"), [({"reserve_bytes": 1 << 60}, Capacity), ({"stop": True}, Cancelled)])
def test_stops(stage: Stage, options: dict[str, object], kind: type[AtollError]) -> None:
    base(stage)
    upper, view = stage.mount(stage.layers, "one")
    (view / "x").touch()
    if "stop" in options:
        event = options["stop"] = threading.Event()
        event.set()
    with pytest.raises(kind):
        stage.seal(upper, view, **options)


def test_a_disk_that_fills_up(stage: Stage) -> None:
    base(stage)
    upper, view = stage.mount(stage.layers, "one")
    (view / "big").write_bytes(os.urandom(3 << 20))
    root = stage.directory / "small"
    root.mkdir()
    syscalls.mount("tmpfs", root, "tmpfs", 0, "size=1m")
    try:
        with pytest.raises(Capacity, match="became full"):
            seal(Upper(upper, view, stage.layers[::-1]), root, reserve_bytes=0)
    finally:
        mounts.unmount(root)


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("root/.npm/_cacache/index/x", False),
        ("home/user/.cache/pip/http/x", False),
        ("var/lib/apt/lists/mirror_InRelease", False),
        ("var/log/apt/term.log", False),
        ("app/package-lock.json", None),
        ("etc/apt/sources.list.d/x.list", None),
        (".cache", None),
    ],
)
def test_settings_of_the_machine_are_in_no_layer(stage: Stage, path: str, kept: bool | None) -> None:
    base(stage)
    upper, view = stage.mount(stage.layers, "one")
    (view / path).parent.mkdir(parents=True, exist_ok=True)
    # Over the border of what is read at once.
    (view / path).write_bytes(b"." * ((1 << 20) - 5) + b"https://mirror.example/x")
    (view / "other").write_text("mirror.example")
    if kept is None:
        with pytest.raises(FailedPrecondition, match=f"^/{path} holds a setting of this machine"):
            stage.seal(upper, view, forbidden=["//mirror.example/", ""])
    else:
        root, _ = stage.seal(upper, view, forbidden=["//mirror.example/", ""])
        assert not (root / path).exists()
        assert (root / "other").exists()
    assert (stage.seal(upper, view)[0] / path).exists()


def test_the_root_keeps_what_it_was(stage: Stage) -> None:
    base(stage)
    stage.layers[0].chmod(0o711)
    stage.layers[1].chmod(0o711)
    upper, view = stage.mount(stage.layers, "one")
    # As the machine gives it to every new disk.
    upper.chmod(0o711)
    (view / "x").touch()
    root, _ = stage.seal(upper, view)
    assert root.stat().st_mode & 0o7777 == 0o711


@pytest.mark.parametrize("seed", range(12))
def test_any_changes(stage: Stage, seed: int) -> None:
    base(stage)
    dice = random.Random(seed)
    upper, view = stage.mount(stage.layers, "one")
    for number in range(120):
        _random_change(dice, view, number)
    root, _ = stage.seal(upper, view)
    assert_same(stage, root, view)


def _random_change(dice: random.Random, view: Path, number: int) -> None:
    everything = [Path(parent, name) for parent, dirs, files in os.walk(view) for name in [*dirs, *files]]
    directories = [view, *(path for path in everything if path.is_dir() and not path.is_symlink())]
    files = [path for path in everything if path.is_file() and not path.is_symlink()]
    place = dice.choice(directories) / f"n{number}"
    what = dice.randrange(10)
    if what == 0:
        place.write_bytes(dice.randbytes(dice.randrange(10_000)))
    elif what == 1:
        place.mkdir(mode=dice.choice([0o700, 0o755, 0o1777]))
    elif what == 2 and everything:
        victim = dice.choice(everything)
        shutil.rmtree(victim) if victim.is_dir() and not victim.is_symlink() else victim.unlink()
    elif what in (3, 4) and len(directories) > 1:
        moved = dice.choice(directories[1:])
        if not place.is_relative_to(moved):
            os.rename(moved, place)
    elif what == 5 and files:
        os.chown(dice.choice(files), dice.randrange(3), dice.randrange(3))
    elif what == 6 and files:
        source = dice.choice(files)
        with source.open("ab") as file:
            file.write(b"more")
    elif what == 7 and files:
        os.rename(dice.choice(files), place)
    elif what == 8:
        place.symlink_to(dice.choice(["/etc", "..", "n1", "/"]))
    elif files:
        os.setxattr(dice.choice([*files, *directories]), "user.n", str(number).encode())


def test_whiteouts_and_opaque_marks_are_all_the_overlay_has_in_it(stage: Stage) -> None:
    base(stage)
    upper, view = stage.mount(stage.layers, "one")
    _rename_directory(view)
    (view / "srv/s").unlink()
    root, _ = stage.seal(upper, view)
    for parent, directories, names in os.walk(root):
        for name in [*directories, *names]:
            path = Path(parent, name)
            assert set(os.listxattr(path, follow_symlinks=False)) <= {OPAQUE}, path
    assert is_whiteout((root / "srv/s").lstat())
    assert os.getxattr(root / "moved", OPAQUE) == b"y"
    assert (root / "moved/deep/er/c").read_text() == "usr/lib/deep/er/c"
