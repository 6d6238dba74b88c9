from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from atolld.foundation.errors import AtollError, InvalidArgument, NotFound
from atolld.foundation.ids import ProjectId
from atolld.images.exporting import Exported, export
from atolld.images.imagestore import Image, ImageStore
from atolld.images.importing import Importer
from atolld.images.locks import exclusive
from atolld.images.oci import Platform, RunConfig
from atolld.images.reference import Reference, parse_reference

from .tars import PLATFORM, MadeImage, archive, digest, entry, folder, link, tar

PROJECT = ProjectId("p-1")
BASE = tar(folder("etc"), entry("etc/release", data=b"1"))
APP = tar(folder("app"), entry("app/run", data=b"#!"))
MADE = MadeImage([BASE, gzip.compress(APP)], {"Env": ["A=b"]})


def docker(image: MadeImage = MADE, *tags: str, **changes: Any) -> dict[str, bytes]:
    """What `docker save` wrote for years."""
    config = digest(image.config_data)[7:] + ".json"
    layers = [f"{number}/layer.tar" for number in range(len(image.layers))]
    stored = [{"Config": config, "RepoTags": list(tags), "Layers": layers, **changes}]
    files = dict(zip(layers, image.layers, strict=True))
    return {**files, config: image.config_data, "manifest.json": json.dumps(stored).encode()}


def layout(image: MadeImage = MADE, name: str | None = None, **blobs: bytes) -> dict[str, bytes]:
    """An OCI layout."""
    entry = {
        "digest": image.digest,
        "size": len(image.manifest),
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
    }
    if name is not None:
        entry["annotations"] = {"io.containerd.image.name": name}
    files = {f"blobs/sha256/{key[7:]}": data for key, data in image.blobs.items()}
    files[f"blobs/sha256/{image.digest[7:]}"] = image.manifest
    index = {"schemaVersion": 2, "manifests": [entry]}
    return {"oci-layout": b"{}", "index.json": json.dumps(index).encode(), **files}


class Bench:
    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.importer = Importer(cache, platform=PLATFORM, reserve_bytes=0)

    async def put(self, data: bytes, name: str | None = None) -> Image:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 10_000):
                yield data[at : at + 10_000]

        reference: Reference | None = None if name is None else parse_reference(name)
        return await self.importer.import_(PROJECT, reference, pieces())

    def left(self) -> list[str]:
        places = ("layers/*", "images/blobs/*", "images/records/*/*")
        return sorted(path.name for place in places for path in self.cache.glob(place))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("data", "name", "expected", "id"),
    [
        (archive(docker(MADE, "box:1")), None, "box:1", digest(MADE.config_data)),
        (archive(docker()), "box:2", "box:2", digest(MADE.config_data)),
        (gzip.compress(archive(docker(MADE, "r.example/box:1"))), None, "r.example/box:1", digest(MADE.config_data)),
        (archive(layout(name="docker.io/library/box:1")), None, "box:1", MADE.digest),
        (archive(layout()), "box:1", "box:1", MADE.digest),
        (archive(layout() | docker(MADE, "box:1")), "other:1", "other:1", MADE.digest),
    ],
    # By hand: a digest in an id would be another one in every process.
    ids=["docker", "renamed", "gzip", "oci", "named", "both"],
)
async def test_archives_are_stored(bench: Bench, data: bytes, name: str | None, expected: str, id: str) -> None:
    image = await bench.put(data, name)
    assert (image.name, image.digest, image.run.env) == (expected, id, {"A": "b"})
    assert [sorted(os.listdir(root)) for root in image.layers] == [["etc"], ["app"]]
    assert ImageStore(bench.cache).list(PROJECT) == [image]
    assert not list((bench.cache / "images/blobs").iterdir())


async def test_a_layer_that_comes_twice_is_a_link(bench: Bench) -> None:
    image = MadeImage([BASE, BASE])
    files = docker(image, "box:1")
    del files["1/layer.tar"]
    made = io.BytesIO(archive(files))
    with tarfile.open(fileobj=made, mode="a") as out:
        out.addfile(link("1/layer.tar", "../0/layer.tar")[0])
    assert len((await bench.put(made.getvalue())).layers) == 1


async def test_one_of_several_is_chosen_by_its_name(bench: Bench) -> None:
    other = MadeImage([APP])
    files = docker(MADE, "box:1") | docker(other, "box:2")
    both = json.loads(docker(MADE, "box:1")["manifest.json"]) + json.loads(docker(other, "box:2")["manifest.json"])
    # Both call their first layer the same.
    both[1]["Layers"] = ["other.tar"]
    data = archive(files | {"0/layer.tar": BASE, "other.tar": APP, "manifest.json": json.dumps(both).encode()})
    assert (await bench.put(data, "box:2")).digest == digest(other.config_data)
    for name in (None, "box:3"):
        with pytest.raises(NotFound, match="name one of them: box:1, box:2"):
            await bench.put(data, name)


