"""What a build stands on, in memory."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from atolld.control.buildmachine import BaseLayers, Told
from atolld.control.builds.sandbox import OnOutput, Stdin, StepSandbox
from atolld.core.build import Base, BaseKind, BuildSpec, BuildState, Built, Copy, Failure, Run, Where
from atolld.core.defaults import GuestDefaults
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from atolld.foundation.ids import (
    BuildId,
    ProjectId,
    SnapshotId,
    TemplateId,
    new_build_id,
    new_snapshot_id,
    new_template_id,
)
from atolld.images.registry import Credentials

BASE = "b" * 64


def where(number: int, text: str = "") -> Where:
    return Where(number, number, text or f"step {number}")


def run(number: int, command: str, **more: object) -> Run:
    return Run(where(number, f"RUN {command}"), ("/bin/sh", "-c", command), **more)  # type: ignore[arg-type]


class FakeBuildMachine:
    """Layers by digest; `files` are what was uploaded, by name; `directories` are there in every layer."""

    def __init__(self) -> None:
        self.layers: dict[str, Mapping[str, object]] = {BASE: {}}
        self.files: dict[str, str] = {}
        self.directories = {"/", "/home/user"}
        self.copies: list[str] = []
        self.bases: list[tuple[str, bool]] = []
        self.pins: dict[str, tuple[str, ...]] = {}

    async def base(
        self, project_id: ProjectId, base: Base, credentials: Credentials | None, refresh: bool, told: Told
    ) -> BaseLayers:
        self.bases.append((base.name, refresh))
        if base.kind is BaseKind.SCRATCH:
            return BaseLayers((), GuestDefaults("root"))
        if base.name == "missing":
            raise NotFound("there is no image 'missing'")
        told(f"pulling {base.name}")
        return BaseLayers((BASE,), GuestDefaults("root", "/", {"PATH": "/bin"}))

    def has_layer(self, digest: str) -> bool:
        return digest in self.layers

    def layer_root(self, digest: str) -> Path:
        if digest not in self.layers:
            raise NotFound(digest)
        return Path("/layers") / digest / "root"

    def size_bytes(self, digests: tuple[str, ...]) -> int:
        return sum(1 for digest in digests if digest in self.layers)

    def pin(self, owner: str, digests: tuple[str, ...]) -> None:
        self.pins[owner] = digests

    def unpin(self, owner: str) -> None:
        self.pins.pop(owner, None)

    async def has_files(self, project_id: ProjectId, name: str) -> bool:
        return name in self.files

    async def put_files(self, project_id: ProjectId, name: str, pieces: AsyncIterator[bytes]) -> int:
        data = b"".join([piece async for piece in pieces])
        self.files[name] = data.decode()
        return len(data)

    async def files_key(self, project_id: ProjectId, step: Copy, stage: tuple[str, ...] | None) -> str:
        if stage is not None:
            return f"stage {stage}"
        if step.origin not in self.files:
            raise NotFound(f"there are no files {step.origin!r}")
        return self.files[step.origin]

    async def copy(
        self,
        project_id: ProjectId,
        step: Copy,
        stage: tuple[str, ...] | None,
        lower: tuple[str, ...],
        workdir: str,
        digest: str,
        manifest: Mapping[str, object],
    ) -> None:
        self.copies.append(step.where.text)
        self.layers[digest] = manifest

    async def make_directory(
        self, path: str, owner: str, lower: tuple[str, ...], digest: str, manifest: Mapping[str, object]
    ) -> bool:
        if path in self.directories:
            return False
        self.layers[digest] = manifest
        return True


class FakeCache:
    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def latest(self, key: str) -> str:
        return self.said.get(key, key)

    def put(self, key: str, digest: str) -> None:
        self.said[key] = digest


class FakeNewCache:
    def __init__(self, owner: FakeMounts, key: tuple[ProjectId, str]) -> None:
        self._owner, self._key = owner, key
        self._data = b""
        owner.begun += 1

    def write(self, piece: bytes) -> None:
        self._data += piece

    def commit(self) -> None:
        if self._owner.failure is not None:
            raise self._owner.failure
        self._owner.kept[self._key] = self._data

    def abandon(self) -> None:
        self._owner.begun -= 1


class FakeMounts:
    """`kept`: tars by project and id. `begun`: those that were neither committed nor abandoned."""

    def __init__(self) -> None:
        self.kept: dict[tuple[ProjectId, str], bytes] = {}
        self.failure: Exception | None = None
        self.begun = 0

    def read(self, project_id: ProjectId, id: str) -> BinaryIO | None:
        data = self.kept.get((project_id, id))
        return None if data is None else io.BytesIO(data)

    def write(self, project_id: ProjectId, id: str) -> FakeNewCache:
        return FakeNewCache(self, (project_id, id))


@dataclass
class Ran:
    """One command that was run."""

    argv: tuple[str, ...]
    user: str
    cwd: str | None
    envs: Mapping[str, str]
    stdin: str | bytes | None


@dataclass
class FakeStepSandboxes:
    """Runs commands in order: `exits` are the exit codes by command (default 0), `outputs` what they say, `gates` hold
    them. `opened` counts the sandboxes, `open_now` those that have not ended."""

    machine: FakeBuildMachine
    exits: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    ran: list[Ran] = field(default_factory=list)
    written: list[tuple[str, bytes, str]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    opened: list[tuple[tuple[Path, ...], bool]] = field(default_factory=list)
    open_now: int = 0
    most_at_once: int = 0
    running: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def open(
        self,
        spec: BuildSpec,
        layers: tuple[Path, ...],
        *,
        template_id: str,
        user: str = "root",
        workdir: str | None = None,
        envs: Mapping[str, str] | None = None,
        network: bool = True,
        lend: bool = True,
    ) -> AsyncIterator[FakeStepSandbox]:
        self.opened.append((layers, network))
        self.open_now += 1
        self.most_at_once = max(self.most_at_once, self.open_now)
        try:
            yield FakeStepSandbox(self)
        finally:
            self.open_now -= 1


class FakeStepSandbox:
    def __init__(self, owner: FakeStepSandboxes) -> None:
        self._owner = owner

    async def run(
        self,
        argv: tuple[str, ...],
        *,
        user: str,
        cwd: str | None,
        envs: Mapping[str, str],
        on_output: OnOutput,
        stdin: Stdin = None,
    ) -> int:
        owner, command = self._owner, argv[-1]
        if stdin is not None and not isinstance(stdin, str):
            given: str | bytes | None = b"".join([piece async for piece in stdin])
        else:
            given = stdin
        owner.ran.append(Ran(argv, user, cwd, dict(envs), given))
        owner.running.set()
        if command == "no such user":
            raise InvalidArgument("there is no user 'nobody'")
        on_output("stdout", owner.outputs.get(command, b""))
        if command in owner.gates:
            await owner.gates[command].wait()
        return owner.exits.get(command, 0)

    async def write(self, path: str, contents: bytes, user: str = "root") -> None:
        self._owner.written.append((path, contents, user))

    async def remove(self, path: str) -> None:
        self._owner.removed.append(path)

    async def seal(self, digest: str, manifest: Mapping[str, object]) -> None:
        if self._owner.ran[-1].argv[-1] != "change nothing":
            self._owner.machine.layers[digest] = manifest


class FakeRecords:
    """Templates and builds by id."""

    def __init__(self) -> None:
        self.templates: dict[tuple[ProjectId, str], TemplateRecord] = {}
        self.builds: dict[BuildId, Build] = {}
        self.failures: list[Exception] = []

    async def request(
        self,
        project_id: ProjectId,
        name: str,
        tags: tuple[str, ...],
        spec: BuildSpec,
        *,
        hidden: bool = False,
    ) -> tuple[TemplateRecord, Build]:
        made = TemplateRecord(new_template_id(), project_id, name, False, hidden, 0.0, 0.0)
        template = self.templates.setdefault((project_id, name), made)
        build = Build(new_build_id(), template.id, project_id, BuildState.WAITING, spec, 0.0, tags)
        self.builds[build.id] = build
        return template, build

    async def get(self, project_id: ProjectId, template_id: TemplateId, build_id: BuildId) -> Build:
        build = self.builds.get(build_id)
        if build is None or (build.project_id, build.template_id) != (project_id, template_id):
            raise NotFound(f"there is no build {build_id}")
        return build

    async def begin(self, build: Build, start_command: str | None, ready_command: str | None) -> Build:
        commands = {"start_command": start_command, "ready_command": ready_command}
        return self._move(build.id, BuildState.WAITING, state=BuildState.BUILDING, **commands)

    async def finish(self, build_id: BuildId, built: Built, save_id: SnapshotId | None) -> Build:
        if self.failures:
            raise self.failures.pop(0)
        return self._move(
            build_id,
            BuildState.BUILDING,
            state=BuildState.READY,
            built=built,
            save_id=save_id,
        )

    async def fail(self, build_id: BuildId, failure: Failure) -> None:
        if self.builds[build_id].state in (BuildState.WAITING, BuildState.BUILDING):
            self._move(build_id, self.builds[build_id].state, state=BuildState.FAILED, failure=failure)

    async def ready(self, project_id: ProjectId, name: str) -> tuple[TemplateRecord, Build] | None:
        template = self.templates.get((project_id, name))
        for build in self.builds.values():
            if template is not None and build.template_id == template.id and build.state is BuildState.READY:
                return template, build
        return None

    async def interrupted(self) -> Sequence[BuildId]:
        return [one.id for one in self.builds.values() if one.state is BuildState.BUILDING]

    def _move(self, build_id: BuildId, source: BuildState, **changes: object) -> Build:
        if self.builds[build_id].state is not source:
            raise Conflict(f"build {build_id} is not {source.value}")
        self.builds[build_id] = replace(self.builds[build_id], **changes)  # type: ignore[arg-type]
        return self.builds[build_id]


class FakeSaves:
    """Saves; `failures` are raised by the next ones."""

    def __init__(self) -> None:
        self.kept: set[SnapshotId] = set()
        self.failures: list[Exception] = []

    async def check(self, runtime: str) -> None:
        if runtime not in ("gvisor", "fake"):
            raise FailedPrecondition(f"runtime {runtime!r} cannot save memory")

    async def take(self, build: Build, sandbox: StepSandbox) -> SnapshotId:
        if self.failures:
            raise self.failures.pop(0)
        id = new_snapshot_id()
        self.kept.add(id)
        return id

    async def give_up(self, save_id: SnapshotId) -> None:
        self.kept.discard(save_id)
