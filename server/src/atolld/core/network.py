"""What a sandbox may reach, and who may reach it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

from atolld.foundation.errors import InvalidArgument

MAX_ADDRESSES = 256
MAX_HOST = 255

_NETWORK = re.compile(r"[0-9A-Fa-f.:]{2,45}(?:/[0-9]{1,3})?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_PORT_PLACE = "${PORT}"
_MAPPED_BITS = 96

Field = Literal["allow_out", "deny_out"]


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """The network policy of one sandbox.

    Egress: `internet` False denies every address. `allow_out` and `deny_out` are addresses and networks (IPv4, IPv6) as
    the caller wrote them, once checked; what `allow_out` names passes even when it is denied, and what neither names
    passes when there is `internet`. Whatever they say, the host, other sandboxes, link-local and private addresses stay
    out of reach, and so does IPv6: entries of it are kept, and hold because nothing of IPv6 passes.

    Ingress: `allow_public_traffic` False means that the sandbox's ports answer only who sends its traffic token.
    `mask_request_host` is the `Host` that programs on its ports see, with `${PORT}` for the port; None: as it came.

    `private` are private networks (IPv4) that the daemon itself opens to this sandbox, as to a build that needs the
    machine's own package mirror. No caller can set them.
    """

    internet: bool = True
    allow_out: tuple[str, ...] = ()
    deny_out: tuple[str, ...] = ()
    allow_public_traffic: bool = True
    mask_request_host: str | None = None
    private: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        internet: bool = True,
        allow_out: Iterable[str] = (),
        deny_out: Iterable[str] = (),
        allow_public_traffic: bool = True,
        mask_request_host: str | None = None,
    ) -> NetworkPolicy:
        """A policy from what a caller wrote: addresses are checked and kept once each, in their order.

        Raises InvalidArgument with the details `field`, `entry` and, for a host, `reason` ("form" or "ascii").
        """
        if mask_request_host is not None:
            check_host(mask_request_host)
        return cls(
            internet,
            parse_addresses("allow_out", allow_out),
            parse_addresses("deny_out", deny_out),
            allow_public_traffic,
            mask_request_host,
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> NetworkPolicy:
        """What `to_json` made; fields that an older version did not write have their defaults."""
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
        return cls(**values)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, object]:
        """Every field as a JSON value."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def ipv4(self, field: Field) -> tuple[IPv4Network, ...]:
        """The IPv4 networks of `allow_out` or `deny_out`."""
        networks = map(_network, getattr(self, field))
        return tuple(network for network in networks if isinstance(network, IPv4Network))


def parse_addresses(field: Field, entries: Iterable[str]) -> tuple[str, ...]:
    """`entries`, each once. Raises InvalidArgument: over 256 of them, or one that is no address."""
    entries = list(entries)
    if len(entries) > MAX_ADDRESSES:
        raise InvalidArgument(f"{field} has {len(entries)} entries; at most {MAX_ADDRESSES} are allowed", field=field)
    for entry in entries:
        if not is_address(entry):
            raise InvalidArgument(
                f"{field}: {entry[:80]!r} is no IP address and no network like '10.0.0.0/8'", field=field, entry=entry
            )
    return tuple(dict.fromkeys(entries))


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address or network."""
    return _network(text) is not None


def check_host(host: str) -> None:
    """Raises InvalidArgument when `host` is not `<name or address>[:<port>]` in ASCII; `${PORT}` stands for digits."""
    if not host.isascii():
        raise InvalidArgument(
            f"mask_request_host is {host[:80]!r}: use ASCII characters only",
            field="mask_request_host",
            entry=host,
            reason="ascii",
        )
    if len(host) > MAX_HOST or not _HOST.fullmatch(host.replace(_PORT_PLACE, "1")):
        raise InvalidArgument(
            f"mask_request_host is {host[:80]!r}; a host like 'localhost:{_PORT_PLACE}' is expected",
            field="mask_request_host",
            entry=host,
            reason="form",
        )


def _network(text: str) -> IPv4Network | IPv6Network | None:
    # The pattern keeps out what the library takes and nobody means: netmasks, scopes, whole numbers.
    if not _NETWORK.fullmatch(text):
        return None
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= _MAPPED_BITS:
        # An IPv4 address in disguise must not become a rule that never matches.
        return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
