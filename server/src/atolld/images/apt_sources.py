"""Reading the machine's own package sources, so that a build uses the same mirror, keys and credentials.

Both forms apt knows are read: deb822 (`*.sources`) and one-line (`sources.list`, `*.list`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from atolld.foundation.errors import FailedPrecondition

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)")
_OPTIONS = re.compile(r"\[([^]]*)\]")

# Names of one-line options in the deb822 form; others are passed on with their first letter in upper case.
_OPTION_FIELDS = {"arch": "Architectures", "lang": "Languages", "target": "Targets", "signed-by": "Signed-By"}


@dataclass(frozen=True, slots=True)
class AptSource:
    """One enabled source of binary packages.

    `options` are the remaining deb822 fields (`Signed-By`, `Trusted`, ...) by their usual name; a value may have
    several lines (a key written into the source).
    """

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = field(default=())

    def to_deb822(self) -> str:
        """The source as one deb822 stanza, ending with a newline."""
        lines = ["Types: deb", f"URIs: {' '.join(self.uris)}", f"Suites: {' '.join(self.suites)}"]
        if self.components:
            lines.append(f"Components: {' '.join(self.components)}")
        lines += [f"{name}: {value}" for name, value in self.options]
        return "\n".join(lines) + "\n"


def parse_deb822(text: str) -> list[AptSource]:
    """The enabled binary sources of a `*.sources` file."""
    return [source for stanza in _stanzas(text) if (source := _from_stanza(stanza)) is not None]


def _stanzas(text: str) -> Iterable[dict[str, str]]:
    stanza: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, name = {}, ""
        elif line[0] in " \t" and name:
            stanza[name] += "\n" + line.rstrip()
        elif match := _FIELD.fullmatch(line.rstrip()):
            name = match[1].lower()
            stanza[name] = match[2]


def _from_stanza(stanza: dict[str, str]) -> AptSource | None:
    if stanza.get("enabled", "yes").strip().lower() in ("no", "false", "0", "off"):
        return None
    if "deb" not in stanza.get("types", "").split():
        return None
    known = {"types", "uris", "suites", "components", "enabled"}
    return AptSource(
        uris=tuple(stanza.get("uris", "").split()),
        suites=tuple(stanza.get("suites", "").split()),
        components=tuple(stanza.get("components", "").split()),
        options=tuple((_field_name(name), value) for name, value in stanza.items() if name not in known),
    )


def _field_name(lower: str) -> str:
    return "-".join(part.capitalize() for part in lower.split("-"))


def parse_one_line(text: str) -> list[AptSource]:
    """The binary sources of a `sources.list` or `*.list` file."""
    sources = []
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        if not line.startswith(("deb ", "deb\t")):
            continue
        rest = line[4:].strip()
        options: tuple[tuple[str, str], ...] = ()
        if match := _OPTIONS.match(rest):
            options = tuple(_one_line_options(match[1]))
            rest = rest[match.end() :].strip()
        words = rest.split()
        if len(words) >= 2:
            sources.append(AptSource((words[0],), (words[1],), tuple(words[2:]), options))
    return sources


def _one_line_options(text: str) -> Iterable[tuple[str, str]]:
    for word in shlex.split(text):
        name, _, value = word.partition("=")
        yield _OPTION_FIELDS.get(name, _field_name(name)), value.replace(",", " ")


def read_sources(etc_apt: Path = Path("/etc/apt")) -> list[AptSource]:
    """Every enabled binary source of the machine, in apt's own order of files."""
    files = [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]
    found: list[AptSource] = []
    for file in files:
        if file.suffix == ".sources" and file.is_file():
            found += parse_deb822(file.read_text(encoding="utf-8", errors="replace"))
        elif file.suffix == ".list" and file.is_file():
            found += parse_one_line(file.read_text(encoding="utf-8", errors="replace"))
    return found


def select_release(sources: Sequence[AptSource], codename: str, components: Sequence[str]) -> list[AptSource]:
    """The part of `sources` that serves the release `codename`: itself, its updates and its security suite.

    Other vendors' repositories and installation media are left out; `components` replaces those the machine enabled.
    Raises FailedPrecondition when no source serves the release itself.
    """
    wanted = (codename, f"{codename}-updates", f"{codename}-security")
    chosen = []
    for source in sources:
        uris = tuple(uri for uri in source.uris if not uri.startswith("cdrom:"))
        suites = tuple(suite for suite in source.suites if suite in wanted)
        if uris and suites and "main" in source.components:
            options = tuple(o for o in source.options if o[0] not in ("Architectures", "Languages", "Targets"))
            chosen.append(AptSource(uris, suites, tuple(components), options))
    if not any(codename in source.suites for source in chosen):
        raise FailedPrecondition(
            f"no apt source of this machine serves {codename!r} (main), so the template cannot be built: add one "
            "under /etc/apt/sources.list.d, or set build_inherit_host to false to use the distribution's public mirror"
        )
    return chosen


def mirror_hosts(sources: Iterable[AptSource]) -> set[str]:
    """Host names of the sources' mirrors, also of those listed in a file that a `mirror+file:` URI names."""
    hosts: set[str] = set()
    for source in sources:
        for uri in source.uris:
            if uri.startswith(("mirror+file:", "mirror:file:")):
                hosts |= _listed_hosts(Path("/" + uri.split(":", 1)[1].lstrip("/")))
            elif host := urlsplit(uri).hostname:
                hosts.add(host)
    return hosts


def _listed_hosts(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    words = (line.split("#", 1)[0].split() for line in file.read_text(encoding="utf-8").splitlines())
    return {host for word in words if word and (host := urlsplit(word[0]).hostname)}
