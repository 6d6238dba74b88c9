"""The first key: made once, so that a fresh daemon can be used without another step."""

from __future__ import annotations

import json
import os
from pathlib import Path

from atolld.control.keys import Keys
from atolld.core.project import Project
from atolld.foundation.errors import Unauthenticated

NAME = "admin"


def key_file(state: Path) -> Path:
    """Where the first key lies, readable by its owner only."""
    return state / "admin.key"


async def ensure_first_key(keys: Keys, project: Project, state: Path) -> str:
    """The secret in `<state>/admin.key`; a new key when the file is missing or its key does not serve any more."""
    path = key_file(state)
    if path.exists():
        secret = path.read_text(encoding="ascii").strip()
        if await _serves(keys, secret):
            return secret
    _, secret = await keys.create(project.id, NAME)
    write_private(path, secret + "\n")
    return secret


async def _serves(keys: Keys, secret: str) -> bool:
    try:
        await keys.authenticate(secret)
    except Unauthenticated:
        return False
    return True


def write_client_config(path: Path, url: str, secret: str, owner: tuple[int, int] | None) -> bool:
    """Tell the client on this machine where the daemon is and with which key.

    `owner`: uid and gid the file and new directories are given to. A file that names another daemon is left alone.
    Returns whether the client now finds this daemon.
    """
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return False
        if not isinstance(known, dict) or known.get("api_url", url) != url:
            return False
    made = [parent for parent in (path.parent, *path.parent.parents) if not parent.exists()]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, json.dumps({"api_url": url, "api_key": secret}, indent=2) + "\n")
    if owner is not None:
        for one in (*made, path):
            os.chown(one, *owner, follow_symlinks=False)
    return True


def write_private(path: Path, text: str) -> None:
    """Replace `path` by a file that only its owner can read; never a moment in which others could."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)
    new.replace(path)
