from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from atolld.foundation.ids import ProjectId
from atolld.images.imagestore import Image, ImageStore
from atolld.images.oci import Platform
from atolld.images.pull import Puller, PullProgress
from atolld.images.reference import parse_reference
from atolld.images.registry import Credentials
from atolld.images.templates import TemplateStore

from .fakeregistry import FakeRegistry
from .tars import PLATFORM, MadeImage, digest, entry, folder, link, tar

PROJECT = ProjectId("p-1")
BOX = parse_reference("r.example/box:1")
BASE = gzip.compress(tar(folder("etc"), entry("etc/release", data=b"1")))
APP = gzip.compress(tar(folder("app"), entry("app/run", data=os.urandom(9000))))


class EagerClock(ManualClock):
    async def sleep(self, seconds: float) -> None:
        self._now += seconds


class Bench:
    """A cache, a registry, and what was told."""

    def __init__(self, cache: Path, platform: Platform = PLATFORM, reserve_bytes: int = 0) -> None:
        self.cache = cache
        self.registry = FakeRegistry()
        self.told: list[PullProgress] = []
        self.puller = Puller(
            cache,
            clock=EagerClock(),
            platform=platform,
            registry=self.registry.open,
            reserve_bytes=reserve_bytes,
        )
        self.store = ImageStore(cache)

    async def pull(self, text: str = str(BOX), project: ProjectId = PROJECT, **more: object) -> Image:
        credentials = more.get("credentials")
        assert credentials is None or isinstance(credentials, Credentials)
        return await self.puller.pull(project, parse_reference(text), credentials, progress=self.told.append)

    def left(self) -> list[str]:
        """Layers, blobs and records."""
        places = ("layers/*", "images/blobs/*", "images/records/*/*")
        found = [path for place in places for path in self.cache.glob(place) if path.suffix != ".lock"]
        return sorted(str(path.relative_to(self.cache)) for path in found)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_an_image_is_pulled_and_kept(bench: Bench) -> None:
    made = bench.registry.add("1", MadeImage([BASE, APP], {"Env": ["A=b"], "User": "app", "Entrypoint": ["/app/run"]}))
    user = Credentials("me", "secret")
    image = await bench.pull(credentials=user)
    assert bench.registry.opened == [("r.example", user, False)]
    assert (image.name, image.digest, image.platform) == ("r.example/box:1", made.digest, "linux/amd64")
    assert (image.run.env, image.run.user, image.run.entrypoint) == ({"A": "b"}, "app", ("/app/run",))
    assert [sorted(os.listdir(root)) for root in image.layers] == [["etc"], ["app"]]
    assert [path.parent.name for path in image.layers] == [digest(gzip.decompress(one))[7:] for one in (BASE, APP)]
    assert bench.store.list(PROJECT) == [bench.store.get(PROJECT, BOX)] == [image]
    # Set-user-id programs of strangers are for no user of the host.
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in image.layers} == {0o700}
    assert {step.phase for step in bench.told} == {"resolve", "download", "unpack", "done"}
    # No compressed layer is kept, and no secret.
    assert not [path for path in bench.left() if "blobs" in path]
    assert all(b"secret" not in path.read_bytes() for path in bench.cache.rglob("*.json"))


async def test_layers_are_fetched_once(bench: Bench) -> None:
    bench.registry.add("1", MadeImage([BASE, APP]))
    bench.registry.add("2", MadeImage([gzip.compress(gzip.decompress(BASE), 1), BASE, APP]))
    await bench.pull()
    asked = list(bench.registry.asked)
    again = await bench.pull(project=ProjectId("p-2"))
    other = await bench.pull("r.example/box:2")
    assert bench.registry.asked == asked
    # overlayfs takes no directory twice.
    assert other.layers == again.layers
    assert [step.phase for step in bench.told[-4:]] == ["present", "present", "present", "done"]


async def test_each_project_has_its_own(bench: Bench) -> None:
    bench.registry.add("1", MadeImage([BASE]))
    await bench.pull()
    other = ProjectId("p-2")
    assert bench.store.list(other) == []
    with pytest.raises(NotFound, match="atoll image pull"):
        bench.store.get(other, BOX)
    with pytest.raises(NotFound):
        bench.store.delete(other, BOX)


