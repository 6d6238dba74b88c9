"""How the shared HTTP clients are set up; the same for both flavours."""

from __future__ import annotations

import ssl
from typing import TypedDict

import httpx

from atoll._config import Config
from atoll._version import __version__

# Below the daemon's own limit (setting `keep_alive_s`, 75 s) and what proxies in front of it commonly have: a
# connection is then not reused at the moment in which the other side closes it.
KEEPALIVE_EXPIRY_S = 30.0
MAX_IDLE_CONNECTIONS = 64


class ClientOptions(TypedDict):
    """Arguments of httpx's clients."""

    headers: dict[str, str]
    timeout: httpx.Timeout
    limits: httpx.Limits
    trust_env: bool
    verify: ssl.SSLContext | bool
    follow_redirects: bool


def client_options(config: Config) -> ClientOptions:
    """Options for a client of this config.

    The number of connections has no limit: every running command holds one, and a limit would let the fifty-first
    command wait for the first to end.
    """
    headers = {"user-agent": f"atoll-python/{__version__}", "accept-encoding": "identity"}
    if config.api_key is not None:
        headers["x-api-key"] = config.api_key
    return ClientOptions(
        headers=headers,
        timeout=httpx.Timeout(config.request_timeout_s, connect=config.connect_timeout_s),
        limits=httpx.Limits(
            max_connections=None,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=KEEPALIVE_EXPIRY_S,
        ),
        trust_env=not config.is_loopback,
        # Loading the certificate store takes 30 ms, which a plain connection has no use for.
        verify=True if config.is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        follow_redirects=False,
    )
