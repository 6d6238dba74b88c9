"""Pulling an image: manifest, config, the layers that are missing, the record.

What is whole stays, whatever happens: the next pull finds whole layers in the store and parts of blobs beside them.
Only a pull that is refused takes its layers with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import FailedPrecondition, Internal, InvalidArgument
from atolld.foundation.ids import ProjectId
from atolld.images.blobs import RESERVE_BYTES, Blobs
from atolld.images.imagelayers import ImageLayers, LayerId, chain_of, naming
from atolld.images.imagestore import Image, ImageStore, Record
from atolld.images.layers import Layer
from atolld.images.locks import shared
from atolld.images.oci import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    Descriptor,
    ImageConfig,
    Manifest,
    Platform,
    choose,
    host_platform,
    parse_config,
    parse_manifest,
)
from atolld.images.reference import Reference
from atolld.images.registry import Credentials, Registry

# Layers that are fetched at once.
PARALLEL = 3
_MAX_INDEXES = 2
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class PullProgress:
    """One step. `phase`: `resolve`, `wait`, `download`, `unpack`, `present` (a layer that was there already), `done`.

    `layer`: the digest of its blob, `""` when it is about the whole image. `bytes`, `total_bytes`: of that blob.
    """

    phase: str
    layer: str = ""
    bytes: int = 0
    total_bytes: int = 0


OnProgress = Callable[[PullProgress], None]
OpenRegistry = Callable[[str, Credentials | None, bool], Registry]


@dataclass(frozen=True, slots=True)
class _Wanted:
    digest: str
    manifest: Manifest
    config: ImageConfig


@dataclass(frozen=True, slots=True)
class _Part:
    """One layer: its blob, and its place in the chain."""

    blob: Descriptor
    id: LayerId


def open_registry(host: str, credentials: Credentials | None, insecure: bool) -> Registry:
    """The registry at `host`."""
    return Registry(host, credentials, insecure=insecure)


class Puller:
    """Pulls into one cache. `platform`: by default the machine's; `registry`: opens one."""

    def __init__(
        self,
        cache: Path,
        *,
        clock: Clock | None = None,
        platform: Platform | None = None,
        registry: OpenRegistry = open_registry,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._cache = cache
        self._clock = clock or SystemClock()
        self._platform = platform
        self._open = registry
        self._store = ImageStore(cache)
        self._layers = ImageLayers(cache, clock, reserve_bytes)
        self._blobs = Blobs(cache, clock, reserve_bytes)

    async def pull(
        self,
        project_id: ProjectId,
        reference: Reference,
        credentials: Credentials | None = None,
        *,
        insecure: bool = False,
        progress: OnProgress,
    ) -> Image:
        """The image, fetched as far as it is not here. `insecure`: over plain HTTP.

        Raises NotFound, PermissionDenied, InvalidArgument (refused), FailedPrecondition (not for this machine),
        Capacity, Unavailable, each with its reason.
        """
        platform = self._platform or host_platform(os.uname().machine)
        async with hold(self._cache, progress), self._open(reference.registry, credentials, insecure) as registry:
            wanted = await _resolve(registry, reference, platform)
            progress(PullProgress("resolve"))
            parts = list(map(_Part, wanted.manifest.layers, chain_of(wanted.config.diff_ids)))
            self._check_room(parts)
            added: set[str] = set()
            try:
                for _ in range(_ROUNDS):
                    layers = await self._fetch_all(registry, reference, parts, added, progress)
                    new = _record_of(reference, wanted, layers, self._clock)
                    image = await record(self._cache, self._store, project_id, new)
                    if image is not None:
                        progress(PullProgress("done"))
                        return image
            except InvalidArgument:
                for part in parts:
                    self._blobs.remove(part.blob.digest)
                await self._layers.drop(added)
                raise
        raise Internal(f"layers of {reference} vanish while it is pulled: is {self._cache} being cleaned by hand?")

    def _check_room(self, parts: Sequence[_Part]) -> None:
        missing = {part.blob.digest: part.blob.size_bytes for part in parts if self._layers.find(part.id) is None}
        # Unpacked, too; mostly it is thrice as much, but who knows: the rest is found while it is written.
        self._blobs.check_room(2 * sum(missing.values()))

    async def _fetch_all(
        self, registry: Registry, reference: Reference, parts: Sequence[_Part], added: set[str], progress: OnProgress
    ) -> list[Layer]:
        """All layers, the lowest first. Blobs come side by side; each is unpacked once all below it are there."""
        gate = asyncio.Semaphore(PARALLEL)

        async def fetch(part: _Part) -> None:
            async with gate:
                if self._layers.find(part.id) is None:
                    await self._fetch(registry, reference, part.blob, progress)

        downloads = [spawn(fetch(part), name=f"pull-{part.blob.digest[:19]}", report=False) for part in parts]
        layers: list[Layer] = []
        try:
            for part, download in zip(parts, downloads, strict=True):
                await _first_fault(download, downloads)
                layer, is_new = await self._unpacked(registry, reference, part, layers, progress)
                if is_new:
                    added.add(layer.digest)
                layers.append(layer)
                self._blobs.remove(part.blob.digest)
        finally:
            await cancel_and_wait(*downloads)
            for download in downloads:
                # What went wrong first is told; the others' ends were ours.
                if not download.cancelled():
                    download.exception()
        return layers

    async def _unpacked(
        self, registry: Registry, reference: Reference, part: _Part, below: Sequence[Layer], progress: OnProgress
    ) -> tuple[Layer, bool]:
        total = part.blob.size_bytes
        layer = self._layers.find(part.id)
        if layer is not None:
            progress(PullProgress("present", part.blob.digest, total, total))
            return layer, False
        for _ in range(_ROUNDS):
            progress(PullProgress("unpack", part.blob.digest, total, total))
            try:
                return await self._layers.add(part.id, self._blobs.path(part.blob.digest), below)
            except FileNotFoundError:
                # Another pull has unpacked and removed it, over other layers than ours.
                await self._fetch(registry, reference, part.blob, progress)
        raise Internal(f"{part.blob.digest} vanishes while it is unpacked: is {self._cache} being cleaned by hand?")

    async def _fetch(self, registry: Registry, reference: Reference, blob: Descriptor, progress: OnProgress) -> None:
        def told(count: int) -> None:
            progress(PullProgress("download", blob.digest, count, blob.size_bytes))

        await self._blobs.fetch(blob, lambda offset: registry.blob(reference.repository, blob.digest, offset), told)


async def record(cache: Path, store: ImageStore, project_id: ProjectId, new: Record) -> Image | None:
    """Write the record if all its layers are there, which nobody can remove from then on; else None."""
    async with naming(cache):
        layers = ImageLayers(cache)
        if not all(layers.has(digest) for digest in new.layers):
            return None
        return store.put(project_id, new)


def hold(cache: Path, progress: OnProgress) -> AbstractAsyncContextManager[None]:
    """While it is entered, nothing is pruned."""
    (cache / "images").mkdir(mode=0o700, parents=True, exist_ok=True)
    return shared(cache / "images" / "pull.lock", lambda: progress(PullProgress("wait")))


async def _first_fault(wanted: asyncio.Task[None], all_of_them: Sequence[asyncio.Task[None]]) -> None:
    """Wait for `wanted`; a fault of another one ends it too. Raises that fault."""
    pending = set(all_of_them)
    while not wanted.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    wanted.result()


async def _resolve(registry: Registry, reference: Reference, platform: Platform) -> _Wanted:
    wanted = reference.wanted
    expected = reference.digest
    for _ in range(_MAX_INDEXES + 1):
        data, media_type = await registry.manifest(reference.repository, wanted, MAX_MANIFEST_BYTES)
        digest = _verified(data, expected)
        found = parse_manifest(data, media_type)
        if isinstance(found, Manifest):
            config = await _config(registry, reference, found, platform)
            return _Wanted(digest, found, config)
        wanted = expected = choose(found, platform).digest
    raise InvalidArgument(f"{reference} is an index of indexes of indexes")


async def _config(registry: Registry, reference: Reference, manifest: Manifest, platform: Platform) -> ImageConfig:
    data = await registry.config(reference.repository, manifest.config.digest, MAX_CONFIG_BYTES)
    _verified(data, manifest.config.digest)
    return checked_config(data, len(manifest.layers), platform)


def checked_config(data: bytes, layers: int, platform: Platform) -> ImageConfig:
    """The config of an image of so many layers. Raises InvalidArgument, FailedPrecondition when it is for others."""
    config = parse_config(data)
    if len(config.diff_ids) != layers or not layers:
        raise InvalidArgument(f"the image has {layers} layers, and its config names {len(config.diff_ids)}")
    if (config.platform.os, config.platform.architecture) != (platform.os, platform.architecture):
        raise FailedPrecondition(f"the image is made for {config.platform}, not for this machine's {platform}")
    return config


def _verified(data: bytes, expected: str | None) -> str:
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if expected is not None and found != expected:
        raise InvalidArgument(f"the registry sent other bytes than it promised: {found} instead of {expected}")
    return found


def _record_of(reference: Reference, wanted: _Wanted, layers: Sequence[Layer], clock: Clock) -> Record:
    config = wanted.config
    return Record(reference, wanted.digest, str(config.platform), topmost(layers), config.run, clock.now())


def topmost(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Their digests, each once: overlayfs takes no directory twice, and what the upper one of two equal layers does not
    decide anew, the lower one did not decide either."""
    digests = [layer.digest for layer in layers]
    return tuple(digest for number, digest in enumerate(digests) if digest not in digests[number + 1 :])
