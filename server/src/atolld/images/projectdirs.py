"""Where builds keep what is a project's own: a directory for each project."""

from __future__ import annotations

import re
from pathlib import Path

from atolld.foundation.errors import Internal
from atolld.foundation.ids import ProjectId

# What nobody used for so long goes by itself.
KEPT_S = 7 * 24 * 3600.0
# What was used so lately does not go on `prune`: a build may be about to read it.
FRESH_S = 3600.0
_PROJECT = re.compile(r"[0-9A-Za-z-]{1,64}")


def project_directory(root: Path, project_id: ProjectId) -> Path:
    """The project's own below `root`. Raises Internal when that is no id of a project."""
    if not _PROJECT.fullmatch(project_id):
        raise Internal(f"{project_id[:80]!r} is not the id of a project")
    return root / project_id


def entries(directory: Path) -> list[Path]:
    """What is in it, by name; nothing when it is not there."""
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
