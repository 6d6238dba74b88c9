"""Images by their references: what a project pulled or imported, and can start sandboxes from.

    <cache>/images/records/<project>/<sha256 of the reference>.json

A record belongs to the project that pulled it, since another may not have the right to; the layers it names are shared
by all (see `layers`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from atolld.core.defaults import GuestDefaults
from atolld.core.sandbox import Resources
from atolld.foundation.errors import Internal, NotFound
from atolld.foundation.ids import ProjectId, TemplateId
from atolld.images.layers import LayerStore
from atolld.images.oci import RunConfig
from atolld.images.reference import Reference, parse_reference

_FORMAT = 1
_PROJECT = re.compile(r"[0-9A-Za-z-]{1,64}")


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a project; it can be used as a template.

    `digest`: of its manifest, or of its config when it came in an archive without one. `layers`: root directories, the
    lowest first. `built_at`: Unix seconds, when it was pulled or imported. `size_bytes`: of its layers on disk.
    """

    reference: Reference
    digest: str
    platform: str
    layers: tuple[Path, ...]
    run: RunConfig
    built_at: float
    size_bytes: int
    resources: Resources = field(default_factory=Resources)

    @property
    def id(self) -> TemplateId:
        """Changes with its contents."""
        return TemplateId(self.digest.removeprefix("sha256:")[:20])

    @property
    def name(self) -> str:
        """Its reference as people write it."""
        return self.reference.short

    @property
    def defaults(self) -> GuestDefaults:
        """How it wants to be used. A group behind the user's name is left out: the user's own groups count."""
        user = self.run.user.partition(":")[0]
        return GuestDefaults(user or "root", self.run.workdir or None, self.run.env)


@dataclass(frozen=True, slots=True)
class Record:
    """What is stored of an image. `layers`: digests in the layer store, the lowest first, each once."""

    reference: Reference
    digest: str
    platform: str
    layers: tuple[str, ...]
    run: RunConfig
    pulled_at: float


class ImageStore:
    """The records below one cache directory, shared by all daemons of the machine. Everything blocks for a moment."""

    def __init__(self, cache: Path) -> None:
        self._records = cache / "images" / "records"
        self._layers = LayerStore(cache)

    def list(self, project_id: ProjectId) -> list[Image]:
        """The project's images whose layers are all there, by name."""
        home = self._home(project_id)
        found = [self._image(path) for path in home.glob("*.json")] if home.is_dir() else []
        return sorted((image for image in found if image is not None), key=lambda image: image.name)

    def get(self, project_id: ProjectId, reference: Reference) -> Image:
        """Raises NotFound, also when somebody removed one of its layers by hand."""
        image = self._image(self._path(project_id, reference))
        if image is None:
            raise NotFound(
                f"there is no image {reference.short!r} here: pull it with 'atoll image pull {reference.short}'"
            )
        return image

    def put(self, project_id: ProjectId, record: Record) -> Image:
        """Store or replace a record, durably. The caller made sure that its layers are there."""
        path = self._path(project_id, record.reference)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        stored = {
            "format": _FORMAT,
            "reference": str(record.reference),
            "digest": record.digest,
            "platform": record.platform,
            "layers": record.layers,
            "run": {**asdict(record.run), "env": dict(record.run.env)},
            "pulled_at": record.pulled_at,
        }
        new = path.with_name(f".{path.name}.{os.getpid()}")
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps(stored) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        return self.get(project_id, record.reference)

    def delete(self, project_id: ProjectId, reference: Reference) -> None:
        """Forget an image; its layers stay until they are pruned. Raises NotFound."""
        try:
            self._path(project_id, reference).unlink()
        except FileNotFoundError:
            raise NotFound(f"there is no image {reference.short!r} here") from None

    def layer_digests(self) -> set[str]:
        """The layers that any project's image needs."""
        return {str(digest) for path in self._records.glob("*/*.json") for digest in _read(path)["layers"]}

    def _image(self, path: Path) -> Image | None:
        try:
            stored = _read(path)
        except FileNotFoundError:
            return None
        layers = [self._layers.get(str(digest)) for digest in stored["layers"]]
        present = [layer for layer in layers if layer is not None]
        if len(present) != len(layers):
            return None
        run = stored["run"]
        return Image(
            reference=parse_reference(stored["reference"]),
            digest=stored["digest"],
            platform=stored["platform"],
            layers=tuple(layer.root for layer in present),
            run=RunConfig(run["env"], run["user"], run["workdir"], tuple(run["entrypoint"]), tuple(run["cmd"])),
            built_at=stored["pulled_at"],
            size_bytes=sum(layer.size_bytes for layer in present),
        )

    def _home(self, project_id: ProjectId) -> Path:
        if not _PROJECT.fullmatch(project_id):
            raise Internal(f"{project_id[:80]!r} is not the id of a project")
        return self._records / project_id

    def _path(self, project_id: ProjectId, reference: Reference) -> Path:
        return self._home(project_id) / f"{hashlib.sha256(str(reference).encode()).hexdigest()}.json"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or stored.get("format") != _FORMAT:
        raise Internal(f"{path} is damaged: remove it, and pull the image again")
    return stored
