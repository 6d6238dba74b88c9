"""What lies where in an archive of an image: `docker save`'s tar, or a tar of an OCI layout. Nobody vouches for it.

The archive is read through once; afterwards its files are read where they lie.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.images import untar
from atolld.images.oci import (
    MAX_CONFIG_BYTES,
    MAX_LAYERS,
    MAX_MANIFEST_BYTES,
    ImageConfig,
    Manifest,
    Platform,
    check_digest,
    choose,
    parse_manifest,
    read_json,
)
from atolld.images.pull import checked_config
from atolld.images.reference import Reference, parse_reference

MAX_FILES = 10_000
_MAX_IMAGES = 1000
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file's bytes lie in the archive."""

    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image of an archive. `layers`: the lowest first, with the digests they must have where these are told.

    `digest`: of the manifest, or of the config where there is no manifest. `name`: what the archive calls it.
    """

    digest: str
    config: ImageConfig
    layers: tuple[tuple[Place, str | None], ...]
    name: str | None


class ArchiveIndex:
    """The files of the archive `path`, which is not compressed. Blocks. Raises InvalidArgument."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, Place] = {}
        self._links: dict[str, str] = {}
        try:
            self._read()
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise InvalidArgument(f"this is no archive of an image: {error}") from None

    def _read(self) -> None:
        end = self._path.stat().st_size
        with self._path.open("rb") as file:
            for number, (_, info) in enumerate(untar.entries(file)):
                name = posixpath.normpath(info.name)
                if number >= MAX_FILES:
                    raise ValueError(f"it has more than {MAX_FILES} files")
                if name.startswith(("/", "../")) or name == "..":
                    raise ValueError(f"{info.name[:120]!r} leads out of it")
                if info.isreg():
                    if not 0 <= info.size <= end - info.offset_data:
                        raise ValueError(f"{info.name[:120]!r} is cut off")
                    self._places[name] = Place(info.offset_data, info.size)
                elif info.issym() or info.islnk():
                    # `docker save` writes a layer that comes twice as a link.
                    base = "" if info.islnk() else posixpath.dirname(name)
                    self._links[name] = posixpath.normpath(posixpath.join(base, info.linkname))
                elif not info.isdir():
                    raise ValueError(f"{info.name[:120]!r} is neither file nor directory")

    def image(self, wanted: Reference | None, platform: Platform) -> ArchivedImage:
        """The image called `wanted`, or the only one.

        Raises NotFound when it is not in there or one must be chosen, InvalidArgument on a damaged archive,
        FailedPrecondition when it is made for other machines.
        """
        if "index.json" in self._places:
            return self._from_layout(wanted, platform)
        if "manifest.json" in self._places:
            return self._from_docker(wanted, platform)
        raise InvalidArgument("this is no archive of an image: neither index.json nor manifest.json is in it")

    def _from_layout(self, wanted: Reference | None, platform: Platform) -> ArchivedImage:
        index = self._bytes("index.json", MAX_MANIFEST_BYTES)
        entries = parse_manifest(index)
        if isinstance(entries, Manifest):
            raise InvalidArgument("the archive's index.json is not an index")
        names = _names_of(json.loads(index))
        chosen = _pick(wanted, [names.get(entry.digest) for entry in entries])
        named = next(iter(names.get(entries[chosen or 0].digest, ())), None) if chosen or len(entries) == 1 else None
        if chosen is not None:
            entries = (entries[chosen],)
        for _ in range(3):
            entry = entries[0] if len(entries) == 1 else choose(entries, platform)
            data = self._blob(entry.digest, MAX_MANIFEST_BYTES)
            found = parse_manifest(data, entry.media_type)
            if isinstance(found, Manifest):
                config = checked_config(self._blob(found.config.digest, MAX_CONFIG_BYTES), len(found.layers), platform)
                layers = tuple((self._place(_blob_name(one.digest)), one.digest) for one in found.layers)
                return ArchivedImage(entry.digest, config, layers, named)
            entries = found
        raise InvalidArgument("the archive's index is an index of indexes of indexes")

    def _from_docker(self, wanted: Reference | None, platform: Platform) -> ArchivedImage:
        images = _docker_images(self._bytes("manifest.json", MAX_MANIFEST_BYTES))
        chosen = _pick(wanted, [image["RepoTags"] for image in images])
        if chosen is None and len(images) != 1:
            raise NotFound("the archive holds several images without names, or none")
        image = images[chosen or 0]
        data = self._bytes(image["Config"], MAX_CONFIG_BYTES)
        config = checked_config(data, len(image["Layers"]), platform)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        layers: list[tuple[Place, str | None]] = [(self._place(name), None) for name in image["Layers"]]
        return ArchivedImage(digest, config, tuple(layers), next(iter(image["RepoTags"]), None))

    def _blob(self, digest: str, limit_bytes: int) -> bytes:
        data = self._bytes(_blob_name(digest), limit_bytes)
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != digest:
            raise InvalidArgument(f"the archive holds {found} where {digest} should be")
        return data

    def _bytes(self, name: str, limit_bytes: int) -> bytes:
        place = self._place(name)
        if place.size_bytes > limit_bytes:
            raise InvalidArgument(f"the archive's {name[:120]!r} has more than {limit_bytes} bytes")
        with self._path.open("rb") as file:
            file.seek(place.offset)
            return file.read(place.size_bytes)

    def _place(self, name: str) -> Place:
        name = posixpath.normpath(name)
        name = self._links.get(name, name)
        if name not in self._places:
            raise InvalidArgument(f"the archive has no file {name[:120]!r}")
        return self._places[name]


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{check_digest(digest).removeprefix('sha256:')}"


def _names_of(index: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in index["manifests"]:
        annotations = entry.get("annotations")
        if isinstance(annotations, dict):
            given = [value for key in _NAMES if isinstance(value := annotations.get(key), str)]
            # The second is mostly a tag alone.
            found[entry["digest"]] = [name for name in given if "/" in name or ":" in name]
    return found


def _pick(wanted: Reference | None, names: list[list[str] | None]) -> int | None:
    """The number of the image that `wanted` names; None when no name is needed."""
    if wanted is not None:
        for number, given in enumerate(names):
            if any(_is(name, wanted) for name in given or ()):
                return number
    known = [name for given in names for name in given or ()]
    if len(names) > 1 and len(known) > 1:
        raise NotFound(f"the archive holds several images, name one of them: {', '.join(known)[:500]}")
    return None


def _is(name: str, wanted: Reference) -> bool:
    try:
        return parse_reference(name) == wanted
    except InvalidArgument:
        return False


def _docker_images(data: bytes) -> list[dict[str, Any]]:
    stored = read_json(data, MAX_MANIFEST_BYTES, "archive's manifest.json")
    if not isinstance(stored, list) or not 0 < len(stored) <= _MAX_IMAGES:
        raise InvalidArgument("the archive's manifest.json is not a list of images")
    found = []
    for image in stored:
        tags = (image.get("RepoTags") or []) if isinstance(image, dict) else None
        layers = image.get("Layers") if isinstance(image, dict) else None
        if not _are_texts(tags) or not _are_texts(layers) or not isinstance(image.get("Config"), str):
            raise InvalidArgument("the archive's manifest.json is damaged")
        if len(layers) > MAX_LAYERS:
            raise InvalidArgument(f"the image has {len(layers)} layers; at most {MAX_LAYERS} are allowed")
        found.append({"RepoTags": tags, "Layers": layers, "Config": image["Config"]})
    return found


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
