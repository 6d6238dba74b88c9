"""The object graph, and the phases of the daemon's life: start, serve, stop.

A stop leaves sandboxes running; the next start finds them. Only `remove everything` ends them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from atolld.api.dialects import Dialects
from atolld.api.e2b.options import E2bOptions
from atolld.api.entry import Entry
from atolld.api.errors import render
from atolld.api.services import Check, Services
from atolld.control.events import Events
from atolld.control.images import Images
from atolld.control.keys import Keys
from atolld.control.live import Endpoint
from atolld.control.projects import Projects
from atolld.control.projecttemplates import ProjectTemplates
from atolld.control.sandboxes import Sandboxes
from atolld.control.templateleftovers import Leftovers
from atolld.control.templates import Templates, TemplateSource
from atolld.daemon import doctor, process, server
from atolld.daemon.builds import BuildParts, Ground, put_together
from atolld.daemon.first_key import ensure_first_key
from atolld.daemon.nodes import BuiltNode, build_node
from atolld.daemon.settings import Settings
from atolld.daemon.telemetry import Metrics
from atolld.daemon.tls import Tls
from atolld.daemon.watched import WatchedNode
from atolld.foundation.aio import CleanupStack, cancel_and_wait, spawn
from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.ids import SandboxId
from atolld.foundation.units import format_seconds
from atolld.gateway.http import Gateway
from atolld.gateway.route import is_data_plane
from atolld.gateway.secure import ALPN
from atolld.gateway.server import Limits, edge_protocol
from atolld.host.cores import Cores
from atolld.storage.buildlogs import BuildLogs
from atolld.storage.database import Database, open_database
from atolld.storage.events import SqlEvents
from atolld.storage.keys import SqlKeys
from atolld.storage.lock import StateLock
from atolld.storage.pools import SqlPools
from atolld.storage.projects import SqlProjects
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.snapshots import SqlSnapshots
from atolld.storage.templates import SqlTemplates

log = logging.getLogger("atolld.daemon")


@dataclass(slots=True)
class Graph:
    """Everything a serving daemon consists of."""

    built: BuiltNode
    node: WatchedNode
    sandboxes: Sandboxes
    builds: BuildParts
    keys: Keys
    projects: Projects
    gateway: Gateway
    metrics: Metrics
    entry: Entry


class Daemon:
    """One daemon, from `run` until `stop`. `end_all`: at the stop, end every sandbox and remove everything."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._started_at = time.monotonic()
        self._server: server.Server | None = None
        self._stopping = asyncio.Event()
        self.end_all = False
        self.listening = asyncio.Event()

    def stop(self, end_all: bool = False) -> None:
        """Begin to stop; `run` returns when it is done."""
        self.end_all = self.end_all or end_all
        self._stopping.set()
        if self._server is not None:
            self._server.stop()

    async def run(self) -> None:
        """Start, serve until `stop`, stop.

        Raises FailedPrecondition when another daemon uses the state directory or the address is taken, and what keeps
        the node or the database from being used.
        """
        settings = self._settings
        process.raise_file_limit()
        process.come_first()
        process.take_turns()
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with CleanupStack() as cleanup:
            lock = StateLock(settings.state)
            lock.acquire()
            cleanup.push("state lock", lock.release)
            # Taken early: a daemon that cannot listen must not touch sandboxes first.
            listener = server.listen(settings)
            cleanup.push("listener", listener.close)
            tls = self._tls(cleanup)
            database = await open_database(settings.database, claim=True)
            cleanup.push("database", database.close)
            # The fake node has no guests to wait for.
            cores = Cores(self._clock, settings.awake_ms / 1000 if settings.node == "linux" else 0)
            cleanup.push("cores kept awake", cores.close)
            graph = self._build(database, await build_node(settings, self._clock), cores)
            cleanup.push("node", graph.node.close)
            await self._serve(graph, listener, tls, cleanup)

    def handle_signals(self) -> None:
        """SIGTERM and SIGINT stop; SIGUSR2 stops and removes everything of the instance."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGUSR2, self.stop, True)

    def _tls(self, cleanup: CleanupStack) -> tuple[socket.socket, Tls] | None:
        if self._settings.tls == "off":
            return None
        listener = server.listen(self._settings, self._settings.tls_port, "tls_port")
        cleanup.push("listener for TLS", listener.close)
        return listener, Tls(self._settings, list(ALPN))

    async def _serve(
        self, graph: Graph, listener: socket.socket, tls: tuple[socket.socket, Tls] | None, cleanup: CleanupStack
    ) -> None:
        settings = self._settings
        await graph.sandboxes.recover()
        await graph.builds.builds.recover()
        project = await graph.projects.ensure_default()
        await ensure_first_key(graph.keys, project, settings.state)
        limits = Limits(head_timeout_s=settings.head_timeout_s, max_connections=settings.max_connections)
        self._server = server.make_server(
            graph.entry,
            edge_protocol(render, limits),
            settings,
            cut_streams=graph.gateway.close,
            secure=(tls[0], tls[1].context) if tls is not None else None,
        )
        if tls is not None:
            fresh = spawn(tls[1].keep_fresh(self._clock), name="tls-certificate")
            cleanup.push("TLS certificate", lambda: cancel_and_wait(fresh))
        graph.metrics.loop_lag.start()
        cleanup.push("loop lag", graph.metrics.loop_lag.stop)
        # What exists now lives as long as the daemon; the collector need never look at it again.
        gc.collect()
        gc.freeze()
        took_s = time.monotonic() - self._started_at
        log.info(
            "listening on %s after %s",
            settings.url,
            format_seconds(took_s),
            extra={"sandboxes": _live(graph.sandboxes)},
        )
        self.listening.set()
        if self._stopping.is_set():
            self._server.stop()
        try:
            await self._server.serve(sockets=[listener])
        finally:
            await self._shut_down(graph)

    async def _shut_down(self, graph: Graph) -> None:
        started = time.monotonic()
        graph.gateway.close()
        await graph.builds.shutdown()
        await graph.sandboxes.shutdown(self.end_all)
        await graph.keys.flush()
        if self.end_all:
            await graph.built.remove_all()
        left = _live(graph.sandboxes)
        log.info("stopped after %s", format_seconds(time.monotonic() - started), extra={"sandboxes_left": left})

    def _build(self, database: Database, built: BuiltNode, cores: Cores) -> Graph:
        settings, clock = self._settings, self._clock
        metrics = Metrics()
        keys = Keys(SqlKeys(database), clock)
        projects = Projects(SqlProjects(database), clock)
        images = Images(built.images)
        stored = SqlTemplates(database)
        projects_own = ProjectTemplates(stored, SqlSnapshots(database), built.build_machine.layer_root)
        logs = BuildLogs(settings.state / "builds")
        leftovers = Leftovers(
            stored, built.build_machine, clock, versions_kept=settings.versions_kept, forget_log=logs.remove
        )
        templates = Templates(built.templates, images, projects_own, leftovers)
        # The gateway asks control for endpoints, and control's node tells the gateway of ends.
        directory = _LateDirectory()
        gateway = Gateway(directory, keys, render, clock=clock)
        node = WatchedNode(built.node, gateway.sandbox_ended, gateway.interrupting, cores.busy)
        sandboxes = Sandboxes(
            store=SqlSandboxes(database),
            snapshots=SqlSnapshots(database),
            pools=SqlPools(database),
            node=node,
            templates=templates,
            clock=clock,
            telemetry=metrics,
            activity=gateway.activity,
        )
        directory.sandboxes = sandboxes
        ground = Ground(settings, database, built, node, stored, logs, templates, sandboxes)
        parts = put_together(ground, clock, metrics)
        sandboxes.builds_lost = parts.sandboxes.lost
        sandboxes.on_up = gateway.sandbox_up
        metrics.sources.counts = sandboxes.counts
        metrics.sources.gauges = node.gauges
        metrics.sources.upstream_connections = gateway.pool.connections
        services = Services(
            sandboxes=sandboxes,
            snapshots=sandboxes.snapshots,
            pools=sandboxes.pools,
            templates=templates,
            images=images,
            builds=parts.builds,
            definitions=parts.definitions,
            builtins=parts.builtins,
            template_records=parts.records,
            template_tags=parts.tags,
            projects=projects,
            keys=keys,
            events=Events(SqlEvents(database)),
            node=node,
            doctor=self._doctor(node, built.templates),
            metrics=metrics.render,
            health=self._health(sandboxes),
            metrics_public=settings.metrics_public,
        )
        runtime = "fake" if settings.node == "fake" else settings.e2b_runtime
        e2b = E2bOptions(domain=settings.public_domain, max_timeout_h=settings.e2b_max_timeout_h, runtime=runtime)
        entry = Entry(Dialects(services, e2b).of, gateway.serve, is_data_plane, metrics.request)
        return Graph(built, node, sandboxes, parts, keys, projects, gateway, metrics, entry)

    def _doctor(self, node: WatchedNode, templates: TemplateSource) -> Callable[[], Awaitable[list[Check]]]:
        async def check() -> list[Check]:
            return [*await doctor.check_all(self._settings, node.fingerprints, templates)]

        return check

    def _health(self, sandboxes: Sandboxes) -> Callable[[], Mapping[str, object]]:
        installed = version("atolld")

        def health() -> Mapping[str, object]:
            uptime_s = round(time.monotonic() - self._started_at, 3)
            return {"status": "ok", "version": installed, "uptime_s": uptime_s, "sandboxes": _live(sandboxes)}

        return health


class _LateDirectory:
    """The gateway's directory, filled in when control exists."""

    sandboxes: Sandboxes

    def agent_tokens(self) -> Sequence[tuple[SandboxId, str]]:
        """See `atolld.gateway.directory.Directory`."""
        return self.sandboxes.agent_tokens()

    def by_token(self, agent_token: str, /) -> SandboxId | None:
        """See `atolld.gateway.directory.Directory`."""
        return self.sandboxes.by_token(agent_token)

    def endpoint(self, sandbox_id: SandboxId, /) -> Endpoint | None:
        """See `atolld.gateway.directory.Directory`."""
        return self.sandboxes.endpoint(sandbox_id)

    async def wake(self, sandbox_id: SandboxId, /) -> Endpoint | None:
        """See `atolld.gateway.directory.Directory`."""
        return await self.sandboxes.wake(sandbox_id)


def _live(sandboxes: Sandboxes) -> int:
    return sum(sandboxes.counts().values())
