"""Reading what a machine's administrator has set, below some root: small files, whose absence is no error."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES = 4 << 20
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Host:
    """Where a machine's settings are read from. `home`: of the user whom the daemon runs as."""

    root: Path = Path("/")
    home: Path = field(default_factory=Path.home)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def read(self, path: str | Path) -> bytes | None:
        """An absolute path's contents; None when it is no file, cannot be read or is larger than 4 MiB."""
        where = self.root / str(path).lstrip("/")
        try:
            if not where.is_file() or where.stat().st_size > MAX_BYTES:
                return None
            return where.read_bytes()
        except OSError:
            return None

    def text(self, path: str | Path) -> str:
        """The same as text, empty when there is none."""
        return (self.read(path) or b"").decode("utf-8", "replace")

    def below(self, directory: str, pattern: str) -> Iterator[str]:
        """The absolute paths below `directory` that match, in order."""
        home = self.root / directory.lstrip("/")
        for path in sorted(home.glob(pattern)):
            yield f"/{path.relative_to(self.root)}"

    def ini(self, path: str | Path) -> list[tuple[str, str, str]]:
        """Section, key and value of an INI file, as pip reads them; nothing when it is damaged."""
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(self.text(path))
        except configparser.Error:
            return []
        return [(section, key, value) for section in parser.sections() for key, value in parser.items(section)]

    def npmrc(self, path: str | Path) -> list[tuple[str, str]]:
        """Key and value of each line of an npmrc, with `${NAME}` from the environment."""
        found = []
        for line in self.text(path).splitlines():
            key, equals, value = line.partition("=")
            if equals and not key.lstrip().startswith((";", "#", "[")):
                expanded = _VARIABLE.sub(lambda match: self.environ.get(match[1], match[0]), value.strip())
                found.append((key.strip(), expanded.strip("\"'")))
        return found
