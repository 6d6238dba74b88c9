"""`python -m atolld.images.backports CODENAME SUITE`: the machine's own source of CODENAME, turned to SUITE.

Used by the installer before anything else is installed, so it needs Python's standard library only. Prints deb822.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from atolld.foundation.errors import AtollError
from atolld.images.apt_sources import AptSource, read_sources, select_release


def turned_to(sources: Sequence[AptSource], codename: str, suite: str) -> list[AptSource]:
    """The sources that serve `codename` itself (not its security archive), serving `suite` from the same place.

    Raises FailedPrecondition when none serves `codename`.
    """
    chosen = select_release(sources, codename, ("main",))
    return [AptSource(s.uris, (suite,), s.components, s.options) for s in chosen if codename in s.suites]


def main() -> int:
    """Exit status 0, 1 with a sentence on stderr when the machine has no such source, 2 when misused."""
    if len(sys.argv) != 3:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    try:
        sources = turned_to(read_sources(Path("/etc/apt")), sys.argv[1], sys.argv[2])
    except AtollError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.write("\n".join(source.to_deb822() for source in sources))
    return 0


if __name__ == "__main__":
    sys.exit(main())
