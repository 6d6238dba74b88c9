"""What builds need of the machine's layers, over one cache; see `atolld.control.buildmachine`."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from atolld.core.build import Base, BaseKind, Copy, ImageConfig, Where
from atolld.core.defaults import GuestDefaults
from atolld.foundation.aio import to_the_end
from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import Capacity, Internal, InvalidArgument, NotFound
from atolld.foundation.ids import ProjectId
from atolld.foundation.units import format_bytes
from atolld.host.instance import Instance
from atolld.host.privatemounts import in_private_mounts
from atolld.host.templatelayers import TemplateLayers
from atolld.images.baselayers import BaseLayers
from atolld.images.budget import LayerBudget
from atolld.images.cachemounts import CacheMounts
from atolld.images.contextstore import ContextStore
from atolld.images.copying import Copying
from atolld.images.copykeys import question_of, remembered
from atolld.images.copysources import Sources
from atolld.images.engine import ImageEngine
from atolld.images.imagestore import Image
from atolld.images.layermaking import Fill, make_layer, view_of
from atolld.images.layers import Layer, LayerStore
from atolld.images.pull import PullProgress
from atolld.images.reference import parse_reference
from atolld.images.registry import Credentials
from atolld.images.rootwalk import Root
from atolld.images.templates import TemplateStore
from atolld.images.tree import Refused

T = TypeVar("T")

_REFUSED = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EMLINK, errno.ERANGE})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_STAGE = "stage:"
TIDY_S = 3600.0


class BuildMachine:
    """Implements `atolld.control.buildmachine.BuildMachine` over `cache`; `instance`: whose pins it sets."""

    def __init__(
        self,
        cache: Path,
        templates: TemplateStore,
        images: ImageEngine,
        instance: Instance,
        *,
        clock: Clock | None = None,
        contexts: ContextStore | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._templates = templates
        self._images = images
        self._store = LayerStore(cache)
        self._contexts = contexts or ContextStore(cache, self._clock)
        self._mounts = CacheMounts(cache, self._clock)
        self._pins = TemplateLayers(cache / "layers", instance)
        # A place to mount stages at; every thread that does has mounts of its own.
        self._place = cache / "builds" / "view"
        self._tidied_at: float | None = None

    async def base(
        self,
        project_id: ProjectId,
        base: Base,
        credentials: Credentials | None,
        refresh: bool,
        told: Callable[[str], None],
    ) -> BaseLayers:
        """See the protocol."""
        await self._tidy()
        if base.kind is BaseKind.SCRATCH:
            return BaseLayers((), GuestDefaults(user="root"))
        if base.kind is BaseKind.TEMPLATE:
            template = await asyncio.to_thread(self._templates.get, base.name)
            return self._base(template.layers, template.defaults, ImageConfig(cmd=("/bin/bash",)))
        if base.kind is BaseKind.IMAGE:
            image = await self._image(project_id, base.name, credentials, refresh, told)
            config = ImageConfig(cmd=image.run.cmd, entrypoint=image.run.entrypoint)
            return self._base(image.layers, image.defaults, config)
        raise Internal(f"what a {base.kind} is, only the build itself knows")

    def has_layer(self, digest: str) -> bool:
        """See the protocol."""
        return self._store.use(digest, self._clock.now()) is not None

    def layer_root(self, digest: str) -> Path:
        """See the protocol."""
        return self._layer(digest).root

    def size_bytes(self, digests: tuple[str, ...]) -> int:
        """See the protocol."""
        return sum(layer.size_bytes for digest in digests if (layer := self._store.get(digest)) is not None)

    def pin(self, owner: str, digests: tuple[str, ...]) -> None:
        """See the protocol."""
        with self._store.guard():
            for digest in digests:
                self._layer(digest)
            self._pins.pin(owner, digests)

    def unpin(self, owner: str) -> None:
        """See the protocol."""
        self._pins.unpin(owner)

    async def has_files(self, project_id: ProjectId, name: str) -> bool:
        """See the protocol."""
        return await asyncio.to_thread(self._contexts.has, project_id, name)

    async def put_files(self, project_id: ProjectId, name: str, pieces: AsyncIterator[bytes]) -> int:
        """See the protocol."""
        await self._tidy()
        return await self._contexts.put(project_id, name, pieces)

    async def files_key(self, project_id: ProjectId, step: Copy, stage: tuple[str, ...] | None) -> str:
        """See the protocol."""
        layers = None if stage is None else self._layers(stage)
        stop = threading.Event()

        def key() -> str:
            if layers is not None:
                whole = _identity(layers)
                if not layers:
                    raise InvalidArgument("there is nothing to copy from an empty stage")
                home = layers[-1].root.parent
                return remembered(home, question_of(step, whole), lambda: self._key(step, layers, stop))
            with self._contexts.reading(project_id, _origin(step)) as upload:
                return remembered(upload, question_of(step, ""), lambda: _key_of(upload / "root", step, stop))

        if layers is None or len(layers) == 1:
            work = asyncio.to_thread(_told, key)
        else:
            self._make_place()
            work = in_private_mounts(lambda: _told(key), name="read-stage")
        return await to_the_end(work, name="files-key", on_cancel=stop.set)

    async def copy(
        self,
        project_id: ProjectId,
        step: Copy,
        stage: tuple[str, ...] | None,
        lower: tuple[str, ...],
        workdir: str,
        digest: str,
        manifest: Mapping[str, object],
    ) -> None:
        """See the protocol."""
        layers = None if stage is None else self._layers(stage)
        if layers is not None:
            self._make_place()
        stop = threading.Event()

        def fill(view: Path, scratch: Path) -> bool:
            with ExitStack() as opened:
                source: Path | None = None
                if layers is not None:
                    roots = [layer.root for layer in reversed(layers)]
                    source = opened.enter_context(view_of(roots, self._place))
                elif step.origin is not None:
                    source = opened.enter_context(self._contexts.reading(project_id, step.origin)) / "root"
                sources = None if source is None else Sources(opened.enter_context(Root(source)), step, stop)
                target = opened.enter_context(Root(view))
                budget = LayerBudget(target.descriptor, InvalidArgument, stop=stop)
                Copying(target, step, budget, scratch).run(sources, workdir)
            return True

        await self._make(lower, digest, manifest, fill, stop)

    async def make_directory(
        self, path: str, owner: str, lower: tuple[str, ...], digest: str, manifest: Mapping[str, object]
    ) -> bool:
        """See the protocol."""
        stop = threading.Event()
        step = Copy(Where(0, 0, ""), (), path, owner=owner)

        def fill(view: Path, scratch: Path) -> bool:
            with Root(view) as target:
                budget = LayerBudget(target.descriptor, InvalidArgument, stop=stop)
                return Copying(target, step, budget, scratch).make(path)

        return await self._make(lower, digest, manifest, fill, stop)

    async def _make(
        self, lower: tuple[str, ...], digest: str, manifest: Mapping[str, object], fill: Fill, stop: threading.Event
    ) -> bool:
        for one in lower:
            self._store.use(one, self._clock.now())
        roots = [layer.root for layer in reversed(self._layers(lower))]
        now = self._clock.now()
        work = in_private_mounts(
            lambda: _told(lambda: make_layer(self._store, roots, digest, manifest, fill, now)), name="make-layer"
        )
        return await to_the_end(work, name=f"make-layer-{digest[:12]}", on_cancel=stop.set)

    def _key(self, step: Copy, layers: Sequence[Layer], stop: threading.Event) -> str:
        with view_of([layer.root for layer in reversed(layers)], self._place) as view:
            return _key_of(view, step, stop)

    async def _tidy(self) -> None:
        """Once an hour: uploads and caches that nobody used for a week go, of any project, and layers that killed
        builds left."""
        now = self._clock.monotonic()
        if self._tidied_at is not None and now - self._tidied_at < TIDY_S:
            return
        self._tidied_at = now
        await asyncio.to_thread(self._contexts.sweep)
        await asyncio.to_thread(self._mounts.sweep)
        await asyncio.to_thread(self._store.remove_leftovers)

    def _make_place(self) -> None:
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _base(self, roots: Sequence[Path], defaults: GuestDefaults, config: ImageConfig) -> BaseLayers:
        digests = tuple(root.parent.name for root in roots)
        for digest in digests:
            if not self.has_layer(digest):
                raise NotFound(f"layer {digest} of the base was removed just now: try again")
        return BaseLayers(digests, defaults, config)

    async def _image(
        self,
        project_id: ProjectId,
        name: str,
        credentials: Credentials | None,
        refresh: bool,
        told: Callable[[str], None],
    ) -> Image:
        reference = parse_reference(name)
        if not refresh:
            try:
                return await asyncio.to_thread(self._images.get, project_id, reference)
            except NotFound:
                told(f"pulling {reference.short}")
        return await self._images.pull(project_id, reference, credentials, False, _Telling(told))

    def _layers(self, digests: tuple[str, ...]) -> list[Layer]:
        return [self._layer(digest) for digest in digests]

    def _layer(self, digest: str) -> Layer:
        layer = self._store.get(digest)
        if layer is None:
            raise NotFound(f"layer {digest} is gone from {self._store.directory}")
        return layer


class _Telling:
    """Tells of a pull in a few lines: each layer once."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told
        self._layers: set[str] = set()
        self._is_waiting = False

    def __call__(self, progress: PullProgress) -> None:
        if progress.phase == "wait" and not self._is_waiting:
            self._is_waiting = True
            self._told("waiting until no layers are pruned any more")
        elif progress.phase == "unpack" and progress.layer not in self._layers:
            self._layers.add(progress.layer)
            self._told(f"pulled layer {progress.layer[:19]} ({format_bytes(progress.total_bytes)})")


def _origin(step: Copy) -> str:
    if step.origin is None or step.origin.startswith(_STAGE):
        raise Internal("the step copies from no uploaded files")
    return step.origin


def _key_of(root: Path, step: Copy, stop: threading.Event) -> str:
    with Root(root) as opened:
        return Sources(opened, step, stop).key()


def _identity(layers: Sequence[Layer]) -> str:
    """Names the very layers that are there now: one that was pruned and built again may hold something else."""
    told = []
    for layer in layers:
        status = os.stat(layer.root.parent / "manifest.json")
        told.append([layer.digest, status.st_ino, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _told(work: Callable[[], T]) -> T:
    """What `work` gives; faults of the files or the image become InvalidArgument, a full disk Capacity."""
    try:
        return work()
    except Refused as error:
        raise InvalidArgument(str(error)) from None
    except OSError as error:
        if error.errno in _FULL:
            raise Capacity("the disk became full while files were copied into a layer") from None
        if error.errno in _REFUSED:
            raise InvalidArgument(f"the files cannot be copied into the image: {error.strerror}") from None
        raise
