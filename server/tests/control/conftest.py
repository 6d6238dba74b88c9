from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atolld.control.testing import RecordedTelemetry, World


@pytest.fixture
def telemetry() -> RecordedTelemetry:
    return RecordedTelemetry()


@pytest.fixture
async def world(tmp_path: Path, telemetry: RecordedTelemetry) -> AsyncIterator[World]:
    opened = await World.open(tmp_path / "atoll.db", telemetry=telemetry)
    yield opened
    await opened.close()
