"""Which version a name means, for whom, and what sandboxes of it begin with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.control.origins import resolve_template
from atolld.control.projecttemplates import ProjectTemplate
from atolld.control.templates import Template, Templates
from atolld.control.testing import BUILD_SPEC, BUILT, SPEC, FakeTemplate, FakeTemplates, World
from atolld.core.lifecycle import SandboxState as S
from atolld.core.network import NetworkPolicy
from atolld.core.project import Project
from atolld.core.sandbox import Resources
from atolld.core.snapshot import SaveKind
from atolld.foundation.errors import FailedPrecondition, Internal, InvalidArgument, NotFound
from atolld.foundation.ids import BuildId, ProjectId, TemplateId, new_project_id
from atolld.storage.projects import SqlProjects

# The same in every process.
NO_BUILD = "00000000-0000-0000-0000-000000000000"
NO_TEMPLATE = "t" + "0" * 19


async def other_project(world: World, name: str = "Team") -> ProjectId:
    return (await SqlProjects(world.database).ensure(Project(new_project_id(), name), 1.0)).id


async def found(world: World, name: str, project_id: ProjectId | None = None) -> BuildId | str:
    """The build that a name means, or the id of what is no project's."""
    template = await world.templates.get(project_id or world.project.id, name)
    return template.build.id if isinstance(template, ProjectTemplate) else template.id


async def test_every_way_to_name_a_version(world: World) -> None:
    old = await world.build("app", "v1", "default")
    await world.clock.advance(1)
    new = await world.build("app", "v2", "default")
    id = new.template_id
    for name, build in {
        "app": new,
        "app:default": new,
        "app:v1": old,
        "app:v2": new,
        f"app:{old.id}": old,
        "default/app": new,
        "default/app:v1": old,
        id: new,
        f"{id}:v1": old,
        f"{id}:{old.id}": old,
        old.id: old,
    }.items():
        assert await found(world, name) == build.id, name
    template = await world.templates.get(world.project.id, "app:v1")
    assert (template.id, template.name, template.resources, template.defaults) == (
        id,
        "app",
        BUILD_SPEC.resources,
        BUILT.defaults,
    )
    assert [str(layer) for layer in template.layers] == [f"/layers/{digest}/root" for digest in BUILT.layers]
    assert (template.built_at, template.size_bytes) == (old.finished_at, BUILT.size_bytes)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("app:nope", r"template 'app' has no tag 'nope' \(it has: v1\)"),
        ("app", r"has no tag 'default' \(it has: v1\)"),
        (f"app:{NO_BUILD}", "has no build"),
        ("empty", "no build of template 'empty' is ready yet"),
        ("nope", "there is no template 'nope'"),
        (NO_TEMPLATE, "there is no template"),
        (NO_BUILD, "there is no template"),
        ("team/app", "there is no template"),
        ("app:", "there is no template"),
    ],
)
async def test_what_is_not_there(world: World, name: str, why: str) -> None:
    await world.build("app", "v1")
    await world.registry.builds.request(world.project.id, "empty", (), BUILD_SPEC)
    # Twice: what is remembered says the same.
    for _ in range(2):
        with pytest.raises((NotFound, InvalidArgument), match=why):
            await found(world, name)


async def test_what_is_remembered_is_forgotten_with_every_write(world: World) -> None:
    for name in ("app", "app:v1"):
        with pytest.raises(NotFound):
            await found(world, name)
    first = await world.build("app", "default", "v1")
    assert await found(world, "app") == first.id == await found(world, "app:v1")
    await world.clock.advance(1)
    second = await world.build("app")
    assert await found(world, "app") == second.id
    await world.registry.tags.assign(world.project.id, "app:v1", ["default"])
    assert await found(world, "app") == first.id
    await world.registry.records.delete(world.project.id, "app")
    with pytest.raises(NotFound):
        await found(world, "app")


