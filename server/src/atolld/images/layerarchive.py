"""Layers on their way to and from other machines.

A layer's digest names the recipe it was built from; built elsewhere or on another day, the same recipe gives other
files. What was saved must come back over exactly the files that it lay on, so here a layer is known by the SHA-256 of
its tar. One that comes from an archive and is not there with the same contents is stored under that SHA-256: it never
takes the place of a layer that this machine builds itself.

Nobody changes the files of a layer, but nothing keeps a machine's owner from doing so. What was measured is therefore
compared with how the files look now before it is believed.
"""

from __future__ import annotations

import contextlib
import hashlib
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

# Beside the layer's manifest: what `measure` found, since reading 700 MB of small files takes ten seconds, and how the
# files looked then, which takes less than one.
_MEASURED = "contents.json"
_ABOUT = ("built_at", "inputs")


class LayerArchives:
    """Over the layers of one cache. Everything but `locked` blocks."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._store = LayerStore(cache)

    def describe(self, digest: str) -> LayerBody:
        """What an archive's manifest says of the layer.

        Raises FailedPrecondition when it is gone, or its files are not those that were measured once; OSError.
        """
        layer = self._get(digest)
        body = self._body(layer)
        if body is None:
            raise _changed(layer)
        about = {key: layer.manifest[key] for key in _ABOUT if key in layer.manifest}
        return LayerBody(digest, body, layer.size_bytes, about)

    def read(self, digest: str) -> Iterator[bytes]:
        """The layer's tar. Raises FailedPrecondition when it is gone, OSError."""
        return pack(self._get(digest).root)

    def find(self, wanted: LayerBody) -> str | None:
        """The digest under which this machine has a layer with exactly these contents, as they are now."""
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

        Raises InvalidArgument when it is no proper tar, FailedPrecondition when there is a layer of that digest whose
        files were changed, OSError; nothing is left then.
        """
        digest = wanted.body.sha256
        there = self._store.get(digest)
        if there is not None and self._body(there) != wanted.body:
            raise _changed(there)
        building = self._store.begin()
        try:
            with tar.open("rb") as file:
                unpack(file, building / "root")
            self._store.commit(building, digest, {"built_at": 0.0, **wanted.about, "imported_as": wanted.digest})
        except BaseException:
            self._store.abandon(building)
            raise
        home = self._store.directory / digest
        _remember(home, wanted.body, _looks(home / "root"))
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

    def _body(self, layer: Layer) -> Body | None:
        """What its tar is; None when that is not what it once was."""
        home = layer.root.parent
        # Before the files are read: what changes them meanwhile is seen the next time.
        looks = _looks(layer.root)
        known, looked = _recall(home)
        if known is not None and looked == looks:
            return known
        body = measure(pack(layer.root))
        if known is not None and body != known:
            return None
        # A copy of the cache looks different, and so do files that got another name elsewhere.
        _remember(home, body, looks)
        return body


def _changed(layer: Layer) -> FailedPrecondition:
    home = layer.root.parent
    return FailedPrecondition(
        f"the files of the layer {layer.digest} were changed in {layer.root} since they were first exported or "
        f"imported; put them back, or remove {home} when nothing uses it and pull or build it again",
        layer=layer.digest,
    )


def _looks(root: Path) -> str:
    """A digest of the names, sizes and times of `root` and all files below it: another one when any was changed."""
    hasher = hashlib.sha256(_look(root.lstat()))
    stack = [os.fsencode(root)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                hasher.update(entry.name + b"\0" + _look(entry.stat(follow_symlinks=False)))
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
    return hasher.hexdigest()


def _look(status: os.stat_result) -> bytes:
    # The kernel's own time of the last change, which nobody can set, tells of modes, owners and attributes, too.
    return b"%d %d %d\n" % (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _recall(home: Path) -> tuple[Body | None, str | None]:
    """What was remembered: how the files looked is None when an earlier version did."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads((home / _MEASURED).read_text(encoding="utf-8"))
        return Body(int(stored["size_bytes"]), str(stored["sha256"])), stored.get("looks")
    return None, None


def _remember(home: Path, body: Body, looks: str) -> None:
    new = home / f".{_MEASURED}.{os.getpid()}"
    told = {"size_bytes": body.size_bytes, "sha256": body.sha256, "looks": looks}
    new.write_text(json.dumps(told), encoding="utf-8")
    new.rename(home / _MEASURED)
