from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from atolld.foundation.errors import AtollError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from atolld.images.addresses import Reach
from atolld.images.registry import Credentials, Registry

HOSTS = {
    "r.example": ("93.184.216.34", Reach.PUBLIC),
    "cdn.example": ("93.184.216.35", Reach.PUBLIC),
    "auth.example": ("93.184.216.36", Reach.PUBLIC),
    "intern.example": ("10.0.0.5", Reach.PRIVATE),
    "other.intern.example": ("10.0.0.6", Reach.PRIVATE),
    "localhost": ("127.0.0.1", Reach.LOOPBACK),
    "metadata.example": ("169.254.169.254", Reach.FORBIDDEN),
}
USER = Credentials("me", "secret")
Answer = Callable[[httpx.Request], httpx.Response]


async def resolver(host: str, port: int, limit: Reach) -> tuple[str, Reach]:
    address, reach = HOSTS[host]
    if reach > limit:
        raise PermissionDenied(f"{host} may not")
    return address, reach


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Script:
    """Answers by host and path; `seen` is what was asked."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return self.answers[request.headers["host"]](request)

    def registry(self, host: str = "r.example", user: Credentials | None = None, *, insecure: bool = False) -> Registry:
        return Registry(host, user, insecure=insecure, transport=httpx.MockTransport(self), resolver=resolver)


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: httpx.Response(status, stream=httpx.ByteStream(body), headers=named)


def guarded(request: httpx.Request) -> httpx.Response:
    if request.headers.get("authorization") in ("Bearer t0k", "Basic bWU6c2VjcmV0"):
        return says(200, b"{}", content_type="application/x; charset=utf-8")(request)
    challenge = 'Bearer realm="https://auth.example/token",service="r",scope="x"'
    return httpx.Response(401, headers={"www-authenticate": challenge})


async def test_the_address_that_was_looked_at_is_the_one_asked() -> None:
    script = Script({"r.example": says(200, b"{}", content_type="application/x")})
    async with script.registry() as registry:
        assert await registry.manifest("a/b", "latest", 100) == (b"{}", "application/x")
    (request,) = script.seen
    assert str(request.url) == "https://93.184.216.34/v2/a/b/manifests/latest"
    assert (request.headers["host"], request.extensions["sni_hostname"]) == ("r.example", "r.example")


@pytest.mark.parametrize("user", [None, USER])
async def test_a_token_is_fetched_once(user: Credentials | None) -> None:
    script = Script({"r.example": guarded, "auth.example": says(200, json.dumps({"token": "t0k"}).encode())})
    async with script.registry(user=user) as registry:
        await registry.manifest("a/b", "latest", 100)
        await registry.config("a/b", "sha256:00", 100)
    assert [request.headers["host"] for request in script.seen] == [
        "r.example",
        "auth.example",
        "r.example",
        "r.example",
    ]
    token = script.seen[1]
    assert dict(token.url.params) == {"service": "r", "scope": "repository:a/b:pull"}
    assert token.headers.get("authorization") == (user.header() if user else None)
    assert "secret" not in repr(USER)


async def test_basic_authentication() -> None:
    def basic(request: httpx.Request) -> httpx.Response:
        answer = guarded(request)
        return (
            answer if answer.status_code == 200 else httpx.Response(401, headers={"www-authenticate": "Basic realm=x"})
        )

    script = Script({"r.example": basic})
    async with script.registry(user=USER) as registry:
        assert (await registry.manifest("a", "b", 100))[0] == b"{}"
    async with script.registry() as registry:
        with pytest.raises(PermissionDenied, match="user name and a password"):
            await registry.manifest("a", "b", 100)


async def test_credentials_do_not_go_where_a_redirect_leads() -> None:
    def redirecting(request: httpx.Request) -> httpx.Response:
        answer = guarded(request)
        return answer if answer.status_code == 401 else says(307, location="https://cdn.example/blob?sig=1")(request)

    script = Script(
        {
            "r.example": redirecting,
            "auth.example": says(200, b'{"access_token": "t0k"}'),
            "cdn.example": says(206, b"cd", content_range="bytes 2-3/4"),
        }
    )
    async with script.registry(user=USER) as registry, registry.blob("a", "sha256:00", 2) as body:
        assert (body.offset, [piece async for piece in body.pieces]) == (2, [b"cd"])
    last = script.seen[-1]
    assert ("authorization" not in last.headers, last.headers["range"]) == (True, "bytes=2-")


@pytest.mark.parametrize(
    ("host", "insecure", "target", "allowed"),
    [
        ("r.example", False, "https://cdn.example/x", True),
        ("r.example", False, "https://intern.example/x", False),
        ("r.example", False, "https://localhost/x", False),
        ("r.example", False, "https://metadata.example/x", False),
        ("r.example", False, "http://cdn.example/x", False),
        ("r.example", False, "file:///etc/passwd", False),
        ("r.example", True, "http://cdn.example/x", True),
        ("r.example", True, "http://intern.example/x", False),
        ("intern.example", False, "https://other.intern.example/x", True),
        ("intern.example", False, "https://localhost/x", False),
        ("intern.example", False, "https://metadata.example/x", False),
        ("localhost", False, "http://intern.example/x", True),
        ("localhost", False, "http://metadata.example/x", False),
    ],
)
async def test_where_a_registry_may_lead(host: str, insecure: bool, target: str, allowed: bool) -> None:
    answers = {name: says(200, b"{}") for name in HOSTS} | {host: says(302, location=target)}
    script = Script(answers)
    async with script.registry(host, insecure=insecure) as registry:
        if allowed:
            await registry.manifest("a", "b", 100)
        else:
            with pytest.raises(PermissionDenied):
                await registry.manifest("a", "b", 100)
            assert len(script.seen) == 1


async def test_the_server_for_tokens_may_not_be_further_in_either() -> None:
    for realm in ("https://intern.example/", "http://auth.example/", "https://metadata.example/latest"):
        script = Script({"r.example": says(401, www_authenticate=f'Bearer realm="{realm}"')})
        async with script.registry(user=USER) as registry:
            with pytest.raises(PermissionDenied):
                await registry.manifest("a", "b", 100)
        assert len(script.seen) == 1


async def test_no_registry_is_asked_where_metadata_services_are() -> None:
    async with Script({}).registry("metadata.example") as registry:
        with pytest.raises(PermissionDenied):
            await registry.manifest("a", "b", 100)


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (says(404), NotFound, "no such image"),
        (says(403), PermissionDenied, "without credentials"),
        (says(429), Unavailable, "too many requests"),
        (says(500), Unavailable, "status 500"),
        (says(200, b"x" * 101), InvalidArgument, "more than 100 bytes"),
        (says(302, location="/again"), Unavailable, "redirects more than"),
        (says(302, location="https://cdn.example:port/"), Unavailable, "Invalid port"),
        (says(401, www_authenticate="Negotiate"), PermissionDenied, "user name"),
        (says(401), PermissionDenied, "user name"),
    ],
)
async def test_what_goes_wrong_has_a_reason(answer: Answer, error: type[AtollError], reason: str) -> None:
    async with Script({"r.example": answer}).registry() as registry:
        with pytest.raises(error, match=reason):
            await registry.manifest("a", "b", 100)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": 5}', b'{"token": "a\\nb"}', b"x" * 300_000])
async def test_a_bad_token_is_refused(body: bytes) -> None:
    script = Script({"r.example": guarded, "auth.example": says(200, body)})
    async with script.registry() as registry:
        with pytest.raises((Unavailable, InvalidArgument)):
            await registry.manifest("a", "b", 100)
    assert len(script.seen) == 2


async def test_faults_of_the_connection_are_told() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    def late(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("")

    for answer, reason in ((broken, "cannot be reached: no route"), (late, "does not answer in time")):
        async with Script({"r.example": answer}).registry() as registry:
            with pytest.raises(Unavailable, match=reason):
                await registry.manifest("a", "b", 100)


async def test_a_part_that_was_not_asked_for_is_refused() -> None:
    async with Script({"r.example": says(206, b"x", content_range="bytes 7-9/10")}).registry() as registry:
        with pytest.raises(Unavailable, match="another part"):
            async with registry.blob("a", "sha256:00", 2):
                pass