async def test_a_known_name_costs_no_query(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    build = await world.build("app")
    for name in ("app", "base", "nope/other"):
        try:
            await found(world, name)
        except NotFound:
            continue

    async def refuse(*_: object) -> None:
        raise AssertionError("it was asked again")

    monkeypatch.setattr(world.database, "read", refuse)
    assert await found(world, "app") == build.id
    assert await found(world, "base") == "t-base"
    with pytest.raises(NotFound):
        await found(world, "nope/other")


async def test_other_projects_see_what_is_public(world: World) -> None:
    team = await other_project(world)
    build = await world.build("app", "v1", project_id=team)
    names = ("team/app:v1", f"{build.template_id}:v1", build.id)
    for name in names:
        assert await found(world, name, team) == build.id
        with pytest.raises(NotFound):
            await found(world, name)
    await world.registry.records.set_public(team, "app", True)
    for name in names:
        assert await found(world, name) == build.id
    assert (await world.templates.get(world.project.id, "team/app:v1")).name == "team/app"
    with pytest.raises(NotFound, match="template 'app' has no tag 'default'"):
        await found(world, "team/app")
    # Never by the name alone.
    with pytest.raises(NotFound):
        await found(world, "app:v1")
    await world.registry.records.set_public(team, "app", False)
    with pytest.raises(NotFound):
        await found(world, "team/app:v1")


async def test_hidden_ones_are_of_their_project(world: World) -> None:
    team = await other_project(world)
    build = await world.build("image-1", project_id=team, hidden=True)
    assert await found(world, "image-1", team) == build.id
    for name in ("image-1", "team/image-1", build.id, build.template_id):
        with pytest.raises(NotFound):
            await found(world, name)


class Images:
    """One image for each name."""

    def __init__(self, *names: str) -> None:
        self._names = names

    async def get(self, project_id: ProjectId, name: str) -> Template:
        if name not in self._names:
            raise NotFound(f"there is no image {name!r} here")
        return FakeTemplate(TemplateId(f"i-{name}"), name)


async def test_the_order_of_what_is_looked_for(world: World) -> None:
    team = await other_project(world)
    mine = await world.build("base", "default", "v1")
    theirs = await world.build("debian", project_id=team)
    public = await world.build("box", project_id=team)
    for name in ("debian", "box"):
        await world.registry.records.set_public(team, name, True)
    images = Images("base", "base:v9", "team/debian", "other")
    templates = Templates(FakeTemplates("other"), images, world.templates.projects)

    async def means(name: str, project_id: ProjectId) -> str:
        template = await templates.get(project_id, name)
        return template.build.id if isinstance(template, ProjectTemplate) else template.id

    project = world.project.id
    assert await means("base", project) == mine.id
    # A project's own name hides the machine's for that project alone.
    assert await means("base", team) == "t-base"
    assert await means("base:default", team) == "t-base"
    assert await means("t-other", project) == "t-other"
    # A version that is not there does not hide an image of that name, and a template of the machine hides one.
    assert await means("base:v9", project) == "i-base:v9"
    assert await means("other", project) == "t-other"
    # What a project has pulled goes before what others offer.
    assert await means("team/debian", project) == "i-team/debian"
    assert await means("team/debian", team) == theirs.id
    assert await means("team/box", project) == public.id


async def test_layers_that_are_gone(world: World) -> None:
    await world.build("app")
    world.registry.pins.gone.add(BUILT.layers[1])
    with pytest.raises(FailedPrecondition, match="files of template 'app' are not there any more.*build it again"):
        await found(world, "app")
    world.registry.pins.gone.clear()
    assert await found(world, "app")


async def test_a_sandbox_of_a_template_boots_as_it_wants(world: World) -> None:
    old = await world.build("app", "v1")
    await world.clock.advance(1)
    await world.build("app")
    made = await world.sandboxes.create(world.project.id, replace(SPEC, template="app:v1", envs={"B": "mine"}))
    launch = world.node.launches[-1]
    assert (launch.source, launch.user, launch.workdir) == (None, "app", "/srv")
    assert launch.envs == {"A": "built", "B": "mine"}
    assert launch.layers == (await world.templates.get(world.project.id, "app:v1")).layers
    assert (made.template_id, made.template_name, made.build_id) == (old.template_id, "app", old.id)
    assert await world.row(made.id) == replace(made, spec=replace(made.spec, template="app"))
    # Files alone start again as that version wants, whatever the name means by now.
    await world.registry.records.delete(world.project.id, "app")
    await world.sandboxes.pause(world.project.id, made.id, SaveKind.FILESYSTEM)
    await world.sandboxes.resume(world.project.id, made.id)
    launch = world.node.launches[-1]
    assert (launch.user, launch.workdir, launch.envs) == ("app", "/srv", BUILT.defaults.envs)
    kept = await world.sandboxes.snapshots.create(world.project.id, made.id, "files", SaveKind.FILESYSTEM)
    assert kept.build_id == old.id
    again = await world.sandboxes.create(world.project.id, replace(SPEC, template="files"))
    assert (again.build_id, world.node.launches[-1].user) == (old.id, "app")


async def test_a_sandbox_goes_on_from_the_memory_of_its_template(world: World) -> None:
    build = await world.build("app", memory={"served": 3})
    assert build.save_id is not None
    network = NetworkPolicy(internet=False)
    spec = replace(
        SPEC, template="app", runtime="other", resources=Resources(), envs={"B": "mine"}, network=network, timeout_s=60
    )
    made = await world.sandboxes.create(world.project.id, replace(spec, metadata={"run": "1"}))
    launch = world.node.launches[-1]
    assert launch.source is not None
    assert (launch.source.save_id, launch.source.kind, launch.layers) == (build.save_id, SaveKind.MEMORY, ())
    here = world.node.machine.sandboxes[made.id]
    # The caller's own, over what the memory knows.
    assert (here.memory, here.agent_token, here.network) == ({"served": 3}, made.agent_token, network)
    assert here.envs["B"] == "mine"
    assert (made.template_name, made.build_id, made.head_id, made.save_id) == ("app", build.id, None, None)
    assert (made.spec.runtime, made.spec.resources) == (BUILD_SPEC.runtime, BUILD_SPEC.resources)
    assert (made.expires_at, made.spec.metadata) == (world.clock.now() + 60, {"run": "1"})
    # Nobody is shown the save, or can use it but by its template.
    assert (await world.sandboxes.snapshots.list(world.project.id)).items == []
    for use in (
        world.sandboxes.snapshots.get(world.project.id, build.save_id),
        world.sandboxes.snapshots.delete(world.project.id, build.save_id),
        world.sandboxes.create(world.project.id, replace(SPEC, template=build.save_id)),
        world.sandboxes.rollback(world.project.id, made.id, build.save_id),
    ):
        with pytest.raises(NotFound):
            await use


async def test_its_life_is_as_of_any_other(world: World) -> None:
    project = world.project.id
    build = await world.build("app", memory={"served": 3})
    made = await world.sandboxes.create(project, replace(SPEC, template="app"))
    here = world.node.machine.sandboxes[made.id]
    here.memory["served"] = 4
    kept = await world.sandboxes.snapshots.create(project, made.id, "four")
    assert (kept.parent_id, kept.build_id, kept.template_name) == (None, build.id, "app")
    (fork,) = await world.sandboxes.fork(project, made.id, 1)
    assert not isinstance(fork, Exception)
    assert world.node.machine.sandboxes[fork.id].memory == {"served": 4}
    here.memory["served"] = 5
    await world.sandboxes.pause(project, made.id)
    await world.sandboxes.resume(project, made.id)
    assert world.node.machine.sandboxes[made.id].memory == {"served": 5}
    await world.sandboxes.rollback(project, made.id, "four")
    assert world.node.machine.sandboxes[made.id].memory == {"served": 4}
    await world.sandboxes.pause(project, made.id)
    await world.sandboxes.resume(project, made.id, kind=SaveKind.FILESYSTEM)
    assert (world.node.launches[-1].user, world.node.machine.sandboxes[made.id].memory) == ("app", {})
    # The template's own memory is as it was.
    again = await world.sandboxes.create(project, replace(SPEC, template="app"))
    assert world.node.machine.sandboxes[again.id].memory == {"served": 3}
    for sandbox in (made, fork, again):
        await world.sandboxes.kill(project, sandbox.id)
    assert build.save_id in world.node.machine.saves


async def test_another_project_goes_on_from_a_public_memory(world: World) -> None:
    team = await other_project(world)
    build = await world.build("app", project_id=team, memory={"served": 3})
    await world.registry.records.set_public(team, "app", True)
    made = await world.sandboxes.create(world.project.id, replace(SPEC, template="team/app"))
    assert world.node.machine.sandboxes[made.id].memory == {"served": 3}
    assert (made.project_id, made.template_name, made.build_id) == (world.project.id, "team/app", build.id)


async def test_what_a_caller_may_ask_for(world: World) -> None:
    await world.build("boots")
    await world.build("live", memory={"served": 3})
    nothing = dict.fromkeys(("runtime", "cpu", "memory_mib", "disk_mib", "pids_max"))

    async def settled(name: str, **asked: object) -> tuple[str, Resources]:
        origin = await resolve_template(world.templates, world.sandboxes.snapshots, world.project.id, name)
        assert (origin.name, origin.is_snapshot) == (name, False)
        return origin.settle(**{**nothing, **asked})  # type: ignore[arg-type]

    mine = BUILD_SPEC.resources
    assert await settled("boots") == await settled("live") == ("fake", mine)
    assert await settled("boots:default", cpu=1, runtime="x") == ("x", replace(mine, cpu=1))
    assert await settled("live:default", cpu=mine.cpu, runtime="fake") == ("fake", mine)
    for asked in ({"runtime": "x"}, {"cpu": 1}, {"memory_mib": 512}, {"disk_mib": 99}, {"pids_max": 99}):
        with pytest.raises(InvalidArgument, match=f"{next(iter(asked))} is .*memory of template 'live' was taken with"):
            await settled("live", **asked)


async def test_a_memory_that_nobody_knows_any_more(world: World) -> None:
    build = await world.build("app", memory={"served": 3})
    assert build.save_id is not None
    await world.snapshots.mark_deleting(build.save_id)
    with pytest.raises(Internal, match=f"memory of build {build.id} is not known any more: build it again"):
        await world.sandboxes.create(world.project.id, replace(SPEC, template="app"))


async def test_a_restart_keeps_everything(world: World) -> None:
    build = await world.build("app", "default", "v1", memory={"served": 3})
    made = await world.sandboxes.create(world.project.id, replace(SPEC, template="app"))
    pins = world.registry.pins
    pins.pinned.clear()
    again = await world.restart()
    assert pins.pinned == {build.id: BUILT.layers}
    assert (await again.sandboxes.get(again.project.id, made.id)).state is S.RUNNING
    more = await again.sandboxes.create(again.project.id, replace(SPEC, template="app:v1"))
    assert again.node.machine.sandboxes[more.id].memory == {"served": 3}
    await again.close()
