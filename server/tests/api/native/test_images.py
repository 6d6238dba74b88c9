from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from atolld.api.answers import LINES
from atolld.api.native import images
from atolld.control.images import Images
from atolld.foundation.errors import NotFound, Unavailable
from atolld.foundation.ids import ProjectId
from atolld.images.reference import parse_reference
from atolld.images.registry import Credentials

from ..conftest import Api  # noqa: TID252
from ..fakeimages import STEPS, FakeImages  # noqa: TID252

NAME = "registry.example%2Fowner%2Fapp%3A1"
VIEW = {
    "name": "registry.example/owner/app:1",
    "digest": "sha256:" + "1" * 64,
    "platform": "linux/amd64",
    "pulled_at": "1970-01-01T00:00:01.000Z",
    "size_bytes": 5,
    "layers": ["aa", "bb"],
    "user": "1000",
    "workdir": "/app",
    "envs": {"A": "b"},
    "entrypoint": ["/run"],
    "cmd": ["--x"],
}


async def lines(api: Api, **body: Any) -> list[dict[str, Any]]:
    response = await api.http.post(images.PULL_PATH, json=body)
    assert (response.status_code, response.headers["content-type"]) == (200, LINES), response.text
    return [json.loads(line) for line in response.text.splitlines()]


async def test_a_pull_tells_its_steps_and_the_image(api: Api) -> None:
    got = await lines(api, reference="registry.example/owner/app:1", username="me", password="secret", insecure=True)
    assert got == [
        {"phase": "resolve"},
        {"phase": "download", "layer": "sha256:cc", "bytes": 5, "total_bytes": 10},
        {"phase": "done"},
        {"image": {**VIEW, "pulled_at": got[-1]["image"]["pulled_at"]}},
    ]
    assert api.images.asked == [(parse_reference("registry.example/owner/app:1"), Credentials("me", "secret"), True)]


async def test_an_image_is_listed_got_and_forgotten(api: Api) -> None:
    await lines(api, reference="registry.example/owner/app:1")
    listed = (await api.http.get("/v1/images")).json()["items"]
    assert [image["name"] for image in listed] == ["registry.example/owner/app:1"]
    assert (await api.http.get(f"/v1/images/{NAME}")).json() == listed[0]
    assert (await api.http.delete(f"/v1/images/{NAME}")).status_code == 204
    assert (await api.error("DELETE", f"/v1/images/{NAME}"))[:2] == (404, "not_found")
    assert (await api.error("GET", "/v1/images/A%20b"))[:2] == (400, "invalid_argument")
    assert (await api.http.post("/v1/images/prune")).json() == {"layers": ["aa"]}


async def test_a_sandbox_starts_from_an_image_by_its_name(api: Api) -> None:
    api.world.templates._images = api.services.images
    assert (
        await api.error("POST", "/v1/sandboxes", json={"template": "registry.example/owner/app:1", "runtime": "fake"})
    )[:2] == (
        404,
        "not_found",
    )
    await lines(api, reference="registry.example/owner/app:1")
    made = await api.create(template="registry.example/owner/app:1", envs={"C": "d"})
    assert made["template"] == "registry.example/owner/app:1"
    assert api.world.node.machine.sandboxes[made["id"]].envs == {"A": "b", "C": "d"}


@pytest.mark.parametrize(
    ("steps", "fault", "expected"),
    [(0, NotFound("no such image"), (404, "not_found")), (0, Unavailable("stalls"), (503, "unavailable"))],
)
async def test_what_fails_at_once_has_a_status(api: Api, steps: int, fault: Any, expected: tuple[int, str]) -> None:
    api.images.steps, api.images.fault = steps, fault
    assert (await api.error("POST", images.PULL_PATH, json={"reference": "a"}))[:2] == expected


async def test_what_fails_later_is_the_last_line(api: Api) -> None:
    api.images.fault = Unavailable("the registry vanished")
    got = await lines(api, reference="a")
    assert (len(got), got[-1]["error"]["code"], got[-1]["error"]["message"]) == (
        len(STEPS) + 1,
        "unavailable",
        "the registry vanished",
    )


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "reference"),
        ({"reference": "A b"}, "not a reference"),
        ({"reference": "a", "username": "me"}, "belong together"),
        ({"reference": "a", "unknown": 1}, "unknown"),
        ({"reference": "a", "insecure": "yes"}, "insecure"),
    ],
)
async def test_bad_requests(api: Api, body: dict[str, Any], word: str) -> None:
    status, code, message = await api.error("POST", images.PULL_PATH, json=body)
    assert (status, code) == (400, "invalid_argument")
    assert word in message
    assert (await api.error("POST", images.PULL_PATH, content=b"x" * 70_000))[0] == 413
    assert api.images.asked == []


async def test_an_archive_goes_in_and_out(api: Api) -> None:
    response = await api.http.post(images.IMPORT_PATH, params={"name": "box:2"}, content=b"x" * 3_000_000)
    assert (response.status_code, response.json()["name"]) == (201, "box:2")
    assert api.images.asked == [("import", parse_reference("box:2"), 3_000_000)]
    assert (await api.error("POST", images.IMPORT_PATH, content=b"bad"))[1] == "invalid_argument"
    await lines(api, reference="box:2")
    got = await api.http.get("/v1/images/box%3A2/archive")
    assert (got.status_code, got.content) == (200, b"head" + b"x" * 300_000)
    assert (await api.error("GET", "/v1/images/nope/archive"))[:2] == (404, "not_found")


async def test_who_stops_to_listen_ends_the_pull() -> None:
    engine = FakeImages(hangs=True)
    steps = Images(engine).pull(ProjectId("p"), "a")
    assert [await anext(steps) for _ in STEPS] == list(STEPS)
    waiting = asyncio.get_running_loop().create_task(_next(steps))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert engine.cancelled


async def _next(steps: AsyncIterator[object]) -> object:
    return await anext(steps)


async def test_a_node_without_images_says_so(api: Api) -> None:
    api.services.images._engine = None
    assert (await api.error("GET", "/v1/images"))[:2] == (501, "unimplemented")
