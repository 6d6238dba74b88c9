"""Templates by name: which layers a sandbox starts from, and its default bounds."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atolld.core.defaults import GuestDefaults
from atolld.core.sandbox import Resources
from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import FailedPrecondition, Internal, NotFound
from atolld.foundation.ids import TemplateId, parse_name
from atolld.foundation.units import GIB, format_bytes
from atolld.images import scrub
from atolld.images.blobs import Blobs
from atolld.images.bootstrap import bootstrap
from atolld.images.build_environment import (
    BuildEnvironment,
    Release,
    host_release,
    inherited_environment,
    public_environment,
)
from atolld.images.cachemounts import CacheMounts
from atolld.images.contextstore import ContextStore
from atolld.images.imagestore import ImageStore
from atolld.images.layers import Layer, LayerStore
from atolld.images.locks import exclusive
from atolld.images.packages import host_architecture, installed_packages
from atolld.images.progress import Progress, ProgressCallback, ignore_progress
from atolld.images.projectdirs import FRESH_S
from atolld.images.public_hosts import with_public_sources
from atolld.images.recipe import Recipe, base_recipe

BASE = "base"
DEFAULT_CACHE = Path("/var/cache/atoll")
_NEEDED_DISK_BYTES = 3 * GIB

RootBuilder = Callable[[Recipe, BuildEnvironment, Path, Path, ProgressCallback], Awaitable[None]]


_Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Template:
    """One template.

    `layers`: root directories, lowest first, all read-only. `built_at`: Unix seconds. `inputs_digest`: of the recipe it
    was built from. `size_bytes`: of its layers on disk. `resources`: bounds of a sandbox that asks for none.
    """

    id: TemplateId
    name: str
    layers: tuple[Path, ...]
    built_at: float
    inputs_digest: str
    size_bytes: int
    resources: Resources = field(default_factory=Resources)
    defaults: GuestDefaults = field(default_factory=GuestDefaults)


class TemplateStore:
    """The templates below one cache directory, shared by all daemons of the machine.

    `inherit_host`: whether builds use the machine's own package mirror, proxies, certificates and credentials (setting
    `build_inherit_host`); sandboxes get none of it either way. `release`: what to build from, by default the host's
    own. `build_root`: fills a root directory, by default with mmdebstrap. `with_public_sources`: adds to a release
    where it is in public.
    """

    def __init__(
        self,
        cache: Path = DEFAULT_CACHE,
        *,
        inherit_host: bool = True,
        release: Release | None = None,
        build_root: RootBuilder = bootstrap,
        with_public_sources: Callable[[Release], Awaitable[Release]] = with_public_sources,
        clock: Clock | None = None,
    ) -> None:
        self._cache = cache
        self._templates = cache / "templates"
        self._layers = LayerStore(cache)
        self._inherit_host = inherit_host
        self._release = release
        self._build_root = build_root
        self._with_public_sources = with_public_sources
        self._clock = clock or SystemClock()
        # Of the file that each was read from.
        self._known: dict[str, tuple[_Signature, Template]] = {}

    def list(self) -> tuple[Template, ...]:
        """All templates that can be used, by name."""
        names = sorted(path.stem for path in self._templates.glob("*.json")) if self._templates.is_dir() else []
        return tuple(template for name in names if (template := self._read(name)) is not None)

    def get(self, name: str) -> Template:
        """The template called `name`.

        Raises InvalidArgument when `name` is not a template name, NotFound when there is none.
        """
        template = self._read(parse_name(name, "template"))
        if template is None:
            known = ", ".join(t.name for t in self.list()) or "none is built yet"
            raise NotFound(f"there is no template {name!r} (known: {known})")
        return template

    async def ensure_base(self, progress: ProgressCallback = ignore_progress) -> Template:
        """The template `base`, built when it is missing or its inputs changed; two builds at once share one result.

        Raises FailedPrecondition when this machine cannot build (not root, tools or disk space or package sources
        missing), Internal when the build fails: the previous `base`, if any, then stays in use.
        """
        release = self._release or host_release()
        recipe = base_recipe(release, host_architecture())
        if (current := self._current(recipe)) is not None:
            return current
        self._layers.directory.mkdir(parents=True, exist_ok=True)

        def waiting() -> None:
            progress(Progress("wait", None, "Waiting for another build of templates to end"))

        async with exclusive(self._cache / "build.lock", waiting):
            if (current := self._current(recipe)) is not None:
                return current
            layer = self._layers.get(recipe.digest())
            if layer is None:
                inherit = self._inherit_host
                release = await self._with_public_sources(release)
                environment = await inherited_environment(release) if inherit else public_environment(release)
                layer = await self._build(recipe, environment, progress)
            return self._record(BASE, recipe, layer)

    async def _build(self, recipe: Recipe, environment: BuildEnvironment, progress: ProgressCallback) -> Layer:
        await asyncio.to_thread(self._layers.remove_leftovers)
        free = shutil.disk_usage(self._cache).free
        if free < _NEEDED_DISK_BYTES:
            raise FailedPrecondition(
                f"building a template needs {format_bytes(_NEEDED_DISK_BYTES)} free below {self._cache}; "
                f"{format_bytes(free)} are"
            )
        progress(Progress("start", 0.0, f"Building from {recipe.distribution} {recipe.codename} packages"))
        building = await asyncio.to_thread(self._layers.begin)
        root = building / "root"
        try:
            await self._build_root(recipe, environment, root, self._cache / "build.log", progress)
            progress(Progress("scrub", 97.0, "Taking the build machine's settings out"))
            await asyncio.to_thread(scrub.scrub, root, environment.release)
            await asyncio.to_thread(scrub.check_no_traces, root, environment.secrets_of_host)
            manifest: dict[str, object] = {
                "inputs": recipe.inputs(),
                "built_at": self._clock.now(),
                "packages": installed_packages(root),
            }
            progress(Progress("store", 98.0, "Writing it to disk"))
            layer = await asyncio.to_thread(self._layers.commit, building, recipe.digest(), manifest)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._layers.abandon, building))
            raise
        progress(Progress("done", 100.0, f"Done: {format_bytes(layer.size_bytes)}"))
        return layer

    async def prune(self, in_use: Collection[Path] = ()) -> tuple[str, ...]:
        """Remove layers that no template and no image names and nothing uses, what pulls left, and files uploaded for
        builds that none used in the last hour; returns the layers' digests.

        `in_use`: layer roots that must stay although nothing mounts them now. Mounted ones, and those below the disks
        of saves, are found by themselves. Waits for running builds and pulls.
        """
        (self._cache / "images").mkdir(mode=0o700, parents=True, exist_ok=True)
        # In the order in which a pull takes them.
        async with exclusive(self._cache / "images" / "pull.lock"), exclusive(self._cache / "build.lock"):
            return await asyncio.to_thread(self._prune, {path.parent.name for path in in_use})

    def _prune(self, kept: set[str]) -> tuple[str, ...]:
        named = {path.parent.name for template in self.list() for path in template.layers}
        named |= ImageStore(self._cache).layer_digests()
        Blobs(self._cache).remove_all()
        ContextStore(self._cache, self._clock).sweep(older_s=FRESH_S)
        CacheMounts(self._cache, self._clock).sweep(older_s=FRESH_S)
        unnamed = sorted(set(self._layers.digests()) - kept - named - self._layers.layers_in_use())
        removed = tuple(digest for digest in unnamed if self._layers.drop(digest, self._clock.now()))
        self._layers.remove_leftovers()
        return removed

    def _current(self, recipe: Recipe) -> Template | None:
        template = self._read(BASE)
        return template if template is not None and template.inputs_digest == recipe.digest() else None

    def _record(self, name: str, recipe: Recipe, layer: Layer) -> Template:
        stored = {"name": name, "layers": [layer.digest], "inputs_digest": recipe.digest()}
        self._templates.mkdir(parents=True, exist_ok=True)
        temporary = self._templates / f".{name}.json.{os.getpid()}"
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(stored) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._templates / f"{name}.json")
        template = self._read(name)
        if template is None:
            raise Internal(f"the template {name!r} was written but cannot be read: is {self._cache} being cleaned?")
        return template

    def _read(self, name: str) -> Template | None:
        path = self._templates / f"{name}.json"
        try:
            signature = _signature(path)
        except FileNotFoundError:
            return None
        known = self._known.get(name)
        # A layer can go without the file changing, and every create asks.
        if known is None or known[0] != signature or not all(self._layers.holds(layer) for layer in known[1].layers):
            template = self._load(name, path)
            if template is None:
                self._known.pop(name, None)
                return None
            known = self._known[name] = (signature, template)
        return known[1]

    def _load(self, name: str, path: Path) -> Template | None:
        try:
            stored: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        digests = stored["layers"]
        if not isinstance(digests, list):
            raise Internal(f"{self._templates / name}.json is damaged: remove it, and the template is built anew")
        layers = [layer for digest in digests if (layer := self._layers.get(str(digest))) is not None]
        if len(layers) != len(digests):
            # Somebody removed a layer by hand: the template counts as missing and is built anew.
            return None
        return Template(
            id=TemplateId(str(stored["inputs_digest"])[:20]),
            name=name,
            layers=tuple(layer.root for layer in layers),
            built_at=max(float(str(layer.manifest["built_at"])) for layer in layers),
            inputs_digest=str(stored["inputs_digest"]),
            size_bytes=sum(layer.size_bytes for layer in layers),
        )


def _signature(path: Path) -> _Signature:
    """Differs for another file under that name: each is written anew. Raises FileNotFoundError."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
