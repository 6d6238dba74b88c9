"""The text of a Dockerfile as a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atolld.core.build import MAX_STAGES, MAX_STEPS, Base, BaseKind, Plan, Stage, Where
from atolld.foundation.errors import InvalidArgument
from atolld.images.dockerfile.binding import StageBinding, steps_of
from atolld.images.dockerfile.failing import wrong
from atolld.images.dockerfile.inputs import Inputs
from atolld.images.dockerfile.stages import Part, pick, read_stages
from atolld.images.dockerfile.steplist import shown
from atolld.images.dockerfile.syntax import Dockerfile, Instruction, parse


def plan_of_dockerfile(text: str, inputs: Inputs) -> Plan:
    """The plan of the stages that the target needs; a COPY from an image is a stage of its own.

    Steps are counted over those stages. What stands in stages that are not needed is read, but not judged. Raises
    InvalidArgument with the line, the instruction, and what to do.
    """
    inputs.check()
    dockerfile = parse(text)
    parts, outer = read_stages(dockerfile, inputs)
    needed = pick(parts, inputs.target)
    plan = _Planning(dockerfile, inputs, parts, outer)
    for index in needed:
        plan.add(index)
    if len(plan.stages) > MAX_STAGES:
        raise InvalidArgument(
            f"Dockerfile: with the images it copies from it has {len(plan.stages)} stages: {MAX_STAGES} are the most"
        )
    binding = plan.stages[-1].binding
    assert isinstance(binding, StageBinding), "the target is a stage of the Dockerfile"
    return Plan(
        tuple(plan.stages),
        binding.unbound()[1],
        start_command=inputs.start_command,
        ready_command=inputs.ready_command,
        force=inputs.force,
    )


@dataclass(slots=True)
class _Planning:
    """A plan while stages are added to it. `places`: of parts, and of images, among `stages`."""

    dockerfile: Dockerfile
    inputs: Inputs
    parts: Sequence[Part]
    outer: Mapping[str, str]
    stages: list[Stage] = field(default_factory=list)
    places: dict[int | Base, int] = field(default_factory=dict)
    steps: int = 0

    def add(self, index: int) -> None:
        """Add a part, all that it needs being there but for images. Raises InvalidArgument."""
        part = self.parts[index]
        origins = {name: f"stage:{self._place(read)}" for name, read in part.reads.items()}
        base = part.base
        if base.kind is BaseKind.STAGE:
            base = Base(BaseKind.STAGE, str(self.places[int(base.name)]))
        binding = StageBinding(
            tuple(part.body),
            self._inherited(part),
            self._numbers(part),
            origins,
            self.inputs.context,
            self.dockerfile.escape,
            self.inputs.args,
            self.outer,
        )
        self.places[index] = len(self.stages)
        where = Where(0, part.start.line, shown(part.start.text))
        self.stages.append(Stage(base, binding.unbound()[0], part.name, where, binding))

    def _place(self, read: int | Base) -> int:
        if read not in self.places:
            assert isinstance(read, Base), "stages that are read stand before"
            self.places[read] = len(self.stages)
            self.stages.append(Stage(read, where=Where(0, 0, shown(f"FROM {read.name}"))))
        return self.places[read]

    def _numbers(self, part: Part) -> tuple[int, ...]:
        first = self.steps
        for instruction in part.body:
            try:
                self.steps += steps_of(instruction)
            except ValueError as error:
                raise wrong(instruction.line, instruction.name, str(error)) from None
            if self.steps > MAX_STEPS:
                raise wrong(
                    instruction.line, instruction.name, f"there are more than {MAX_STEPS} steps: join some with '&&'"
                )
        return tuple(range(first + 1, self.steps + 1))

    def _inherited(self, part: Part) -> tuple[Instruction, ...]:
        found: list[Instruction] = []
        while part.base.kind is BaseKind.STAGE:
            part = self.parts[int(part.base.name)]
            found[:0] = [one for one in part.body if one.name == "ARG"]
        return tuple(found)
