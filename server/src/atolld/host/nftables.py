"""Our nftables table as text (pure): what a sandbox may send where.

One table `inet <instance>`, all of it keyed by sets, so that one slot's policy changes in one transaction on a running
sandbox. Rules look at every packet and not only at a connection's first, so that a closed door closes at once.

Which address belongs to which interface follows from the slot's number, so the whole range is written once; a slot that
follows the default (internet on) costs no transaction at all. That matters: after a deletion the kernel makes the next
transaction wait for a grace period (10 to 40 ms measured, against 0.1 ms), so what is common must delete nothing.

    prerouting   the source must be the slot's own address on the slot's own interface; no IPv6; nothing new to an
                 address of the host, before any other table's port publishing rewrites it
    input        sandbox -> host: only answers to connections the host began
    forward      sandbox -> elsewhere: see `from_sandbox`;  elsewhere -> sandbox: only answers
    postrouting  sandbox -> uplink: masqueraded

What a sandbox may not reach answers at once: refused (TCP), or host unreachable, as far as the kernel's limit of such
messages goes. Its programs wait for nothing, and none of them stands in the way of a save with a connection that is
never answered (see `handshakes`).

A drop here is final, an accept is not: other tables of the host (Docker's, a firewall's) still have their say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from atolld.core.network import NetworkPolicy
from atolld.host.addresses import slot_addresses, slot_count
from atolld.host.instance import Instance

# Never reachable, whatever is opened: this host, link-local with the metadata services, multicast, reserved.
NEVER = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
# Closed unless a range is opened by `allow_private_cidrs`; 198.18/15 and 192.0.0/24 are no internet either.
PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15")
EVERYTHING = IPv4Network("0.0.0.0/0")
NEVER_NETWORKS = tuple(map(IPv4Network, NEVER))
MAX_CONNECTIONS = 4096


@dataclass(frozen=True, slots=True)
class Egress:
    """What one slot may reach beyond the host.

    `internet` False: nothing leaves. Otherwise `allow` beats `deny`, and what neither names is allowed. Neither opens
    private or host addresses; `private` opens private ones. `deny` closes name servers as well: a name is a way out
    like any other.
    """

    internet: bool = True
    allow: tuple[IPv4Network, ...] = ()
    deny: tuple[IPv4Network, ...] = ()
    private: tuple[IPv4Network, ...] = ()

    @classmethod
    def of(cls, policy: NetworkPolicy) -> Egress:
        """The slot's rules for a sandbox's policy. No IPv6 passes, so its entries need no rule."""
        allow = tuple(collapse_addresses(policy.ipv4("allow_out")))
        if not policy.internet and not allow:
            return cls(internet=False)
        # Networks within one another are one element: the kernel refuses elements that overlap.
        denied = (EVERYTHING,) if not policy.internet else policy.ipv4("deny_out")
        private = collapse_addresses(map(IPv4Network, policy.private))
        return cls(allow=allow, deny=tuple(collapse_addresses(denied)), private=tuple(private))


@dataclass(frozen=True, slots=True)
class SlotRules:
    """What one slot's address may do; a slot without rules follows `Egress()`."""

    address: IPv4Address
    egress: Egress


@dataclass(frozen=True, slots=True)
class FirewallConfig:
    """What holds for all slots.

    `pool`: the instance's range. `dns_servers`: reachable on port 53 although private, for slots with internet.
    `allow_private`: private ranges opened to all sandboxes. `max_connections`: at once, per sandbox; more are dropped.
    """

    pool: IPv4Network
    dns_servers: tuple[IPv4Address, ...] = ()
    allow_private: tuple[IPv4Network, ...] = ()
    max_connections: int = MAX_CONNECTIONS


