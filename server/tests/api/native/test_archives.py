from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from atolld.api import streams
from atolld.api.native import archives
from atolld.foundation.ids import SnapshotId

from ..conftest import Api  # noqa: TID252
from ..fakes import SNAPSHOT  # noqa: TID252

IMPORT = "/v1/snapshots/import"


async def test_an_archive_is_a_stream_of_bytes(api: Api) -> None:
    api.snapshots.all += [SNAPSHOT, replace(SNAPSHOT, id=SnapshotId("s" + "2" * 19), name="a/archive")]
    for name in (SNAPSHOT.id, "team%2Fbox%3Av1", "a%2Farchive"):
        response = await api.http.get(f"/v1/snapshots/{name}/archive")
        assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
        assert response.content == b"head" + b"x" * 300_000
    # A snapshot whose name ends like that is none.
    assert (await api.http.get("/v1/snapshots/a%2Farchive")).json()["name"] == "a/archive"


async def test_what_cannot_be_exported_is_told_with_a_status(api: Api) -> None:
    assert (await api.error("GET", "/v1/snapshots/nope/archive"))[:2] == (404, "not_found")
    api.snapshots.all.append(replace(SNAPSHOT, saved=None))
    assert (await api.error("GET", f"/v1/snapshots/{SNAPSHOT.id}/archive"))[1:] == (
        "failed_precondition",
        "it is damaged",
    )


@pytest.mark.parametrize("name", [None, "team/box:v2"])
async def test_an_import_may_be_larger_than_any_other_body(api: Api, name: str | None) -> None:
    params = {} if name is None else {"name": name}
    response = await api.http.post(IMPORT, params=params, content=b"x" * 3_000_000)
    assert (response.status_code, response.json()["name"]) == (201, name)
    assert api.snapshots.asked == [("import", name, 3_000_000)]
    assert "token" not in response.text


async def test_an_import_that_is_refused_is_not_read_to_its_end(api: Api) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"untrusted"
        while True:
            sent += 1
            yield b"x"

    got = await api.error("POST", IMPORT, content=endless())
    assert got[1:] == ("permission_denied", "it is signed by somebody")
    assert sent == 0


async def test_an_import_needs_a_key_before_it_is_read(api: Api) -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    response = await api.http.post(IMPORT, headers={"x-api-key": "wrong"}, content=unread())
    assert response.status_code == 401


async def test_an_import_that_stops_coming(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PIECE_TIMEOUT_S", 0.01)

    async def stuck() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    assert (await api.error("POST", IMPORT, content=stuck()))[:2] == (504, "deadline_exceeded")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", IMPORT, True),
        ("GET", IMPORT, False),
        ("POST", "/v1/snapshots/import/", False),
        ("GET", "/v1/snapshots/x/archive", True),
        ("POST", "/v1/snapshots/x/archive", False),
        ("GET", "/v1/sandboxes/x/archive", False),
        ("GET", "/v1/snapshots/x", False),
    ],
)
def test_what_is_a_stream(method: str, path: str, expected: bool) -> None:
    assert archives.is_stream(method, path) is expected
