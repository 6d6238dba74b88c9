"""What goes over the wire about builds and what they make: requests that become plans, and views of what came of them.

A build is asked for in two steps: `POST /v1/templates` gives it an id, `POST .../builds/{build_id}` says what it builds
and starts it. Files are uploaded between the two, under a name that the client computes of their contents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from atolld.api.native.build_steps import BaseBody, StepBody
from atolld.api.native.schemas import RUNTIME, ErrorBody, Number, Request, Strict, moment
from atolld.control.templates import Template
from atolld.core.build import BuildSpec, BuildState, Failure, LogEntry, Plan
from atolld.core.sandbox import Resources
from atolld.core.template import Build, Tag, TemplateRecord
from atolld.foundation.clock import rfc3339
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import parse_name
from atolld.images.dockerfile import Inputs, plan_of_dockerfile, plan_of_steps
from atolld.images.registry import Credentials

MAX_DOCKERFILE_BYTES = 1024 * 1024
MAX_SECRETS = 64
MAX_SECRET_BYTES = 256 * 1024
MAX_TAGS = 64

TagName = Annotated[str, Field(min_length=1, max_length=128)]
Text = Annotated[str, Field(max_length=64 * 1024)]

START_COMMAND = (
    "Started when everything is built, and still running in every sandbox: the memory with its process is saved. Null: "
    "sandboxes boot."
)
READY_COMMAND = "Run again and again after `start_command` until it ends with 0; then the memory is saved."
CONTEXT = "The name under which the files were uploaded (`PUT /v1/build-files/{name}`)."


class Bounds(Request):
    """What the build's steps, and the sandboxes made of it, get; what is left out has its default."""

    runtime: str = Field("gvisor", description=RUNTIME)
    cpu: Number | None = Field(None, description="CPU in cores, 0.1 to 256; by default 1.")
    memory_mib: Strict | None = Field(None, description="Memory in MiB; by default 512.")
    disk_mib: Strict | None = Field(None, description="Writable disk in MiB; by default 10240.")
    pids_max: Strict | None = Field(None, description="Processes and threads at once; by default 1024.")

    def to_spec(self) -> BuildSpec:
        """Raises InvalidArgument when a bound is out of its range."""
        asked = {
            "cpu": self.cpu,
            "memory_mib": self.memory_mib,
            "disk_mib": self.disk_mib,
            "pids_max": self.pids_max,
        }
        # The types were checked when the body was parsed.
        resources = Resources(**{name: value for name, value in asked.items() if value is not None})  # type: ignore[arg-type]
        resources.check()
        return BuildSpec(parse_name(self.runtime, "runtime"), resources)


class CreateTemplate(Bounds):
    """A new version of a template; the template is made when there is none of that name."""

    name: str = Field(max_length=128, description="`a-z 0-9 . _ -`; optionally `:` and a tag.")
    tags: list[TagName] = Field(
        default_factory=list, max_length=MAX_TAGS, description="They point to this build once it is ready."
    )
    public: bool | None = Field(
        None, strict=True, description="Whether every project may start from it; null leaves it as it is."
    )


class BuildBuiltin(Request):
    """A template that comes with Atoll."""

    languages: list[Annotated[str, Field(max_length=32)]] = Field(
        default_factory=list, max_length=16, description="Of `code-interpreter-v1`: those beyond the default ones."
    )


class RegistryLogin(Request):
    """For the registry of the base images; used by this build and never stored."""

    username: str = Field(max_length=256)
    password: SecretStr = Field(max_length=16384, description="Or a token.")

    def credentials(self) -> Credentials:
        """What pulls are made with."""
        return Credentials(self.username, self.password.get_secret_value())


