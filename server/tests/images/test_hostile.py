"""Pulls from registries, and of images, that mean harm: refused soon, in little memory, and nothing is left of them.

Over real HTTP, and with the real bounds but those of time, which are made short.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import io
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from atolld.foundation.aio import spawn
from atolld.foundation.errors import AtollError, InvalidArgument, PermissionDenied, Unavailable
from atolld.foundation.ids import ProjectId
from atolld.images import blobs, decompress, registry
from atolld.images.decompress import LayerStream
from atolld.images.importing import Importer
from atolld.images.oci import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES
from atolld.images.pull import Puller, PullProgress
from atolld.images.reference import parse_reference
from atolld.images.unpack import Unpacked, unpack

from .hostileregistry import HostileRegistry, answer, endless, redirect, trickle
from .tars import PLATFORM, MadeImage, digest, entry, folder, tar

PROJECT = ProjectId("p-1")
PATIENCE_S = 20
# What one more process needs for itself by far, and nothing that grows with what is sent.
MOST_MIB = 96
GOOD = MadeImage([gzip.compress(tar(folder("etc"), entry("etc/release", data=b"1")))])
TOKENS = 'Bearer realm="http://{host}/token",service="r"'


class Scene:
    """A cache, a puller into it, a registry, and what a case does to it."""

    def __init__(self, cache: Path, server: HostileRegistry) -> None:
        self.cache = cache
        self.server = server
        self.puller = Puller(cache, platform=PLATFORM, reserve_bytes=0)
        self.unpacking = asyncio.Event()

    def _tell(self, step: PullProgress) -> None:
        if step.phase == "unpack":
            self.unpacking.set()

    async def pull(self, tag: str = "1") -> str:
        reference = parse_reference(f"{self.server.host}/box:{tag}")
        return (await self.puller.pull(PROJECT, reference, progress=self._tell)).name

    def left(self) -> list[str]:
        """All files of the cache but locks."""
        return sorted(
            str(path.relative_to(self.cache))
            for path in self.cache.rglob("*")
            if not path.is_dir() and path.suffix != ".lock"
        )


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with HostileRegistry().open() as server:
        yield Scene(tmp_path, server)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ANSWER_TIMEOUT_S", 2.0)
    monkeypatch.setattr(registry, "READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr(blobs, "WINDOW_S", 0.2)
    monkeypatch.setattr(blobs, "STALL_S", 0.1)
    monkeypatch.setattr(blobs, "TRIES", 1)


def layer_path(image: MadeImage) -> str:
    return f"blobs/{digest(image.layers[0])}"


def config_path(image: MadeImage) -> str:
    return f"blobs/{digest(image.config_data)}"


def headers_that_never_end(scene: Scene) -> None:
    scene.server.say[layer_path(GOOD)] = trickle(b"HTTP/1.1 200 OK\r\nx: ")


def tokens_that_never_come(scene: Scene) -> None:
    """Asked for only when the blob is: the manifest is given without."""
    challenge = TOKENS.format(host=scene.server.host)
    scene.server.say[layer_path(GOOD)] = answer(b"", "401 Unauthorized", www_authenticate=challenge)
    scene.server.say["/token"] = trickle()


def redirects(to: str) -> Callable[[Scene], None]:
    def spoil(scene: Scene) -> None:
        scene.server.say[layer_path(GOOD)] = redirect(to.format(host=scene.server.host, path=layer_path(GOOD)))

    return spoil


def says(end: Callable[[MadeImage], str], what: Callable[[], object]) -> Callable[[Scene], None]:
    def spoil(scene: Scene) -> None:
        scene.server.say[end(GOOD)] = what()  # type: ignore[assignment]

    return spoil


def manifest(_: MadeImage) -> str:
    return "manifests/1"


# Values that take much more memory than text.
SMALL_VALUES = b'{"schemaVersion":2,"a":[' + b"{}," * 1_300_000 + b"{}]}"
NESTED = b"[" * 3_000_000

REGISTRIES: dict[str, tuple[Callable[[Scene], None], type[AtollError], str]] = {
    "a manifest of 100 MB and more": (says(manifest, endless), InvalidArgument, f"more than {MAX_MANIFEST_BYTES}"),
    "a config of 100 MB and more": (says(config_path, endless), InvalidArgument, f"more than {MAX_CONFIG_BYTES}"),
    "a manifest of small values": (says(manifest, lambda: answer(SMALL_VALUES)), InvalidArgument, "values"),
    "a manifest of brackets": (says(manifest, lambda: answer(NESTED)), InvalidArgument, "values"),
    "a manifest that trickles": (says(manifest, trickle), Unavailable, "stalls"),
    "a config that trickles": (says(config_path, trickle), Unavailable, "stalls"),
    "a layer that trickles": (says(layer_path, trickle), Unavailable, "stalls|broke"),
    "a layer without an end": (says(layer_path, endless), InvalidArgument, "more than the"),
    "a layer of other bytes": (
        says(layer_path, lambda: answer(bytes(len(GOOD.layers[0])))),
        InvalidArgument,
        "other bytes",
    ),
    "a config of other bytes": (
        says(config_path, lambda: answer(b" " + GOOD.config_data[1:])),
        InvalidArgument,
        "other bytes",
    ),
    "headers without an end": (headers_that_never_end, Unavailable, "stalls|reached|broke"),
    "a token without an end": (tokens_that_never_come, Unavailable, "stalls"),
    "redirects in a circle": (redirects("http://{host}/v2/box/{path}"), Unavailable, "more than 5 times"),
    "a redirect to metadata": (redirects("http://169.254.169.254/latest"), PermissionDenied, "169.254|may not|addr"),
    "a redirect to a file": (redirects("file:///etc/passwd"), PermissionDenied, "not secure"),
}


@pytest.mark.parametrize("case", REGISTRIES)
async def test_registries(scene: Scene, case: str) -> None:
    spoil, error, reason = REGISTRIES[case]
    scene.server.serve("1", GOOD)
    spoil(scene)
    with bounded(), pytest.raises(error, match=reason):
        await scene.pull()
    assert [path for path in scene.left() if not path.endswith(".part")] == []
    # The machine's pulls go on: the same layer, served properly.
    scene.server.serve("2", GOOD)
    await scene.pull("2")
    assert not [path for path in scene.left() if path.startswith("images/blobs")]


def files(count: int, names: str = "f{}") -> bytes:
    """A compressed tar of so many empty files. Made of equal parts of 10,000, which is quick."""
    made = io.BytesIO()
    for number in range(10_000):
        made.write(entry(names.format(number))[0].tobuf())
    return gzip.compress(made.getvalue(), 1) * (count // 10_000) + gzip.compress(bytes(1024))


def image_of(layer: bytes) -> MadeImage:
    return MadeImage([layer], diff_ids=["sha256:" + "1" * 64])


def header_bomb() -> bytes:
    """Extended headers just below their bound, each to be taken apart: little to read, much to do."""
    info = entry("f")[0]
    info.pax_headers = {f"user.{number}": "v" for number in range(60_000)}
    return gzip.compress(info.tobuf(), 1) * 2000


LAYERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "ten million files": (lambda: files(10_000_000), "takes longer than|entries"),
    "ten million directories": (lambda: files(10_000_000, "{}/a/b/c"), "takes longer than|entries|directories"),
    "a bomb of zeros": (lambda: gzip.compress(bytes(64 << 20), 9) * 64, "unpacked"),
    "a bomb in one file": (
        lambda: (
            gzip.compress(entry("f", size=4 << 30)[0].tobuf() + bytes(64 << 20), 9)
            + gzip.compress(bytes(64 << 20)) * 63
        ),
        "unpacked|takes longer than",
    ),
    "a bomb after the end of the tar": (
        lambda: gzip.compress(tar(entry("f"))) + gzip.compress(bytes(64 << 20)) * 64,
        "unpacked",
    ),
    "headers that take long": (header_bomb, "takes longer than|headers"),
    "gzip of nothing, again and again": (lambda: gzip.compress(b"") * 1_000_000, "empty gzip streams"),
}


@pytest.mark.parametrize("case", LAYERS)
async def test_layers(scene: Scene, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, reason = LAYERS[case]
    if "takes longer" in reason:
        # Only there: on a busy machine a second is short for the others.
        monkeypatch.setattr(decompress, "LEAST_S", 1.0)
        monkeypatch.setattr(decompress, "BYTES_PER_S", 1 << 40)
    # As a million takes a minute.
    monkeypatch.setattr("atolld.images.imagelayers.unpack", functools.partial(unpack, max_entries=50_000))
    image = image_of(make())
    scene.server.serve("1", image)
    with bounded(), pytest.raises(InvalidArgument, match=reason):
        await scene.pull()
    assert scene.left() == []

    async def pieces() -> AsyncIterator[bytes]:
        yield image.layers[0]

    with bounded(), pytest.raises(InvalidArgument):
        await Importer(scene.cache, platform=PLATFORM, reserve_bytes=0).import_(PROJECT, None, pieces())
    assert scene.left() == []


async def test_nobody_waits_for_a_layer_that_takes_long(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompress, "LEAST_S", 6.0)
    monkeypatch.setattr(decompress, "BYTES_PER_S", 1 << 40)
    scene.server.serve("1", image_of(files(10_000_000)))
    scene.server.serve("2", GOOD)
    slow = spawn(scene.pull(), name="slow", report=False)
    await scene.unpacking.wait()
    begun = time.monotonic()
    await scene.pull("2")
    assert not slow.done() and time.monotonic() - begun < 4
    with pytest.raises(InvalidArgument, match="takes longer than 6 s"):
        await slow
    assert len(list((scene.cache / "layers").iterdir())) == 1


async def test_the_same_layer_is_unpacked_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = []

    def count(stream: LayerStream, root: Path, *args: Any, **more: Any) -> Unpacked:
        unpacked.append(root)
        return unpack(stream, root, *args, **more)

    monkeypatch.setattr("atolld.images.imagelayers.unpack", count)
    for tag in ("1", "2", "3"):
        scene.server.serve(tag, GOOD)
    await asyncio.gather(*map(scene.pull, ("1", "2", "3")))
    assert len(unpacked) == 1


class bounded:
    """What is done meanwhile takes little time and memory."""

    def __enter__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._begun = time.monotonic()
        self._before = _memory("VmRSS")

    def __exit__(self, *_: object) -> None:
        seconds, mib = time.monotonic() - self._begun, (_memory("VmHWM") - self._before) / 1024
        assert seconds < PATIENCE_S, f"it took {seconds:.1f} s"
        assert mib < MOST_MIB, f"it took {mib:.0f} MiB"


def _memory(name: str) -> int:
    """In KiB."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])
