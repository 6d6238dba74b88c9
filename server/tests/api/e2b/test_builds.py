from __future__ import annotations

from typing import Any

import pytest

from atolld.core.build import BaseKind, Failure, LogEntry
from atolld.core.sandbox import Resources
from atolld.images.registry import Credentials

from .conftest import E2b

RUN = [{"type": "RUN", "args": ["make"]}]
BASE = {"fromImage": "e2bdev/base", "steps": RUN}


async def requested(e2b: E2b, name: str = "box", **body: Any) -> tuple[str, str]:
    """Template and build of a new request."""
    response = await e2b.http.post("/v3/templates", json={"name": name, **body})
    assert response.status_code == 202, response.text
    return response.json()["templateID"], response.json()["buildID"]


async def started(e2b: E2b, name: str = "box", **body: Any) -> str:
    """The path of a build that was started with `body`."""
    template, build = await requested(e2b, name)
    response = await e2b.http.post(f"/v2/templates/{template}/builds/{build}", json=BASE | body)
    assert (response.status_code, response.content) == (202, b""), response.text
    return f"/templates/{template}/builds/{build}"


async def status(e2b: E2b, path: str, **query: Any) -> dict[str, Any]:
    response = await e2b.http.get(f"{path}/status", params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("path", ["/v3/templates", "/v2/templates"])
@pytest.mark.parametrize(
    ("body", "name", "tags"),
    [
        ({"name": "Box"}, "box", ["default"]),
        ({"name": "box:v1"}, "box", ["v1"]),
        ({"name": "default/box:v1", "tags": ["Stable", "v1"]}, "box", ["v1", "stable"]),
        ({"alias": "old-form", "teamID": "x", "more": [1]}, "old-form", ["default"]),
    ],
)
async def test_a_request(e2b: E2b, path: str, body: dict[str, Any], name: str, tags: list[str]) -> None:
    response = await e2b.http.post(path, json=body)
    told = response.json()
    ids = {"templateID": told.pop("templateID"), "buildID": told.pop("buildID")}
    assert response.status_code == 202 and len(ids["templateID"]) == 20 and len(ids["buildID"]) == 36
    assert told == {"public": False, "names": [f"default/{name}"], "tags": tags, "aliases": [name]}


async def test_a_second_request_is_a_build_of_the_same_template(e2b: E2b) -> None:
    first, second = await requested(e2b), await requested(e2b, "BOX:v2")
    assert first[0] == second[0] and first[1] != second[1]


@pytest.mark.parametrize(
    ("body", "bounds"),
    [
        ({}, Resources()),
        ({"cpuCount": 4, "memoryMB": 2048}, Resources(4.0, 2048)),
        ({"minFreeDiskMb": 0}, Resources()),
        ({"minFreeDiskMb": 20_000}, Resources(disk_mib=20_000)),
    ],
)
async def test_bounds_of_a_build(e2b: E2b, body: dict[str, Any], bounds: Resources) -> None:
    _, build = await requested(e2b, **body)
    stored = await e2b.api.world.registry.store.build(build)  # type: ignore[arg-type]
    assert stored is not None and (stored.spec.resources, stored.spec.runtime) == (bounds, "fake")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a b"},
        {"name": "other/box"},
        {"name": ":v1"},
        {"name": "box:"},
        {"name": "../box"},
        {"name": "box\nx"},
        {"name": "x" * 65},
        {"name": "x" * 10_000},
        {"name": "box", "tags": ["a b"]},
        {"name": "box", "tags": ["t"] * 65},
        {"name": "box", "cpuCount": 0},
        {"name": "box", "cpuCount": -1},
        {"name": "box", "cpuCount": 1000},
        {"name": "box", "memoryMB": 1},
        {"name": "box", "memoryMB": "much"},
    ],
)
async def test_bad_requests(e2b: E2b, body: dict[str, Any]) -> None:
    assert (await e2b.error("POST", "/v3/templates", json=body))[0] == 400
    assert (await e2b.http.get("/v2/templates")).json()[0]["names"] == ["base"]