class StartBuild(Request):
    """What is built: a `dockerfile`, or a `base` with `steps`."""

    dockerfile: str | None = Field(None, max_length=MAX_DOCKERFILE_BYTES, description="Its text.")
    target: str | None = Field(None, max_length=256, description="The stage that comes out; by default the last.")
    args: dict[str, str] = Field(default_factory=dict, description="Build arguments, for `ARG`. They are no secrets.")
    base: BaseBody | None = Field(None, description="What `steps` begin with.")
    steps: list[StepBody] = Field(default_factory=list, description="In their order.")
    context: str | None = Field(None, max_length=128, description=CONTEXT)
    secrets: dict[str, SecretStr] = Field(
        default_factory=dict,
        max_length=MAX_SECRETS,
        description="Values for `RUN --mount=type=secret,id=...`, by id. Seen by those steps only, and never stored.",
    )
    start_command: Text | None = Field(None, description=START_COMMAND)
    ready_command: Text | None = Field(None, description=READY_COMMAND)
    force: bool = Field(False, strict=True, description="Take nothing from the cache.")
    registry: RegistryLogin | None = Field(None, description="For base images that need a login.")

    def to_plan(self) -> Plan:
        """May take a second for hostile text, so a server calls it in a thread. Raises InvalidArgument."""
        inputs = Inputs(
            context=self.context,
            args=self.args,
            target=self.target,
            start_command=self.start_command,
            ready_command=self.ready_command,
            force=self.force,
        )
        if self.dockerfile is not None:
            if self.base is not None or self.steps:
                raise InvalidArgument("give a dockerfile, or a base with steps, and not both")
            return plan_of_dockerfile(self.dockerfile, inputs)
        if self.base is None:
            raise InvalidArgument("there is nothing to build: give a dockerfile, or a base with steps")
        return plan_of_steps(self.base.to_base(), [step.to_step() for step in self.steps], inputs)

    def secret_values(self) -> Mapping[str, str]:
        """By id. Raises InvalidArgument when one is too large or cannot be a variable."""
        found = {id: value.get_secret_value() for id, value in self.secrets.items()}
        for id, value in found.items():
            if not 1 <= len(id) <= 128 or "\0" in value or len(value.encode(errors="replace")) > MAX_SECRET_BYTES:
                raise InvalidArgument(
                    f"the secret {id[:80]!r} cannot be used: its id has 1 to 128 characters, its value at most "
                    f"{MAX_SECRET_BYTES} bytes and no NUL"
                )
        return found

    def credentials(self) -> Credentials | None:
        """For the registry of the base images."""
        return None if self.registry is None else self.registry.credentials()


class BuildImage(StartBuild, Bounds):
    """An image defined at run time: built unless one with the same contents is there, and in no list."""


class RequestedBuild(BaseModel):
    """A build that waits for what it builds: `POST /v1/templates/{template_id}/builds/{build_id}`."""

    template_id: str
    build_id: str
    name: str
    tags: list[str]
    public: bool

    @staticmethod
    def of(template: TemplateRecord, build: Build) -> RequestedBuild:
        """The view of `build`."""
        return RequestedBuild(
            template_id=template.id,
            build_id=build.id,
            name=template.name,
            tags=list(build.tags),
            public=template.public,
        )


class FilesView(BaseModel):
    """Whether files are there under a name."""

    present: bool


class FailureView(BaseModel):
    """Why a build failed. `step`: the number of the step, `base`, `finalize`, or null when no step did. `exit_code`:
    of its command, -1 when a signal ended it. `last_lines`: the end of its output."""

    message: str
    step: str | None
    exit_code: int | None
    last_lines: list[str]

    @staticmethod
    def of(failure: Failure) -> FailureView:
        """The view of `failure`."""
        return FailureView(
            message=failure.message,
            step=failure.step,
            exit_code=failure.exit_code,
            last_lines=list(failure.last_lines),
        )


class BuildView(BaseModel):
    """One version of a template. `size_bytes`, `layers`, `user`, `workdir`, `envs`: once it is ready. `failure`: once
    it has failed. `saved`: whether sandboxes go on from a saved memory. `tags`: those that it was asked for with."""

    id: str
    template_id: str
    state: BuildState
    runtime: str
    cpu: float
    memory_mib: int
    disk_mib: int
    pids_max: int
    tags: list[str]
    created_at: str
    finished_at: str | None
    start_command: str | None
    ready_command: str | None
    saved: bool
    size_bytes: int | None
    layers: list[str]
    user: str | None
    workdir: str | None
    envs: dict[str, str]
    failure: FailureView | None

    @staticmethod
    def of(build: Build) -> BuildView:
        """The view of `build`."""
        bounds, built = build.spec.resources, build.built
        return BuildView(
            id=build.id,
            template_id=build.template_id,
            state=build.state,
            runtime=build.spec.runtime,
            cpu=bounds.cpu,
            memory_mib=bounds.memory_mib,
            disk_mib=bounds.disk_mib,
            pids_max=bounds.pids_max,
            tags=list(build.tags),
            created_at=rfc3339(build.created_at),
            finished_at=moment(build.finished_at),
            start_command=build.start_command,
            ready_command=build.ready_command,
            saved=build.save_id is not None,
            size_bytes=None if built is None else built.size_bytes,
            layers=[] if built is None else list(built.layers),
            user=None if built is None else built.defaults.user,
            workdir=None if built is None else built.defaults.workdir,
            envs={} if built is None else dict(built.defaults.envs),
            failure=None if build.failure is None else FailureView.of(build.failure),
        )


