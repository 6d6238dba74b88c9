"""Layers on their way to and from other machines.

A layer's digest names the recipe it was built from; built elsewhere or on another day, the same recipe gives other
files. What was saved must come back over exactly the files that it lay on, so here a layer is known by the SHA-256 of
its tar. One that comes from an archive and is not there with the same contents is stored under that SHA-256: it never
takes the place of a layer that this machine builds itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from atolld.foundation.errors import FailedPrecondition
from atolld.host.archivehead import Body, LayerBody
from atolld.host.archivestream import measure
from atolld.images.layers import Layer, LayerStore
from atolld.images.layertar import pack, unpack
from atolld.images.locks import exclusive

# Beside the layer's manifest: what `measure` found, since reading 700 MB of small files takes ten seconds.
_MEASURED = "contents.json"
_ABOUT = ("built_at", "inputs")


class LayerArchives:
    """Over the layers of one cache. Everything but `locked` blocks."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._store = LayerStore(cache)

    def describe(self, digest: str) -> LayerBody:
        """What an archive's manifest says of the layer. Raises FailedPrecondition when it is gone, OSError."""
        layer = self._get(digest)
        about = {key: layer.manifest[key] for key in _ABOUT if key in layer.manifest}
        return LayerBody(digest, self._body(layer), layer.size_bytes, about)

    def read(self, digest: str) -> Iterator[bytes]:
        """The layer's tar. Raises FailedPrecondition when it is gone, OSError."""
        return pack(self._get(digest).root)

    def find(self, wanted: LayerBody) -> str | None:
        """The digest under which this machine has a layer with exactly these contents."""
        for digest in (wanted.digest, wanted.body.sha256):
            layer = self._store.get(digest)
            if layer is not None and self._body(layer) == wanted.body:
                return digest
        return None

    def root(self, digest: str) -> Path:
        """Where the layer's files are."""
        return self._store.directory / digest / "root"

    def free_bytes(self) -> int:
        """Room for layers."""
        self._store.directory.mkdir(parents=True, exist_ok=True)
        space = os.statvfs(self._store.directory)
        return space.f_bavail * space.f_frsize

    def locked(self) -> AbstractAsyncContextManager[None]:
        """No build and no cleaning of the cache runs meanwhile."""
        self._store.directory.mkdir(parents=True, exist_ok=True)
        return exclusive(self._cache / "build.lock")

    def add(self, wanted: LayerBody, tar: Path) -> str:
        """Store the layer whose tar is `tar`, whose SHA-256 was compared; returns its digest. The lock is held.

        Raises InvalidArgument when it is no proper tar, OSError; nothing is left then.
        """
        digest = wanted.body.sha256
        building = self._store.begin()
        try:
            with tar.open("rb") as file:
                unpack(file, building / "root")
            self._store.commit(building, digest, {"built_at": 0.0, **wanted.about, "imported_as": wanted.digest})
        except BaseException:
            self._store.abandon(building)
            raise
        _remember(self._store.directory / digest, wanted.body)
        return digest

    def drop(self, digests: Collection[str]) -> None:
        """Remove those of `digests` that nothing uses. The lock is held."""
        used = self._store.layers_in_use()
        for digest in digests:
            if digest not in used:
                self._store.drop(digest, time.time())

    def _get(self, digest: str) -> Layer:
        layer = self._store.get(digest)
        if layer is None:
            raise FailedPrecondition(f"the template layer {digest} is gone from {self._store.directory}")
        return layer

    def _body(self, layer: Layer) -> Body:
        home = layer.root.parent
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            stored = json.loads((home / _MEASURED).read_text(encoding="utf-8"))
            return Body(int(stored["size_bytes"]), str(stored["sha256"]))
        body = measure(pack(layer.root))
        _remember(home, body)
        return body


def _remember(home: Path, body: Body) -> None:
    new = home / f".{_MEASURED}.{os.getpid()}"
    new.write_text(json.dumps({"size_bytes": body.size_bytes, "sha256": body.sha256}), encoding="utf-8")
    new.rename(home / _MEASURED)
