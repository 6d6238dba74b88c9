"""Files of the agent that are watched."""

from __future__ import annotations

import asyncio
from pathlib import Path

from atoll_interpreter.claims import Claims


async def test_a_file_that_is_written_is_told(tmp_path: Path) -> None:
    told = asyncio.Event()
    claims = Claims(tmp_path, told.set)
    claims.start()
    (tmp_path / "id").write_text("a")
    await asyncio.wait_for(told.wait(), 5)
    told.clear()
    claims.stop()
    (tmp_path / "id").write_text("b")
    await asyncio.sleep(0)
    assert not told.is_set()
    claims.stop()


async def test_a_directory_that_is_not_there_is_never_told(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "nowhere", lambda: None)
    claims.start()
    claims.stop()
