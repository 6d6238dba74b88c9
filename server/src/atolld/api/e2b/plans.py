"""What E2B's clients ask to be built, as a plan. Pure.

The build begins as the user `user`, whom every image gets, in that user's home; a template is gone on from in its own
directory. What E2B adds at both ends is in `provisioning`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atolld.api.e2b.buildrequests import BuildStep, StartBuild
from atolld.api.e2b.buildsteps import MAX_COMMAND_BYTES, translate
from atolld.api.e2b.provisioning import USER, finalize, prepare
from atolld.core.build import Base, BaseKind, ImageConfig, Plan, Stage, Step, User, Where, Workdir
from atolld.foundation.errors import InvalidArgument
from atolld.images.reference import parse_reference

# Images of E2B's own that are templates here. Written with its registry, `docker.io/e2bdev/base` is the image itself.
OWN_IMAGES = {"e2bdev/base": "base", "e2bdev/code-interpreter": "code-interpreter-v1"}


@dataclass(frozen=True, slots=True)
class Ground:
    """What a build stands on. `text`: as its log shows it. `own`: whether it is one of the machine's own templates,
    which need no preparing. `workdir`: where its sandboxes begin, None: at home. The commands are for a build that has
    none."""

    base: Base
    text: str
    own: bool = False
    workdir: str | None = None
    start_command: str | None = None
    ready_command: str | None = None


def template_named(body: StartBuild) -> str | None:
    """The template that `body` wants to be built on; None when it is an image.

    Raises InvalidArgument unless exactly one is named.
    """
    if bool(body.fromImage) == bool(body.fromTemplate):
        raise InvalidArgument("exactly one of fromImage and fromTemplate must be given")
    if body.fromTemplate:
        return body.fromTemplate
    name, colon, tag = str(body.fromImage).strip().partition(":")
    return OWN_IMAGES.get(name) if not colon or tag == "latest" else None


def image_ground(reference: str) -> Ground:
    """An image as what a build stands on. Raises InvalidArgument when it is no reference."""
    wanted = reference.strip()
    parse_reference(wanted)
    return Ground(Base(BaseKind.IMAGE, wanted), f"FROM {wanted}")


def plan_of(body: StartBuild, ground: Ground) -> Plan:
    """The plan. Raises InvalidArgument that says what is wrong with which step."""
    force = body.force is True
    steps = body.steps or []
    start, ready = body.startCmd or None, body.readyCmd or None
    if start is None and ready is None:
        start, ready = ground.start_command, ground.ready_command
    for name, command in (("startCmd", start), ("readyCmd", ready)):
        if command is not None and ("\0" in command or len(command.encode()) > MAX_COMMAND_BYTES):
            raise InvalidArgument(f"{name} holds a NUL byte, or has more than {MAX_COMMAND_BYTES} bytes")
    whole = _whole(steps, ground, force, None)
    stage = Stage(
        ground.base, whole, where=Where(0, 0, ground.text, "base"), binding=_Binding(tuple(steps), ground, force)
    )
    return Plan((stage,), start_command=start, ready_command=ready, force=force)


@dataclass(frozen=True, slots=True)
class _Binding:
    """See `atolld.core.build.Binding`."""

    steps: tuple[BuildStep, ...]
    ground: Ground
    force: bool

    def __call__(self, envs: Mapping[str, str], config: ImageConfig) -> tuple[tuple[Step, ...], ImageConfig]:
        # What an image says of how to run it is not E2B's: sandboxes run what the build's own start command says.
        return _whole(self.steps, self.ground, self.force, envs), config


def _whole(
    steps: tuple[BuildStep, ...] | list[BuildStep], ground: Ground, force: bool, envs: Mapping[str, str] | None
) -> tuple[Step, ...]:
    where = Where(0, 0, f"USER {USER}", "base")
    first: list[Step] = [] if ground.own else [prepare()]
    first.append(User(where, USER))
    # E2B goes on in the directory of a template, and does not look at the one of an image.
    if ground.base.kind is BaseKind.IMAGE or ground.workdir is not None:
        first.append(Workdir(where, ground.workdir))
    forced = force or any(step.force for step in steps)
    return (*first, *translate(steps, placed=ground.workdir is not None, force=force, envs=envs), finalize(forced))
