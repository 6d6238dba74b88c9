"""Manifests, indexes and configs of images, parsed from bytes that nobody vouches for. Pure.

Docker's schema 2 and OCI's form differ in media types only, so both are read as one. Everything has a bound: the size
of the JSON (whoever fetches it holds to `MAX_MANIFEST_BYTES` and `MAX_CONFIG_BYTES`) and its number of values, the
number of layers, of manifests in an index, of variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atolld.foundation.errors import FailedPrecondition, InvalidArgument

MAX_MANIFEST_BYTES = 4 << 20
MAX_CONFIG_BYTES = 8 << 20
MAX_LAYERS = 256
MAX_BLOB_BYTES = 1 << 40
_MAX_MANIFESTS = 2000
_MAX_LIST = 4096
# Of values in a document: each takes tens of bytes of memory, be it `{}`.
_MAX_VALUES = 300_000
_MAX_TEXT = 1 << 17
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CONFIG_TYPES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
OCI_MANIFEST, OCI_CONFIG, OCI_LAYER = MANIFEST_TYPES[0], CONFIG_TYPES[0], "application/vnd.oci.image.layer.v1.tar"

# What `uname -m` says, in the words of images; the variants that run there, the best first.
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_VARIANTS = {"amd64": ("", "v1"), "arm64": ("v8", "")}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on: `linux`, `amd64`, and a variant or `""`."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob by its digest (`sha256:...`) and size in bytes; `platform`: in an index, what it is for."""

    media_type: str
    digest: str
    size_bytes: int
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image's parts. `layers`: the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How the image wants to be run. `env`: in order, without those whose names no shell takes; `user` may be `""`."""

    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """A config blob. `diff_ids`: of the uncompressed layers, the lowest first."""

    platform: Platform
    diff_ids: tuple[str, ...]
    run: RunConfig


def host_platform(machine: str) -> Platform:
    """The platform of a machine whose `uname -m` is `machine`. Raises FailedPrecondition on one without images."""
    try:
        return Platform("linux", _ARCHITECTURES[machine])
    except KeyError:
        raise FailedPrecondition(f"images for this machine's {machine!r} are not supported") from None


