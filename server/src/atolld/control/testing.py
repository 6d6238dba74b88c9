"""A whole control plane on a fake node and a file: for tests of control and of what stands on it, and for demos."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from atolld.control.events import Events
from atolld.control.idle import Activity
from atolld.control.keys import Keys
from atolld.control.projects import Projects
from atolld.control.projecttemplates import ProjectTemplates
from atolld.control.sandboxes import Sandboxes
from atolld.control.telemetry import Telemetry
from atolld.control.templatebuilds import TemplateBuilds
from atolld.control.templateleftovers import Leftovers
from atolld.control.templaterecords import TemplateRecords
from atolld.control.templates import Template, Templates
from atolld.control.templatesaves import TemplateSaves
from atolld.control.templatetags import TemplateTags
from atolld.core.build import BuildSpec, Built, ImageConfig
from atolld.core.defaults import GuestDefaults
from atolld.core.event import Event
from atolld.core.lifecycle import SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.project import Project
from atolld.core.sandbox import Resources, Sandbox, SandboxSpec
from atolld.core.template import Build
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import ProjectId, SandboxId, TemplateId, new_sandbox_id
from atolld.node.fake import FakeMachine, FakeNode
from atolld.node.interface import Launch
from atolld.storage.database import Database, open_database
from atolld.storage.events import SqlEvents
from atolld.storage.keys import SqlKeys
from atolld.storage.pools import SqlPools
from atolld.storage.projects import SqlProjects
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.snapshots import SqlSnapshots
from atolld.storage.templates import SqlTemplates
from atolld.storage.usage import SqlUsage

SPEC = SandboxSpec(runtime="fake", timeout_s=300)
BUILD_SPEC = BuildSpec("fake", Resources(2.0, 256, 1024, 64))
BUILT = Built(("a" * 64, "b" * 64), GuestDefaults("app", "/srv", {"A": "built", "B": "built"}), ImageConfig(), 2048)
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class FakeTemplate:
    """A template of no layers."""

    id: TemplateId
    name: str
    layers: tuple[Path, ...] = ()
    built_at: float = 0.0
    size_bytes: int = 0
    resources: Resources = field(default_factory=Resources)
    defaults: GuestDefaults = field(default_factory=GuestDefaults)


class FakeTemplates:
    """Implements `TemplateSource` in memory; `base` is there."""

    def __init__(self, *names: str) -> None:
        self._all = {name: FakeTemplate(TemplateId(f"t-{name}"), name) for name in ("base", *names)}

    def list(self) -> Sequence[Template]:
        """See `TemplateSource.list`."""
        return [self._all[name] for name in sorted(self._all)]

    def get(self, name: str) -> Template:
        """See `TemplateSource.get`."""
        try:
            return self._all[name]
        except KeyError:
            raise NotFound(f"there is no template {name!r}") from None


class FakePins:
    """Implements `Pins` for layers that are all there, but for those that are `gone`."""

    def __init__(self) -> None:
        self.pinned: dict[str, tuple[str, ...]] = {}
        self.gone: set[str] = set()

    def has_layer(self, digest: str) -> bool:
        """See `BuildMachine.has_layer`."""
        return digest not in self.gone

    def layer_root(self, digest: str) -> Path:
        """See `BuildMachine.layer_root`."""
        if digest in self.gone:
            raise NotFound(f"there is no layer {digest}")
        return Path("/layers") / digest / "root"

    def pin(self, owner: str, digests: tuple[str, ...]) -> None:
        """See `BuildMachine.pin`."""
        for digest in digests:
            self.layer_root(digest)
        self.pinned[owner] = digests

    def unpin(self, owner: str) -> None:
        """See `BuildMachine.unpin`."""
        self.pinned.pop(owner, None)


@dataclass(frozen=True, slots=True)
class _Step:
    """The sandbox of a build's last step."""

    id: SandboxId
    token: str


@dataclass(slots=True)
class Registry:
    """Everything about templates of projects; `pins` stands for the machine's layers."""

    store: SqlTemplates
    pins: FakePins
    records: TemplateRecords
    tags: TemplateTags
    builds: TemplateBuilds
    saves: TemplateSaves
    leftovers: Leftovers


