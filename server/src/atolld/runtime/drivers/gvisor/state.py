"""runsc's state files: which sandboxes it knows, their processes, and how a dead one's files are removed.

Written by hand because `runsc delete --force` takes 1.7 s (it asks a killed sandbox again and again) and
`runsc state` 20 ms. The names are the same in all releases since 2022-12: `<id>_sandbox:<id>.state` and `.lock`, and
the control socket `runsc-<id>.sock`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import SandboxId, parse_sandbox_id

_SUFFIX = ".state"


@dataclass(frozen=True, slots=True)
class RunscState:
    """What a state file tells: host pids of the sentry and of the gofer (None: not started or already gone).

    `paused`: `runsc pause` has stopped the guest. runsc itself goes by that. `created`: nothing of a guest ran yet.
    """

    sandbox_pid: int | None
    gofer_pid: int | None
    paused: bool = False
    created: bool = False


def state_file(root: Path, id: SandboxId) -> Path:
    """The state file of sandbox `id`."""
    return root / f"{id}_sandbox:{id}{_SUFFIX}"


def read_state(root: Path, id: SandboxId) -> RunscState | None:
    """None when runsc does not know `id`, or was killed while it wrote."""
    try:
        stored = json.loads(state_file(root, id).read_text())
    except (FileNotFoundError, ValueError):
        return None
    sandbox = stored.get("sandbox") or {}
    status = stored.get("status")
    pids = _pid(sandbox.get("pid")), _pid(stored.get("goferPid"))
    return RunscState(*pids, paused=status == "paused", created=status == "created")


def _pid(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def list_ids(root: Path) -> list[SandboxId]:
    """Every sandbox of which runsc has any file."""
    try:
        names = [path.name for path in root.iterdir()]
    except FileNotFoundError:
        return []
    found: set[SandboxId] = set()
    for name in names:
        text = name.removeprefix("runsc-").partition("_" if "_sandbox:" in name else ".")[0]
        try:
            found.add(parse_sandbox_id(text))
        except InvalidArgument:
            continue
    return sorted(found)


def remove_state(root: Path, id: SandboxId) -> None:
    """Remove every file runsc has of `id`, which must be dead. Already gone is success. Raises OSError."""
    for path in (
        state_file(root, id),
        root / f"{id}_sandbox:{id}.lock",
        root / f"runsc-{id}.sock",
    ):
        path.unlink(missing_ok=True)
