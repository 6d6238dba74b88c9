"""What sandboxes can be started from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from atolld.core.defaults import GuestDefaults
from atolld.core.sandbox import Resources
from atolld.foundation.errors import InvalidArgument, NotFound, Unimplemented
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

    @property
    def defaults(self) -> GuestDefaults: ...


class TemplateSource(Protocol):
    """Where templates are kept; `atolld.images.templates.TemplateStore` is one."""

    def list(self) -> Sequence[Template]:
        """All, by name."""
        ...

    def get(self, name: str) -> Template:
        """Raises InvalidArgument when `name` is no template name, NotFound when there is none."""
        ...


class ImageSource(Protocol):
    """Images that can be used as templates; `atolld.control.images.Images` is one."""

    async def get(self, project_id: ProjectId, name: str) -> Template:
        """Raises InvalidArgument when `name` is no reference, NotFound when the project has not pulled it,
        Unimplemented when the node has no images."""
        ...


class Templates:
    """What a project may start from: the machine's templates, which so far are every project's, and its own images."""

    def __init__(self, source: TemplateSource, images: ImageSource | None = None) -> None:
        self._source = source
        self._images = images

    async def list(self, project_id: ProjectId) -> Sequence[Template]:
        """All templates, by name, without images."""
        return self._source.list()

    async def get(self, project_id: ProjectId, name: str) -> Template:
        """The template called `name`, or the image with that reference: templates go first.

        Raises InvalidArgument when `name` can be neither, NotFound when there is neither.
        """
        try:
            return self._source.get(name)
        except (InvalidArgument, NotFound) as error:
            if self._images is None:
                raise
            missing: InvalidArgument | NotFound = error
        try:
            return await self._images.get(project_id, name)
        except NotFound as error:
            raise NotFound(f"there is no template {name!r}, and {error.message}") from None
        except (InvalidArgument, Unimplemented):
            raise missing from None
