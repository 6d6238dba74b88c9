"""Between E2B's network configuration and ours, with E2B's own messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from atolld.api.e2b.requests import NetworkConfig, NetworkUpdate
from atolld.core.network import NetworkPolicy, is_address
from atolld.foundation.errors import InvalidArgument, Unimplemented

ALL_TRAFFIC = "0.0.0.0/0"

_DOMAIN = re.compile(r"(?:\*\.)?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,62}|\*")


def policy_of(config: NetworkConfig | None, allow_internet_access: bool | None) -> NetworkPolicy:
    """The policy a new sandbox is asked to have.

    Raises InvalidArgument in E2B's words, Unimplemented for what is not there yet.
    """
    config = config or NetworkConfig()
    internet = allow_internet_access is not False
    _check_egress(config, internet)
    if config.httpsPorts:
        raise Unimplemented("network.httpsPorts is not supported: Atoll speaks plain HTTP to a sandbox's ports")
    return _in_their_words(
        lambda: NetworkPolicy.of(
            internet=internet,
            allow_out=config.allowOut or (),
            deny_out=config.denyOut or (),
            allow_public_traffic=config.allowPublicTraffic is not False,
            mask_request_host=config.maskRequestHost or None,
        )
    )


def change_of(update: NetworkUpdate) -> Callable[[NetworkPolicy], NetworkPolicy]:
    """What an update makes of a policy: its egress is replaced as a whole, so what is left out is cleared.

    Raises as `policy_of`.
    """
    internet = update.allow_internet_access is not False
    _check_egress(update, internet)
    wanted = _in_their_words(
        lambda: NetworkPolicy.of(internet=internet, allow_out=update.allowOut or (), deny_out=update.denyOut or ())
    )
    return lambda before: replace(
        wanted, allow_public_traffic=before.allow_public_traffic, mask_request_host=before.mask_request_host
    )


def _check_egress(config: NetworkUpdate, internet: bool) -> None:
    domains = [entry for entry in config.allowOut or () if not is_address(entry)]
    for entry in domains:
        if not _DOMAIN.fullmatch(entry):
            raise InvalidArgument(f"invalid allowed address {entry[:253]}")
    for entry in config.dnsServers or ():
        if not is_address(entry) or ":" in entry or "/" in entry:
            raise InvalidArgument(f"invalid DNS server {entry[:253]}")
    if domains and internet and ALL_TRAFFIC not in (config.denyOut or ()):
        raise InvalidArgument(
            "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all "
            "other traffic."
        )
    if domains:
        raise Unimplemented(f"network.allowOut: domains ({domains[0][:253]}) are not supported yet; allow IP addresses")
    if config.rules:
        raise Unimplemented("network.rules: transforms of requests are not supported yet")
    if config.egressProxy is not None:
        raise Unimplemented("network.egressProxy is not supported yet")


def _in_their_words(make: Callable[[], NetworkPolicy]) -> NetworkPolicy:
    try:
        return make()
    except InvalidArgument as error:
        entry = str(error.details.get("entry", ""))[:253]
        sentences = {
            ("deny_out", None): f"invalid denied CIDR {entry}",
            ("allow_out", None): f"invalid allowed address {entry}",
            ("mask_request_host", "form"): f"mask request host is not valid: {entry}",
            ("mask_request_host", "ascii"): (
                f"mask request host '{entry}' is not ASCII. Please use ASCII characters only."
            ),
        }
        known = "entry" in error.details
        sentence = (
            sentences.get((str(error.details.get("field")), _text(error.details.get("reason")))) if known else None
        )
        raise InvalidArgument(sentence or error.message) from None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def allowed(entries: Sequence[str]) -> list[str] | None:
    """A list as E2B shows it: left out when it is empty."""
    return list(entries) or None
