"""Say in code what a sandbox contains: the first run builds it, the second has it at once.

python examples/build_image.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from atoll import BuildError, BuildLog, Image, Sandbox

HERE = Path(__file__).resolve().parent

image = (
    Image.debian()
    .copy(HERE / "data", "/srv/data")
    .run(
        "wc -l < /srv/data/penguins.csv > /srv/lines.txt",
        "cut -d, -f1 /srv/data/penguins.csv | sort | uniq -c > /srv/species.txt",
    )
    .env(DATA="/srv/data")
    .workdir("/srv")
)


def show(entry: BuildLog) -> None:
    """A line of the build's log."""
    print(f"  {entry.message}", file=sys.stderr)


def main() -> None:
    begun = time.monotonic()
    try:
        sandbox = Sandbox.create(image=image, on_build=show)
    except BuildError as error:
        raise SystemExit(f"the image cannot be built: {error}") from None
    with sandbox:
        print(f"a sandbox after {time.monotonic() - begun:.2f} s")
        print(sandbox.run("cat lines.txt species.txt; ls $DATA", check=True).stdout)


if __name__ == "__main__":
    main()
