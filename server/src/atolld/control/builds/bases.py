"""Templates as what a stage begins with."""

from __future__ import annotations

from atolld.control.buildmachine import BaseLayers
from atolld.control.templates import Templates
from atolld.foundation.ids import ProjectId


class Bases:
    """Finds them as a sandbox's create does: the project's own, public ones, the machine's."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    async def get(self, project_id: ProjectId, name: str) -> BaseLayers:
        """The layers of the template `name`. Raises InvalidArgument, NotFound."""
        template = await self._templates.get(project_id, name)
        return BaseLayers(tuple(root.parent.name for root in template.layers), template.defaults)
