"""The text of a Dockerfile as a plan."""

from __future__ import annotations

from atolld.core.build import Plan
from atolld.foundation.errors import Unimplemented
from atolld.images.dockerfile.inputs import Inputs


def plan_of_dockerfile(text: str, inputs: Inputs) -> Plan:
    """The plan of the stages that the target needs.

    Raises InvalidArgument with the line, the instruction, and what to do.
    """
    raise Unimplemented("Dockerfiles cannot be built yet; give the steps instead")
