"""A registry in memory, in the place of `atolld.images.registry.Registry`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from atolld.foundation.errors import NotFound, Unavailable
from atolld.images.registry import Body, Credentials, Registry

from .tars import MadeImage


class FakeRegistry:
    """`manifests` by tag and digest, `blobs` by digest. `asked`: what was fetched; `breaks`: blobs that never come."""

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.broken: set[str] = set()
        self.opened: list[tuple[str, Credentials | None, bool]] = []

    def add(self, tag: str, image: MadeImage) -> MadeImage:
        self.manifests |= {tag: image.manifest, image.digest: image.manifest}
        self.blobs |= image.blobs
        return image

    def open(self, host: str, credentials: Credentials | None, insecure: bool) -> Registry:
        self.opened.append((host, credentials, insecure))
        return cast(Registry, self)

    async def __aenter__(self) -> FakeRegistry:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def manifest(self, repository: str, wanted: str, limit_bytes: int) -> tuple[bytes, str]:
        if wanted not in self.manifests:
            raise NotFound(f"no {wanted}")
        return self.manifests[wanted], ""

    async def config(self, repository: str, digest: str, limit_bytes: int) -> bytes:
        return self.blobs[digest]

    @asynccontextmanager
    async def blob(self, repository: str, digest: str, offset: int) -> AsyncIterator[Body]:
        self.asked.append(digest)
        yield Body(offset, self._pieces(digest, offset))

    async def _pieces(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        data = self.blobs[digest][offset:]
        if digest in self.broken:
            yield data[: len(data) // 2]
            raise Unavailable("the registry vanished")
        yield data
