"""How a machine's own apt reaches its packages, as files for a build's sandbox.

Everything is on a file system that no layer holds, and `APT_CONFIG` names it. Lists of packages that a step leaves in
its layer are called after a `mirror+file:` there, not after the machine's mirror.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from atolld.foundation.errors import FailedPrecondition
from atolld.images.apt_sources import AptSource, read_sources, select_release
from atolld.images.build_environment import Release
from atolld.images.hostfiles import Host

_KEYRING = re.compile(r"/usr/share/keyrings/(?:debian|ubuntu)-archive-keyring\.(?:gpg|pgp)")
# Programs of the machine, which a sandbox has not.
_PROGRAMS = ("proxyautodetect", "proxy-auto-detect")


@dataclass(frozen=True, slots=True)
class AptFiles:
    """`files`: by name, for one directory; `apt.conf` is what `APT_CONFIG` is to name, when there are any. `urls`: of
    mirrors and proxies. `secrets`: passwords. `replaced`: hosts of the public mirrors whose place others have taken."""

    files: dict[str, bytes] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


def apt_files(
    host: Host,
    settings: Sequence[tuple[str, str]],
    own: Release | None,
    codename: str,
    public: Collection[str],
    directory: str,
) -> AptFiles:
    """`settings`: apt's own that a build takes over, name and value. `own`: the machine's release, None when the
    sandbox starts from another distribution. `codename`: of what it starts from. `public`: hosts of the distribution's
    own mirrors. `directory`: where the files will be."""
    made = _Making(host, directory)
    for name, value in settings:
        made.add_setting(name, value)
    made.add_credentials()
    if own is not None:
        made.add_sources(own, codename, public)
    return made.done()


class _Making:
    def __init__(self, host: Host, directory: str) -> None:
        self._host = host
        self._directory = directory
        self._lines: list[str] = []
        self._files: dict[str, bytes] = {}
        self._urls: list[str] = []
        self._secrets: list[str] = []
        self._replaced: Collection[str] = ()

    def add_setting(self, name: str, value: str) -> None:
        if name.lower().rpartition("::")[2] in _PROGRAMS:
            return
        if value.startswith("/"):
            copied = self._copy(value)
            if copied is None:
                return
            value = copied
        if "://" in value:
            self._urls.append(value)
        self._lines.append(f'{name} "{value}";')

    def add_credentials(self) -> None:
        parts = ["/etc/apt/auth.conf", *self._host.below("/etc/apt/auth.conf.d", "*.conf")]
        texts = [text.rstrip() for path in parts if (text := self._host.text(path)).strip()]
        if texts:
            self._files["auth.conf"] = ("\n".join(texts) + "\n").encode()
            self._lines.append(f'Dir::Etc::netrc "{self._directory}/auth.conf";')
            words = " ".join(texts).split()
            self._secrets += [word for before, word in zip(words, words[1:], strict=False) if before == "password"]

    def add_sources(self, own: Release, codename: str, public: Collection[str]) -> None:
        """The machine's mirrors in the place of the image's main list, unless they are the public ones.

        What the image or a step has beside that list counts on.
        """
        try:
            found = select_release(read_sources(self._host.root / "etc/apt"), own.codename, own.components)
        except FailedPrecondition:
            return
        mirrors = [self._mirrors(source) for source in found]
        urls = [line.split()[0] for lines in mirrors for line in lines]
        if all(urlsplit(url).hostname in public for url in urls):
            return
        self._urls += urls
        stanzas = []
        for number, source in enumerate(found):
            self._files[f"mirrors{number}.txt"] = "".join(f"{line}\n" for line in mirrors[number]).encode()
            moved = replace(
                source,
                uris=(f"mirror+file:{self._directory}/mirrors{number}.txt",),
                suites=tuple(suite.replace(own.codename, codename, 1) for suite in source.suites),
                options=tuple((name, self._keyring(name, value)) for name, value in source.options),
            )
            stanzas.append(moved.to_deb822())
        self._files["host.sources"] = "\n".join(stanzas).encode()
        self._lines.append(f'Dir::Etc::sourcelist "{self._directory}/host.sources";')
        self._replaced = public

    def done(self) -> AptFiles:
        if self._lines:
            self._files["apt.conf"] = "".join(f"{line}\n" for line in self._lines).encode()
        return AptFiles(self._files, tuple(self._urls), tuple(self._secrets), tuple(sorted(self._replaced)))

    def _mirrors(self, source: AptSource) -> list[str]:
        """Lines of a mirror list."""
        lines: list[str] = []
        for uri in source.uris:
            if uri.startswith(("mirror+file:", "mirror:file:")):
                listed = self._host.text("/" + uri.split(":", 1)[1].lstrip("/"))
                lines += [line for line in listed.splitlines() if line.strip() and not line.startswith("#")]
            else:
                lines.append(uri)
        return lines

    def _keyring(self, name: str, value: str) -> str:
        if name != "Signed-By" or not value.startswith("/") or _KEYRING.fullmatch(value):
            # The image has its distribution's own, which may be newer; others come along.
            return value
        return self._copy(value) or value

    def _copy(self, path: str) -> str | None:
        data = self._host.read(path)
        if data is None:
            return None
        name = f"{len(self._files)}-{Path(path).name}"
        self._files[name] = data
        return f"{self._directory}/{name}"
