"""Steps and bases as they come over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from atolld.api.native.schemas import Request
from atolld.core.build import Base, BaseKind, Copy, Env, Run, SecretMount, Step, User, Where, Workdir
from atolld.foundation.errors import InvalidArgument
from atolld.images.dockerfile import IMAGE_PREFIX, shell_argv

MAX_COMMAND = 256 * 1024
MAX_PATH = 4096

FORCE = "Run it, and so all after it, although its result is in the cache."
TEXT = "How logs and errors call it; by default the instruction of a Dockerfile that does the same."


class BaseBody(Request):
    """What the steps begin with: exactly one of the three."""

    template: str | None = Field(None, max_length=256, description="A template of the machine or the project.")
    image: str | None = Field(None, max_length=512, description="An image of a registry; pulled when it is not there.")
    scratch: bool = Field(False, strict=True, description="Nothing.")

    def to_base(self) -> Base:
        """Raises InvalidArgument when it is not exactly one."""
        given = [self.template is not None, self.image is not None, self.scratch]
        if sum(given) != 1:
            raise InvalidArgument("the base is a template, an image, or scratch: give exactly one")
        if self.template is not None:
            return Base(BaseKind.TEMPLATE, self.template)
        if self.image is not None:
            return Base(BaseKind.IMAGE, self.image)
        return Base(BaseKind.SCRATCH)


class SecretBody(Request):
    """A secret that one step may read."""

    id: str = Field(min_length=1, max_length=128, description="What its value is given under, in `secrets`.")
    target: str | None = Field(None, max_length=MAX_PATH, description="File; by default `/run/secrets/<id>`.")
    env: str | None = Field(None, max_length=256, description="Variable, instead of a file unless `target` is given.")
    required: bool = Field(True, strict=True, description="Fail when it was not given.")

    def to_mount(self) -> SecretMount:
        """As the core has it."""
        return SecretMount(self.id, self.target, self.env, self.required)


class _StepBody(Request):
    force: bool = Field(False, strict=True, description=FORCE)
    text: str | None = Field(None, max_length=1000, description=TEXT)

    def where(self) -> Where:
        """Its number is given to it by the plan."""
        return Where(0, 0, self.text or "")


class RunStep(_StepBody):
    """A command: text for `/bin/sh -c`, or a list that is run as it is."""

    run: Annotated[str, Field(max_length=MAX_COMMAND)] | list[Annotated[str, Field(max_length=MAX_COMMAND)]]
    user: str | None = Field(None, max_length=256, description="Who runs it; by default the user of the last `user`.")
    envs: dict[str, str] = Field(default_factory=dict, description="Variables of this step only.")
    secrets: list[SecretBody] = Field(default_factory=list, max_length=64)
    network: bool = Field(True, strict=True, description="Whether it reaches the internet.")
    stdin: str | None = Field(None, max_length=MAX_COMMAND, description="Its input.")

    def to_step(self) -> Step:
        """As the core has it."""
        return Run(
            self.where(),
            shell_argv(self.run) if isinstance(self.run, str) else tuple(self.run),
            envs=self.envs,
            user=self.user,
            secrets=tuple(secret.to_mount() for secret in self.secrets),
            stdin=self.stdin,
            network=self.network,
            force=self.force,
        )


class CopyStep(_StepBody):
    """Files into the image, of uploaded files or of another image."""

    copy_: list[Annotated[str, Field(min_length=1, max_length=MAX_PATH)]] = Field(
        alias="copy", min_length=1, description="Paths below the root of the files; `*`, `?`, `[...]`, `**` match."
    )
    to: str = Field(min_length=1, max_length=MAX_PATH, description="With `/` at its end it is a directory.")
    files: str | None = Field(None, max_length=128, description="Uploaded files of its own; by default `context`.")
    from_image: str | None = Field(None, max_length=512, description="Copy out of this image instead.")
    owner: str | None = Field(None, max_length=256, description="`user[:group]`; by default root.")
    mode: str | None = Field(None, pattern=r"^0?[0-7]{3,4}$", description="Octal, like `0755`; by default as it was.")
    exclude: list[Annotated[str, Field(min_length=1, max_length=MAX_PATH)]] = Field(default_factory=list)

    def to_step(self) -> Step:
        """As the core has it. Raises InvalidArgument."""
        if self.files is not None and self.from_image is not None:
            raise InvalidArgument("a copy reads uploaded files or an image: give 'files' or 'from_image', not both")
        return Copy(
            self.where(),
            tuple(self.copy_),
            self.to,
            origin=self.files if self.from_image is None else f"{IMAGE_PREFIX}{self.from_image}",
            owner=self.owner,
            mode=None if self.mode is None else int(self.mode, 8),
            exclude=tuple(self.exclude),
            force=self.force,
        )


class EnvStep(_StepBody):
    """Variables of all later steps and of the sandboxes; their values are taken as they are."""

    env: dict[str, str] = Field(min_length=1)

    def to_step(self) -> Step:
        """As the core has it."""
        return Env(self.where(), self.env)


class WorkdirStep(_StepBody):
    """The directory of later steps and of the sandboxes; made when it is missing."""

    workdir: str = Field(min_length=1, max_length=MAX_PATH)

    def to_step(self) -> Step:
        """As the core has it."""
        return Workdir(self.where(), self.workdir)


class UserStep(_StepBody):
    """Who runs later steps, and the commands in the sandboxes."""

    user: str = Field(min_length=1, max_length=256)

    def to_step(self) -> Step:
        """As the core has it."""
        return User(self.where(), self.user)


def _kind(value: object) -> str | None:
    if isinstance(value, Mapping):
        # A `run` may name a user, too: that it is a command goes first.
        return next((kind for kind in ("run", "copy", "env", "workdir", "user") if kind in value), None)
    return _KINDS.get(type(value).__name__)


_KINDS = {"RunStep": "run", "CopyStep": "copy", "EnvStep": "env", "WorkdirStep": "workdir", "UserStep": "user"}


StepBody = Annotated[
    Annotated[RunStep, Tag("run")]
    | Annotated[CopyStep, Tag("copy")]
    | Annotated[EnvStep, Tag("env")]
    | Annotated[WorkdirStep, Tag("workdir")]
    | Annotated[UserStep, Tag("user")],
    Discriminator(
        _kind,
        custom_error_type="step",
        custom_error_message="a step is an object with one of 'run', 'copy', 'env', 'workdir' and 'user'",
    ),
]
