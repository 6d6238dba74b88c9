# Generated from `src/atoll/_async/state.py` by `scripts/unasync.py`: change that, not this.
"""What stops, keeps, copies and rewinds one sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atoll._sync.guest import Guest
from atoll._sync.http import Call
from atoll._sync.requests import SLOW_TIMEOUT_S, items, json_call
from atoll._sync.snapshots import Checkpoints, Snapshot
from atoll._errors import AtollError, FailedPrecondition, Internal, NotFound
from atoll._models import SandboxInfo
from atoll._state_models import SnapshotInfo
from atoll._wire_errors import error_from_daemon


class State:
    """The states of the sandbox of `guest`. All methods raise SandboxEnded."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def pause(self, keep_memory: bool) -> bool:
        """False when it was paused already."""
        return self._reach("paused", "/pause", {} if keep_memory else {"kind": "filesystem"})

    def resume(self, timeout_s: int | None, keep_memory: bool) -> bool:
        """False when it ran already."""
        body: dict[str, object] = {} if timeout_s is None else {"timeout_s": timeout_s}
        if not keep_memory:
            body["kind"] = "filesystem"
        return self._reach("running", "/resume", body)

    def freeze(self) -> SandboxInfo:
        """Frozen already is success."""
        return SandboxInfo.from_json(self._post("/freeze", {}, is_safe=True))

    def snapshot(self, name: str | None, keep_memory: bool) -> Snapshot:
        """A new snapshot; a lost answer is not asked for again, for that would make two."""
        body: dict[str, object] = {"kind": "memory" if keep_memory else "filesystem"}
        if name is not None:
            body["name"] = name
        answer = self._post("/snapshots", body, is_safe=False)
        return Snapshot(self._guest.http, SnapshotInfo.from_json(answer))

    def fork(self, count: int, timeout_s: int | None) -> tuple[Sequence[SandboxInfo], Sequence[AtollError]]:
        """Those that came up, and why the others did not."""
        body: dict[str, object] = {"count": count}
        if timeout_s is not None:
            body["timeout_s"] = timeout_s
        entries = items(self._post("/fork", body, is_safe=False))
        if not all(isinstance(entry, dict) for entry in entries):
            raise Internal("the daemon's answer is not a list of forks")
        made = [SandboxInfo.from_json(entry["sandbox"]) for entry in entries if entry.get("sandbox") is not None]
        failed = [error_from_daemon(entry["error"]) for entry in entries if isinstance(entry.get("error"), dict)]
        return made, failed

    def rollback(self, snapshot: str) -> SandboxInfo:
        """Raises NotFound for a snapshot that is not there."""
        call = self._call("/rollback", {"snapshot": snapshot}, is_safe=True)
        try:
            return SandboxInfo.from_json(self._guest.http.json(call))
        except NotFound:
            # Of the two it is the sandbox whose absence has an error of its own.
            self._guest.json(Call("GET", self._guest.own_path(), is_safe=True))
            raise

    def checkpoints(self) -> Checkpoints:
        """The whole tree."""
        call = Call("GET", self._guest.own_path("/checkpoints"), is_safe=True)
        answer = self._guest.json(call)
        head_id = answer.get("head_id") if isinstance(answer, dict) else None
        all_ = [Snapshot(self._guest.http, SnapshotInfo.from_json(item)) for item in items(answer)]
        return Checkpoints(all_, head_id)

    def _reach(self, state: str, path: str, body: Mapping[str, object]) -> bool:
        try:
            self._post(path, body, is_safe=True)
        except FailedPrecondition as error:
            if error.details.get("state") != state:
                raise
            return False
        return True

    def _post(self, path: str, body: Mapping[str, object], *, is_safe: bool) -> Any:
        return self._guest.json(self._call(path, body, is_safe=is_safe))

    def _call(self, path: str, body: Mapping[str, object], *, is_safe: bool) -> Call:
        return json_call("POST", self._guest.own_path(path), body, is_safe=is_safe, read_timeout_s=SLOW_TIMEOUT_S)
