"""Which daemon to talk to, with which key, and how patiently."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from atoll._errors import InvalidArgument

DEFAULT_API_URL = "http://127.0.0.1:8880"


@dataclass(frozen=True)
class Config:
    """One daemon and how to talk to it. Equal configs share one pool of connections.

    api_url: base address, `http://` or `https://`; no trailing path is needed.
    api_key: sent as `X-API-Key`; None sends none.
    request_timeout_s: for one answer of an ordinary request; streams and commands have limits of their own.
    connect_timeout_s: for opening one connection.
    retries: how often a request is sent again when it surely had no effect (the connection could not be opened, or
        the daemon answered 429 or 503 with Retry-After) or when sending it twice does no harm.
    resume_timeout_s: how long an interrupted output stream tries to be taken up again, for instance while the daemon
        restarts, before ConnectionFailed is raised.
    """

    api_url: str = DEFAULT_API_URL
    api_key: str | None = field(default=None, repr=False)
    request_timeout_s: float = 60.0
    connect_timeout_s: float = 5.0
    retries: int = 3
    resume_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(
                f"the API address {self.api_url!r} is not an http:// or https:// address; set ATOLL_API_URL"
            )
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise InvalidArgument("the API key holds characters that no key has; check ATOLL_API_KEY")
        object.__setattr__(self, "api_url", self.api_url.rstrip("/"))

    @property
    def is_tls(self) -> bool:
        """Whether the daemon is reached by https."""
        return urlsplit(self.api_url).scheme == "https"

    @property
    def is_loopback(self) -> bool:
        """Whether the daemon is on this machine; proxies from the environment are then ignored."""
        host = urlsplit(self.api_url).hostname or ""
        return host == "localhost" or host == "::1" or host.startswith("127.")

    @classmethod
    def load(cls, *, api_url: str | None = None, api_key: str | None = None) -> Config:
        """The config of this user: arguments, then ATOLL_API_URL and ATOLL_API_KEY, then `config_path()`.

        The file's key is only used with the file's own address, so that a key never goes to another daemon than the
        one it is for. Raises InvalidArgument when the file is not a JSON object or the address is not one.
        """
        stored = _read_stored(config_path())
        stored_url = stored.get("api_url", DEFAULT_API_URL).rstrip("/")
        url = api_url or os.environ.get("ATOLL_API_URL") or stored_url
        key = api_key or os.environ.get("ATOLL_API_KEY")
        if key is None and url.rstrip("/") == stored_url:
            key = stored.get("api_key")
        return cls(api_url=url, api_key=key)


def config_path() -> Path:
    """Where the stored config is: `$XDG_CONFIG_HOME/atoll/config.json`, by default under `~/.config`."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "atoll" / "config.json"


def _read_stored(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from error
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{path} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidArgument(f"{path} is not a JSON object")
    return {name: value for name, value in parsed.items() if isinstance(value, str)}
