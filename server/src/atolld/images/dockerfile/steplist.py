"""A list of steps over one base: what the native API, the SDK's images and dialects without Dockerfiles build from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from atolld.core.build import (
    DEFAULT_SHELL,
    MAX_STAGES,
    MAX_STEPS,
    Base,
    BaseKind,
    Copy,
    Env,
    Plan,
    Run,
    Stage,
    Step,
    User,
    Where,
    Workdir,
)
from atolld.core.sandbox import check_envs
from atolld.foundation.errors import InvalidArgument
from atolld.images.dockerfile.inputs import Inputs, check_files_name, check_text
from atolld.images.reference import parse_reference

MAX_SHOWN = 200
MAX_ARGV_BYTES = 128 * 1024
MAX_SOURCES = 1000
# An origin of this form becomes a stage of its own.
IMAGE_PREFIX = "image:"


def plan_of_steps(base: Base, steps: Sequence[Step], inputs: Inputs) -> Plan:
    """The plan of `steps` over `base`, one stage unless they copy from images.

    `where` of the steps is filled in: its number always, its text where it is empty. A `Copy` without origin and inline
    contents reads `inputs.context`; one from `image:<reference>` reads an image. Build arguments and targets are a
    Dockerfile's, and refused here.

    Raises InvalidArgument that names the step.
    """
    inputs.check()
    if inputs.args or inputs.target is not None:
        raise InvalidArgument("build arguments and a target belong to a Dockerfile; a list of steps has neither")
    if len(steps) > MAX_STEPS:
        raise InvalidArgument(f"{len(steps)} steps are too many: {MAX_STEPS} are the most, so join some")
    _check_base(base)
    origins: list[str] = []
    numbered: list[Step] = []
    for number, step in enumerate(steps, 1):
        where = Where(number, step.where.line, shown(step.where.text or _text(step)))
        try:
            numbered.append(_checked(step, where, inputs, origins))
        except InvalidArgument as error:
            raise InvalidArgument(f"step {number} ({where.text}): {error.message}") from None
    if len(origins) >= MAX_STAGES:
        raise InvalidArgument(f"the steps copy from {len(origins)} images: {MAX_STAGES - 1} are the most")
    stages = [
        Stage(Base(BaseKind.IMAGE, reference), where=Where(0, 0, shown(f"FROM {reference}"))) for reference in origins
    ]
    name = "scratch" if base.kind is BaseKind.SCRATCH else base.name
    stages.append(Stage(base, tuple(numbered), where=Where(0, 0, shown(f"FROM {name}"))))
    return Plan(
        tuple(stages),
        start_command=inputs.start_command,
        ready_command=inputs.ready_command,
        force=inputs.force,
    )


def shell_argv(command: str, shell: Sequence[str] = DEFAULT_SHELL) -> tuple[str, ...]:
    """The whole command line of `command` in a shell."""
    return (*shell, command)


def shown(text: str) -> str:
    """`text` as one line of a log, without control characters, shortened in its end."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text[: 4 * MAX_SHOWN]).split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 3] + "..."


def check_argv(argv: Sequence[str]) -> None:
    """Raises InvalidArgument when there is nothing to run, or more than a program can be given."""
    if not argv or not argv[0]:
        raise InvalidArgument("there is no command to run")
    for one in argv:
        check_text(one, "the command")
        if len(one.encode()) > MAX_ARGV_BYTES:
            raise InvalidArgument(
                f"the command has an argument of more than {MAX_ARGV_BYTES} bytes, which Linux does not take: put it "
                "into a file, and copy that"
            )


def _checked(step: Step, where: Where, inputs: Inputs, origins: list[str]) -> Step:
    match step:
        case Run():
            check_argv(step.argv)
            check_envs(step.envs)
            if step.stdin is not None:
                check_text(step.stdin, "the input of the command")
            return replace(step, where=where)
        case Env():
            check_envs(step.envs)
            return replace(step, where=where)
        case Workdir():
            if step.path is not None:
                _check_path(step.path, "the working directory")
            return replace(step, where=where)
        case User():
            check_text(step.user, "the user")
            if not step.user.strip():
                raise InvalidArgument("the user is empty: give a name or a number")
            return replace(step, where=where)
        case Copy():
            return replace(_checked_copy(step, inputs, origins), where=where)


def _checked_copy(step: Copy, inputs: Inputs, origins: list[str]) -> Copy:
    _check_path(step.destination, "the destination")
    if not step.sources and not step.inline:
        raise InvalidArgument("it copies nothing: name at least one source")
    if len(step.sources) + len(step.inline) > MAX_SOURCES:
        raise InvalidArgument(f"it has more than {MAX_SOURCES} sources: copy their directory")
    for source in (*step.sources, *step.exclude):
        _check_path(source, "a source")
    if step.inline:
        return step
    if step.origin is None:
        if inputs.context is None:
            raise InvalidArgument("it copies files, but none were uploaded: upload them, and name them in 'context'")
        return replace(step, origin=inputs.context)
    if step.origin.startswith(IMAGE_PREFIX):
        reference = step.origin.removeprefix(IMAGE_PREFIX)
        parse_reference(reference)
        if reference not in origins:
            origins.append(reference)
        return replace(step, origin=f"stage:{origins.index(reference)}")
    check_files_name(step.origin)
    return step


def _check_path(path: str, what: str) -> None:
    check_text(path, what)
    if not path or len(path.encode()) > 4095:
        raise InvalidArgument(f"{what} has to be a path of 1 to 4095 bytes")


def _check_base(base: Base) -> None:
    match base.kind:
        case BaseKind.IMAGE:
            parse_reference(base.name)
        case BaseKind.TEMPLATE if not base.name:
            raise InvalidArgument("the base names no template")
        case BaseKind.STAGE:
            raise InvalidArgument("a list of steps begins with a template, an image or scratch, not with a stage")
        case _:
            pass


def _text(step: Step) -> str:
    match step:
        case Run():
            is_shell = step.argv[:2] == DEFAULT_SHELL and len(step.argv) == 3
            return f"RUN {step.argv[2] if is_shell else shlex.join(step.argv)}"
        case Copy():
            return f"COPY {' '.join((*step.inline, *step.sources))} {step.destination}"
        case Env():
            return f"ENV {' '.join(f'{name}={shlex.quote(value)}' for name, value in step.envs.items())}"
        case Workdir():
            return f"WORKDIR {step.path or '/'}"
        case User():
            return f"USER {step.user}"