async def test_it_waits_then_builds_then_is_ready(e2b: E2b) -> None:
    template, build = await requested(e2b)
    path = f"/templates/{template}/builds/{build}"
    assert await status(e2b, path) == {
        "templateID": template, "buildID": build, "status": "waiting", "logs": [], "logEntries": [],
    }  # fmt: skip
    await e2b.http.post(f"/v2{path}", json=BASE)
    assert (await status(e2b, path))["status"] == "building"
    await e2b.builds.finish(build)
    assert (await status(e2b, path))["status"] == "ready"


async def test_it_is_started_once(e2b: E2b) -> None:
    path = await started(e2b)
    assert await e2b.error("POST", f"/v2{path}", json=BASE) == (409, f"build {path[-36:]} is building")


async def test_a_failed_build_says_why(e2b: E2b) -> None:
    path = await started(e2b)
    await e2b.builds.fail(path[-36:], Failure("step 1 ended", "1", 7, ("first", "last")))
    told = await status(e2b, path)
    assert told["status"] == "error"
    lines = told["reason"].pop("logEntries")
    assert told["reason"] == {"message": "step 1 ended", "step": "1"}
    assert [(line["message"], line["level"], line["step"]) for line in lines] == [
        ("first", "error", "1"), ("last", "error", "1"),
    ]  # fmt: skip


async def test_a_build_that_failed_outside_of_a_step(e2b: E2b) -> None:
    path = await started(e2b)
    await e2b.builds.fail(path[-36:], Failure("it was cancelled"))
    # SDKs of 2.21 read the step as a number unless it is left out.
    assert (await status(e2b, path))["reason"] == {"message": "it was cancelled", "logEntries": []}


async def test_lines_have_stable_numbers(e2b: E2b) -> None:
    path = await started(e2b)
    levels = ["info", "debug", "warn", "odd"]
    e2b.builds.lines += [LogEntry(1000.0 + n, levels[n % 4], f"line {n}", "1") for n in range(150)]
    told = await status(e2b, path)
    assert len(told["logEntries"]) == 100
    assert told["logEntries"][0] == {
        "timestamp": "1970-01-01T00:16:40.000Z", "message": "line 0", "level": "info", "step": "1",
    }  # fmt: skip
    assert told["logEntries"][3]["level"] == "info"
    rest = await status(e2b, path, logsOffset=100)
    assert [line["message"] for line in rest["logEntries"]] == [f"line {n}" for n in range(100, 150)]
    assert (await status(e2b, path, logsOffset=1000))["logEntries"] == []
    two = await status(e2b, path, logsOffset=1, limit=2, level="warn")
    assert [line["message"] for line in two["logEntries"]] == ["line 6", "line 10"]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({}, list(range(100))),
        ({"limit": 2}, [0, 1]),
        ({"cursor": 1_003_000, "limit": 2}, [3, 4]),
        ({"direction": "backward", "limit": 2}, [1499, 1498]),
        ({"direction": "backward", "cursor": 1_002_500, "limit": 9}, [2, 1, 0]),
        ({"level": "error"}, []),
        ({"source": "persistent", "limit": 1}, [0]),
    ],
)
async def test_logs_by_time(e2b: E2b, query: dict[str, Any], numbers: list[int]) -> None:
    path = await started(e2b)
    e2b.builds.lines += [LogEntry(1000.0 + n, "info", str(n)) for n in range(1500)]
    told = (await e2b.http.get(f"{path}/logs", params=query)).json()
    assert [int(line["message"]) for line in told["logs"]] == numbers


@pytest.mark.parametrize(
    "query", [{"logsOffset": -1}, {"limit": 101}, {"level": "loud"}, {"logsOffset": "x"}, {"logsOffset": 2**40}]
)
async def test_bad_questions(e2b: E2b, query: dict[str, Any]) -> None:
    path = await started(e2b)
    assert (await e2b.error("GET", f"{path}/status", params=query))[0] == 400


@pytest.mark.parametrize("build", ["11111111-2222-3333-4444-555555555555", "x", "..%2F..", "%00"])
async def test_builds_that_are_not_there(e2b: E2b, build: str) -> None:
    template, _ = await requested(e2b)
    for end in ("status", "logs"):
        assert (await e2b.error("GET", f"/templates/{template}/builds/{build}/{end}"))[0] == 404
    assert (await e2b.error("POST", f"/v2/templates/{template}/builds/{build}", json=BASE))[0] == 404