class LogEntryView(BaseModel):
    """One line of a build's log; `message` of `level` info comes from inside a sandbox mostly and proves nothing.

    `level`: debug, info, warn or error. `step`: as in a failure; null for the build's own lines.
    """

    at: str
    level: str
    message: str
    step: str | None

    @staticmethod
    def of(entry: LogEntry) -> LogEntryView:
        """The view of `entry`."""
        return LogEntryView(at=rfc3339(entry.at), level=entry.level, message=entry.message, step=entry.step)


class BuildLine(BaseModel):
    """One line of the answer to `POST /v1/images/build`: a `log` line, or, as the last one, `template`, what sandboxes
    are created from, with its `build`; or an `error`, whose details have the failure's `step`, `exit_code` and
    `last_lines`.
    """

    log: LogEntryView | None = None
    template: str | None = None
    build: BuildView | None = None
    error: ErrorBody | None = None


class TagView(BaseModel):
    """A tag of a template."""

    tag: str
    build_id: str
    assigned_at: str

    @staticmethod
    def of(tag: Tag) -> TagView:
        """The view of `tag`."""
        return TagView(tag=tag.tag, build_id=tag.build_id, assigned_at=rfc3339(tag.assigned_at))


class TemplateView(BaseModel):
    """A template: the machine's own (`machine`), or one that a project has built.

    `build`: the version that its plain name means, which `built_at`, `size_bytes` and the bounds are of; all are null
    before one is ready. The machine's own have no builds and no tags.
    """

    id: str
    name: str
    machine: bool
    public: bool
    created_at: str
    updated_at: str
    built_at: str | None
    size_bytes: int | None
    cpu: float | None
    memory_mib: int | None
    disk_mib: int | None
    tags: list[TagView]
    build: BuildView | None

    @staticmethod
    def of(template: TemplateRecord, tags: Sequence[Tag], build: Build | None) -> TemplateView:
        """The view of a project's `template`; `build`: the one that its plain name means."""
        ready = build if build is not None and build.built is not None else None
        bounds = None if ready is None else ready.spec.resources
        return TemplateView(
            id=template.id,
            name=template.name,
            machine=False,
            public=template.public,
            created_at=rfc3339(template.created_at),
            updated_at=rfc3339(template.updated_at),
            built_at=None if ready is None else moment(ready.finished_at),
            size_bytes=None if ready is None or ready.built is None else ready.built.size_bytes,
            cpu=None if bounds is None else bounds.cpu,
            memory_mib=None if bounds is None else bounds.memory_mib,
            disk_mib=None if bounds is None else bounds.disk_mib,
            tags=[TagView.of(tag) for tag in tags],
            build=None if build is None else BuildView.of(build),
        )

    @staticmethod
    def of_machine(template: Template) -> TemplateView:
        """The view of one of the machine's own, or of an image."""
        bounds, built_at = template.resources, rfc3339(template.built_at)
        return TemplateView(
            id=template.id,
            name=template.name,
            machine=True,
            public=True,
            created_at=built_at,
            updated_at=built_at,
            built_at=built_at,
            size_bytes=template.size_bytes,
            cpu=bounds.cpu,
            memory_mib=bounds.memory_mib,
            disk_mib=bounds.disk_mib,
            tags=[],
            build=None,
        )


class TemplatePage(BaseModel):
    """One page: on the first the machine's own by name, then the project's, newest first; `next_cursor` is null on the
    last."""

    items: list[TemplateView]
    next_cursor: str | None


class BuildPage(BaseModel):
    """One page, newest first; `next_cursor` is null on the last."""

    items: list[BuildView]
    next_cursor: str | None


class ChangeTemplate(Request):
    """What changes of a template; what is left out stays."""

    public: bool | None = Field(None, strict=True, description="Whether every project may start from it.")


class AssignTags(Request):
    """Tags that move to one build of the template, from wherever they are."""

    tags: list[TagName] = Field(min_length=1, max_length=MAX_TAGS)
    build: str | None = Field(
        None, max_length=128, description="A build's id, or a tag; null: the build that the plain name means."
    )


class RemoveTags(Request):
    """Tags to be removed; their builds stay."""

    tags: list[TagName] = Field(min_length=1, max_length=MAX_TAGS)
