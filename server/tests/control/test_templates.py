from __future__ import annotations

import pytest

from atolld.control.templates import TemplateSource
from atolld.control.testing import FakeTemplates, World
from atolld.foundation.errors import NotFound
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