async def test_the_image_for_this_machine_is_taken_from_an_index(bench: Bench) -> None:
    arm = bench.registry.add("arm", MadeImage([APP], platform=Platform("linux", "arm64", "v8")))
    amd = bench.registry.add("amd", MadeImage([BASE]))
    manifests = [
        {"digest": one.digest, "size": 1, "platform": {"os": "linux", "architecture": one.platform.architecture}}
        for one in (arm, amd)
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    bench.registry.manifests |= {"1": index, digest(index): index}
    assert (await bench.pull()).digest == amd.digest
    assert (await bench.pull(f"r.example/box@{digest(index)}")).digest == amd.digest
    with pytest.raises(FailedPrecondition, match="made for linux/arm64"):
        await bench.pull("r.example/box:arm")
    missing = json.dumps({"schemaVersion": 2, "manifests": manifests[:1]}).encode()
    bench.registry.manifests["1"] = missing
    with pytest.raises(FailedPrecondition, match="only for: linux/arm64"):
        await bench.pull()


def other_bytes(bench: Bench, image: MadeImage, of: str) -> None:
    bench.registry.blobs[of] = b"!" + bench.registry.blobs[of][1:]


HOSTILE: dict[str, tuple[Callable[[Bench, MadeImage], None], str]] = {
    "layer of other bytes": (lambda bench, image: other_bytes(bench, image, digest(APP)), "other bytes"),
    "config of other bytes": (lambda bench, image: other_bytes(bench, image, digest(image.config_data)), "other bytes"),
    "longer layer": (lambda bench, image: bench.registry.blobs.update({digest(APP): APP + b"x"}), "more than the"),
    "manifest under a wrong digest": (lambda bench, image: bench.registry.manifests.update({"1": b"{}"}), "version"),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_what_has_not_its_digest_is_refused_and_leaves_nothing(bench: Bench, case: str) -> None:
    spoil, reason = HOSTILE[case]
    spoil(bench, bench.registry.add("1", MadeImage([BASE, APP])))
    with pytest.raises(InvalidArgument, match=reason):
        await bench.pull()
    assert bench.left() == []


async def test_a_digest_that_was_asked_for_is_compared(bench: Bench) -> None:
    wanted = "sha256:" + "0" * 64
    bench.registry.manifests[wanted] = MadeImage([BASE]).manifest
    with pytest.raises(InvalidArgument, match="instead of sha256:0000"):
        await bench.pull(f"r.example/box@{wanted}")
    index = json.dumps({"schemaVersion": 2, "manifests": [{"digest": wanted, "size": 1}]}).encode()
    bench.registry.manifests["1"] = index
    with pytest.raises(AtollError):
        await bench.pull()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (MadeImage([BASE, gzip.compress(tar(link("a", "/"), entry("a/b")))]), "through the link"),
        (MadeImage([BASE, APP], diff_ids=[digest(gzip.decompress(BASE)), "sha256:" + "1" * 64]), "as its image says"),
        (MadeImage([BASE, APP], diff_ids=[digest(BASE)]), "2 layers"),
        (MadeImage([]), "0 layers"),
        (MadeImage([BASE, gzip.compress(bytes(600 << 20), 1)]), "more than 512 MiB unpacked"),
    ],
)
async def test_hostile_images_are_refused_and_leave_nothing(bench: Bench, image: MadeImage, reason: str) -> None:
    bench.registry.add("1", image)
    with pytest.raises(InvalidArgument, match=reason):
        await bench.pull()
    assert bench.left() == []


async def test_a_refused_image_takes_no_layer_of_another_with_it(bench: Bench) -> None:
    bench.registry.add("1", MadeImage([BASE]))
    bench.registry.add("2", MadeImage([BASE, b"no tar"]))
    image = await bench.pull()
    with pytest.raises(InvalidArgument):
        await bench.pull("r.example/box:2")
    assert bench.store.list(PROJECT) == [image]


async def test_a_registry_that_vanishes_is_gone_on_from(bench: Bench) -> None:
    bench.registry.add("1", MadeImage([BASE, APP]))
    bench.registry.broken = {digest(APP)}
    with pytest.raises(Unavailable, match="vanished"):
        await bench.pull()
    assert bench.store.list(PROJECT) == []
    bench.registry.broken = set()
    bench.registry.asked = []
    again = Bench(bench.cache)
    again.registry = bench.registry
    again.puller._open = bench.registry.open
    await again.pull()
    # The lower layer was whole.
    assert bench.registry.asked == [digest(APP)]


async def test_no_room_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    bench = Bench(tmp_path, reserve_bytes=1 << 62)
    bench.registry.add("1", MadeImage([BASE]))
    with pytest.raises(Capacity, match="do not fit"):
        await bench.pull()
    assert (bench.registry.asked, bench.left()) == ([], [])


async def test_a_layer_over_others_is_known_by_its_whole_chain(bench: Bench) -> None:
    lower = [gzip.compress(tar(folder("tmp", mode=mode))) for mode in (0o1777, 0o700)]
    upper = gzip.compress(tar(entry("tmp/file", data=b"x")))
    modes = []
    for tag, below in zip(("1", "2"), lower, strict=True):
        bench.registry.add(tag, MadeImage([below, upper]))
        image = await bench.pull(f"r.example/box:{tag}")
        modes.append((image.layers[1] / "tmp").stat().st_mode & 0o7777)
    assert modes == [0o1777, 0o700]


async def test_pruning_keeps_what_images_need(bench: Bench) -> None:
    bench.registry.add("1", MadeImage([BASE]))
    bench.registry.add("2", MadeImage([APP]))
    await bench.pull()
    await bench.pull("r.example/box:2")
    templates = TemplateStore(bench.cache)
    assert await templates.prune() == ()
    bench.store.delete(PROJECT, BOX)
    assert await templates.prune() == (digest(gzip.decompress(BASE))[7:],)
    assert [image.name for image in bench.store.list(PROJECT)] == ["r.example/box:2"]
    assert not list((bench.cache / "images/blobs").iterdir())


def command(*words: str | Path) -> None:
    subprocess.run(words, check=True)


@pytest.mark.real
async def test_a_disk_that_fills_up_keeps_what_is_whole(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    large = tar(entry("large", data=os.urandom(6 << 20)))
    command("mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", disk)
    try:
        bench = Bench(disk)
        bench.registry.add("1", MadeImage([BASE, large]))
        bench.puller._check_room = lambda parts: None  # type: ignore[method-assign]
        with pytest.raises(Capacity, match="became full"):
            await bench.pull()
        assert digest(gzip.decompress(BASE))[7:] in os.listdir(disk / "layers")
        assert not [path for path in bench.left() if ".building" in path or path.endswith(".part")]
        command("mount", "-o", "remount,size=30m", disk)
        asked = len(bench.registry.asked)
        image = await bench.pull()
        assert (image.layers[1] / "large").stat().st_size == 6 << 20
        # The blob had come whole.
        assert len(bench.registry.asked) == asked
    finally:
        command("umount", disk)
