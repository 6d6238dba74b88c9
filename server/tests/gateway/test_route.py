import pytest

from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import SandboxId
from atolld.gateway.route import (
    Door,
    Route,
    is_data_plane,
    is_native,
    named,
    parse_headers,
    parse_host,
    parse_native,
    to_agent_of,
)

ID = "i0000000000000000000"
BASE = f"/v1/sandboxes/{ID}"


@pytest.mark.parametrize(
    "path, door, port, target, prefix",
    [
        (f"{BASE}/agent/files", Door.NATIVE_AGENT, 49983, "/files", f"{BASE}/agent"),
        (f"{BASE}/agent", Door.NATIVE_AGENT, 49983, "/", f"{BASE}/agent"),
        (f"{BASE}/agent/", Door.NATIVE_AGENT, 49983, "/", f"{BASE}/agent"),
        (f"{BASE}/agent//x%2Fy%00", Door.NATIVE_AGENT, 49983, "//x%2Fy%00", f"{BASE}/agent"),
        (f"{BASE}/agent/initial", Door.NATIVE_AGENT, 49983, "/initial", f"{BASE}/agent"),
        (f"{BASE}/ports/8000", Door.NATIVE_PORT, 8000, "/", f"{BASE}/ports/8000"),
        (f"{BASE}/ports/8000/a/../b", Door.NATIVE_PORT, 8000, "/a/../b", f"{BASE}/ports/8000"),
        (f"{BASE}/ports/65535/", Door.NATIVE_PORT, 65535, "/", f"{BASE}/ports/65535"),
        (f"{BASE}/ports/80/init", Door.NATIVE_PORT, 80, "/init", f"{BASE}/ports/80"),
    ],
)
def test_native_paths(path: str, door: Door, port: int, target: str, prefix: str) -> None:
    assert is_native(path.encode())
    assert parse_native(path.encode()) == Route(door, ID, port, target.encode(), prefix.encode())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/sandboxes",
        BASE,
        f"{BASE}/agents/x",
        f"{BASE}/timeout",
        f"{BASE}/portsx",
        f"/v2/sandboxes/{ID}/agent/x",
        f"/v1/sandboxes/a/b/{ID}/agent",
    ],
)
def test_paths_that_are_not_the_gateways(path: str) -> None:
    assert not is_native(path.encode())
    with pytest.raises(NotFound):
        parse_native(path.encode())


@pytest.mark.parametrize(
    "path, error",
    [
        ("/v1/sandboxes/UPPER/agent/x", NotFound),
        ("/v1/sandboxes//agent/x", NotFound),
        ("/v1/sandboxes/..%2f..%2fetc0000000/agent/x", NotFound),
        (f"{BASE}/agent/init", NotFound),
        (f"{BASE}/agent//init/", NotFound),
        (f"{BASE}/agent/%69nit", NotFound),
        (f"{BASE}/agent/INIT", NotFound),
        (f"{BASE}/agent/x/../init", NotFound),
        (f"{BASE}/agent/./init", NotFound),
        (f"{BASE}/ports/", InvalidArgument),
        (f"{BASE}/ports/0/", InvalidArgument),
        (f"{BASE}/ports/65536/", InvalidArgument),
        (f"{BASE}/ports/-1/", InvalidArgument),
        (f"{BASE}/ports/8e3/", InvalidArgument),
        (f"{BASE}/ports/%38/", InvalidArgument),
        (f"{BASE}/agent/a b", InvalidArgument),
        (f"{BASE}/agent/a\r\nx: y", InvalidArgument),
        (f"{BASE}/agent/\x7f", InvalidArgument),
        (f"{BASE}/agent/\xe9", InvalidArgument),
    ],
)
def test_bad_native_paths(path: str, error: type[Exception]) -> None:
    assert is_native(path.encode("latin-1"))
    with pytest.raises(error):
        parse_native(path.encode("latin-1"))


