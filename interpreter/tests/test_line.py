"""What comes over a kernel's line, in whatever pieces."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

from atoll_interpreter.line import Line


async def test_pieces_become_messages_and_broken_ones_are_left_out() -> None:
    ours, theirs = socket.socketpair()
    came: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
    line = await Line.open(ours, came.put_nowait)
    with theirs:
        theirs.sendall(b'{"n"')
        await asyncio.sleep(0)
        theirs.sendall(b': 1}\n\n{"half\n{"n": 2}\n')
        assert [(await asyncio.wait_for(came.get(), 5))["n"] for _ in range(2)] == [1, 2]
        identifier = line.ask({"code": "1"}, {})
        asked = json.loads(await asyncio.to_thread(theirs.recv, 4096))
        assert asked == {"msg_id": identifier, "content": {"code": "1"}, "metadata": {}}
        line.close()
        line.close()
