from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.control.templates import Template, Templates, TemplateSource
from atolld.control.testing import SPEC, FakeTemplate, FakeTemplates, World
from atolld.core.defaults import GuestDefaults
from atolld.core.snapshot import SaveKind
from atolld.foundation.errors import InvalidArgument, NotFound, Unimplemented
from atolld.foundation.ids import ProjectId, TemplateId
from atolld.images.templates import TemplateStore


async def test_templates(world: World) -> None:
    assert [template.name for template in await world.templates.list(world.project.id)] == ["base", "other"]
    assert (await world.templates.get(world.project.id, "base")).id == "t-base"
    with pytest.raises(NotFound):
        await world.templates.get(world.project.id, "missing")


def test_the_real_store_is_a_source() -> None:
    # Checked by the type checker; the assignment is the test.
    sources: list[TemplateSource] = [FakeTemplates(), TemplateStore()]
    assert len(sources) == 2


class Images:
    """One image, called like a template or not; its defaults are those of `box`."""

    BOX = FakeTemplate(
        TemplateId("t-box"), "box:1", defaults=GuestDefaults("app", "/srv", {"A": "image", "B": "image"})
    )

    async def get(self, project_id: ProjectId, name: str) -> Template:
        if name in ("box:1", "base"):
            return self.BOX
        if name == "A b":
            raise InvalidArgument("no reference")
        raise NotFound(f"there is no image {name!r} here")


async def test_an_image_is_found_where_no_template_is() -> None:
    templates, project = Templates(FakeTemplates(), Images()), ProjectId("p")
    assert (await templates.get(project, "box:1")).id == "t-box"
    assert (await templates.get(project, "base")).id == "t-base"
    with pytest.raises(NotFound, match="no template 'x', and there is no image 'x'"):
        await templates.get(project, "x")
    with pytest.raises(NotFound, match="there is no template 'A b'$"):
        await templates.get(project, "A b")


async def test_a_node_without_images_has_templates() -> None:
    class NoImages:
        async def get(self, project_id: ProjectId, name: str) -> Template:
            raise Unimplemented("no images on this node")

    templates, project = Templates(FakeTemplates(), NoImages()), ProjectId("p")
    assert (await templates.get(project, "base")).id == "t-base"
    with pytest.raises(NotFound, match="there is no template 'x'"):
        await templates.get(project, "x")


async def test_a_sandbox_is_used_as_its_image_wants(world: World) -> None:
    world.templates._images = Images()
    spec = replace(SPEC, template="box:1", envs={"B": "mine"})
    made = await world.sandboxes.create(world.project.id, spec)
    launch = world.node.launches[-1]
    assert (launch.user, launch.workdir, launch.envs) == ("app", "/srv", {"A": "image", "B": "mine"})
    assert (made.template_id, made.template_name) == ("t-box", "box:1")
    # What starts again from files alone is asked for the same; memory knows it.
    await world.sandboxes.pause(world.project.id, made.id)
    await world.sandboxes.resume(world.project.id, made.id, kind=SaveKind.FILESYSTEM)
    launch = world.node.launches[-1]
    assert (launch.user, launch.workdir, launch.envs) == ("app", "/srv", {"A": "image", "B": "image"})
    kept = await world.sandboxes.snapshots.create(world.project.id, made.id, "files", SaveKind.FILESYSTEM)
    await world.sandboxes.create(world.project.id, replace(SPEC, template=kept.id))
    assert world.node.launches[-1].user == "app"


async def test_of_base_it_is_the_user(world: World) -> None:
    await world.create()
    launch = world.node.launches[-1]
    assert (launch.user, launch.workdir, launch.envs) == ("user", None, {})
