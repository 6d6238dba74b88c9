"""A server with the real Python kernel, in this process and as this user."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from interpreter.tests.support import Server

from atoll_interpreter.aio import spawn
from atoll_interpreter.app import Interpreter
from atoll_interpreter.settings import Settings

KERNELS = Path(__file__).resolve().parents[1] / "kernels"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    kernels = tmp_path / "kernels"
    shutil.copytree(KERNELS / "python", kernels / "python")
    spec = json.loads((kernels / "python/kernel.json").read_text())
    spec["argv"][0] = sys.executable
    (kernels / "python/kernel.json").write_text(json.dumps(spec))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    return Settings(
        host="127.0.0.1",
        port=port,
        kernel_dirs=(str(kernels),),
        user=None,
        started=(),
        keepalive_s=0.2,
        agent_url="http://127.0.0.1:1",
        home=str(tmp_path),
        run_dir=tmp_path / "run",
    )


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    config = uvicorn.Config(
        Interpreter(settings).app(), host=settings.host, port=settings.port, http="h11", log_level="error", ws="none"
    )
    running = uvicorn.Server(config)
    serving = spawn(running.serve(), name="serve")
    while not running.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as http:
            yield Server(http)
    finally:
        running.should_exit = True
        await serving
