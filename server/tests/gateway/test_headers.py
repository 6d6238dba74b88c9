import pytest

from atolld.foundation.errors import Unauthenticated
from atolld.foundation.ids import SandboxId
from atolld.gateway.headers import Client, Headers, request_head, response_headers, secret_of, upgrade_of
from atolld.gateway.route import Door, Route

ID = SandboxId("i0000000000000000000")
KEY = b"e2b_" + b"0" * 40
CLIENT = Client("203.0.113.9", b"api.test:8880", b"http")
AGENT = Route(Door.NATIVE_AGENT, ID, 49983, b"/files", b"/v1/sandboxes/i/agent")
PORT = Route(Door.NATIVE_PORT, ID, 8000, b"/app", b"/v1/sandboxes/i/ports/8000")


def sent(route: Route, headers: Headers) -> dict[bytes, bytes]:
    head, _ = request_head(b"GET", route, b"", headers, CLIENT, token="secret-token", upgrade=None)
    _, *lines = head.strip().split(b"\r\n")
    return dict(line.split(b": ", 1) for line in lines)


@pytest.mark.parametrize(
    "headers, secret",
    [
        ([(b"x-api-key", b"a")], "a"),
        ([(b"authorization", b"Bearer b")], "b"),
        ([(b"authorization", b"bearer  b ")], "b"),
        ([(b"authorization", b"Bearer b"), (b"x-api-key", b" a ")], "a"),
    ],
)
def test_the_key_is_found(headers: Headers, secret: str) -> None:
    assert secret_of(headers) == secret


@pytest.mark.parametrize("headers", [[], [(b"x-api-key", b"")], [(b"authorization", b"Basic eDo=")]])
def test_no_key(headers: Headers) -> None:
    with pytest.raises(Unauthenticated):
        secret_of(headers)


@pytest.mark.parametrize("route", [AGENT, PORT])
@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", KEY)],
        [(b"authorization", b"Bearer " + KEY)],
        [(b"x-api-key", KEY), (b"authorization", b"Bearer " + KEY)],
        [(b"x-api-key", KEY), (b"cookie", b"session=" + KEY)],
        [(b"x-api-key", KEY), (b"proxy-authorization", b"Bearer " + KEY)],
        [(b"authorization", b"Bearer whatever-form-a-key-may-have-later")],
    ],
)
def test_no_credential_of_ours_reaches_the_sandbox(route: Route, headers: Headers) -> None:
    told = sent(route, headers)
    assert not any(KEY in value or b"whatever" in value for value in told.values())
    assert not {b"x-api-key", b"cookie", b"proxy-authorization"} & told.keys()


def test_the_agent_gets_its_token_and_the_users_name_and_nothing_forged() -> None:
    told = sent(AGENT, [(b"x-api-key", KEY), (b"authorization", b"Basic Ym9iOg=="), (b"x-access-token", b"forged")])
    assert told[b"x-access-token"] == b"secret-token"
    assert told[b"authorization"] == b"Basic Ym9iOg=="
    assert b"x-forwarded-for" not in told


def test_a_program_gets_its_own_authorization_but_never_the_agents_token() -> None:
    told = sent(PORT, [(b"x-api-key", KEY), (b"authorization", b"token jupyter"), (b"x-access-token", b"t")])
    assert told[b"authorization"] == b"token jupyter"
    assert b"x-access-token" not in told
    assert b"secret-token" not in b"".join(told.values())


def test_a_program_is_told_who_asked_and_cannot_be_told_lies() -> None:
    told = sent(PORT, [(b"x-forwarded-for", b"10.0.0.1"), (b"forwarded", b"for=10.0.0.1"), (b"host", b"evil")])
    assert told[b"host"] == b"localhost:8000"
    assert told[b"x-forwarded-for"] == b"203.0.113.9"
    assert told[b"x-forwarded-host"] == b"api.test:8880"
    assert told[b"x-forwarded-proto"] == b"http"
    assert told[b"x-forwarded-prefix"] == PORT.prefix
    assert b"forwarded" not in told


