"""Signed URLs of files name no sandbox: the one whose token made the signature is looked for."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from atolld.foundation.ids import SandboxId

# After so many the loop gets a turn; one costs about a microsecond.
BATCH = 500
MAX_CANDIDATES = 20_000

_SIGNATURE = re.compile(rb"v1_[A-Za-z0-9+/]{43}")
_NUMBER = re.compile(rb"[+-]?[0-9]{1,19}")
_OPERATION = {"GET": b"read", "HEAD": b"read", "POST": b"write"}


class Claim:
    """What a signed URL says: a path, a user, perhaps an end, and the signature that binds them to a token."""

    def __init__(self, signature: bytes, signed: bytes, end: bytes) -> None:
        self._signature = signature
        self._hash = hashlib.sha256(signed)
        self._end = end

    def made_with(self, token: str) -> bool:
        """Whether `token` made the signature; takes the same time for every token of one length."""
        hashed = self._hash.copy()
        hashed.update(token.encode() + self._end)
        return hmac.compare_digest(b"v1_" + b64encode(hashed.digest()).rstrip(b"="), self._signature)

    def over(self, now_s: float) -> bool:
        """Whether its time had run out at `now_s` (Unix seconds)."""
        return bool(self._end) and int(self._end[1:]) < int(now_s)


def parse(method: str, query: bytes) -> Claim | None:
    """The claim of a request for `/files`, read as the agent reads it; None when it is signed in no known way.

    Of a sandbox that runs, whether its time is over is the agent's to say.
    """
    operation = _OPERATION.get(method)
    values: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        values.setdefault(name, unquote_to_bytes(value.replace(b"+", b" ")))
    signature = values.get(b"signature", b"")
    end = values.get(b"signature_expiration", b"")
    if operation is None or not _SIGNATURE.fullmatch(signature) or (end and not _NUMBER.fullmatch(end)):
        return None
    signed = b":".join((values.get(b"path", b""), operation, values.get(b"username", b""), b""))
    return Claim(signature, signed, b":%d" % int(end) if end else b"")


async def find(claim: Claim, candidates: Iterable[tuple[SandboxId, str]]) -> SandboxId | None:
    """The sandbox, among at most 20000 pairs of id and token, whose token made the claim's signature."""
    for number, (id, token) in enumerate(candidates):
        if number >= MAX_CANDIDATES:
            return None
        if number % BATCH == BATCH - 1:
            await asyncio.sleep(0)
        if claim.made_with(token):
            return id
    return None
