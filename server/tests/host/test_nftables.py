"""The rules as text: what each slot's policy renders to, and that changes touch only what changes."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network

import pytest

from atolld.core.network import NetworkPolicy
from atolld.host.instance import Instance
from atolld.host.nftables import (
    Egress,
    FirewallConfig,
    SlotRules,
    render_removal,
    render_slot,
    render_table,
)

INSTANCE = Instance.named("at")
POOL = IPv4Network("10.192.0.0/28")
ADDRESS = IPv4Address("10.192.0.6")
ANY = IPv4Network("0.0.0.0/0")
ONE = IPv4Network("1.1.1.1/32")
NET = IPv4Network("8.8.8.0/24")


def rules(egress: Egress) -> SlotRules:
    return SlotRules(ADDRESS, egress)


def elements(table: str, set_name: str) -> list[str]:
    """The elements of one set in the rendered table."""
    line = next(line for line in table.splitlines() if line.strip().startswith(f"set {set_name} "))
    found = re.search(r"elements = \{ (.*) \};", line)
    return found.group(1).split(", ") if found else []


def test_every_slot_has_its_interface_and_address_from_the_start() -> None:
    table = render_table(INSTANCE, FirewallConfig(POOL), [])
    assert elements(table, "slots") == [
        '"at-0" . 10.192.0.2',
        '"at-1" . 10.192.0.6',
        '"at-2" . 10.192.0.10',
        '"at-3" . 10.192.0.14',
    ]


def test_the_table_replaces_itself_in_the_same_transaction() -> None:
    lines = render_table(INSTANCE, FirewallConfig(POOL), []).splitlines()
    assert lines[:3] == ["add table inet at", "delete table inet at", "table inet at {"]
    assert not any("flush ruleset" in line for line in lines)


@pytest.mark.parametrize(
    ("egress", "offline", "allow", "deny"),
    [
        (Egress(), [], [], []),
        (Egress(internet=False), ["10.192.0.6"], [], []),
        (Egress(allow=(ONE,), deny=(ANY,)), [], ["10.192.0.6 . 1.1.1.1/32"], ["10.192.0.6 . 0.0.0.0/0"]),
        (Egress(deny=(ONE, NET)), [], [], ["10.192.0.6 . 1.1.1.1/32", "10.192.0.6 . 8.8.8.0/24"]),
    ],
)
def test_a_policy_becomes_set_elements(egress: Egress, offline: list[str], allow: list[str], deny: list[str]) -> None:
    table = render_table(INSTANCE, FirewallConfig(POOL), [rules(egress)])
    assert [elements(table, name) for name in ("offline", "allow", "deny")] == [offline, allow, deny]
    assert elements(table, "lent") == []


def test_private_networks_can_be_opened_to_one() -> None:
    egress = Egress.of(NetworkPolicy(private=("10.9.8.0/24", "10.9.8.7/32")))
    assert egress == Egress(private=(IPv4Network("10.9.8.0/24"),))
    assert elements(render_table(INSTANCE, FirewallConfig(POOL), [rules(egress)]), "lent") == [
        "10.192.0.6 . 10.9.8.0/24"
    ]
    assert Egress.of(NetworkPolicy(internet=False, private=("10.9.8.0/24",))) == Egress(internet=False)


def test_settings_become_set_elements() -> None:
    config = FirewallConfig(POOL, (IPv4Address("10.0.0.53"),), (IPv4Network("10.7.0.0/16"),), max_connections=7)
    table = render_table(INSTANCE, config, [])
    assert elements(table, "dns") == ["10.0.0.53"]
    assert elements(table, "opened") == ["10.7.0.0/16"]
    assert "ct count over 7" in table


@pytest.mark.parametrize("network", ["127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "0.0.0.0/8", "240.0.0.0/4"])
def test_some_ranges_are_closed_whatever_is_opened(network: str) -> None:
    table = render_table(INSTANCE, FirewallConfig(POOL, allow_private=(ANY,)), [])
    assert network in elements(table, "never")
    chain = table[table.index("chain from_sandbox") :]
    assert chain.index("@never goto refused") < chain.index("@deny") < chain.index("@dns") < chain.index("@opened")


@pytest.mark.parametrize("network", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"])
def test_private_ranges_are_closed(network: str) -> None:
    assert network in elements(render_table(INSTANCE, FirewallConfig(POOL), []), "private")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, None, []),
        (None, Egress(), []),
        (Egress(), None, []),
        (None, Egress(internet=False), ["add element inet at offline { 10.192.0.6 }"]),
        (Egress(internet=False), Egress(), ["delete element inet at offline { 10.192.0.6 }"]),
        (Egress(internet=False), None, ["delete element inet at offline { 10.192.0.6 }"]),
        (Egress(internet=False), Egress(internet=False), []),
        (
            Egress(deny=(ONE,)),
            Egress(deny=(NET,), allow=(ONE,)),
            [
                "add element inet at allow { 10.192.0.6 . 1.1.1.1/32 }",
                "delete element inet at deny { 10.192.0.6 . 1.1.1.1/32 }",
                "add element inet at deny { 10.192.0.6 . 8.8.8.0/24 }",
            ],
        ),
        (Egress(deny=(ONE, NET)), Egress(deny=(ONE,)), ["delete element inet at deny { 10.192.0.6 . 8.8.8.0/24 }"]),
    ],
)
def test_a_change_names_only_what_changes(old: Egress | None, new: Egress | None, expected: list[str]) -> None:
    commands = render_slot(INSTANCE, rules(old) if old else None, rules(new) if new else None)
    assert commands.splitlines() == expected


def test_removal_names_our_table_only() -> None:
    assert render_removal(INSTANCE).splitlines() == ["add table inet at", "delete table inet at"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (NetworkPolicy(), Egress()),
        (NetworkPolicy(internet=False), Egress(internet=False)),
        (NetworkPolicy(internet=False, deny_out=("8.8.8.0/24",)), Egress(internet=False)),
        (NetworkPolicy(internet=False, allow_out=("2606::/32",)), Egress(internet=False)),
        (NetworkPolicy(internet=False, allow_out=("1.1.1.1/32",)), Egress(allow=(ONE,), deny=(ANY,))),
        (NetworkPolicy(allow_out=("1.1.1.1/32",), deny_out=("0.0.0.0/0", "::/0")), Egress(allow=(ONE,), deny=(ANY,))),
        (NetworkPolicy(deny_out=("8.8.8.8/32", "8.8.8.0/24", "8.8.8.128/25")), Egress(deny=(NET,))),
    ],
)
def test_a_sandboxes_policy_becomes_its_egress(policy: NetworkPolicy, expected: Egress) -> None:
    assert Egress.of(policy) == expected