@pytest.mark.parametrize(
    "host, port",
    [
        (f"49983-{ID}.sandboxes.example.com", 49983),
        (f"3000-{ID}.localhost:8880", 3000),
        (f"3000-{ID.upper()}.E2B.APP", 3000),
        (f"3000-{ID}-0123abcd.127-0-0-1.nip.io", 3000),
    ],
)
def test_hosts(host: str, port: int) -> None:
    assert parse_host(host, b"/p?q") == Route(Door.E2B, SandboxId(ID), port, b"/p?q", own_origin=True)


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "127.0.0.1:8880", ID, f"x-{ID}.e.com", f"80-{ID}", f"80-{ID}x.e.com", f"123456-{ID}.e.com"],
)
def test_other_hosts(host: str) -> None:
    assert parse_host(host, b"/") is None


def test_a_host_with_a_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        parse_host(f"70000-{ID}.e.com", b"/")


@pytest.mark.parametrize("path", [b"/init", b"//Init/", b"/x/../init", b"/%69nit"])
def test_paths_of_the_daemon_only(path: bytes) -> None:
    with pytest.raises(NotFound):
        parse_host(f"49983-{ID}.e.com", path)
    with pytest.raises(NotFound):
        parse_headers([(b"e2b-sandbox-id", ID.encode())], path)
    with pytest.raises(NotFound):
        to_agent_of(SandboxId(ID), path)
    # A program has every path for itself.
    assert parse_host(f"8000-{ID}.e.com", path) is not None


@pytest.mark.parametrize(
    "headers, name",
    [
        ({}, None),
        ({"e2b-sandbox-id": "whatever"}, "whatever"),
        ({"e2b-sandbox-id": "whatever", "host": f"80-{ID.upper()}.e.com"}, ID),
        ({"host": "api.e.com"}, None),
    ],
)
def test_the_name_in_a_request(headers: dict[str, str], name: str | None) -> None:
    assert named([(key.encode(), value.encode()) for key, value in headers.items()]) == name


def test_headers() -> None:
    id, port = (b"e2b-sandbox-id", ID.encode()), (b"e2b-sandbox-port", b"8080")
    assert parse_headers([port, id], b"/p") == Route(Door.E2B, ID, 8080, b"/p")  # type: ignore[arg-type]
    assert parse_headers([id], b"/p") == Route(Door.E2B, ID, 49983, b"/p")  # type: ignore[arg-type]
    assert parse_headers([port], b"/p") is None
    with pytest.raises(NotFound):
        parse_headers([(b"e2b-sandbox-id", b"../x")], b"/p")
    with pytest.raises(InvalidArgument):
        parse_headers([id, (b"e2b-sandbox-port", b"ssh")], b"/p")


@pytest.mark.parametrize(
    "path, headers, expected",
    [
        ("/health", {"e2b-sandbox-id": ID}, True),
        ("/sandboxes", {"e2b-sandbox-id": ID}, True),
        ("/files", {"e2b-sandbox-id": ID, "x-api-key": "k"}, True),
        # An SDK of 2.21 says where it is about to connect to.
        (f"/sandboxes/{ID}/connect", {"e2b-sandbox-id": ID, "e2b-sandbox-port": "49983", "x-api-key": "k"}, False),
        (f"/v2/sandboxes/{ID}", {"e2b-sandbox-id": ID, "x-api-key": "k"}, False),
        # A program in a sandbox may have such paths and keys of its own.
        (f"/sandboxes/{ID}", {"e2b-sandbox-id": ID, "e2b-sandbox-port": "8000", "x-api-key": "k"}, True),
        ("/sandboxesx", {"e2b-sandbox-id": ID, "x-api-key": "k"}, True),
        ("/process.Process/Start", {"x-access-token": "t"}, True),
        ("/sandboxes", {"x-access-token": "t", "x-api-key": "k"}, False),
        ("/sandboxes", {"x-api-key": "k"}, False),
        (f"{BASE}/agent/files", {"x-api-key": "k"}, True),
        (BASE, {}, False),
        ("/sandboxes", {"host": f"80-{ID}.e.com", "x-api-key": "k"}, True),
        ("/sandboxes", {"host": "10-0-0-5.nip.io"}, False),
        ("/sandboxes", {"host": "api.e.com"}, False),
        ("/files", {}, True),
        ("/files/x", {}, False),
    ],
)
def test_what_is_for_a_sandbox(path: str, headers: dict[str, str], expected: bool) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert is_data_plane(path.encode(), pairs) is expected
