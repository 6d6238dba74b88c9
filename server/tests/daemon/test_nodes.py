from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.daemon.nodes import build_node, probe_runtimes, templates_of
from atolld.daemon.process_node import OneTemplate, ProcessNode
from atolld.daemon.settings import Settings
from atolld.foundation.clock import SystemClock
from atolld.foundation.errors import FailedPrecondition
from atolld.images.templates import TemplateStore


async def test_without_isolation(settings: Settings) -> None:
    built = await build_node(settings, SystemClock())
    assert isinstance(built.node, ProcessNode) and isinstance(built.templates, OneTemplate)
    assert (await probe_runtimes(settings)).keys() == {"fake"}
    await built.remove_all()


async def test_this_machine_needs_root_and_an_agent(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = settings.model_copy(update={"node": "linux", "agent_binary": tmp_path / "missing"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FailedPrecondition, match="need root"):
        await build_node(real, SystemClock())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(FailedPrecondition, match="make agent"):
        await build_node(real, SystemClock())


def test_templates(settings: Settings) -> None:
    assert isinstance(templates_of(settings), OneTemplate)
    assert isinstance(templates_of(settings.model_copy(update={"node": "linux"})), TemplateStore)
