"""Encryption of archives with a passphrase, in the format of age (https://age-encryption.org/v1).

Any program that reads age reads them: `age -d snapshot.atoll`. The key comes from the passphrase by scrypt; the content
follows in pieces of 64 KiB, each sealed with ChaCha20-Poly1305, the last one marked, so that a changed, cut off or
reordered file is noticed, and gigabytes take constant memory.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from types import SimpleNamespace

from atoll._errors import InvalidArgument, Unavailable

PIECE_BYTES = 64 * 1024
# 2**18: 256 MiB of memory and about a second for each guess. A file may ask for up to 2**20.
WORK_FACTOR = 18
MAX_WORK_FACTOR = 20
# Everything that this module writes is below 200 bytes; other programs may name further recipients, which are refused.
MAX_HEADER_BYTES = 4096

_VERSION = b"age-encryption.org/v1\n"
_LABEL = b"age-encryption.org/v1/scrypt"
_TAG_BYTES = 16
_NONCE_BYTES = 16
_HEADER = re.compile(
    rb"age-encryption\.org/v1\n"
    rb"-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n"
    rb"([A-Za-z0-9+/]{43})\n"
    rb"--- ([A-Za-z0-9+/]{43})\n"
)
_NO_ARCHIVE = (
    "this is no archive that `atoll snapshot export` wrote, nor another file that age encrypted with a passphrase"
)


class Encryptor:
    """Seals a stream: `begin`, `update` any number of times, `finish`; what they return is the file.

    Making one takes about a second (scrypt). Raises InvalidArgument for an empty passphrase, Unavailable when the
    library for it is missing.
    """

    def __init__(self, passphrase: str, *, work_factor: int | None = None) -> None:
        self._crypto = _library()
        work_factor = WORK_FACTOR if work_factor is None else work_factor
        salt, file_key, nonce = os.urandom(16), os.urandom(16), os.urandom(_NONCE_BYTES)
        wrapped = self._crypto.aead(_scrypt(self._crypto, passphrase, salt, work_factor)).encrypt(
            bytes(12), file_key, None
        )
        header = _VERSION + b"-> scrypt %s %d\n%s\n---" % (_encode(salt), work_factor, _encode(wrapped))
        self._head = header + b" " + _encode(_mac(self._crypto, file_key, header)) + b"\n" + nonce
        self._sealer = _Pieces(self._crypto, file_key, nonce)
        self._buffer = bytearray()

    def begin(self) -> bytes:
        """The first bytes of the file."""
        return self._head

    def update(self, data: bytes) -> bytes:
        """More content."""
        self._buffer += data
        sealed = bytearray()
        # The last piece is held back: only the end tells that it is the last.
        while len(self._buffer) > PIECE_BYTES:
            sealed += self._sealer.seal(bytes(self._buffer[:PIECE_BYTES]), last=False)
            del self._buffer[:PIECE_BYTES]
        return bytes(sealed)

    def finish(self) -> bytes:
        """The end of the file."""
        return self._sealer.seal(bytes(self._buffer), last=True)


class Decryptor:
    """Opens what `Encryptor` sealed: `update` any number of times, then `finish`.

    Nothing that they return is unverified; that nothing is missing at the end is known after `finish`.
    Raises InvalidArgument for another passphrase or a damaged file, Unavailable when the library for it is missing.
    """

    def __init__(self, passphrase: str) -> None:
        self._crypto = _library()
        self._passphrase = passphrase
        self._pieces: _Pieces | None = None
        self._buffer = bytearray()

    def update(self, data: bytes) -> bytes:
        """More of the file; takes about a second when the header is complete (scrypt)."""
        self._buffer += data
        if self._pieces is None:
            self._pieces = self._open_header()
            if self._pieces is None:
                return b""
        opened = bytearray()
        while len(self._buffer) > PIECE_BYTES + _TAG_BYTES:
            opened += self._pieces.open(bytes(self._buffer[: PIECE_BYTES + _TAG_BYTES]), last=False)
            del self._buffer[: PIECE_BYTES + _TAG_BYTES]
        return bytes(opened)

    def finish(self) -> bytes:
        """The last of the content."""
        if self._pieces is None:
            raise InvalidArgument(_NO_ARCHIVE if not self._buffer else "the file is cut off in its header")
        return self._pieces.open(bytes(self._buffer), last=True)

    def _open_header(self) -> _Pieces | None:
        mac_at = self._buffer.find(b"\n--- ")
        end = self._buffer.find(b"\n", mac_at + 1) + 1 if mac_at >= 0 else 0
        if not end and len(self._buffer) <= MAX_HEADER_BYTES and self._buffer.startswith(_VERSION[: len(self._buffer)]):
            return None
        if end and len(self._buffer) < end + _NONCE_BYTES:
            return None
        parts = _HEADER.fullmatch(bytes(self._buffer[:end]))
        if parts is None:
            raise InvalidArgument(_NO_ARCHIVE)
        file_key = self._unwrap(*parts.groups()[:3])
        mac = _mac(self._crypto, file_key, bytes(self._buffer[: mac_at + 4]))
        if not hmac.compare_digest(mac, _decode(parts[4])):
            raise InvalidArgument("the file is damaged: its header is not as it was written")
        nonce = bytes(self._buffer[end : end + _NONCE_BYTES])
        del self._buffer[: end + _NONCE_BYTES]
        return _Pieces(self._crypto, file_key, nonce)

    def _unwrap(self, salt: bytes, work: bytes, wrapped: bytes) -> bytes:
        work_factor = int(work)
        if work_factor > MAX_WORK_FACTOR:
            raise InvalidArgument(
                f"the file asks for a work factor of {work_factor} (2**{work_factor} KiB of memory); at most "
                f"{MAX_WORK_FACTOR} is done"
            )
        key = _scrypt(self._crypto, self._passphrase, _decode(salt), work_factor)
        try:
            file_key: bytes = self._crypto.aead(key).decrypt(bytes(12), _decode(wrapped), None)
        except self._crypto.invalid:
            raise InvalidArgument("the passphrase is not the one that the archive was made with") from None
        return file_key


class _Pieces:
    """Seals or opens one piece after the other: the nonce is the piece's number and whether it is the last."""

    def __init__(self, crypto: SimpleNamespace, file_key: bytes, nonce: bytes) -> None:
        self._crypto = crypto
        self._aead = crypto.aead(_derive(crypto, file_key, nonce, b"payload"))
        self._number = 0

    def seal(self, piece: bytes, *, last: bool) -> bytes:
        sealed: bytes = self._aead.encrypt(self._nonce(last), piece, None)
        return sealed

    def open(self, piece: bytes, *, last: bool) -> bytes:
        try:
            opened: bytes = self._aead.decrypt(self._nonce(last), piece, None)
        except (self._crypto.invalid, ValueError):
            raise InvalidArgument("the file is damaged: it was changed or cut off") from None
        if last and not opened and self._number > 1:
            raise InvalidArgument("the file is damaged: its last piece is empty")
        return opened

    def _nonce(self, last: bool) -> bytes:
        number = self._number.to_bytes(11, "big")
        self._number += 1
        return number + (b"\1" if last else b"\0")


