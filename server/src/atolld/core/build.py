"""What is built: stages of steps over a base, and what comes out. Dockerfiles and step lists become the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from atolld.core.defaults import GuestDefaults
from atolld.core.sandbox import Resources
from atolld.foundation.errors import FailedPrecondition

MAX_STAGES = 64
MAX_STEPS = 500
DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class Where:
    """Where a step stands in what the user wrote. `number`: counted from 1 over all steps, as shown. `line`: of the
    Dockerfile, counted from 1; 0 when there is none. `text`: as shown in logs, without secrets. `phase`: `base` or
    `finalize` for what is done before and after the user's steps, which then has the number 0."""

    number: int
    line: int
    text: str
    phase: str = ""

    @property
    def step(self) -> str:
        """How failures and logs name it, see `Failure.step`."""
        return self.phase or str(self.number)


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A secret that one step may read: a file at `target` in memory, or the variable `env`, never part of a layer.

    `id`: what the caller gives its value under. `required`: refuse the step when it was not given.
    """

    id: str
    target: str | None = None
    env: str | None = None
    required: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o400


class Sharing(StrEnum):
    """What two steps that want the same cache at once do: both have it and the last one to end counts; one waits; or
    the second has an empty one."""

    SHARED = "shared"
    LOCKED = "locked"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A directory in memory whose contents are there again for the next step of the project that names the same `id`.
    `readonly`: what the step changes in it is not kept."""

    id: str
    target: str
    sharing: Sharing = Sharing.SHARED
    readonly: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Run:
    """A command in a sandbox. `argv`: whole, with its shell. `envs`: build arguments, seen by this step only.
    `user` None: the one of the last `User`. `stdin`: a heredoc's text. `network` False: without any.
    `memory`: directories that are empty and in memory while it runs; of what is in them nothing stays. `caches`: others
    that begin with what they held last."""

    where: Where
    argv: tuple[str, ...]
    envs: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    secrets: tuple[SecretMount, ...] = ()
    stdin: str | None = None
    network: bool = True
    force: bool = False
    memory: tuple[str, ...] = ()
    caches: tuple[CacheMount, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """Files into the image.

    `sources`: patterns below the origin's root. `origin`: the name of files that the caller uploaded (a digest, see
    `ContextStore`), or `stage:<index>`. `inline`: file name to contents (heredocs), instead of an origin. `destination`
    as written: with a `/` at its end it is a directory; relative to the working directory. `owner`: `user[:group]`,
    None: root. `mode` None: as it was. `unpack`: archives among the sources are unpacked (ADD). `parents`: sources keep
    their directories. `exclude`: patterns of what is left out. `follow` False: a source that is a link is copied as the
    link that it is, as E2B does it, instead of what it leads to.
    """

    where: Where
    sources: tuple[str, ...]
    destination: str
    origin: str | None = None
    inline: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None
    mode: int | None = None
    unpack: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    follow: bool = True
    force: bool = False


@dataclass(frozen=True, slots=True)
class Env:
    """Variables of every later step and of the sandboxes."""

    where: Where
    envs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Workdir:
    """The directory of later steps and of the sandboxes; made when it is missing. Relative to the one before. None: as
    if none had ever been set, so that steps begin in `/`, and commands in the sandboxes in their user's home."""

    where: Where
    path: str | None


@dataclass(frozen=True, slots=True)
class User:
    """Who runs later steps, and commands in the sandboxes: `user[:group]`, names or numbers."""

    where: Where
    user: str


Step = Run | Copy | Env | Workdir | User


class BaseKind(StrEnum):
    """What a stage starts from. TEMPLATE: by name, of the machine or the project. IMAGE: by reference, pulled when it
    is not there. STAGE: an earlier one, by its index as text. SCRATCH: nothing."""

    TEMPLATE = "template"
    IMAGE = "image"
    STAGE = "stage"
    SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Base:
    """`name`: see `BaseKind`; empty for SCRATCH."""

    kind: BaseKind
    name: str = ""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of itself and Atoll does not run. `healthcheck`: Docker's JSON of it."""

    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    healthcheck: Mapping[str, object] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str | None = None
    shell: tuple[str, ...] = DEFAULT_SHELL


class Binding(Protocol):
    """What a stage does, of which parts depend on its base: a Dockerfile's `ENV PATH=/opt/bin:$PATH`."""

    def __call__(self, envs: Mapping[str, str], config: ImageConfig) -> tuple[tuple[Step, ...], ImageConfig]:
        """Its steps, and the config after them. `envs`, `config`: of the base, be it an image, a template or a stage.

        As many steps as `Stage.steps` has, in the same order and of the same kinds, with the same origins. Raises
        InvalidArgument: a variable that must be set is not.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage; `name` empty when it has none. `steps` are as they are over a base without variables; those to be run
    are told by `bound` once the base is there."""

    base: Base
    steps: tuple[Step, ...] = ()
    name: str = ""
    where: Where = field(default_factory=lambda: Where(0, 0, "FROM"))
    binding: Binding | None = None

    def bound(self, envs: Mapping[str, str], config: ImageConfig) -> tuple[tuple[Step, ...], ImageConfig]:
        """See `Binding`; without one, `steps` and `config` as they are."""
        return (self.steps, config) if self.binding is None else self.binding(envs, config)


@dataclass(frozen=True, slots=True)
class Plan:
    """One build: stages in order, the last of which is what comes out; stages that it does not need are left out.

    `start_command` is run at the end (by `/bin/bash -l -c`, or sh where there is no bash), and `ready_command` again
    and again until it ends with 0; then the memory is saved, and sandboxes go on from it. Both None: sandboxes boot.
    `force`: nothing is taken from the cache. `config`: of what comes out, over a base that has none; stages with a
    binding tell the whole of it.
    """

    stages: tuple[Stage, ...]
    config: ImageConfig = field(default_factory=ImageConfig)
    start_command: str | None = None
    ready_command: str | None = None
    force: bool = False

    @property
    def total(self) -> int:
        """How many steps the user wrote: the highest of their numbers."""
        return max((step.where.number for stage in self.stages for step in stage.steps), default=0)


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made. `layers`: digests in the layer store, lowest first. `size_bytes`: of them on disk."""

    layers: tuple[str, ...]
    defaults: GuestDefaults
    config: ImageConfig
    size_bytes: int


class BuildState(StrEnum):
    """WAITING: asked for, its plan has not come yet. BUILDING. READY: sandboxes can be made of it. FAILED, with its
    reason; also when it was cancelled or the daemon ended."""

    WAITING = "waiting"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


BUILD_TRANSITIONS = frozenset(
    {
        (BuildState.WAITING, BuildState.BUILDING),
        (BuildState.WAITING, BuildState.FAILED),
        (BuildState.BUILDING, BuildState.READY),
        (BuildState.BUILDING, BuildState.FAILED),
    }
)


def build_transition(source: BuildState, target: BuildState) -> BuildState:
    """`target`. Raises FailedPrecondition when a build in `source` cannot get there."""
    if (source, target) not in BUILD_TRANSITIONS:
        raise FailedPrecondition(f"a build that is {source.value} cannot become {target.value}")
    return target


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a build failed. `step`: its number as text, `base` or `finalize`; None when no step did. `exit_code` of its
    command, `last_lines` of its output."""

    message: str
    step: str | None = None
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a build's log. `at`: Unix seconds. `level`: debug, info, warn or error. `step` as in `Failure`."""

    at: float
    level: str
    message: str
    step: str | None = None


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """How it is built and what sandboxes get: `runtime` runs the steps, `resources` bound them and every sandbox."""

    runtime: str = "gvisor"
    resources: Resources = field(default_factory=Resources)
