"""Which node the settings ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from atolld.control.buildmachine import BuildMachine as Machine
from atolld.control.builds.lent import Lender, Nothing
from atolld.control.builds.nowhere import NowhereToBuild
from atolld.control.templates import TemplateSource
from atolld.daemon import linux
from atolld.daemon.process_node import OneTemplate, ProcessNode, find_agent
from atolld.daemon.settings import Settings
from atolld.foundation.clock import Clock, SystemClock
from atolld.images.build_settings import BuildSettings
from atolld.images.buildmachine import BuildMachine
from atolld.images.engine import ImageEngine
from atolld.images.templates import TemplateStore
from atolld.node.interface import Node
from atolld.runtime.driver import Fingerprint


@dataclass(slots=True)
class BuiltNode:
    """A node with its templates, its images and what builds need; `remove_all` takes everything of the instance off the
    machine."""

    node: Node
    templates: TemplateSource
    images: ImageEngine | None
    build_machine: Machine
    lender: Lender
    remove_all: Callable[[], Awaitable[None]]


async def build_node(settings: Settings, clock: Clock) -> BuiltNode:
    """Raises what keeps this machine from running sandboxes, see `linux.build`."""
    if settings.node == "fake":
        node = ProcessNode(clock, find_agent(settings.agent), settings.state / "logs")
        return BuiltNode(node, OneTemplate(), None, NowhereToBuild(), Nothing(), node.close)
    built = await linux.build(settings, clock)
    templates = TemplateStore(settings.cache_dir, inherit_host=settings.build_inherit_host)
    images = ImageEngine(settings.cache_dir, templates, clock=clock)
    machine = BuildMachine(settings.cache_dir, templates, images, settings.identity, clock=clock)
    lender = BuildSettings(settings.build_inherit_host)
    return BuiltNode(built.node, templates, images, machine, lender, built.remove_all)


def templates_of(settings: Settings) -> TemplateSource:
    """The templates of this machine."""
    if settings.node == "fake":
        return OneTemplate()
    return TemplateStore(settings.cache_dir, inherit_host=settings.build_inherit_host)


async def probe_runtimes(settings: Settings) -> Mapping[str, Fingerprint]:
    """What each runtime finds on this machine, without a daemon."""
    if settings.node == "fake":
        return await ProcessNode(SystemClock(), settings.agent, settings.state / "logs").fingerprints()
    return await linux.fingerprints(settings)
