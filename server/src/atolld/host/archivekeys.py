"""Who may write archives that this machine reads: its own signing key, and the public keys it trusts.

A memory image is read by the sandbox's kernel and a disk image by the host's, so neither is taken from just anybody.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from atolld.foundation.errors import FailedPrecondition, InvalidArgument, PermissionDenied

FILE = "archive.key"
KEY_BYTES = 32
SIGNATURE_BYTES = 64
_PREFIX = "atoll-archive-"
# Signed with every message, so that a signature made for anything else is none of ours.
_DOMAIN = b"atoll archive manifest 1\0"


@dataclass(frozen=True, slots=True)
class ArchiveKeys:
    """`own` signs what this machine exports; `trusted` are public keys of others, as `parse_public_key` gives them."""

    own: Ed25519PrivateKey
    trusted: frozenset[bytes] = frozenset()

    @property
    def public(self) -> bytes:
        """The own public key."""
        return self.own.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, 64 bytes."""
        return self.own.sign(_DOMAIN + message)

    def verify(self, message: bytes, public: bytes, signature: bytes) -> None:
        """Raises PermissionDenied when `public` is not trusted, InvalidArgument when the signature is not its."""
        if public != self.public and public not in self.trusted:
            told = public_key_text(public)
            raise PermissionDenied(
                f"the archive is signed by {told}, which this machine does not trust. If you know the machine that "
                "made it (there, `atolld archive-key` prints its key), add the key to the setting archive_trust",
                key=told,
            )
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, _DOMAIN + message)
        except (InvalidSignature, ValueError):
            raise InvalidArgument("the archive is damaged: its signature does not fit its contents") from None


def open_keys(state_dir: Path, trusted: Sequence[str] = ()) -> ArchiveKeys:
    """The keys of the instance in `state_dir`; its own is made, 0600, when there is none.

    Raises InvalidArgument when one of `trusted` is no key, FailedPrecondition when the stored one is damaged, OSError.
    """
    others = frozenset(map(parse_public_key, trusted))
    path = state_dir / FILE
    with contextlib.suppress(FileNotFoundError):
        return ArchiveKeys(_read(path), others)
    new = state_dir / f".{FILE}.{os.getpid()}"
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, Ed25519PrivateKey.generate().private_bytes_raw())
        os.fsync(descriptor)
        # A link and not a rename: of two that make the key at once, the second takes the first one's.
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        os.close(descriptor)
        new.unlink()
    return ArchiveKeys(_read(path), others)


def public_key_text(public: bytes) -> str:
    """The form in which people see and set a key: `atoll-archive-` and 43 characters."""
    return _PREFIX + base64.urlsafe_b64encode(public).decode("ascii").rstrip("=")


def parse_public_key(text: str) -> bytes:
    """The key in `public_key_text`'s form. Raises InvalidArgument."""
    body = text.strip().removeprefix(_PREFIX)
    try:
        if not text.strip().startswith(_PREFIX):
            raise ValueError("no prefix")
        public = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        Ed25519PublicKey.from_public_bytes(public)
    except (ValueError, binascii.Error):
        raise InvalidArgument(
            f"{text[:80]!r} is no archive key; `atolld archive-key` prints one: {_PREFIX} and 43 characters"
        ) from None
    return public


def _read(path: Path) -> Ed25519PrivateKey:
    stored = path.read_bytes()
    if len(stored) != KEY_BYTES:
        raise FailedPrecondition(f"the archive key {path} is damaged; remove it, and a new one is made")
    return Ed25519PrivateKey.from_private_bytes(stored)