def _library() -> SimpleNamespace:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    except ImportError:
        raise Unavailable(
            "archives are encrypted by the library cryptography, which is not installed: pip install 'atoll[archive]'"
        ) from None
    return SimpleNamespace(aead=ChaCha20Poly1305, invalid=InvalidTag, sha256=SHA256, hkdf=HKDF, scrypt=Scrypt)


def _scrypt(crypto: SimpleNamespace, passphrase: str, salt: bytes, work_factor: int) -> bytes:
    if not passphrase:
        raise InvalidArgument("the passphrase is empty")
    kdf = crypto.scrypt(salt=_LABEL + salt, length=32, n=1 << work_factor, r=8, p=1)
    key: bytes = kdf.derive(passphrase.encode())
    return key


def _derive(crypto: SimpleNamespace, file_key: bytes, salt: bytes, info: bytes) -> bytes:
    key: bytes = crypto.hkdf(algorithm=crypto.sha256(), length=32, salt=salt, info=info).derive(file_key)
    return key


def _mac(crypto: SimpleNamespace, file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derive(crypto, file_key, b"", b"header"), header, "sha256")


def _encode(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise InvalidArgument(_NO_ARCHIVE) from None
    # Of the spellings of the same bytes only one is taken.
    if _encode(data) != text:
        raise InvalidArgument(_NO_ARCHIVE)
    return data
