from __future__ import annotations

from typing import Any

import pytest

from atolld.api.e2b.network import change_of, policy_of
from atolld.api.e2b.requests import NetworkConfig, NetworkUpdate
from atolld.core.network import NetworkPolicy
from atolld.foundation.errors import InvalidArgument, Unimplemented

ALL = "0.0.0.0/0"


@pytest.mark.parametrize(
    ("config", "internet", "policy"),
    [
        (None, None, NetworkPolicy()),
        (None, True, NetworkPolicy()),
        (None, False, NetworkPolicy(internet=False)),
        (
            {"allowOut": None, "rules": {}, "egressProxy": None, "httpsPorts": [], "dnsServers": []},
            None,
            NetworkPolicy(),
        ),
        ({"allowPublicTraffic": None}, None, NetworkPolicy()),
        ({"allowPublicTraffic": False}, None, NetworkPolicy(allow_public_traffic=False)),
        ({"allowOut": ["1.1.1.1", "::1"]}, False, NetworkPolicy(False, ("1.1.1.1", "::1"))),
        ({"denyOut": [ALL, "10.1.2.3/8"]}, None, NetworkPolicy(deny_out=(ALL, "10.1.2.3/8"))),
        (
            {"maskRequestHost": "a:${PORT}", "dnsServers": ["1.1.1.1"]},
            None,
            NetworkPolicy(mask_request_host="a:${PORT}"),
        ),
        ({"maskRequestHost": ""}, None, NetworkPolicy()),
    ],
)
def test_configurations(config: dict[str, Any] | None, internet: bool | None, policy: NetworkPolicy) -> None:
    parsed = None if config is None else NetworkConfig.model_validate(config)
    assert policy_of(parsed, internet) == policy


DOMAINS_NEED_DENY = (
    "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all other "
    "traffic."
)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"denyOut": ["example.com"]}, "invalid denied CIDR example.com"),
        ({"denyOut": ["1.1.1.1/33"]}, "invalid denied CIDR 1.1.1.1/33"),
        ({"denyOut": [""]}, "invalid denied CIDR "),
        ({"allowOut": ["1.1.1.1/33"]}, "invalid allowed address 1.1.1.1/33"),
        ({"allowOut": ["999.1.1.1"]}, "invalid allowed address 999.1.1.1"),
        ({"allowOut": ["https://example.com"]}, "invalid allowed address https://example.com"),
        ({"allowOut": ["a b"], "denyOut": [ALL]}, "invalid allowed address a b"),
        ({"allowOut": ["example.com"]}, DOMAINS_NEED_DENY),
        ({"allowOut": ["*.example.com"], "denyOut": ["1.1.1.1"]}, DOMAINS_NEED_DENY),
        ({"maskRequestHost": "http://a"}, "mask request host is not valid: http://a"),
        (
            {"maskRequestHost": "bücher.de"},
            "mask request host 'bücher.de' is not ASCII. Please use ASCII characters only.",
        ),
        ({"dnsServers": ["::1"]}, "invalid DNS server ::1"),
    ],
)
def test_their_words(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        policy_of(NetworkConfig.model_validate(config), None)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"allowOut": ["example.com"], "denyOut": [ALL]}, "domains"),
        ({"allowOut": ["*.example.com", "1.1.1.1"], "denyOut": [ALL]}, "domains"),
        ({"rules": {"a.com": [{"transform": {"headers": {"x": "y"}}}]}}, "rules"),
        ({"egressProxy": {"address": "1.1.1.1:1080"}}, "egressProxy"),
        ({"httpsPorts": [443]}, "httpsPorts"),
    ],
)
def test_what_is_not_there_yet(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unimplemented, match=reason):
        policy_of(NetworkConfig.model_validate(config), None)


def test_domains_without_internet_need_no_denial() -> None:
    with pytest.raises(Unimplemented, match="domains"):
        policy_of(NetworkConfig(allowOut=["example.com"]), False)


def test_an_update_replaces_egress_and_keeps_ingress() -> None:
    before = NetworkPolicy(False, ("1.1.1.1",), ("::/0",), False, "x")
    change = change_of(NetworkUpdate(denyOut=["8.8.8.8"]))
    assert change(before) == NetworkPolicy(True, (), ("8.8.8.8",), False, "x")