def spoiled(files: dict[str, bytes], **changes: bytes) -> bytes:
    return archive(files | changes)


HOSTILE: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "no archive"),
    ("noise", b"\0\1\2" * 1000, "no archive"),
    ("an empty tar", bytes(1024), "neither index.json"),
    ("something else", archive({"a": b"b"}), "neither index.json"),
    ("dots", archive({"../x": b"", **docker()}), "leads out"),
    ("absolute", archive({"/x": b"", **docker()}), "leads out"),
    ("a device", tar(entry("null", tarfile.CHRTYPE)), "neither file"),
    ("too many files", archive({str(n): b"" for n in range(10_001)}), "more than 10000"),
    ("a link out", tar(link("manifest.json", "../../../etc/passwd")), "neither index.json"),
    ("no JSON", archive({"manifest.json": b"{"}), "not JSON"),
    ("a path out", archive(docker(Layers=["../../etc/passwd", "x"])), "no file"),
    ("an absolute path", archive(docker(Layers=["/etc/passwd", "x"])), "no file"),
    ("a config out", archive(docker(Config="../../etc/passwd")), "no file"),
    ("layers of no text", archive(docker(Layers=[1])), "damaged"),
    ("other bytes", archive(docker() | {"1/layer.tar": BASE}), "as its image says"),
    ("a large manifest", archive({"manifest.json": b" " * (5 << 20)}), "more than"),
    ("hostile layer", archive(docker(MadeImage([tar(link("a", "/"), entry("a/b"))]))), "through the link"),
    ("blob of other bytes", archive(layout() | {f"blobs/sha256/{digest(BASE)[7:]}": APP}), "should be"),
    ("manifest of other bytes", archive(layout() | {f"blobs/sha256/{MADE.digest[7:]}": b"{}"}), "should be"),
    ("bomb", gzip.compress(bytes(600 << 20), 1), "more than 512 MiB"),
]


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
async def test_hostile_archives_are_refused_and_leave_nothing(bench: Bench, data: bytes, reason: str) -> None:
    with pytest.raises(AtollError, match=reason) as caught:
        await bench.put(data, "box:1")
    assert isinstance(caught.value, InvalidArgument)
    assert bench.left() == []


async def test_what_a_killed_import_left_is_removed(bench: Bench) -> None:
    blobs = bench.cache / "images" / "blobs"
    blobs.mkdir(parents=True)
    for suffix in ("lock", "archive", "layer"):
        (blobs / f"import-dead.{suffix}").write_bytes(b"x")
        (blobs / f"import-alive.{suffix}").write_bytes(b"x")
    async with exclusive(blobs / "import-alive.lock"):
        await bench.put(archive(docker(MADE, "box:1")))
    assert sorted(path.name for path in blobs.iterdir()) == [
        f"import-alive.{end}" for end in ("archive", "layer", "lock")
    ]


async def test_an_archive_without_a_name_needs_one(bench: Bench) -> None:
    for data in (archive(docker()), archive(layout())):
        with pytest.raises(InvalidArgument, match="how it is to be called"):
            await bench.put(data)
    assert bench.left() == []


async def test_an_exported_image_comes_back(bench: Bench) -> None:
    image = await bench.put(archive(docker(MADE, "box:1")))
    os.utime(image.layers[1] / "app/run", ns=(5, 1_700_000_000_123_456_789))
    run = RunConfig({"A": "b"}, "app", "/srv", ("/app/run",), ("--x",))
    what = Exported(image.layers, run, Platform("linux", "amd64"), image.reference)
    data = b"".join(export(what))
    assert data == b"".join(export(what))
    other = Bench(bench.cache / "other")
    again = await other.put(data)
    assert (again.name, again.run) == ("box:1", run)
    assert (again.layers[0] / "etc/release").read_bytes() == b"1"
    assert (again.layers[1] / "app/run").stat().st_mtime_ns == 1_700_000_000_123_456_789
    # Docker reads the other list in it.
    names = json.loads(_read(data, "manifest.json"))
    layers = [_read(data, name) for name in names[0]["Layers"]]
    assert [digest(layer) for layer in layers] == json.loads(_read(data, names[0]["Config"]))["rootfs"]["diff_ids"]


def _read(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()
