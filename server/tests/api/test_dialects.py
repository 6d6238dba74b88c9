from __future__ import annotations

import pytest

from .conftest import Api


@pytest.mark.parametrize(
    ("path", "native"),
    [
        ("/v1/nothing", True),
        ("/v1", True),
        ("/v2/nothing", False),
        ("/nothing", False),
        ("/", False),
        ("/v1x", False),
    ],
)
async def test_faults_are_told_in_the_form_of_their_path(api: Api, path: str, native: bool) -> None:
    response = await api.http.get(path)
    assert response.status_code == 404
    assert (response.json().keys() == {"error"}) is native
    large = await api.http.post(path, content=b"x" * 70_000)
    assert large.status_code == 413
    assert (large.json().keys() == {"error"}) is native


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/version"])
async def test_what_both_have_is_the_daemons(api: Api, path: str) -> None:
    assert (await api.http.get(path)).status_code == 200
