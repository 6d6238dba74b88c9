"""One stage: its instructions as steps, once the variables of its base are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from atolld.core.build import Env, ImageConfig, Step, User, Where, Workdir
from atolld.core.sandbox import check_envs
from atolld.foundation.errors import AtollError
from atolld.images.dockerfile.configuring import CONFIGURING, configured, pairs
from atolld.images.dockerfile.copying import copies_of, copy_steps
from atolld.images.dockerfile.expansion import Expander
from atolld.images.dockerfile.failing import wrong
from atolld.images.dockerfile.flags import read_flags
from atolld.images.dockerfile.inputs import check_text
from atolld.images.dockerfile.running import run_step
from atolld.images.dockerfile.scope import DEFAULT_PATH, Scope
from atolld.images.dockerfile.steplist import shown
from atolld.images.dockerfile.syntax import Instruction

STEPS = frozenset({"RUN", "COPY", "ADD", "ENV", "WORKDIR", "USER"})


@dataclass(frozen=True, slots=True)
class StageBinding:
    """A `core.build.Binding`. `instructions` follow the FROM. `inherited`: the ARGs of the stages it is made of.
    `numbers`: of its steps, in order. `origins`: what `--from` may name, to an origin. The rest is as in `Scope`.
    """

    instructions: tuple[Instruction, ...]
    inherited: tuple[Instruction, ...]
    numbers: tuple[int, ...]
    origins: Mapping[str, str]
    context: str | None
    escape: str
    given: Mapping[str, str]
    outer: Mapping[str, str]

    def __call__(self, envs: Mapping[str, str], config: ImageConfig) -> tuple[tuple[Step, ...], ImageConfig]:
        """See `core.build.Binding`."""
        return self._bind(dict(envs) if "PATH" in envs else {"PATH": DEFAULT_PATH, **envs}, config, lenient=False)

    def unbound(self) -> tuple[tuple[Step, ...], ImageConfig]:
        """The same while nothing is known of the base: references to its variables are kept. Raises InvalidArgument."""
        return self._bind({}, ImageConfig(), lenient=True)

    def _bind(
        self, envs: dict[str, str], config: ImageConfig, *, lenient: bool
    ) -> tuple[tuple[Step, ...], ImageConfig]:
        scope = Scope(Expander(self.escape, keep_unset=lenient), self.given, self.outer, envs)
        stage = _Stage(self, scope, config, lenient)
        for instruction in (*self.inherited, *self.instructions):
            try:
                stage.take(instruction)
            except ValueError as error:
                raise wrong(instruction.line, instruction.name, str(error)) from None
            except AtollError as error:
                raise wrong(instruction.line, instruction.name, error.message) from None
        return tuple(stage.steps), stage.config


class _Stage:
    """A stage on its way through its instructions."""

    def __init__(self, binding: StageBinding, scope: Scope, config: ImageConfig, lenient: bool) -> None:
        self.steps: list[Step] = []
        self.config = config
        self._binding = binding
        self._scope = scope
        self._lenient = lenient
        self._has_cmd = False

    def take(self, instruction: Instruction) -> None:
        """Raises ValueError, AtollError."""
        match instruction.name:
            case "ARG":
                read_flags(instruction.flags, ())
                self._scope.declare(instruction)
            case "RUN":
                where = self._where(instruction)
                self.steps.append(run_step(instruction, where, self._scope, self.config.shell, lenient=self._lenient))
                check_envs(self._scope.of_command())
            case "COPY" | "ADD":
                first = len(self.steps)
                wheres = tuple(self._where(instruction, first + at) for at in range(copies_of(instruction)))
                self.steps += copy_steps(
                    instruction,
                    wheres,
                    self._scope,
                    self._binding.origins,
                    self._binding.context,
                    lenient=self._lenient,
                )
            case "ENV":
                self._env(instruction)
            case "WORKDIR":
                self.steps.append(Workdir(self._where(instruction), self._one(instruction, "directory")))
            case "USER":
                self.steps.append(User(self._where(instruction), self._one(instruction, "user")))
            case "ONBUILD":
                raise ValueError(
                    "steps that wait for another build are not supported: put them into the Dockerfiles that build on "
                    "this image"
                )
            case name if name in CONFIGURING:
                self._configure(instruction)
            case _:
                raise ValueError("this instruction is not known")

    def _env(self, instruction: Instruction) -> None:
        read_flags(instruction.flags, ())
        envs = pairs(instruction, self._scope)
        if not self._lenient or not any("$" in name for name in envs):
            check_envs(envs)
        self._scope.envs.update(envs)
        self.steps.append(Env(self._where(instruction), envs))

    def _one(self, instruction: Instruction, what: str) -> str:
        read_flags(instruction.flags, ())
        word = self._scope.word(instruction.args[0]) if instruction.args else ""
        check_text(word, f"the {what}")
        if not word.strip():
            raise ValueError(f"it names no {what}")
        return word

    def _configure(self, instruction: Instruction) -> None:
        if instruction.name == "ENTRYPOINT" and not self._has_cmd:
            # A command of the base was meant for its own entry point.
            self.config = replace(self.config, cmd=())
        self._has_cmd |= instruction.name == "CMD"
        self.config = configured(instruction, self.config, self._scope, lenient=self._lenient)

    def _where(self, instruction: Instruction, at: int | None = None) -> Where:
        number = self._binding.numbers[len(self.steps) if at is None else at]
        text = instruction.text
        if instruction.heredocs and instruction.name == "RUN":
            text = f"{text} ({instruction.heredocs[0].contents.strip().partition(chr(10))[0]})"
        return Where(number, instruction.line, shown(text))


def steps_of(instruction: Instruction) -> int:
    """How many steps it is. Raises ValueError."""
    if instruction.name in ("COPY", "ADD"):
        return copies_of(instruction)
    return int(instruction.name in STEPS)
