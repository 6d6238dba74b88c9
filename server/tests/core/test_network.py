from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from atolld.core.network import MAX_ADDRESSES, Field, NetworkPolicy, is_address, parse_addresses
from atolld.foundation.errors import InvalidArgument


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1.1.1.1", "1.1.1.1/32"),
        ("1.1.1.1/32", "1.1.1.1/32"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", None),
        ("2606:4700::1111", None),
        ("2606:4700:0:0::1/32", None),
        ("::ffff:1.2.3.4", "1.2.3.4/32"),
        ("::ffff:1.2.3.0/120", "1.2.3.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_addresses_are_kept_as_they_were_written(written: str, meant: str | None) -> None:
    assert is_address(written)
    policy = NetworkPolicy.of(allow_out=[written, "9.9.9.9", written], deny_out=[written])
    assert (policy.allow_out, policy.deny_out) == ((written, "9.9.9.9"), (written,))
    assert policy.ipv4("deny_out") == (() if meant is None else (IPv4Network(meant),))


@pytest.mark.parametrize(
    "written",
    [
        "",
        " 1.1.1.1",
        "1.1.1.1 ",
        "1.1.1",
        "1.1.1.1.1",
        "256.1.1.1",
        "01.1.1.1",
        "1.1.1.1/33",
        "1.1.1.1/-1",
        "1.1.1.1/",
        "10.0.0.0/255.0.0.0",
        "16843009",
        "::1/129",
        "fe80::1%eth0",
        "[::1]",
        "example.com",
        "*.example.com",
        "1.1.1.1:80",
        "1.1.1.1\n",
        "１.1.1.1",
        "1.1.1.1/٣",
        "1.1.1.1, 8.8.8.8",
        "a" * 10_000,
    ],
)
@pytest.mark.parametrize("field", ["allow_out", "deny_out"])
def test_what_is_no_address_is_refused(field: Field, written: str) -> None:
    assert not is_address(written)
    with pytest.raises(InvalidArgument, match=f"{field}: .* is no IP address") as caught:
        parse_addresses(field, ["8.8.8.8", written])
    assert caught.value.details == {"field": field, "entry": written}


def test_lists_are_bounded() -> None:
    many = [f"1.1.{n // 256}.{n % 256}" for n in range(MAX_ADDRESSES + 1)]
    assert len(NetworkPolicy.of(deny_out=many[:-1]).deny_out) == MAX_ADDRESSES
    with pytest.raises(InvalidArgument, match="deny_out has 257 entries; at most 256"):
        NetworkPolicy.of(deny_out=many)


def test_families_are_told_apart() -> None:
    policy = NetworkPolicy.of(allow_out=["1.1.1.1", "::1"], deny_out=["::/0"])
    assert policy.ipv4("allow_out") == (IPv4Network("1.1.1.1/32"),)
    assert policy.ipv4("deny_out") == ()


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:${PORT}", "${PORT}-app.example.com", "a.b_c:65535", "127.0.0.1:80", "[::1]:${PORT}"],
)
def test_hosts(host: str) -> None:
    assert NetworkPolicy.of(mask_request_host=host).mask_request_host == host


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", "form"),
        ("a b", "form"),
        ("a/b", "form"),
        ("http://a", "form"),
        ("a\r\nx: y", "form"),
        ("a:b", "form"),
        ("-", "form"),
        ("u@a", "form"),
        ("a" * 256, "form"),
        ("bücher.example", "ascii"),
    ],
)
def test_bad_hosts(host: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match="mask_request_host") as caught:
        NetworkPolicy.of(mask_request_host=host)
    assert caught.value.details == {"field": "mask_request_host", "entry": host, "reason": reason}


@pytest.mark.parametrize(
    "policy",
    [
        NetworkPolicy(),
        NetworkPolicy(False, ("1.1.1.1/32",), ("::/0", "8.8.8.0/24"), False, "x:${PORT}"),
    ],
)
def test_a_policy_survives_json(policy: NetworkPolicy) -> None:
    assert NetworkPolicy.from_json(policy.to_json()) == policy


def test_a_policy_of_an_older_version_has_the_defaults() -> None:
    assert NetworkPolicy.from_json({"internet": False}) == NetworkPolicy(internet=False)
