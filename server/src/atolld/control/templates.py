"""What sandboxes can be started from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from atolld.core.sandbox import Resources
from atolld.foundation.ids import ProjectId, TemplateId


class Template(Protocol):
    """One template; `atolld.images.templates.Template` is one. `layers`: read-only root directories, lowest first."""

    @property
    def id(self) -> TemplateId: ...

    @property
    def name(self) -> str: ...

    @property
    def layers(self) -> tuple[Path, ...]: ...

    @property
    def built_at(self) -> float: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def resources(self) -> Resources: ...


class TemplateSource(Protocol):
    """Where templates are kept; `atolld.images.templates.TemplateStore` is one."""

    def list(self) -> Sequence[Template]:
        """All, by name."""
        ...

    def get(self, name: str) -> Template:
        """Raises InvalidArgument when `name` is no template name, NotFound when there is none."""
        ...


class Templates:
    """The templates a project may use; so far every project may use all of the machine's."""

    def __init__(self, source: TemplateSource) -> None:
        self._source = source

    async def list(self, project_id: ProjectId) -> Sequence[Template]:
        """All, by name."""
        return self._source.list()

    async def get(self, project_id: ProjectId, name: str) -> Template:
        """Raises InvalidArgument when `name` is no template name, NotFound when there is none."""
        return self._source.get(name)
