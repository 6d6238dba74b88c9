"""A real HTTP server on this machine that answers as a registry should not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from .tars import MadeImage

# Writes an answer, or does not.
Say = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK", **headers: str) -> Say:
    """A proper answer."""
    lines = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode())
        # In pieces, so that what is measured is the puller's memory.
        for at in range(0, len(body), 65536):
            writer.write(body[at : at + 65536])
            await writer.drain()

    return say


def redirect(to: str) -> Say:
    return answer(b"", "307 Temporary Redirect", location=to)


def endless(piece: bytes = b" " * 65536) -> Say:
    """A body that only ends with the connection."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()

    return say


def trickle(begin: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", every_s: float = 0.02) -> Say:
    """A byte at a time, for ever."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(every_s)

    return say


def manifest_of(layer: Mapping[str, object], config: Mapping[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()


class HostileRegistry:
    """`say`: what is answered to paths that end so; everything else is not found. `asked`: the paths, in order."""

    def __init__(self) -> None:
        self.say: dict[str, Say] = {}
        self.asked: list[str] = []
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def serve(self, tag: str, image: MadeImage) -> None:
        """An image, with nothing wrong in how it is served."""
        self.say[f"manifests/{tag}"] = answer(image.manifest)
        self.say |= {f"blobs/{digest}": answer(data) for digest, data in image.blobs.items()}

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ")[1].decode()
                self.asked.append(path)
                say = next((one for end, one in self.say.items() if path.split("?")[0].endswith(end)), None)
                await (say or answer(b"", "404 Not Found"))(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[HostileRegistry]:
        server = await asyncio.start_server(self._one, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._open:
                writer.transport.abort()
