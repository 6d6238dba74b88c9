"""COPY and ADD into images, the hostile ones included; every step is a layer made over real overlays."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from server.tests.images.buildstage import PROJECT, WHERE, Stage, tar_of, tree

from atolld.core.build import Base, BaseKind, Copy
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.host import mounts
from atolld.images.copying import FIXED_NS

pytestmark = pytest.mark.real

FILES: dict[str, str | None] = {
    "a.txt": "a",
    "b.txt": "b",
    "c.md": "c",
    "dir": None,
    "dir/x.py": "x",
    "dir/sub": None,
    "dir/sub/y.py": "y",
    "dir/empty": None,
    "link": "-> dir",
    "dir/loop": "-> ../dir",
    "wh/.wh.x": "not a whiteout",
}
IMAGE: dict[str, str | None] = {
    "etc/passwd": "root:x:0:0::/:\napp:x:1000:1001::/:\n",
    "etc/group": "staff:x:50:\n",
    "usr/bin/sh": "sh",
    "bin": "-> usr/bin",
    "app": "-> /srv/app",
    "srv": None,
    "evil": "-> ../../../../../../../../etc",
    "evil2": "-> /../../../../tmp",
    "there": None,
    "file": "a file",
    "links/passwd": "-> /etc/passwd",
}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def step(*sources: str, to: str, **options: object) -> Copy:
    return Copy(WHERE, sources, to, **{"origin": "ctx", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sources", "to", "workdir", "expected"),
    [
        (["a.txt"], "/", "/", {"a.txt": "a"}),
        (["a.txt"], "/new", "/", {"new": "a"}),
        (["a.txt"], "/new/", "/", {"new/a.txt": "a"}),
        (["a.txt"], "/x/y/z", "/", {"x/y/z": "a"}),
        (["a.txt"], "/there", "/", {"there/a.txt": "a"}),
        (["a.txt"], ".", "/work/dir", {"work/dir/a.txt": "a"}),
        (["a.txt"], "sub/", "/work", {"work/sub/a.txt": "a"}),
        (["a.txt"], "../up", "/work/dir", {"work/up": "a"}),
        (["a.txt"], "../../../../up", "/work", {"up": "a"}),
        (["a.txt"], "/there/../other", "/", {"other": "a"}),
        (["/a.txt"], "/n", "/", {"n": "a"}),
        (["../../a.txt"], "/n", "/", {"n": "a"}),
        (["a.txt", "b.txt"], "/d/", "/", {"d/a.txt": "a", "d/b.txt": "b"}),
        (["*.txt"], "/d/", "/", {"d/a.txt": "a", "d/b.txt": "b"}),
        (["*.txt"], "/there", "/", {"there/a.txt": "a", "there/b.txt": "b"}),
        (["[ab].txt", "c.*"], "/d/", "/", {"d/a.txt": "a", "d/b.txt": "b", "d/c.md": "c"}),
        (["c.*"], "/one", "/", {"one": "c"}),
        (["**/*.py"], "/d/", "/", {"d/x.py": "x", "d/y.py": "y"}),
        (["dir"], "/d", "/", {"d/x.py": "x", "d/sub/y.py": "y", "d/empty": None, "d/loop": "-> ../dir"}),
        (["dir/"], "/d/", "/", {"d/x.py": "x", "d/sub/y.py": "y", "d/empty": None, "d/loop": "-> ../dir"}),
        (["dir/sub", "a.txt"], "/d/", "/", {"d/y.py": "y", "d/a.txt": "a"}),
        (["link"], "/d", "/", {"d/x.py": "x", "d/sub/y.py": "y", "d/empty": None, "d/loop": "-> ../dir"}),
        (["link/x.py"], "/d", "/", {"d": "x"}),
        (
            ["dir/*"],
            "/d/",
            "/",
            {"d/x.py": "x", "d/y.py": "y", "d/sub/y.py": "y", "d/empty": None, "d/loop": "-> ../dir"},
        ),
        (["wh"], "/", "/", {".wh.x": "not a whiteout"}),
        (["a.txt"], "/bin/tool", "/", {"usr/bin/tool": "a"}),
        (["a.txt"], "/bin/", "/", {"usr/bin/a.txt": "a"}),
        (["a.txt"], "/app/", "/", {"srv/app/a.txt": "a"}),
        (["a.txt"], "/app/deep/n", "/", {"srv/app/deep/n": "a"}),
        (["a.txt"], "/evil/n", "/", {"etc/n": "a"}),
        (["a.txt"], "/evil2/n", "/", {"tmp/n": "a"}),
        (["a.txt"], "/file", "/", {"file": "a"}),
        (["a.txt"], "/links/passwd", "/", {"links/passwd": "a"}),
    ],
)
async def test_where_files_go(
    stage: Stage, sources: list[str], to: str, workdir: str, expected: dict[str, str | None]
) -> None:
    await stage.upload(FILES)
    image = stage.layer(IMAGE)
    assert tree(await stage.copy(step(*sources, to=to), image, workdir=workdir)) == expected
    assert mounts.mounts_below(stage.cache) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sources": ["nothing"], "to": "/d"}, "'nothing' matches nothing"),
        ({"sources": ["a.txt", "no*"], "to": "/d/"}, r"'no\*' matches nothing"),
        ({"sources": ["["], "to": "/d"}, "is no pattern"),
        ({"sources": ["a.txt", "b.txt"], "to": "/d"}, "2 files are to be copied to /d"),
        ({"sources": ["*.txt"], "to": "/file"}, "2 files are to be copied to /file"),
        ({"sources": ["a.txt"], "to": "/file/x"}, "/file is not a directory"),
        ({"sources": ["a.txt"], "to": "/file/"}, "/file is not a directory"),
        ({"sources": ["dir"], "to": "/file"}, "/file is not a directory"),
        ({"sources": ["a.txt"], "to": "/d", "owner": "nobody"}, "no user 'nobody'"),
        ({"sources": ["a.txt"], "to": "/d", "owner": "app:none"}, "no group 'none'"),
        ({"sources": ["a.txt"], "to": "/d/", "exclude": ("*.txt",)}, "'a.txt' matches nothing"),
        ({"sources": ["a.txt"], "to": "/circle/x"}, "links on its way"),
        ({"sources": ["a.txt"], "to": "/" + "d/" * 200}, "deeper than 128"),
        ({"sources": ["over"], "to": "/"}, "/there is a directory in the image, and a file in the source"),
        ({"sources": ["over2"], "to": "/"}, "/file is a directory in the source, and not one in the image"),
    ],
)
async def test_refusals_leave_nothing(stage: Stage, options: dict[str, object], says: str) -> None:
    await stage.upload({**FILES, "over/there": "x", "over2/file/x": "y"})
    image = stage.layer({**IMAGE, "circle": "-> circle"})
    sources = options.pop("sources")
    assert isinstance(sources, list)
    with pytest.raises(InvalidArgument, match=says):
        await stage.copy(step(*sources, **options), image)  # type: ignore[arg-type]
    assert os.listdir(stage.store.directory) == [image]
    assert mounts.mounts_below(stage.cache) == []


async def test_owners_modes_and_times(stage: Stage) -> None:
    await stage.upload(FILES)
    image = stage.layer(IMAGE)
    os.utime(stage.root(image) / "srv", (5, 5))
    os.utime(stage.root(image), (6, 6))
    root = await stage.copy(step("dir", "a.txt", to="/srv/new/"), image)
    for name, mode, mtime in (
        ("srv", 0o755, 5.0),
        ("srv/new", 0o755, FIXED_NS / 1e9),
        ("srv/new/a.txt", 0o640, 1000.0),
        ("srv/new/sub", 0o750, 1000.0),
        ("srv/new/sub/y.py", 0o640, 1000.0),
        ("", 0o755, 6.0),
    ):
        status = (root / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (mode, 0, 0, mtime), (
            name
        )
    root = await stage.copy(step("dir", to="/srv/new/", owner="app:staff", mode=0o700), image)
    for name, mode in (("srv/new", 0o755), ("srv/new/sub", 0o700), ("srv/new/sub/y.py", 0o700)):
        status = (root / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, 1000, 50), name
    assert ((root / "srv").stat().st_uid, (root / "srv/new/loop").lstat().st_uid) == (0, 1000)


@pytest.mark.parametrize(
    ("sources", "exclude", "parents", "expected"),
    [
        (["dir"], ("*.py",), False, {"d/sub/y.py": "y", "d/empty": None, "d/loop": "-> ../dir"}),
        (["dir"], ("**/*.py", "loop"), False, {"d/sub": None, "d/empty": None}),
        (["dir"], ("sub", "loop", "empty"), False, {"d/x.py": "x"}),
        (["*.txt"], ("b.*",), False, {"d/a.txt": "a"}),
        (["dir/sub/y.py", "a.txt"], (), True, {"d/dir/sub/y.py": "y", "d/a.txt": "a"}),
        (["dir/sub"], (), True, {"d/dir/sub/y.py": "y"}),
        (["dir/./sub/y.py"], (), True, {"d/sub/y.py": "y"}),
        (["**/*.py"], (), True, {"d/dir/x.py": "x", "d/dir/sub/y.py": "y"}),
    ],
)
async def test_excludes_and_parents(
    stage: Stage, sources: list[str], exclude: tuple[str, ...], parents: bool, expected: dict[str, str | None]
) -> None:
    await stage.upload(FILES)
    image = stage.layer(IMAGE)
    assert tree(await stage.copy(step(*sources, to="/d/", exclude=exclude, parents=parents), image)) == expected


async def test_a_directory_is_merged_into_one_that_is_there(stage: Stage) -> None:
    await stage.upload(
        {"tree": None, "tree/bin": None, "tree/bin/tool": "t", "tree/etc/passwd": "new", "tree/new/n": "n"}
    )
    image = stage.layer(IMAGE)
    root = await stage.copy(step("tree", to="/"), image)
    assert tree(root) == {"usr/bin/tool": "t", "etc/passwd": "new", "new/n": "n"}
    # Nothing of the overlay is left but its marks.
    assert {name for path in root.rglob("*") for name in os.listxattr(path, follow_symlinks=False)} <= {
        "trusted.overlay.opaque"
    }


async def test_two_builds_give_the_same_layer(stage: Stage) -> None:
    await stage.upload(FILES)
    image = stage.layer(IMAGE)

    def facts(root: Path) -> list[object]:
        found: list[object] = []
        for path in sorted([root, *root.rglob("*")]):
            status = path.lstat()
            found.append((str(path.relative_to(root)), status.st_mode, status.st_uid, status.st_mtime_ns))
        return found

    one = step("dir", "*.txt", to="/srv/x/y/")
    assert facts(await stage.copy(one, image)) == facts(await stage.copy(one, image))


async def test_text_from_the_dockerfile(stage: Stage) -> None:
    image = stage.layer(IMAGE)
    one = Copy(WHERE, (), "/etc/motd", inline={"EOF": "hello\n"}, mode=0o600, owner="app")
    root = await stage.copy(one, image)
    status = (root / "etc/motd").stat()
    assert (tree(root), status.st_mtime_ns) == ({"etc/motd": "hello\n"}, FIXED_NS)
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, 1000)
    two = Copy(WHERE, (), "/d/", inline={"a": "1", "b": "2"})
    assert tree(await stage.copy(two, image)) == {"d/a": "1", "d/b": "2"}
    for name in ("", "..", "a/b"):
        with pytest.raises(InvalidArgument):
            await stage.copy(Copy(WHERE, (), "/d/", inline={name: "1"}), image)


async def test_from_another_stage(stage: Stage) -> None:
    low = stage.layer({"opt/tool": "old", "opt/gone": "x", "lib": "-> opt", "escape": "-> ../../../../etc"})
    high = stage.layer({"opt/tool": "new"})
    os.mknod(stage.root(high) / "opt/gone", stat.S_IFCHR)
    image = stage.layer(IMAGE)
    one = Copy(WHERE, ("/lib",), "/x", origin="stage:0")
    assert tree(await stage.copy(one, image, stage=(low, high))) == {"x/tool": "new"}
    assert tree(await stage.copy(one, image, stage=(low,))) == {"x/tool": "old", "x/gone": "x"}
    with pytest.raises(InvalidArgument, match="matches nothing"):
        await stage.copy(Copy(WHERE, ("/escape/passwd",), "/x", origin="stage:0"), image, stage=(low,))
    with pytest.raises(NotFound, match="is gone"):
        await stage.copy(one, image, stage=("ee" * 32,))


async def test_into_nothing(stage: Stage) -> None:
    await stage.upload(FILES)
    assert tree(await stage.copy(step("a.txt", to="/x/"))) == {"x/a.txt": "a"}


async def test_hard_links_stay_and_devices_do_not(stage: Stage) -> None:
    low = stage.layer({"d/a": "two names"})
    os.link(stage.root(low) / "d/a", stage.root(low) / "d/b")
    os.mkfifo(stage.root(low) / "d/pipe")
    os.mknod(stage.root(low) / "d/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    root = await stage.copy(Copy(WHERE, ("d",), "/x", origin="stage:0"), stage=(low,))
    assert sorted(os.listdir(root / "x")) == ["a", "b", "pipe"]
    assert (root / "x/a").stat().st_ino == (root / "x/b").stat().st_ino


ROOTFS: dict[str, str | None] = {"bin": None, "bin/tool": "t", "etc/new": "n", "l": "-> bin"}


def zstd(data: bytes) -> bytes:
    if shutil.which("zstd") is None:
        pytest.skip("no zstd here")
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("kind", ["tar", "gz", "bz2", "xz", "zst"])
async def test_archives_are_unpacked(stage: Stage, kind: str) -> None:
    packers: dict[str, Callable[[bytes], bytes]] = {
        "tar": bytes,
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zst": zstd,
    }
    data = packers[kind](tar_of(ROOTFS, "w"))
    low = stage.layer({"x": ""})
    (stage.root(low) / "x").write_bytes(data)
    image = stage.layer(IMAGE)
    one = Copy(WHERE, ("x",), "/", origin="stage:0", unpack=True)
    root = await stage.copy(one, image, stage=(low,))
    assert tree(root) == {"usr/bin/tool": "t", "etc/new": "n", "l": "-> bin"}
    assert ((root / "etc/new").stat().st_uid, (root / "etc/new").stat().st_mtime) == (501, 1000)
    root = await stage.copy(Copy(WHERE, ("x",), "/n", origin="stage:0", unpack=True, owner="app"), image, stage=(low,))
    assert (root / "n/etc/new").stat().st_uid == 1000
    root = await stage.copy(Copy(WHERE, ("x",), "/n", origin="stage:0"), image, stage=(low,))
    assert os.listdir(root) == ["n"] and (root / "n").read_bytes() == data


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"/etc/x": "x"}, "absolute path"),
        ({"../x": "x"}, "leads out"),
        ({"l": "-> /tmp", "l/x": "x"}, "through the link"),
        ({"zeros": "\0" * (600 << 20)}, "too much for its size"),
    ],
)
async def test_hostile_archives(stage: Stage, files: dict[str, str | None], says: str) -> None:
    low = stage.layer({"x": ""})
    (stage.root(low) / "x").write_bytes(tar_of(files, "w:xz" if "zeros" in files else "w:gz"))
    with pytest.raises(InvalidArgument, match=says):
        await stage.copy(Copy(WHERE, ("x",), "/", origin="stage:0", unpack=True), stage=(low,))
    assert os.listdir(stage.store.directory) == [low]


async def test_what_only_looks_like_an_archive_is_copied(stage: Stage) -> None:
    low = stage.layer({"plain.gz": "", "text.tar": "no tar", "empty": ""})
    (stage.root(low) / "plain.gz").write_bytes(gzip.compress(b"text"))
    (stage.root(low) / "broken.xz").write_bytes(b"\xfd7zXZ\0broken")
    one = Copy(WHERE, ("*",), "/x/", origin="stage:0", unpack=True)
    assert sorted(os.listdir(await stage.copy(one, stage=(low,)) / "x")) == [
        "broken.xz",
        "empty",
        "plain.gz",
        "text.tar",
    ]


@pytest.mark.parametrize(
    ("path", "made"),
    [("/work/deep", "work/deep"), ("/app/x", "srv/app/x"), ("/there", None), ("/bin", None), ("/", None)],
)
async def test_directories(stage: Stage, path: str, made: str | None) -> None:
    image = stage.layer(IMAGE)
    digest = stage.digest()
    assert await stage.machine.make_directory(path, "app", (image,), digest, {"n": 1}) is (made is not None)
    layer = stage.store.get(digest)
    if made is None:
        assert layer is None and os.listdir(stage.store.directory) == [image]
    else:
        assert layer is not None and layer.manifest["n"] == 1
        assert tree(layer.root) == {made: None}
        assert (layer.root / made).stat().st_uid == 1000
    with pytest.raises(InvalidArgument, match="/file is not a directory"):
        await stage.machine.make_directory("/file", "", (image,), stage.digest(), {})


@pytest.mark.parametrize(
    ("source", "to", "expected"),
    [
        ("link", "/new", {"new": "-> dir"}),
        ("link", "/there", {"there/link": "-> dir"}),
        ("dangling", "/d/", {"d/dangling": "-> nowhere"}),
        ("dir/loop", "/file", {"file": "-> ../dir"}),
        ("l*", "/d/", {"d/link": "-> dir"}),
        # On the way, links are followed as ever.
        ("link/x.py", "/new", {"new": "x"}),
    ],
)
async def test_a_link_is_copied_as_it_is_where_that_is_wanted(
    stage: Stage, source: str, to: str, expected: dict[str, str | None]
) -> None:
    await stage.upload({**FILES, "dangling": "-> nowhere"})
    copied = await stage.copy(step(source, to=to, follow=False, owner="app"), stage.layer(IMAGE))
    assert tree(copied) == expected


async def test_a_key_is_of_all_that_is_read(stage: Stage) -> None:
    async def key(*sources: str, files: dict[str, str | None] | None = None, **options: object) -> str:
        await stage.upload(FILES if files is None else files)
        return await stage.machine.files_key(PROJECT, step(*sources, to="/x/", **options), None)

    first = await key("dir")
    assert await key("dir") == first == await key("dir/", files={**FILES, "a.txt": "changed"})
    others = [
        await key("link"),
        await key("link", follow=False),
        await key("dir", files={**FILES, "dir/x.py": "z"}),
        await key("dir", files={**FILES, "dir/new": "z"}),
        await key("dir", files={**FILES, "dir/loop": "-> elsewhere"}),
        await key("dir", exclude=("*.py",)),
        await key("dir", parents=True, files={"x/dir": None, **FILES}),
        await key("dir", "a.txt"),
    ]
    assert len({first, *others}) == len(others)  # parents alone reads the same files
    with pytest.raises(InvalidArgument, match="matches nothing"):
        await key("nope")
    with pytest.raises(NotFound, match="no files were uploaded"):
        await stage.machine.files_key(PROJECT, Copy(WHERE, ("a",), "/", origin="other"), None)


async def test_a_known_key_reads_nothing(stage: Stage) -> None:
    await stage.upload(FILES)
    low, high = stage.layer({"a": "1"}), stage.layer({"b": "2"})
    from_stage = Copy(WHERE, ("*",), "/x/", origin="stage:0")
    keys = [await stage.machine.files_key(PROJECT, step("dir", to="/x"), None)]
    keys += [await stage.machine.files_key(PROJECT, from_stage, stages) for stages in ((low,), (low, high))]
    assert len(set(keys)) == 3
    for path in (stage.cache / "builds/files" / PROJECT / "ctx/root/dir/x.py", stage.root(low) / "a"):
        path.write_text("changed behind its back")
    assert keys == [
        await stage.machine.files_key(PROJECT, step("dir", to="/x"), None),
        *[await stage.machine.files_key(PROJECT, from_stage, stages) for stages in ((low,), (low, high))],
    ]


async def test_a_layer_that_is_there_is_made_no_more(stage: Stage) -> None:
    await stage.upload(FILES)
    digest = stage.digest()
    for source in ("a.txt", "b.txt"):
        await stage.machine.copy(PROJECT, step(source, to="/x"), None, (), "/", digest, {})
    assert tree(stage.root(digest)) == {"x": "a"}


async def test_pins_and_sizes(stage: Stage) -> None:
    one, two = stage.layer({"a": "1"}), stage.layer({"b": "2" * 10_000})
    machine = stage.machine
    assert machine.has_layer(one) and not machine.has_layer("ee" * 32)
    assert machine.size_bytes((one, two, "ee" * 32)) == machine.size_bytes((one,)) + machine.size_bytes((two,)) > 0
    assert machine.layer_root(one) == stage.root(one)
    with pytest.raises(NotFound):
        machine.layer_root("ee" * 32)
    with pytest.raises(NotFound):
        machine.pin("b1", (one, "ee" * 32))
    machine.pin("b1", (two,))
    await stage.clock.advance(3601)
    assert await stage.templates.prune() == (one,)
    machine.unpin("b1")
    machine.unpin("b1")
    assert await stage.templates.prune() == (two,)


async def test_what_nobody_needs_goes_as_builds_begin(stage: Stage) -> None:
    scratch = Base(BaseKind.SCRATCH)
    await stage.upload(FILES)
    killed = stage.store.directory / ".building-killed"
    killed.mkdir(parents=True)
    await stage.machine.base(PROJECT, scratch, None, False, lambda _: None)
    assert killed.exists() and await stage.machine.has_files(PROJECT, "ctx")
    await stage.clock.advance(7 * 24 * 3600 + 1)
    assert (await stage.machine.base(PROJECT, scratch, None, False, lambda _: None)).layers == ()
    assert not killed.exists() and not await stage.machine.has_files(PROJECT, "ctx")