async def test_the_machines_base(e2b: E2b) -> None:
    # The project may have built one of that name.
    mine = await started(e2b, "base")
    await e2b.builds.finish(mine[-36:])
    await started(e2b)
    await started(e2b, fromImage=None, fromTemplate="base")
    image, template = (plan.stages[0] for plan in e2b.builds.plans[1:])
    assert (image.base.kind, image.base.name, image.where.text) == (BaseKind.TEMPLATE, "t-base", "FROM e2bdev/base")
    assert (template.base.name, template.where.text) == (mine[-36:], "FROM TEMPLATE base")


async def test_a_template_is_gone_on_from_as_it_is_now(e2b: E2b) -> None:
    below = await started(e2b, "below", startCmd="serve", readyCmd="true")
    await e2b.builds.finish(below[-36:], workdir="/app")
    await started(e2b, fromImage=None, fromTemplate="default/Below")
    plan = e2b.builds.plans[-1]
    (stage,) = plan.stages
    assert stage.base.name == below[-36:] and (plan.start_command, plan.ready_command) == ("serve", "true")
    assert [step.path for step in stage.steps if hasattr(step, "path")] == ["/app"]


@pytest.mark.parametrize(
    ("registry", "credentials"),
    [
        (None, None),
        ({"type": "registry", "username": "me", "password": "secret"}, Credentials("me", "secret")),
        ({"type": "gcp", "serviceAccountJson": "{}"}, Credentials("_json_key", "{}")),
    ],
)
async def test_an_image_with_credentials(
    e2b: E2b, registry: dict[str, str] | None, credentials: Credentials | None
) -> None:
    await started(e2b, fromImage="registry.example.com/a/b:1", fromImageRegistry=registry, force=True)
    assert e2b.builds.credentials == [credentials]
    (plan,) = e2b.builds.plans
    assert plan.force and plan.stages[0].base.kind is BaseKind.IMAGE


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"fromImage": None}, 400, "exactly one of fromImage and fromTemplate"),
        ({"fromTemplate": "base"}, 400, "exactly one of fromImage and fromTemplate"),
        ({"fromImage": None, "fromTemplate": "never"}, 404, "template 'never' not found"),
        ({"fromImage": None, "fromTemplate": "box"}, 404, "no build of template 'box' is ready yet"),
        ({"fromImage": "Not An Image"}, 400, "is not a reference to an image"),
        ({"fromImageRegistry": {"type": "aws"}}, 501, "aws ecr get-login-password"),
        ({"fromImageRegistry": {"type": "x"}}, 400, "registry, gcp and aws are known"),
        ({"steps": [*RUN, {"type": "FLY"}]}, 400, "step 2 (FLY): 'FLY' is not known"),
        ({"steps": [{"args": ["x"]}]}, 400, "steps.0.type is required"),
        ({"steps": [{"type": "RUN", "args": [1]}]}, 400, "steps.0.args.0 is 1"),
        ({"steps": RUN * 10_000}, 400, "there are 10000 steps; at most 500 are allowed"),
        ({"startCmd": "a\0b"}, 400, "startCmd holds a NUL byte"),
    ],
)
async def test_what_cannot_be_built(e2b: E2b, body: dict[str, Any], code: int, said: str) -> None:
    template, build = await requested(e2b)
    path = f"/v2/templates/{template}/builds/{build}"
    told = await e2b.error("POST", path, json=BASE | body)
    assert told[0] == code and said in told[1]
    # It still waits for steps that are right.
    assert (await e2b.http.post(path, json=BASE)).status_code == 202


async def test_long_steps_are_read(e2b: E2b) -> None:
    path = await started(e2b, steps=[{"type": "RUN", "args": ["#" + "x" * 100_000]}] * 20)
    assert len(e2b.builds.plans[0].stages[0].steps) == 22
    assert (await e2b.error("POST", f"/v2{path}", json=BASE | {"startCmd": "x" * 5_000_000}))[0] == 413


async def test_builds_of_another_project(e2b: E2b) -> None:
    path = await started(e2b)
    headers = await e2b.key_of_another()
    assert (await e2b.error("GET", f"{path}/status", headers=headers))[0] == 404
    assert (await e2b.error("POST", f"/v2{path}", json=BASE, headers=headers))[0] == 404
