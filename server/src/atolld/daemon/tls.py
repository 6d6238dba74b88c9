"""TLS for the daemon's second listener: which certificate, and that it is a fresh one."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from atolld.daemon import certificates
from atolld.daemon.settings import Settings
from atolld.foundation.clock import Clock
from atolld.foundation.errors import AtollError

log = logging.getLogger("atolld.tls")

CHECK_S = 3600.0


class Tls:
    """The context of the TLS listener for `settings` with `tls` other than off; `protocols` are offered by ALPN.

    Raises FailedPrecondition when the certificate or its key cannot be used.
    """

    def __init__(self, settings: Settings, protocols: list[str]) -> None:
        self._settings = settings
        self._loaded: tuple[object, ...] = ()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(protocols)
        self.refresh()

    def refresh(self) -> bool:
        """Renew a certificate of our own that ends soon; load what has changed. True when something was loaded.

        Raises FailedPrecondition; what was loaded before goes on being served then.
        """
        chain, key = self._files()
        now = (_version(chain), _version(key))
        if now == self._loaded:
            return False
        certificates.load_into(self.context, chain, key)
        self._loaded = now
        return True

    async def keep_fresh(self, clock: Clock) -> None:
        """Look once an hour, for ever."""
        while True:
            await clock.sleep(CHECK_S)
            try:
                if self.refresh():
                    log.info("serving TLS with a new certificate")
            except AtollError as error:
                log.error("the TLS certificate was not renewed: %s", error.message)

    def _files(self) -> tuple[Path, Path]:
        settings = self._settings
        if settings.tls == "auto":
            assert settings.domain is not None, "checked when the settings were loaded"
            files = certificates.ensure(settings.state, settings.domain)
            return files.chain, files.key
        assert settings.tls_cert is not None and settings.tls_key is not None, "checked when the settings were loaded"
        return settings.tls_cert, settings.tls_key


def _version(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        # Loading it tells what is wrong.
        return None
    return found.st_mtime_ns, found.st_ino
