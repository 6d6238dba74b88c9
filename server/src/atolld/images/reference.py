"""References to images as people write them: `debian:12`, `registry.example/app@sha256:...`, `localhost:5000/box`.

Pure. The rules are those of Docker's `distribution/reference`: without a registry it is Docker Hub, there without an
owner it is `library/`, and without tag and digest it is the tag `latest`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from atolld.foundation.errors import InvalidArgument

DOCKER_HUB = "docker.io"
MAX_REFERENCE = 512

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:.]{2,45}\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Reference:
    """One image at one registry. At least one of `tag` and `digest` is there; with both, the digest decides.

    `registry`: host, and port when one was given. `digest`: `sha256:` and 64 hex digits, of a manifest or an index.
    """

    registry: str
    repository: str
    tag: str | None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def wanted(self) -> str:
        """What the registry is asked for: the digest, or the tag."""
        return self.digest or self.tag or "latest"

    @property
    def short(self) -> str:
        """As people write it: without Docker Hub's name and `library/`."""
        if self.registry != DOCKER_HUB:
            return str(self)
        text = str(self).removeprefix(f"{DOCKER_HUB}/").removeprefix("library/")
        # An owner there may be called like a registry.
        return text if parse_reference(text) == self else str(self)


def parse_reference(text: str) -> Reference:
    """`text` as a reference. Raises InvalidArgument that names the part which is wrong."""
    if not text or len(text) > MAX_REFERENCE:
        raise _wrong(text, f"1 to {MAX_REFERENCE} characters are expected")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _wrong(text, "after '@' comes 'sha256:' and 64 hex digits")
    registry, rest = _split_registry(rest)
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _wrong(text, f"{tag[:80]!r} is not a tag: 1 to 128 letters, digits, '.', '_' and '-'")
    if not _HOST.fullmatch(registry) or ".." in registry or not _port_fits(registry):
        raise _wrong(text, f"{registry[:80]!r} is not the name of a registry")
    if not _REPOSITORY.fullmatch(repository):
        raise _wrong(
            text, f"{repository[:80]!r} is not a repository: lower-case letters, digits, '.', '_', '-' and '/'"
        )
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, tag if colon else None if at else "latest", digest if at else None)


def _split_registry(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return DOCKER_HUB, text
    registry = first.lower()
    return (DOCKER_HUB if registry in ("index.docker.io", "registry-1.docker.io") else registry), rest


def _port_fits(registry: str) -> bool:
    host, colon, port = registry.rpartition(":")
    if registry.startswith("["):
        literal = registry[1 : registry.index("]")]
        try:
            ipaddress.IPv6Address(literal)
        except ValueError:
            return False
    return registry.endswith("]") or not colon or (bool(host) and 0 < int(port) < 65536)


def _wrong(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{text[:120]!r} is not a reference to an image: {why}")