def test_hop_by_hop_headers_stay_here() -> None:
    headers = [(b"connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"te", b"trailers"), (b"keep-alive", b"5")]
    assert sent(AGENT, [*headers, (b"range", b"bytes=0-1")]).keys() == {b"host", b"x-access-token", b"range"}


def test_the_request_line_keeps_path_and_query_as_they_came() -> None:
    route = Route(Door.NATIVE_PORT, ID, 8000, b"/a%2Fb/../c")
    head, chunked = request_head(
        b"PUT", route, b"q=%20&r", [(b"transfer-encoding", b"chunked")], CLIENT, token="t", upgrade=b"websocket"
    )
    assert head.startswith(b"PUT /a%2Fb/../c?q=%20&r HTTP/1.1\r\n")
    assert head.endswith(b"connection: upgrade\r\nupgrade: websocket\r\n")
    assert chunked


def test_only_known_headers_come_from_an_agent() -> None:
    headers = [(b"content-type", b"text/html"), (b"set-cookie", b"a=b"), (b"location", b"//evil"), (b"server", b"x")]
    got = dict(response_headers(AGENT, headers, CLIENT, with_length=True))
    assert got == {
        b"content-type": b"text/html",
        b"content-security-policy": b"sandbox; default-src 'none'",
        b"x-content-type-options": b"nosniff",
    }


def test_a_port_cannot_act_on_the_apis_origin() -> None:
    headers = [
        (b"set-cookie", b"a=b"),
        (b"strict-transport-security", b"max-age=1"),
        (b"clear-site-data", b"*"),
        (b"service-worker-allowed", b"/"),
        (b"x-request-id", b"forged"),
        (b"connection", b"x-hop"),
        (b"x-hop", b"1"),
        (b"x-app", b"1"),
        (b"access-control-allow-origin", b"*"),
    ]
    got = dict(response_headers(PORT, headers, CLIENT, with_length=True))
    assert got.keys() == {b"x-app", b"access-control-allow-origin", b"content-security-policy"}
    assert b"allow-same-origin" not in got[b"content-security-policy"]


def test_headers_that_http_does_not_allow_are_dropped() -> None:
    headers = [(b"x bad", b"1"), (b"x-bad", b"a\x00b"), (b"", b"1"), (b"x-good", b"tab\tis fine")]
    assert dict(response_headers(PORT, headers, CLIENT, with_length=True)).keys() == {
        b"x-good",
        b"content-security-policy",
    }


def test_a_length_passes_only_when_it_may() -> None:
    headers = [(b"content-length", b"5")]
    assert (b"content-length", b"5") in response_headers(AGENT, headers, CLIENT, with_length=True)
    assert (b"content-length", b"5") not in response_headers(AGENT, headers, CLIENT, with_length=False)


@pytest.mark.parametrize(
    "location, told",
    [
        (b"/login?next=1", PORT.prefix + b"/login?next=1"),
        (b"http://localhost:8000/x", PORT.prefix + b"/x"),
        (b"http://api.test:8880/x", PORT.prefix + b"/x"),
        (b"relative", b"relative"),
        (b"//other.test/x", b"//other.test/x"),
        (b"https://other.test/x", b"https://other.test/x"),
        (PORT.prefix + b"/y", PORT.prefix + b"/y"),
    ],
)
def test_redirects_stay_below_the_prefix(location: bytes, told: bytes) -> None:
    assert (b"location", told) in response_headers(PORT, [(b"location", location)], CLIENT, with_length=True)


@pytest.mark.parametrize(
    "headers, protocol",
    [
        ([(b"connection", b"keep-alive, Upgrade"), (b"upgrade", b"websocket")], b"websocket"),
        ([(b"upgrade", b"websocket")], None),
        ([(b"connection", b"upgrade")], None),
        ([], None),
    ],
)
def test_a_wish_to_change_the_protocol(headers: Headers, protocol: bytes | None) -> None:
    assert upgrade_of(headers) == protocol


E2B = Route(Door.E2B, ID, 8000, b"/app")
OWN = Route(Door.E2B, ID, 8000, b"/app", own_origin=True)


@pytest.mark.parametrize("route", [E2B, OWN])
def test_what_a_program_gets_through_e2bs_door(route: Route) -> None:
    told = sent(
        route,
        [
            (b"x-api-key", KEY),
            (b"authorization", b"Bearer its-own"),
            (b"x-access-token", b"for the agent"),
            (b"e2b-traffic-access-token", b"secret"),
            (b"cookie", b"a=b"),
        ],
    )
    assert told[b"authorization"] == b"Bearer its-own" and told[b"x-access-token"] == b"for the agent"
    assert told[b"host"] == CLIENT.host
    assert not {b"x-api-key", b"e2b-traffic-access-token"} & told.keys()
    assert (b"cookie" in told) is route.own_origin
    assert b"authorization" not in sent(route, [(b"authorization", b"Bearer " + KEY)])


@pytest.mark.parametrize(
    "route, mask, host",
    [
        (E2B, "localhost:${PORT}", b"localhost:8000"),
        (OWN, "app.test", b"app.test"),
        (PORT, "x:${PORT}", b"x:8000"),
        (AGENT, "x", b"agent"),
    ],
)
def test_the_host_that_a_program_sees(route: Route, mask: str, host: bytes) -> None:
    head, _ = request_head(b"GET", route, b"", [], CLIENT, token=None, upgrade=None, mask_host=mask)
    assert b"\r\nhost: " + host + b"\r\n" in head


def test_a_port_with_a_host_of_its_own_keeps_its_origin() -> None:
    given = [
        (b"set-cookie", b"a=b; Domain=.sandbox.test; Path=/; HttpOnly"),
        (b"clear-site-data", b"*"),
        (b"strict-transport-security", b"max-age=1; includeSubDomains"),
    ]
    told = response_headers(OWN, given, CLIENT, with_length=True)
    assert told == [(b"set-cookie", b"a=b; Path=/; HttpOnly"), (b"clear-site-data", b"*")]
    shared = dict(response_headers(E2B, given, CLIENT, with_length=True))
    assert shared.keys() == {b"content-security-policy"}


def test_every_page_may_read_what_an_agent_answers() -> None:
    agent = Route(Door.E2B, ID, 49983, b"/files")
    assert (b"access-control-allow-origin", b"*") in response_headers(agent, [], CLIENT, with_length=True)
    assert b"access-control-allow-origin" not in dict(response_headers(AGENT, [], CLIENT, with_length=True))
