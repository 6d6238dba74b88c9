"""What sandboxes can be started from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from atolld.control.projecttemplates import ProjectTemplates
from atolld.control.templateleftovers import Leftovers
from atolld.core.defaults import GuestDefaults
from atolld.core.sandbox import Resources
from atolld.core.templatenames import DEFAULT_TAG
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
    """What a project may start from: what it has built, the machine's templates, its images, and what other projects
    have made public, looked for in this order.

    Its own go first: a project that builds a template called `base` means that one from then on. Others can never come
    before what a project knows already: theirs are found by `<project>/<name>` only, after the images that the project
    itself has pulled, which may be called the same.

    `leftovers`: what removes deleted ones of projects.
    """

    def __init__(
        self,
        source: TemplateSource,
        images: ImageSource | None = None,
        projects: ProjectTemplates | None = None,
        leftovers: Leftovers | None = None,
    ) -> None:
        self._source = source
        self._images = images
        self.projects = projects
        self.leftovers = leftovers

    async def list(self, project_id: ProjectId) -> Sequence[Template]:
        """The machine's templates, by name; what projects have built is in `TemplateRecords`."""
        return self._source.list()

    async def get(self, project_id: ProjectId, name: str) -> Template:
        """The template that `name` means: `ProjectTemplate` where a project has built it.

        `name` is as in `atolld.core.templatenames`, or an image's reference; the machine's templates have their name,
        their id, and the tag `default`.
        Raises InvalidArgument when `name` can be none of these, NotFound when there is none.
        """
        told: NotFound | None = None
        if self.projects is not None:
            try:
                own = await self.projects.own(project_id, name)
            except NotFound as error:
                # It is the project's own name, but there is no such version; an image may still be called like that.
                own, told = None, error
            if own is not None:
                return own
        try:
            return self._of_machine(name)
        except (InvalidArgument, NotFound) as error:
            unknown: InvalidArgument | NotFound = error
        if self._images is not None:
            try:
                return await self._images.get(project_id, name)
            except NotFound as error:
                unknown = NotFound(f"there is no template {name!r}, and {error.message}")
            except (InvalidArgument, Unimplemented):
                pass
        if self.projects is not None and told is None:
            public = await self.projects.public(project_id, name)
            if public is not None:
                return public
        raise told or unknown

    def _of_machine(self, name: str) -> Template:
        plain = name.removesuffix(f":{DEFAULT_TAG}")
        try:
            return self._source.get(plain)
        except NotFound:
            by_id = next((one for one in self._source.list() if one.id == plain), None)
            if by_id is None:
                raise
            return by_id
