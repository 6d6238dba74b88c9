import pytest

from atolld.foundation.ids import SandboxId
from atolld.gateway import signature
from atolld.gateway.signature import find, parse

# The agent's own tests have the same two.
READ = "v1_oO3VOyxXH3pkX/nhqGaqe3v8d+8vNhbGG2sLjuGWsuo"
WRITE = "v1_dXwXe8Z+I6rQsEdqGqhGbWk2wYSZWKq9TN4jJyuhiGU"
QUERY = "path=%2Fhome/user%2Fa.txt&username=user&signature=" + READ.replace("+", "%2B").replace("/", "%2F")
ENDING = f"path=/home/user/a.txt&signature={WRITE.replace('+', '%2B')}&signature_expiration=1700000000"


@pytest.mark.parametrize(
    "method, query, token, made",
    [
        ("GET", QUERY, "secret", True),
        ("HEAD", QUERY, "secret", True),
        ("POST", QUERY, "secret", False),
        ("GET", QUERY, "other", False),
        ("GET", QUERY.replace("a.txt", "b.txt"), "secret", False),
        ("GET", QUERY + "&path=/first/one/counts", "secret", True),
        ("GET", QUERY + "&signature_expiration=1", "secret", False),
        ("POST", ENDING, "secret", True),
        ("POST", ENDING.replace("=17", "=0017"), "secret", True),
        ("POST", ENDING.replace("=17", "=18"), "secret", False),
    ],
)
def test_who_made_a_signature(method: str, query: str, token: str, made: bool) -> None:
    claim = parse(method, query.encode())
    assert claim is not None and claim.made_with(token) is made


@pytest.mark.parametrize(
    "method, query",
    [
        ("GET", ""),
        ("PUT", QUERY),
        ("GET", "signature=v1_short"),
        ("GET", f"signature=v2{READ[2:]}"),
        ("GET", QUERY + "&signature_expiration=tomorrow"),
        ("GET", QUERY + "&signature_expiration=" + "9" * 30),
        ("GET", "signature=%zz%ff"),
    ],
)
def test_what_is_no_claim(method: str, query: str) -> None:
    assert parse(method, query.encode()) is None


async def test_the_sandbox_that_signed_is_found_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = parse("GET", QUERY.encode())
    assert claim is not None
    others = [(SandboxId(f"i{n:019}"), f"token-{n}") for n in range(2000)]
    wanted = SandboxId("i" + "z" * 19)
    assert await find(claim, others) is None
    assert await find(claim, [*others, (wanted, "secret")]) == wanted
    monkeypatch.setattr(signature, "MAX_CANDIDATES", len(others))
    assert await find(claim, [*others, (wanted, "secret")]) is None
