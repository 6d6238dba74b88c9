"""Images: pulled step by step, listed, moved as archives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import AsyncDaemon, Config, ConnectionFailed, Internal, NotFound, Unavailable

IMAGE = {"name": "debian:12", "digest": "sha256:11", "size_bytes": 5}
STEPS = [{"phase": "resolve"}, {"phase": "download", "layer": "sha256:cc", "bytes": 5, "total_bytes": 10}]
PULL = "POST /v1/images/pull"
FAULT = {"error": {"code": "unavailable", "message": "the registry vanished"}}


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


async def test_a_pull_tells_its_steps(daemon: FakeDaemon, config: Config) -> None:
    daemon.answers[PULL] = [(200, {}, lines(*STEPS, {"image": IMAGE}))]
    told: list[Mapping[str, Any]] = []
    images = AsyncDaemon(config).images
    assert await images.pull("debian:12", username="me", password="secret", on_step=told.append) == IMAGE
    assert told == STEPS
    assert daemon.seen[-1].json() == {"reference": "debian:12", "username": "me", "password": "secret"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (lines(STEPS[0], FAULT), Unavailable),
        (lines(STEPS[0]), ConnectionFailed),
        (b"nonsense\n", Internal),
        (b"[]\n", Internal),
    ],
)
async def test_a_pull_that_fails_on_its_way(
    daemon: FakeDaemon, config: Config, body: bytes, error: type[Exception]
) -> None:
    daemon.answers[PULL] = [(200, {}, body)]
    with pytest.raises(error):
        await AsyncDaemon(config).images.pull("debian:12")


async def test_images_are_listed_and_forgotten(daemon: FakeDaemon, config: Config) -> None:
    images = AsyncDaemon(config).images
    daemon.machine |= {"/v1/images": {"items": [IMAGE]}, "/v1/images/registry.example/a/b:1": IMAGE}
    assert await images.list() == [IMAGE]
    assert await images.get("registry.example/a/b:1") == IMAGE
    daemon.answers["DELETE /v1/images/debian%3A12"] = [(204, {}, b"")]
    assert [await images.delete("debian:12") for _ in range(2)] == [True, False]
    with pytest.raises(NotFound):
        await images.get("..")
    daemon.answers["POST /v1/images/prune"] = [(200, {}, b'{"layers": ["aa"]}')]
    assert await images.prune() == ["aa"]


async def test_archives(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    images = AsyncDaemon(config).images
    source, target = tmp_path / "in.tar", tmp_path / "out.tar"
    source.write_bytes(b"x" * 3_000_000)
    daemon.answers["POST /v1/images/import"] = [(201, {}, json.dumps(IMAGE).encode())]
    sent: list[int] = []
    assert await images.import_(source, "box:1", on_progress=sent.append) == IMAGE
    assert (daemon.seen[-1].params, len(daemon.seen[-1].body), sent[-1]) == ({"name": "box:1"}, 3_000_000, 3_000_000)
    daemon.answers["GET /v1/images/base/archive"] = [(200, {}, b"y" * 2_000_000)]
    assert await images.export("base", target) == 2_000_000
    assert target.read_bytes() == b"y" * 2_000_000
    with pytest.raises(NotFound):
        await images.export("nope", tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tar", "out.tar"]