class RecordedTelemetry:
    """Keeps what it is told: `counts` by name and sorted labels, `observed` values by name."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self.observed: defaultdict[str, list[tuple[float, Mapping[str, str]]]] = defaultdict(list)

    def count(self, name: str, labels: Mapping[str, str]) -> None:
        """See `Telemetry.count`."""
        self.counts[name, tuple(sorted(labels.items()))] += 1

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """See `Telemetry.observe`."""
        self.observed[name].append((value, labels))

    def counted(self, name: str, **labels: str) -> int:
        """How often `name` was counted with exactly these labels."""
        return self.counts[name, tuple(sorted(labels.items()))]


@dataclass(slots=True)
class World:
    """A running control plane; `project` is the default one."""

    url: str | Path
    clock: ManualClock
    node: FakeNode
    database: Database
    store: SqlSandboxes
    snapshots: SqlSnapshots
    usage: SqlUsage
    projects: Projects
    keys: Keys
    events: Events
    templates: Templates
    sandboxes: Sandboxes
    registry: Registry
    project: Project
    closed: bool = False

    @staticmethod
    async def open(
        url: str | Path,
        *,
        clock: ManualClock | None = None,
        machine: FakeMachine | None = None,
        telemetry: Telemetry | None = None,
        activity: Activity | None = None,
        max_sandboxes: int = 1000,
        recover: bool = True,
        pins: FakePins | None = None,
    ) -> World:
        """Build it on the database at `url` and, with `recover`, start it."""
        clock = clock or ManualClock()
        database = await open_database(url)
        node = FakeNode(clock, machine, max_sandboxes=max_sandboxes)
        projects = Projects(SqlProjects(database), clock)
        store = SqlSandboxes(database)
        snapshots = SqlSnapshots(database)
        pins = pins or FakePins()
        built = SqlTemplates(database)
        leftovers = Leftovers(built, pins, clock)
        templates = Templates(
            FakeTemplates("other"), None, ProjectTemplates(built, snapshots, pins.layer_root), leftovers
        )
        sandboxes = Sandboxes(
            store=store,
            snapshots=snapshots,
            pools=SqlPools(database),
            node=node,
            templates=templates,
            clock=clock,
            telemetry=telemetry,
            activity=activity,
        )
        world = World(
            url=url,
            clock=clock,
            node=node,
            database=database,
            store=store,
            snapshots=snapshots,
            usage=SqlUsage(database),
            projects=projects,
            keys=Keys(SqlKeys(database), clock),
            events=Events(SqlEvents(database)),
            templates=templates,
            sandboxes=sandboxes,
            registry=_registry(built, snapshots, pins, node, sandboxes, leftovers, clock),
            project=await projects.ensure_default(),
        )
        if recover:
            await world.sandboxes.recover()
        return world

    async def close(self) -> None:
        """Stop the control plane and leave running sandboxes on the machine; nothing happens the second time."""
        if self.closed:
            return
        self.closed = True
        await self.sandboxes.shutdown(end_all=False)
        await self.keys.flush()
        await self.node.close()
        await self.database.close()

    async def restart(self) -> World:
        """A new daemon on the same database, machine and clock."""
        await self.close()
        return await World.open(self.url, clock=self.clock, machine=self.node.machine, pins=self.registry.pins)

    async def create(self, *, timeout_s: int | None = 300, **metadata: str) -> Sandbox:
        """A running sandbox of the default project."""
        return await self.sandboxes.create(self.project.id, replace(SPEC, timeout_s=timeout_s, metadata=metadata))

    async def build(
        self,
        name: str = "app",
        *tags: str,
        memory: Mapping[str, object] | None = None,
        project_id: ProjectId | None = None,
        hidden: bool = False,
        spec: BuildSpec = BUILD_SPEC,
    ) -> Build:
        """A ready build, of the default project unless another is named; with `memory`, its sandboxes go on from that.

        It stands for what `atolld.control.builds` does.
        """
        builds, project = self.registry.builds, project_id or self.project.id
        _, build = await builds.request(project, name, tags, spec, hidden=hidden)
        command = None if memory is None else "serve"
        build = await builds.begin(build, command, None)
        save_id = None
        if memory is not None:
            step = _Step(new_sandbox_id(), "build-token")
            network = NetworkPolicy()
            launch = Launch(
                step.id, spec.runtime, (), spec.resources, network, {}, step.token, build.template_id, "build"
            )
            await self.node.launch(launch)
            self.node.machine.sandboxes[step.id].memory.update(memory)
            save_id = await self.registry.saves.take(build, step)
            await self.node.terminate(step.id)
        return await builds.finish(build.id, BUILT, save_id)

    async def row(self, id: SandboxId) -> Sandbox:
        """What is stored of a sandbox."""
        return await self.store.get(self.project.id, id)

    async def ended(self, id: SandboxId) -> Sandbox:
        """The row of a sandbox, once it has ended."""
        await until(lambda: self.sandboxes.endpoint(id) is None)
        row = await self.row(id)
        while row.state is not SandboxState.ENDED:
            await asyncio.sleep(0)
            row = await self.row(id)
        return row

    async def events_of(self, id: SandboxId) -> list[Event]:
        """The events of a sandbox."""
        return await self.events.list(self.project.id, id)


def _registry(
    store: SqlTemplates,
    snapshots: SqlSnapshots,
    pins: FakePins,
    node: FakeNode,
    sandboxes: Sandboxes,
    leftovers: Leftovers,
    clock: ManualClock,
) -> Registry:
    saves = TemplateSaves(
        templates=store,
        snapshots=snapshots,
        node=node,
        powers=sandboxes.powers,
        garbage=sandboxes.garbage,
        clock=clock,
        telemetry=RecordedTelemetry(),
    )
    records = TemplateRecords(store, clock)
    records.on_deleted = sandboxes.garbage.wake
    return Registry(
        store=store,
        pins=pins,
        records=records,
        tags=TemplateTags(store, records, clock),
        builds=TemplateBuilds(store, pins, clock, saves.memory),
        saves=saves,
        leftovers=leftovers,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else run until `condition` holds.

    Raises AssertionError after 10 s.
    """
    limit = monotonic() + PATIENCE_S
    while not condition():
        if monotonic() > limit:
            raise AssertionError("waited in vain")
        await asyncio.sleep(0)
