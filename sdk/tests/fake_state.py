"""Pauses, snapshots, forks and pools of the fake daemon."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from sdk.tests.fake_wire import Wire


class StateRoutes(Wire):
    """What is asked of a sandbox's state, of snapshots and of pools."""

    def _state(self, id: str, rest: str) -> bool:
        """Whether `rest` is a path of these; then it is answered."""
        sandbox = self.daemon.sandboxes[id]
        body = self.seen.json() if self.seen.body else {}
        if rest == "pause":
            self._become(sandbox, "paused", ("running", "frozen"))
        elif rest == "resume":
            self._become(sandbox, "running", ("paused", "frozen"), **body)
        elif rest == "freeze":
            self._become(sandbox, "frozen", ("running", "frozen"))
        elif rest == "connect":
            self._become(sandbox, "running", (sandbox["state"],), **body)
        elif rest == "fork":
            self._fork(sandbox, body["count"])
        elif rest == "rollback":
            self._roll_back(sandbox, body["snapshot"])
        elif rest == "snapshots":
            self._keep(sandbox, **body)
        elif rest == "checkpoints":
            self._json({"items": list(self.daemon.snapshots.values()), "head_id": sandbox.get("head_id")})
        else:
            return False
        return True

    def _snapshots_and_pools(self, path: str) -> bool:
        """Whether the path, as it was sent, is one of these; then it is answered."""
        _, _, noun, *rest = path.split("/")
        if noun == "snapshots":
            self._snapshots([unquote(part) for part in rest])
        elif noun == "pools":
            self._pools(rest)
        else:
            return False
        return True

    def _become(self, sandbox: dict[str, Any], state: str, sources: tuple[str, ...], **changes: Any) -> None:
        if sandbox["state"] not in sources:
            message = f"the sandbox is {sandbox['state']}"
            fault = {"code": "failed_precondition", "message": message, "details": {"state": sandbox["state"]}}
            self._json({"error": fault}, 409)
            return
        sandbox.update(changes, state=state)
        self._json(sandbox)

    def _fork(self, source: dict[str, Any], count: int) -> None:
        faults, self.daemon.fork_faults = self.daemon.fork_faults, []
        outcomes: list[dict[str, Any]] = [{"sandbox": None, "error": fault} for fault in faults[:count]]
        for _ in range(count - len(outcomes)):
            asked = {name: value for name, value in source.items() if name != "id"}
            outcomes.append({"sandbox": self.daemon.new_sandbox(asked), "error": None})
        self._json({"items": outcomes}, 201)

    def _roll_back(self, sandbox: dict[str, Any], snapshot: str) -> None:
        found = self._find_snapshot(snapshot)
        if found is None:
            self._refuse(404, "not_found", f"there is no snapshot {snapshot}")
            return
        sandbox["head_id"] = found["id"]
        self._json(sandbox)

    def _keep(self, sandbox: dict[str, Any], kind: str, name: str | None = None) -> None:
        snapshots = self.daemon.snapshots
        id = f"snap{len(snapshots) + 1}"
        snapshots[id] = {
            "id": id,
            "name": name,
            "sandbox_id": sandbox["id"],
            "parent_id": sandbox.get("head_id"),
            "role": "snapshot",
            "state": "ready",
            "kind": kind,
            "template": sandbox["template"],
            "runtime": "gvisor",
            "created_at": "2026-11-26T05:00:00Z",
            "size_bytes": 3 * 2**20,
            "stopped_ms": 41.5,
        }
        sandbox["head_id"] = id
        self._json(snapshots[id], 201)

    def _find_snapshot(self, id_or_name: str) -> dict[str, Any] | None:
        return next((one for one in self.daemon.snapshots.values() if id_or_name in (one["id"], one["name"])), None)

    def _snapshots(self, parts: list[str]) -> None:
        if not parts:
            start, limit = int(self.seen.params.get("cursor", "0")), int(self.seen.params["limit"])
            found = list(self.daemon.snapshots.values())
            more = str(start + limit) if len(found) > start + limit else None
            self._json({"items": found[start : start + limit], "next_cursor": more})
            return
        if parts == ["import"] and self.command == "POST":
            self.daemon.imported.append((self.seen.params.get("name"), self.seen.body))
            first = next(iter(self.daemon.snapshots.values()))
            self._json({**first, "id": "imported", "name": self.seen.params.get("name")}, 201)
            return
        found_one = self._find_snapshot(parts[0])
        if found_one is None:
            self._refuse(404, "not_found", f"there is no snapshot {parts[0]}")
        elif parts[1:] == ["diff"]:
            limit = int(self.seen.params["limit"])
            items = self.daemon.diffs[:limit]
            self._json({"items": items, "complete": len(items) < limit})
        elif parts[1:] == ["archive"]:
            # As a daemon that breaks half way: less than it told of.
            told = len(self.daemon.archive) + (1 if self.daemon.cut_archive else 0)
            self._answer(200, self.daemon.archive, {"content-length": str(told)})
            self.close_connection = self.daemon.cut_archive
        elif self.command == "DELETE":
            del self.daemon.snapshots[found_one["id"]]
            self._answer(204)
        else:
            self._json(found_one)

    def _pools(self, parts: list[str]) -> None:
        pools = self.daemon.pools
        if self.command == "PUT":
            asked = self.seen.json()
            id = f"pool{len(pools) + 1}"
            pools[id] = {"id": id, "runtime": "gvisor", "warm": 1, "starting": 2, "message": None, **asked}
            self._json(pools[id])
        elif not parts:
            self._json({"items": list(pools.values())})
        elif parts[0] not in pools:
            self._refuse(404, "not_found", f"there is no pool {parts[0]}")
        elif self.command == "DELETE":
            del pools[parts[0]]
            self._answer(204)
        else:
            self._json(pools[parts[0]])