def render_table(instance: Instance, config: FirewallConfig, slots: Iterable[SlotRules]) -> str:
    """The commands that replace the whole table, in one transaction, by one with exactly these exceptions."""
    slots = list(slots)
    indexes = range(slot_count(config.pool))
    owners = (f'"{instance.prefix}{index}" . {slot_addresses(config.pool, index).sandbox}' for index in indexes)
    name, pattern = instance.name, f'"{instance.prefix}*"'
    return f"""\
add table inet {name}
delete table inet {name}
table inet {name} {{
  set slots {{ typeof iifname . ip saddr; {_elements(owners)} }}
  set offline {{ type ipv4_addr; {_elements(str(s.address) for s in slots if not s.egress.internet)} }}
  set allow {{ typeof ip saddr . ip daddr; flags interval; {_elements(_pairs(slots, "allow"))} }}
  set deny {{ typeof ip saddr . ip daddr; flags interval; {_elements(_pairs(slots, "deny"))} }}
  set lent {{ typeof ip saddr . ip daddr; flags interval; {_elements(_pairs(slots, "private"))} }}
  set never {{ type ipv4_addr; flags interval; {_elements(NEVER)} }}
  set private {{ type ipv4_addr; flags interval; {_elements(PRIVATE)} }}
  set opened {{ type ipv4_addr; flags interval; auto-merge; {_elements(map(str, config.allow_private))} }}
  set dns {{ type ipv4_addr; {_elements(map(str, config.dns_servers))} }}
  set connections {{ type ipv4_addr; flags dynamic; size 65535; }}

  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    iifname {pattern} jump arriving
  }}
  chain arriving {{
    meta nfproto != ipv4 drop
    iifname . ip saddr != @slots drop
    ct direction original fib daddr type local goto refused
    ct direction original fib daddr type {{ broadcast, multicast, anycast }} drop
  }}
  chain refused {{
    meta l4proto tcp reject with tcp reset
    reject with icmpx type host-unreachable
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname {pattern} jump to_host
  }}
  chain to_host {{
    ct state established,related ct direction reply accept
    drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname {pattern} jump from_sandbox
    oifname {pattern} jump to_sandbox
  }}
  chain from_sandbox {{
    ct state invalid drop
    oifname {pattern} goto refused
    ip saddr @offline goto refused
    ip daddr @never goto refused
    ct state new add @connections {{ ip saddr ct count over {config.max_connections} }} goto refused
    ip saddr . ip daddr @deny ip saddr . ip daddr != @allow goto refused
    ip daddr @dns meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr @private ip daddr != @opened ip saddr . ip daddr != @lent goto refused
  }}
  chain to_sandbox {{
    ip daddr @offline drop
    ip daddr . ip saddr @deny ip daddr . ip saddr != @allow drop
    ct state established,related ct direction reply accept
    drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {config.pool} oifname != {pattern} masquerade
  }}
}}
"""


def render_slot(instance: Instance, old: SlotRules | None, new: SlotRules | None) -> str:
    """The commands that turn what the table knows of a slot from `old` into `new`, in one transaction; may be empty.

    None: the slot follows the default.
    """
    lines = []
    before, after = _memberships(old), _memberships(new)
    for set_name in before:
        gone = [element for element in before[set_name] if element not in after[set_name]]
        come = [element for element in after[set_name] if element not in before[set_name]]
        if gone:
            lines.append(f"delete element inet {instance.name} {set_name} {{ {', '.join(gone)} }}")
        if come:
            lines.append(f"add element inet {instance.name} {set_name} {{ {', '.join(come)} }}")
    return "".join(line + "\n" for line in lines)


def render_removal(instance: Instance) -> str:
    """The commands that remove our table and nothing else, whether it exists or not."""
    return f"add table inet {instance.name}\ndelete table inet {instance.name}\n"


def _memberships(slot: SlotRules | None) -> Mapping[str, list[str]]:
    if slot is None:
        return {"offline": [], "allow": [], "deny": [], "lent": []}
    return {
        "offline": [] if slot.egress.internet else [str(slot.address)],
        "allow": list(_pairs([slot], "allow")),
        "deny": list(_pairs([slot], "deny")),
        "lent": list(_pairs([slot], "private")),
    }


def _pairs(slots: Iterable[SlotRules], which: str) -> Iterable[str]:
    for slot in slots:
        networks: tuple[IPv4Network, ...] = getattr(slot.egress, which)
        for network in networks:
            yield f"{slot.address} . {network}"


def _elements(items: Iterable[str]) -> str:
    joined = ", ".join(items)
    return f"elements = {{ {joined} }};" if joined else ""
