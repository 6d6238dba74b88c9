"""The directory of files that templates of the checks are built from, the same for every client and language.

All of them build the same steps, so that what one has built the others take from the cache.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

WHEEL = "tiny-1.0-py3-none-any.whl"
ACCOUNT_FILE = "account.json"
# A key of Google's in form only; the registry of the tests knows it (e2e/registry.py).
ACCOUNT = '{"project_id": "suite"}'
# As far as the oldest client can read it: neither heredocs nor quotes around spaces.
DOCKERFILE = """\
FROM e2bdev/base
ARG WHO=dockerfile
ENV SAYS=hello-from-$WHO PLACE=/srv/docker
WORKDIR $PLACE
COPY --chown=user notes/ notes/
RUN echo $SAYS > says.txt && \\
    ls notes > listed.txt
"""

# Docker's own defaults hold until it says otherwise, and the user is not there yet.
CLERKS_DOCKERFILE = """\
FROM e2bdev/base
RUN id -un > /srv/by
WORKDIR /srv/clerk
COPY app/ .
RUN mv /srv/by . && chmod 777 .
ENV SHELVES=2
ENV TILLS 3
USER clerk
"""


def lay_out(directory: Path) -> None:
    """Write the files, with modes that depend on nothing."""
    files = {
        ".dockerignore": b"# what is not copied\n**/*.key\n",
        "app/main.py": b"print('main')\n",
        "app/data/one.txt": b"one\n",
        "app/data/private.key": b"secret\n",
        "notes/a.txt": b"a\n",
        "notes/b.txt": b"b\n",
        "notes/c.md": b"c\n",
        "hello.txt": b"hello\n",
        "run.sh": b"#!/bin/sh\necho ran\n",
        "module/package.json": b'{"name": "tiny-module", "version": "1.0.0", "main": "index.js"}\n',
        "module/index.js": b"module.exports = 'tiny'\n",
        WHEEL: _wheel(),
        "suite.Dockerfile": DOCKERFILE.encode(),
        "clerk.Dockerfile": CLERKS_DOCKERFILE.encode(),
        ACCOUNT_FILE: ACCOUNT.encode(),
    }
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)
    (directory / "hello-link").symlink_to("hello.txt")
    for path in (directory, *directory.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _wheel() -> bytes:
    info = "tiny-1.0.dist-info"
    files = {
        "tiny.py": "SIZE = 'tiny'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: suite\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            # Of one date, so that every client uploads the same bytes.
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
    return made.getvalue()


if __name__ == "__main__":
    import sys

    os.umask(0o022)
    lay_out(Path(sys.argv[1]))
