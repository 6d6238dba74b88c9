from __future__ import annotations

import pytest

from atolld.foundation.errors import InvalidArgument
from atolld.images.reference import parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest", "short"),
    [
        ("debian", "docker.io", "library/debian", "latest", None, "debian:latest"),
        ("debian:12", "docker.io", "library/debian", "12", None, "debian:12"),
        ("docker.io/debian:12", "docker.io", "library/debian", "12", None, "debian:12"),
        ("index.docker.io/library/debian", "docker.io", "library/debian", "latest", None, "debian:latest"),
        ("owner/app", "docker.io", "owner/app", "latest", None, "owner/app:latest"),
        ("registry.example/o/a/b:v1.2", "registry.example", "o/a/b", "v1.2", None, "registry.example/o/a/b:v1.2"),
        ("localhost/box", "localhost", "box", "latest", None, "localhost/box:latest"),
        ("localhost:5000/box", "localhost:5000", "box", "latest", None, "localhost:5000/box:latest"),
        ("[::1]:5000/box:Tag", "[::1]:5000", "box", "Tag", None, "[::1]:5000/box:Tag"),
        (f"debian@{DIGEST}", "docker.io", "library/debian", None, DIGEST, f"debian@{DIGEST}"),
        (f"r.example/a:t@{DIGEST}", "r.example", "a", "t", DIGEST, f"r.example/a:t@{DIGEST}"),
        ("docker.io/a.b/c", "docker.io", "a.b/c", "latest", None, "docker.io/a.b/c:latest"),
    ],
)
def test_references(text: str, registry: str, repository: str, tag: str | None, digest: str | None, short: str) -> None:
    found = parse_reference(text)
    assert (found.registry, found.repository, found.tag, found.digest) == (registry, repository, tag, digest)
    assert found.short == short
    assert parse_reference(found.short) == parse_reference(str(found)) == found
    assert found.wanted == (digest or tag)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UPPER",
        "a" * 513,
        "../etc/passwd",
        "a//b",
        "a:",
        "a:b c",
        "a@sha256:123",
        "a@md5:00",
        "r.example:99999/a",
        "r.example:0/a",
        "r..example/a",
        "[zz::1]/a",
        "http://r.example/a",
        "r.example/a?b",
        "r.example/a%2f..",
        "user@r.example/a",
        "a\n",
        "r.example/",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="not a reference"):
        parse_reference(text)
