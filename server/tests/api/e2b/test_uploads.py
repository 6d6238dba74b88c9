from __future__ import annotations

import pytest
from fastapi import Request

from atolld.api.e2b.uploads import LIFETIME_S, UploadLinks, base_url
from atolld.foundation.errors import PermissionDenied
from atolld.foundation.ids import ProjectId

MINE = ProjectId("11111111-2222-3333-4444-555555555555")
FILES = "ab" * 32


class Moment:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_says_whose_files_they_are() -> None:
    links = UploadLinks()
    assert links.project(links.token(MINE, "t1", FILES), "t1", FILES) == MINE


@pytest.mark.parametrize(("template", "files"), [("t2", FILES), ("t1", "cd" * 32), (f"t1\n{FILES}", "")])
def test_a_token_is_for_one_thing(template: str, files: str) -> None:
    links = UploadLinks()
    with pytest.raises(PermissionDenied, match="not for these files"):
        links.project(links.token(MINE, "t1", FILES), template, files)


def test_a_token_is_good_for_an_hour() -> None:
    moment = Moment()
    links = UploadLinks(moment)
    token = links.token(MINE, "t1", FILES)
    moment.now += LIFETIME_S - 1
    assert links.project(token, "t1", FILES) == MINE
    moment.now += 1
    with pytest.raises(PermissionDenied, match="over an hour old"):
        links.project(token, "t1", FILES)


def test_nothing_of_a_token_can_be_changed() -> None:
    links = UploadLinks()
    end, project, signature = links.token(MINE, "t1", FILES).split(".")
    for forged in (
        f"{int(end) + 1}.{project}.{signature}",
        f"{end}.{project[:-1]}6.{signature}",
        f"{end}.{project}.{signature[:-1]}x",
        f"{end}.{project}.",
        f"{end}..{signature}",
        f"{end}.{signature}",
        "",
        "..",
        "1e9.x.y",
        "٣.x.y",
        "9" * 20 + ".x.y",
        "\udcff.\udcff.\udcff",
    ):
        with pytest.raises(PermissionDenied):
            links.project(forged, "t1", FILES)


def test_another_daemon_takes_no_token_of_this_one() -> None:
    with pytest.raises(PermissionDenied):
        UploadLinks().project(UploadLinks().token(MINE, "t1", FILES), "t1", FILES)


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"host": "localhost:8880"}, "http://localhost:8880"),
        ({"host": "[::1]:8880"}, "http://[::1]:8880"),
        ({"host": "api.example.com", "x-forwarded-proto": "https"}, "https://api.example.com"),
        (
            {"host": "10.0.0.1:1", "x-forwarded-proto": "HTTPS, http", "x-forwarded-host": "api.example.com, b"},
            "https://api.example.com",
        ),
        ({"host": "a", "x-forwarded-proto": "javascript", "x-forwarded-host": "b/c@d"}, "http://a"),
        ({"host": 'a"b'}, "http://127.0.0.1:5"),
        ({}, "http://127.0.0.1:5"),
    ],
)
def test_the_url_is_where_the_client_is(headers: dict[str, str], url: str) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "scheme": "http", "server": ("127.0.0.1", 5), "path": "/", "headers": raw}
    assert base_url(Request({**scope, "query_string": b"", "method": "GET"})) == url
