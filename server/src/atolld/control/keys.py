"""API keys.

A secret is `e2b_` and 40 hexadecimal digits: tools made for E2B refuse any other prefix. Stored is its SHA-256. A slow
hash as for passwords would add nothing: the secret has 160 random bits, so it cannot be guessed from its hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from atolld.core.project import ApiKey, Principal
from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import InvalidArgument, Unauthenticated
from atolld.foundation.ids import KeyId, ProjectId, new_key_id
from atolld.storage.store import KeyStore

PREFIX = "e2b_"
SECRET_DIGITS = 40
SHOWN_CHARACTERS = 12
MAX_NAME = 128
# How long another process that revokes a key in the database (`atolld key revoke`) may go unnoticed; a key revoked
# through this daemon is refused at once.
RECHECK_S = 2.0
TOUCH_EVERY_S = 60.0

_SECRET = re.compile(r"e2b_[0-9a-f]{40}")


@dataclass(slots=True)
class _Known:
    digest: bytes
    principal: Principal
    checked_at: float
    touched_at: float


class Keys:
    """Makes, lists, revokes and checks keys."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._used: dict[KeyId, float] = {}
        self._flushing = asyncio.Lock()
        self._revocations = 0

    async def create(self, project_id: ProjectId, name: str) -> tuple[ApiKey, str]:
        """A new key and its secret, which cannot be read again.

        Raises InvalidArgument when `name` is empty, over 128 characters or not printable, NotFound without the project.
        """
        _check_name(name)
        secret = PREFIX + secrets.token_hex(SECRET_DIGITS // 2)
        key = ApiKey(new_key_id(), project_id, name, secret[:SHOWN_CHARACTERS], self._clock.now())
        await self._store.insert(key, _digest(secret).hex())
        return key, secret

    async def list(self, project_id: ProjectId) -> list[ApiKey]:
        """All of the project, oldest first, revoked ones too."""
        await self.flush()
        return await self._store.list(project_id)

    async def rename(self, project_id: ProjectId, key_id: KeyId, name: str) -> None:
        """Give the key another name. Raises InvalidArgument as `create`, NotFound as `revoke`."""
        _check_name(name)
        await self._store.rename(project_id, key_id, name)

    async def revoke(self, project_id: ProjectId, key_id: KeyId) -> None:
        """Refuse the key from now on. Raises NotFound when the project has no such key or it is revoked already."""
        await self._store.revoke(project_id, key_id, self._clock.now())
        self._revocations += 1
        self._known = {k: known for k, known in self._known.items() if known.principal.key_id != key_id}

    async def authenticate(self, secret: str) -> Principal:
        """Who the secret speaks for.

        Raises Unauthenticated when it has not the form of a key, is not known, or was revoked.
        """
        if not _SECRET.fullmatch(secret):
            raise Unauthenticated("this is not an API key: `e2b_` and 40 hexadecimal digits are expected")
        digest = _digest(secret)
        now = self._clock.monotonic()
        known = self._known.get(digest)
        if known is None or not 0 <= now - known.checked_at < RECHECK_S:
            known = await self._look_up(digest, now)
        # The lookup above compares hashes of what the caller sent, which tells an attacker nothing about the secret.
        if not hmac.compare_digest(known.digest, digest):
            raise _unknown()
        if now - known.touched_at >= TOUCH_EVERY_S:
            known.touched_at = now
            self._touch(known.principal.key_id)
        return known.principal

    async def flush(self) -> None:
        """Write when keys were last used; what another flush is just writing is written when this returns, too."""
        async with self._flushing:
            used, self._used = self._used, {}
            await self._store.touch(used)

    async def _look_up(self, digest: bytes, now: float) -> _Known:
        revocations = -1
        while revocations != self._revocations:
            # Read again when a key was revoked meanwhile: the answer may be from before.
            revocations = self._revocations
            key = await self._store.find(digest.hex())
        if key is None or key.revoked_at is not None:
            self._known.pop(digest, None)
            raise _unknown()
        before = self._known.get(digest)
        touched_at = before.touched_at if before is not None else float("-inf")
        known = _Known(digest, Principal(key.project_id, key.id), now, touched_at)
        self._known[digest] = known
        return known

    def _touch(self, id: KeyId) -> None:
        first = not self._used
        self._used[id] = self._clock.now()
        if first:
            spawn(self.flush(), name="keys-last-used")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidArgument(f"a key's name is 1 to {MAX_NAME} printable characters, not {name[:80]!r}")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _unknown() -> Unauthenticated:
    return Unauthenticated("the API key does not exist or was revoked")