def check_digest(text: object) -> str:
    """`text` as a digest. Raises InvalidArgument; SHA-512 is refused too, no registry uses it."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise InvalidArgument(f"{str(text)[:100]!r} is not a digest: 'sha256:' and 64 hex digits are expected")
    return text


def parse_manifest(data: bytes, media_type: str = "") -> Manifest | tuple[Descriptor, ...]:
    """A manifest, or the entries of an index. `media_type`: what the transport said; the document's own goes first.

    Raises InvalidArgument on anything else, with the reason.
    """
    stored = _object(read_json(data, MAX_MANIFEST_BYTES, "manifest"), "manifest")
    if stored.get("schemaVersion") != 2:
        raise InvalidArgument(
            "the manifest has not the schema version 2: version 1 went out of use in 2017; push the image anew"
        )
    said = stored.get("mediaType") or media_type
    if said in INDEX_TYPES or ("manifests" in stored and "layers" not in stored):
        return tuple(
            _descriptor(entry, "index") for entry in _list(stored.get("manifests"), "manifests", _MAX_MANIFESTS)
        )
    config = _descriptor(stored.get("config"), "config")
    if config.media_type not in CONFIG_TYPES:
        raise InvalidArgument(f"this is no image of a file system but something else: {config.media_type[:100]!r}")
    if config.size_bytes > MAX_CONFIG_BYTES:
        raise InvalidArgument(f"the config has {config.size_bytes} bytes; at most {MAX_CONFIG_BYTES} are read")
    layers = _list(stored.get("layers"), "layers", MAX_LAYERS)
    return Manifest(config, tuple(_descriptor(layer, "layer") for layer in layers))


def choose(entries: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    """The entry of an index for a platform. Raises FailedPrecondition that names those which are there."""
    fitting = [one for one in entries if one.platform is not None and _base(one.platform) == _base(wanted)]
    for variant in (wanted.variant,) if wanted.variant else _VARIANTS.get(wanted.architecture, ("",)):
        for one in fitting:
            if one.platform is not None and one.platform.variant == variant:
                return one
    there = sorted({str(one.platform) for one in entries if one.platform is not None and one.platform.os != "unknown"})
    raise FailedPrecondition(
        f"the image is not made for {wanted}, only for: {', '.join(there)[:500] or 'nothing named'}"
    )


def parse_config(data: bytes) -> ImageConfig:
    """A config blob. Raises InvalidArgument."""
    stored = _object(read_json(data, MAX_CONFIG_BYTES, "config"), "config")
    rootfs = _object(stored.get("rootfs"), "rootfs")
    diff_ids = tuple(check_digest(one) for one in _list(rootfs.get("diff_ids"), "diff_ids", MAX_LAYERS))
    run = stored.get("config")
    return ImageConfig(
        _platform(stored), diff_ids, _run(_object(run, "config.config")) if run is not None else RunConfig()
    )


def _run(stored: Mapping[str, object]) -> RunConfig:
    env = {}
    for entry in _texts(stored.get("Env"), "Env"):
        name, _, value = entry.partition("=")
        if _ENV_NAME.fullmatch(name):
            env[name] = value
    if sum(len(name) + len(value.encode()) for name, value in env.items()) > _MAX_TEXT:
        raise InvalidArgument(f"Env has more than {_MAX_TEXT} bytes")
    return RunConfig(
        env=env,
        user=_text(stored.get("User"), "User"),
        workdir=_text(stored.get("WorkingDir"), "WorkingDir"),
        entrypoint=_texts(stored.get("Entrypoint"), "Entrypoint"),
        cmd=_texts(stored.get("Cmd"), "Cmd"),
    )


def _base(platform: Platform) -> tuple[str, str]:
    return platform.os, platform.architecture


def read_json(data: bytes, limit: int, what: str) -> object:
    """A document of at most `limit` bytes, and of a bounded number of values. Raises InvalidArgument."""
    if len(data) > limit:
        raise InvalidArgument(f"the {what} has {len(data)} bytes; at most {limit} are read")
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise InvalidArgument(f"the {what} has more than {_MAX_VALUES} values")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the {what} is not JSON: {str(error)[:100]}") from None


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} is not an object")
    return value


def _list(value: object, what: str, limit: int) -> list[object]:
    if not isinstance(value, list):
        raise InvalidArgument(f"{what} is not a list")
    if len(value) > limit:
        raise InvalidArgument(f"{what} has {len(value)} entries; at most {limit} are allowed")
    return value


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value or not _is_unicode(value):
        raise InvalidArgument(f"{what} is not text of at most {_MAX_TEXT} characters")
    return value


def _is_unicode(text: str) -> bool:
    # JSON can say half a character, which nothing could be told about in UTF-8.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _texts(value: object, what: str) -> tuple[str, ...]:
    return () if value is None else tuple(_text(one, what) for one in _list(value, what, _MAX_LIST))


def _descriptor(value: object, what: str) -> Descriptor:
    stored = _object(value, what)
    size = stored.get("size")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_BLOB_BYTES:
        raise InvalidArgument(f"{what}: {str(size)[:40]!r} is not the size of a blob")
    platform = stored.get("platform")
    return Descriptor(
        media_type=_text(stored.get("mediaType"), "mediaType"),
        digest=check_digest(stored.get("digest")),
        size_bytes=size,
        platform=_platform(_object(platform, "platform")) if platform is not None else None,
    )


def _platform(stored: Mapping[str, object]) -> Platform:
    architecture = _text(stored.get("architecture"), "architecture")
    return Platform(_text(stored.get("os"), "os"), architecture, _text(stored.get("variant"), "variant"))
