"""The name every host resource of one daemon derives from, so that several daemons share a machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.errors import InvalidArgument

# `<name>-<slot>` is an interface name: at most 15 bytes, of which the slot takes up to 4 and the dash 1.
_NAME = re.compile(r"[a-z][a-z0-9]{0,9}")
_ITEM = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Instance:
    """One daemon's name and its two directories.

    `name`: 1 to 10 characters of `a-z 0-9`, beginning with a letter. `state_dir` lives across reboots, `run_dir` does
    not. Neither may hold characters that mean something to overlayfs options (`:`, `,`, backslash).
    """

    name: str
    state_dir: Path
    run_dir: Path

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidArgument(
                f"{self.name[:80]!r} is not an instance name: use 1 to 10 of a-z and 0-9, beginning with a letter"
            )
        for directory in (self.state_dir, self.run_dir):
            if not directory.is_absolute() or re.search(r"[:,\\\s\0]", str(directory)):
                raise InvalidArgument(
                    f"{str(directory)!r} cannot hold an instance: give an absolute path without "
                    "spaces, ':', ',' and backslashes"
                )

    @classmethod
    def named(cls, name: str, *, state_dir: Path | None = None, run_dir: Path | None = None) -> Instance:
        """The instance `name` with `/var/lib/<name>` and `/run/<name>` where no directory is given.

        Raises InvalidArgument when the name or a directory has not the form.
        """
        if not _NAME.fullmatch(name):
            # Checked before a path is made of it.
            return cls(name, Path("/"), Path("/"))
        return cls(name, state_dir or Path("/var/lib") / name, run_dir or Path("/run") / name)

    @property
    def prefix(self) -> str:
        """What every namespace and interface of this instance begins with."""
        return f"{self.name}-"

    def slot_index(self, text: str) -> int | None:
        """The slot number in `<name>-<n>`; None when `text` is not a name of this instance."""
        match = re.fullmatch(re.escape(self.prefix) + r"(0|[1-9][0-9]{0,3})", text)
        return int(match.group(1)) if match else None


def check_item(text: str) -> str:
    """`text` as the name of a thing on the host (a sandbox or layer id): one plain path component.

    1 to 64 of `a-z 0-9 _ -`, not beginning with a dash or underscore. Raises InvalidArgument otherwise, so that no
    separator, dot or newline ever reaches a path, a mount option or a command.
    """
    if not _ITEM.fullmatch(text):
        raise InvalidArgument(
            f"{text[:80]!r} cannot name a thing on the host: use 1 to 64 of a-z, 0-9, '_' and '-', "
            "beginning with a letter or digit"
        )
    return text
