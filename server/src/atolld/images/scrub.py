"""Taking the build machine out of a finished image, and proof that it is out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from atolld.foundation.errors import Internal
from atolld.images.build_environment import Release

_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_EMPTIED = ("var/lib/apt/lists", "var/cache/apt/archives", "tmp", "var/tmp", "run", "dev")
_REMOVED = (
    "etc/apt/apt.conf.d/00mmdebstrap",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/auth.conf",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
)
# Package contents are what the distribution signed; only what a build can write is searched.
_SEARCHED = ("etc", "var", "home", "root", "usr/local", "opt", "srv")
_SEARCH_LIMIT = 16 * 1024 * 1024


def scrub(root: Path, release: Release) -> None:
    """Give the files that name the build machine their public or empty form.

    apt's sources become the distribution's public mirror; logs, caches, `machine-id`, name and resolver go. Everything
    is done without following links, since `root` holds links of a foreign file system.
    """
    for name in _EMPTIED:
        _empty(root / name)
    for path in _files(root, ("var/log",)):
        path.unlink()
    for name in _REMOVED:
        (root / name).unlink(missing_ok=True)
    sources = root / "etc/apt/sources.list.d"
    _empty(sources)
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    public = "\n".join(source.to_deb822() for source in release.public_sources)
    _write(sources / f"{release.distribution}.sources", public)
    # Zero bytes: a later boot may fill it; every sandbox would otherwise share one identity.
    _write(root / "etc/machine-id", "")
    _write(root / "etc/hostname", "sandbox\n")
    _write(root / "etc/hosts", _HOSTS)
    # The node writes the sandbox's own resolver over it.
    _write(root / "etc/resolv.conf", "")


def _empty(directory: Path) -> None:
    if directory.is_symlink() or not directory.is_dir():
        return
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def check_no_traces(root: Path, secrets: Sequence[str]) -> None:
    """Raises Internal when a file that a build can write holds one of `secrets` (mirror host names, proxies), or when
    the image trusts a certificate that is not its distribution's.
    """
    needles = [secret.encode() for secret in secrets if secret]
    for path in _files(root, _SEARCHED):
        if needles and any(needle in _content(path) for needle in needles):
            raise Internal(
                f"the image holds a trace of the build machine in /{path.relative_to(root)}; it was thrown away"
            )
    for path in _files(root, ("usr/local/share/ca-certificates",)):
        raise Internal(f"the image trusts a certificate that no package brought: /{path.relative_to(root)}")


def _files(root: Path, directories: Sequence[str]) -> Iterator[Path]:
    for name in directories:
        for parent, _, files in os.walk(root / name):
            for file in files:
                path = Path(parent, file)
                if path.is_file() and not path.is_symlink():
                    yield path


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_SEARCH_LIMIT)
