"""Builds over the API, on a machine in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atolld.api.native import builds

from ..conftest import Api  # noqa: TID252

STEPS = {"base": {"image": "debian:12"}, "steps": [{"run": "echo hi"}]}


async def requested(api: Api, **body: Any) -> str:
    response = await api.http.post("/v1/templates", json={"name": "app", **body})
    assert response.status_code == 201, response.text
    made = response.json()
    return f"/v1/templates/{made['template_id']}/builds/{made['build_id']}"


async def lines(api: Api, path: str) -> list[dict[str, Any]]:
    response = await api.http.get(path)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson"), response.text
    return [json.loads(line) for line in response.text.splitlines()]


async def ended(api: Api, path: str) -> dict[str, Any]:
    await lines(api, f"{path}/logs?follow=true")
    while (build := (await api.http.get(path)).json())["state"] == "building":
        pass
    return dict(build)


async def test_from_request_to_ready(api: Api) -> None:
    path = await requested(api, tags=["v1"], cpu=2, memory_mib=1024, public=True)
    waiting = (await api.http.get(path)).json()
    assert (waiting["state"], waiting["cpu"], waiting["memory_mib"], waiting["tags"]) == ("waiting", 2, 1024, ["v1"])
    started = await api.http.post(path, json=STEPS)
    assert (started.status_code, started.json()["state"]) == (202, "building")
    build = await ended(api, path)
    assert build["state"] == "ready"
    assert len(build["layers"]) == 2 and build["failure"] is None
    assert api.builds.sandboxes.ran[0].argv[-1] == "echo hi"


async def test_a_tag_in_the_name_is_one_of_the_tags(api: Api) -> None:
    path = await requested(api, name="app:v2", tags=["v1", "v2"])
    assert (await api.http.get(path)).json()["tags"] == ["v2", "v1"]


@pytest.mark.parametrize("name", ["", ":x", "x:", "A", "a/b", "../x", "a\nb", "x" * 65])
async def test_names_that_are_none(api: Api, name: str) -> None:
    assert (await api.error("POST", "/v1/templates", json={"name": name}))[:2] == (400, "invalid_argument")


async def test_a_failed_step_is_told(api: Api) -> None:
    api.builds.sandboxes.exits["boom"] = 4
    api.builds.sandboxes.outputs["boom"] = b"it broke\n"
    path = await requested(api)
    await api.http.post(path, json={"dockerfile": "FROM debian:12\nRUN boom\n"})
    build = await ended(api, path)
    assert build["state"] == "failed"
    failure = build["failure"]
    assert (failure["step"], failure["exit_code"], failure["last_lines"]) == ("1", 4, ["it broke"])
    assert "line 2" in failure["message"]


async def test_a_log_has_numbers_that_stay(api: Api) -> None:
    path = await requested(api)
    await api.http.post(path, json=STEPS)
    followed = await lines(api, f"{path}/logs?follow=true")
    assert [line["step"] for line in followed] == ["base", "base", "1", "finalize"]
    assert await lines(api, f"{path}/logs") == followed
    assert await lines(api, f"{path}/logs?offset=2") == followed[2:]
    assert await lines(api, f"{path}/logs?offset=2&follow=true") == followed[2:]
    assert (await api.error("GET", f"{path}/logs?offset=-1"))[0] == 400


async def test_a_build_is_cancelled(api: Api) -> None:
    path = await requested(api)
    assert (await api.http.delete(path)).status_code == 204
    assert (await api.http.get(path)).json()["failure"]["message"] == "it was cancelled"
    assert (await api.error("POST", path, json=STEPS))[:2] == (409, "failed_precondition")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/templates/t0123456789abcdefghi/builds/0f8fad5b-d9cb-469f-a165-70867728950e",
        "/v1/templates/app/builds/latest",
        "/v1/templates/t0123456789abcdefghi/builds/..%2F..",
    ],
    ids=["unknown", "names", "dots"],
)
async def test_what_is_not_there(api: Api, path: str) -> None:
    for method, end in (("GET", ""), ("DELETE", ""), ("GET", "/logs")):
        assert (await api.error(method, path + end))[:2] == (404, "not_found")
    assert (await api.error("POST", path, json=STEPS))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"dockerfile": "FROM x", **STEPS},
        {"dockerfile": "RUN x"},
        {"dockerfile": "FROM debian\nADD https://example.com/x /"},
        {**STEPS, "secrets": {"s": "a\0b"}},
        {**STEPS, "registry": {"username": "x"}},
        {**STEPS, "unknown": 1},
        {"base": {"image": "debian"}, "steps": [{"run": "a", "copy": "b"}]},
    ],
)
async def test_bodies_that_say_nothing_or_too_much(api: Api, body: dict[str, Any]) -> None:
    path = await requested(api)
    assert (await api.error("POST", path, json=body))[:2] == (400, "invalid_argument")
    assert (await api.http.get(path)).json()["state"] == "waiting"


async def test_a_long_dockerfile_is_read_and_a_longer_one_is_not(api: Api) -> None:
    path = await requested(api)
    text = "FROM debian:12\n" + "# a comment\n" * 20_000
    assert (await api.http.post(path, json={"dockerfile": text})).status_code == 202
    await ended(api, path)
    path = await requested(api)
    status, _, message = await api.error("POST", path, content=b'{"dockerfile": "' + b"#" * (9 << 20) + b'"}')
    assert status == 413 and "bytes" in message


async def test_files_are_uploaded_under_a_name(api: Api) -> None:
    assert (await api.http.get("/v1/build-files/abc")).json() == {"present": False}
    response = await api.http.put("/v1/build-files/abc", content=b"a tar")
    assert (response.status_code, response.json()) == (201, {"present": True})
    assert api.builds.machine.files == {"abc": "a tar"}


async def image(api: Api, **body: Any) -> list[dict[str, Any]]:
    response = await api.http.post(builds.IMAGE_PATH, json={**STEPS, **body})
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


async def test_an_image_defined_where_it_is_used(api: Api) -> None:
    first, second = await image(api), await image(api)
    assert [line["log"]["message"] for line in first[:-1]][-1].endswith("RUN echo hi")
    assert second[-2]["log"]["message"].startswith("CACHED")
    assert first[-1]["template"] == second[-1]["template"] and first[-1]["build"] == second[-1]["build"]
    assert len(api.builds.sandboxes.opened) == 1


async def test_an_image_that_fails_ends_with_its_error(api: Api) -> None:
    api.builds.sandboxes.exits["echo hi"] = 1
    last = (await image(api))[-1]
    assert last["error"]["code"] == "failed_precondition"
    assert last["error"]["details"]["step"] == "1" and last["error"]["details"]["exit_code"] == 1


async def test_a_template_that_comes_with_atoll(api: Api) -> None:
    path = "/v1/templates/builtin/code-interpreter-v1"
    for _ in range(2):
        response = await api.http.post(path, json={"languages": ["extra"]})
        assert response.status_code == 202, response.text
        made = response.json()
        assert made["name"] == "code-interpreter-v1"
        build = await ended(api, f"/v1/templates/{made['template_id']}/builds/{made['build_id']}")
        assert build["state"] == "ready"
    assert len(api.builds.machine.files) == 1
    assert [one.argv[-1][:14] for one in api.builds.sandboxes.ran] == ["install extra "]
    assert (await api.error("POST", path, json={"languages": ["cobol"]}))[:2] == (400, "invalid_argument")
    assert (await api.error("POST", "/v1/templates/builtin/other", json={}))[:2] == (404, "not_found")


async def test_keys_are_needed(api: Api) -> None:
    path = await requested(api)
    for method, where in (
        ("POST", "/v1/templates"),
        ("POST", path),
        ("GET", f"{path}/logs"),
        ("PUT", "/v1/build-files/x"),
        ("POST", builds.IMAGE_PATH),
    ):
        assert (await api.error(method, where, headers={"x-api-key": ""}, json={}))[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "is_stream"),
    [
        ("PUT", "/v1/build-files/x", True),
        ("GET", "/v1/build-files/x", False),
        ("GET", "/v1/templates/t/builds/b/logs", True),
        ("GET", "/v1/templates/t/builds/b", False),
        ("POST", "/v1/templates/t/builds/b", False),
    ],
)
def test_what_is_not_read_ahead(method: str, path: str, is_stream: bool) -> None:
    assert builds.is_build_stream(method, path) is is_stream
