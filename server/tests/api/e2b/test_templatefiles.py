from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from atolld.api.e2b.templatefiles import is_upload

from .conftest import E2b
from .test_builds import requested

FILES = "ab" * 32
# As if a client had no key: it sends none to the URL of an upload.
NO_KEY = {"x-api-key": ""}


async def upload_url(e2b: E2b, hash: str = FILES) -> str:
    template, _ = await requested(e2b)
    response = await e2b.http.get(f"/templates/{template}/files/{hash}")
    assert response.status_code == 201 and response.json()["present"] is False
    return str(response.json()["url"])


async def test_files_are_put_where_the_url_says_without_a_key(e2b: E2b) -> None:
    url = await upload_url(e2b)
    assert url.startswith("http://api/templates/t") and f"/files/{FILES}?token=" in url
    response = await e2b.http.put(url, content=b"tar", headers=NO_KEY)
    assert (response.status_code, response.content) == (200, b"")
    project = e2b.api.world.project.id
    assert e2b.builds.files == {(project, FILES): b"tar"}
    again = await e2b.http.get(urlsplit(url).path)
    assert again.json()["present"] is True and again.json()["url"]


async def test_a_large_body_without_a_length_is_taken_as_it_comes(e2b: E2b) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    assert (await e2b.http.put(await upload_url(e2b), content=pieces(), headers=NO_KEY)).status_code == 200
    assert len(e2b.builds.files[e2b.api.world.project.id, FILES]) == 1_000_000


async def test_files_that_are_there_are_replaced(e2b: E2b) -> None:
    url = await upload_url(e2b)
    for data in (b"one", b"two"):
        assert (await e2b.http.put(url, content=data, headers=NO_KEY)).status_code == 200
    assert [*e2b.builds.files.values()] == [b"two"]


async def test_a_url_is_for_one_name(e2b: E2b) -> None:
    url = await upload_url(e2b)
    other = url.replace(FILES, "cd" * 32)
    for forged in (other, url.partition("?")[0], url + "x", url.replace("/templates/t", "/templates/u")):
        assert (await e2b.error("PUT", forged, content=b"x", headers=NO_KEY))[0] == 403
    assert not e2b.builds.files


@pytest.mark.parametrize("hash", ["x", FILES.upper(), FILES[:-1], FILES + "a", "..%2f..%2fetc"])
async def test_names_that_are_no_digests(e2b: E2b, hash: str) -> None:
    template, _ = await requested(e2b)
    assert (await e2b.error("GET", f"/templates/{template}/files/{hash}"))[0] == 400
    assert (await e2b.error("PUT", f"/templates/{template}/files/{hash}?token=x", content=b"", headers=NO_KEY))[
        0
    ] == 400


async def test_templates_that_are_not_the_projects(e2b: E2b) -> None:
    for template in ("base", "never", "t" + "0" * 19):
        assert (await e2b.error("GET", f"/templates/{template}/files/{FILES}"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "upload"),
    [
        ("PUT", f"/templates/t1/files/{FILES}", True),
        ("GET", f"/templates/t1/files/{FILES}", False),
        ("PUT", f"/templates/t1/files/{FILES}/more", False),
        ("PUT", "/templates/t1/files", False),
        ("PUT", "/sandboxes/i1/network", False),
    ],
)
def test_what_is_not_read_ahead(method: str, path: str, upload: bool) -> None:
    assert is_upload(method, path) is upload
