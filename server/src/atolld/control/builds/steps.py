"""One step: from the layers before it to the layers after it, out of the cache where they are there."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from atolld.control.buildmachine import BuildMachine
from atolld.control.builds.caches import CacheStore, Held, StepCaches, mount_memory
from atolld.control.builds.failing import StepFailed
from atolld.control.builds.keys import copy_key, directory_key, run_key
from atolld.control.builds.lines import LAST_LINES, Lines
from atolld.control.builds.progress import Progress
from atolld.control.builds.sandbox import StepSandbox, StepSandboxes
from atolld.control.builds.shared import Say, SharedWork
from atolld.core.build import BuildSpec, Copy, Env, Run, SecretMount, Step, User, Workdir
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import ProjectId, new_build_id

STAGE_PREFIX = "stage:"
SECRETS = "/run/secrets"
# What a step's key stands for when the step changes no file.
NOTHING = "0" * 64
_MANIFEST_TEXT = 1000

# Makes the layer of that digest.
Make = Callable[[str, Say], Awaitable[None]]


class StepCache(Protocol):
    """Which layer a key stands for: the one that was made last; `atolld.images.stepcache.StepCache` is one."""

    def latest(self, key: str) -> str:
        """The digest of the layer, NOTHING when the step changes nothing; `key` itself when nothing else was said."""
        ...

    def put(self, key: str, digest: str) -> None:
        """From now on `key` stands for `digest`."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """What holds for every step of one build. `secrets`: id to value. `total`: how many steps there are."""

    project_id: ProjectId
    spec: BuildSpec
    force: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict)
    total: int = 0


class Steps:
    """Runs them, each at most once at a time, whoever asks for it."""

    def __init__(
        self,
        machine: BuildMachine,
        sandboxes: StepSandboxes,
        cache: StepCache,
        now: Callable[[], float],
        mounts: CacheStore,
    ) -> None:
        self._machine = machine
        self._sandboxes = sandboxes
        self._cache = cache
        self._now = now
        self._shared = SharedWork()
        self._caches = StepCaches(mounts)

    async def take(
        self, order: Order, step: Step, before: Progress, stages: Mapping[int, tuple[str, ...]], say: Say
    ) -> Progress:
        """What comes after `step`. `stages`: layers of the stages that it may copy from.

        Raises StepFailed when its command failed, and what the machine raises.
        """
        match step:
            case Env():
                say("info", _label(order, step))
                return before.with_envs(step.envs)
            case User():
                say("info", _label(order, step))
                return before.with_user(step.user)
            case Workdir():
                say("info", _label(order, step))
                return await self._workdir(order, step, before, say)
            case Copy():
                return await self._copy(order, step, before, stages, say)
            case Run():
                return await self._run(order, step, before, say)

    async def _workdir(self, order: Order, step: Workdir, before: Progress, say: Say) -> Progress:
        if step.path is None:
            return before.without_workdir()
        path = before.resolve(step.path)
        after = before.with_workdir(path)
        if path == "/" or not before.layers:
            return after
        key = directory_key(path, before.user, before)
        if self._machine.has_layer(key):
            return after.with_layer(key)
        made = await self._machine.make_directory(path, before.user, before.layers, key, self._manifest(step, before))
        return after.with_layer(key) if made else after

    async def _copy(
        self, order: Order, step: Copy, before: Progress, stages: Mapping[int, tuple[str, ...]], say: Say
    ) -> Progress:
        stage = None
        if step.origin is not None and step.origin.startswith(STAGE_PREFIX):
            stage = stages[int(step.origin.removeprefix(STAGE_PREFIX))]
        files = "" if step.origin is None else await self._machine.files_key(order.project_id, step, stage)
        key = copy_key(step, before, files)

        async def make(digest: str, _: Say) -> None:
            manifest = self._manifest(step, before)
            await self._machine.copy(order.project_id, step, stage, before.layers, before.workdir, digest, manifest)

        return await self._layer(order, step, key, before, make, say)

    async def _run(self, order: Order, step: Run, before: Progress, say: Say) -> Progress:
        if not before.layers:
            raise InvalidArgument("there is nothing to run a command in: the stage is empty so far")
        for secret in step.secrets:
            if secret.required and secret.id not in order.secrets:
                raise InvalidArgument(f"the step needs the secret {secret.id!r}, which was not given")

        async def make(digest: str, tell: Say) -> None:
            async with self._caches.held(order.project_id, step.caches) as held:
                await self._in_sandbox(order, step, before, digest, tell, held)

        return await self._layer(order, step, run_key(step, before, order.project_id), before, make, say)

    async def _layer(
        self, order: Order, step: Run | Copy, key: str, before: Progress, make: Make, say: Say
    ) -> Progress:
        label = _label(order, step)
        force = order.force or step.force
        latest = self._cache.latest(key)
        for digest in () if force else dict.fromkeys((latest, key)):
            if digest == NOTHING or self._machine.has_layer(digest):
                say("info", f"CACHED {label}")
                return before if digest == NOTHING else before.with_layer(digest)
        say("info", label)
        # Layers never change: what is made anew although it was there has a name of its own, which the key stands for
        # from then on.
        digest = key if not force else hashlib.sha256(f"{key} {new_build_id()}".encode()).hexdigest()

        async def begin(tell: Say) -> None:
            await make(digest, tell)
            made = digest if self._machine.has_layer(digest) else NOTHING
            if latest != made:
                self._cache.put(key, made)

        await self._shared.join(digest, begin, say)
        return before.with_layer(digest) if self._machine.has_layer(digest) else before

    async def _in_sandbox(
        self, order: Order, step: Run, before: Progress, digest: str, tell: Say, held: Sequence[Held]
    ) -> None:
        roots = tuple(map(self._machine.layer_root, before.layers))
        lines = Lines(lambda line: tell("info", line), order.secrets.values())
        async with self._sandboxes.open(
            order.spec, roots, template_id="build", user=before.user, envs=before.envs, network=step.network
        ) as sandbox:
            user = step.user or before.user
            envs = {**before.envs, **step.envs}
            for directory in step.memory:
                await mount_memory(sandbox, posixpath.join(before.workdir, directory))
            about = (sandbox, held, before.workdir, order.spec.resources.memory_mib, tell)
            await self._caches.fill(order.project_id, *about)
            put = [secret for secret in step.secrets if secret.id in order.secrets]
            for secret in put:
                envs |= await self._give(sandbox, secret, order.secrets[secret.id], user)
            try:
                status = await sandbox.run(
                    step.argv, user=user, cwd=before.workdir, envs=envs, stdin=step.stdin, on_output=lines.feed
                )
            finally:
                lines.end()
            # Also of a step that failed: what it fetched is there for the next try.
            await self._caches.keep(order.project_id, *about)
            if status != 0:
                raise _failed(step, status, lines.last)
            for secret in put:
                await self._take_back(sandbox, secret)
            await sandbox.seal(digest, self._manifest(step, before))

    async def _give(self, sandbox: StepSandbox, secret: SecretMount, value: str, user: str) -> Mapping[str, str]:
        """Put a secret where the step reads it; returns the variables it is in."""
        if secret.target is not None or secret.env is None:
            path = _target(secret)
            await sandbox.write(path, value.encode(), user)
            if (secret.uid, secret.gid, secret.mode) != (0, 0, SecretMount(secret.id).mode):
                await self._own(sandbox, secret, path)
        return {secret.env: value} if secret.env is not None else {}

    async def _own(self, sandbox: StepSandbox, secret: SecretMount, path: str) -> None:
        for argv in (("chown", f"{secret.uid}:{secret.gid}", path), ("chmod", f"{secret.mode:o}", path)):
            if await sandbox.run(argv, user="root", cwd="/", envs={}, on_output=lambda *_: None) != 0:
                raise InvalidArgument(
                    f"the secret {secret.id!r} cannot be given the owner or mode that the step wants: the image's "
                    f"{argv[0]} failed"
                )

    async def _take_back(self, sandbox: StepSandbox, secret: SecretMount) -> None:
        if secret.target is not None or secret.env is None:
            path = _target(secret)
            await sandbox.remove(path)
            # The directory that was made for it goes as well, unless something else is in it.
            if path.startswith(f"{SECRETS}/"):
                await sandbox.run(("rmdir", SECRETS), user="root", cwd="/", envs={}, on_output=lambda *_: None)

    def _manifest(self, step: Step, before: Progress) -> Mapping[str, object]:
        return {
            "inputs": {"step": step.where.text[:_MANIFEST_TEXT], "parents": list(before.layers)},
            "built_at": self._now(),
        }


def _label(order: Order, step: Step) -> str:
    where = step.where
    return f"[{where.phase or f'builder {where.number}/{order.total}'}] {where.text}"


def _target(secret: SecretMount) -> str:
    return secret.target or f"{SECRETS}/{secret.id}"


def _failed(step: Run, status: int, last: Collection[str]) -> StepFailed:
    how = "was ended by a signal" if status < 0 else f"ended with exit code {status}"
    at = f" (line {step.where.line})" if step.where.line else ""
    said = "".join(f"\n  {line}" for line in list(last)[-LAST_LINES:])
    message = f"step {step.where.step}{at}, {step.where.text!r}, {how}" + (f"; its last lines:{said}" if said else "")
    return StepFailed(message, step.where.step, exit_code=status, last_lines=tuple(last))
