"""The certificates that a machine trusts beyond those of its distribution, for a build's sandbox."""

from __future__ import annotations

from atolld.images.hostfiles import Host

_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
# Where administrators put certificates of their own.
_OWN = (
    ("/usr/local/share/ca-certificates", "**/*.crt"),
    ("/etc/pki/ca-trust/source/anchors", "*"),
    ("/etc/ca-certificates/trust-source/anchors", "*"),
)
# What programs read a bundle's path from; those of the machine may name a further one.
VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
)


def own_bundle(host: Host) -> bytes | None:
    """One file with every certificate that the machine trusts; None when it trusts its distribution's only."""
    named = {path for name in VARIABLES if (path := host.environ.get(name))} - set(_BUNDLES)
    named |= {value for section, key, value in host.ini("/etc/pip.conf") if key == "cert"} - set(_BUNDLES)
    own = [path for directory, pattern in _OWN for path in host.below(directory, pattern) if host.read(path)]
    further = [data for path in sorted(named) if (data := host.read(path))]
    system = next((data for path in _BUNDLES if (data := host.read(path))), b"")
    # Those of the first kind are in the system's bundle, unless it was not made anew.
    parts = [system, *further, *(data for path in own if (data := host.read(path)))]
    if not further and not own:
        return None
    whole: list[bytes] = []
    for part in parts:
        if part.strip() and not any(part.strip() in before for before in whole):
            whole.append(part.strip() + b"\n")
    return b"".join(whole)
