"""What the way through the daemon costs, against the same request sent straight to the sandbox's address."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx

from atoll import Config, Sandbox
from bench.measure import MIB, Pairs, timed
from bench.report import Row

AGENT_PORT = 49983
PORT = 8000
SIZE_MIB = 256

# Answers as soon as the head is there and keeps the connection, so that the way is what is measured.
PROGRAM = f"""
import socket, threading
def serve(peer):
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while peer.recv(65536):
        peer.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
listener = socket.create_server(("0.0.0.0", {PORT}), backlog=128)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


class Line:
    """One kept connection that asks for one thing, with as little of a client as can be."""

    def __init__(self, host: str, port: int, path: str, headers: dict[str, str]) -> None:
        lines = [f"GET {path} HTTP/1.1", f"host: {host}:{port}", *(f"{k}: {v}" for k, v in headers.items())]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._buffer = bytearray(MIB)
        self._socket = socket.create_connection((host, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> int:
        """Send the request; the bytes of the answer's body, thrown away. Raises RuntimeError when it is not 2xx."""
        self._socket.sendall(self._request)
        head = b""
        while b"\r\n\r\n" not in head:
            got = self._socket.recv(65536)
            if not got:
                raise RuntimeError("the connection ended")
            head += got
        head, _, rest = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(f"{head!r} {rest!r}")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0"))
        left = length - len(rest)
        while left:
            got_bytes = self._socket.recv_into(self._buffer)
            if not got_bytes:
                raise RuntimeError("the answer was cut short")
            left -= got_bytes
        return length

    def close(self) -> None:
        self._socket.close()


def through_the_gateway(client: Config, sandbox: Sandbox, count: int) -> list[Row]:
    """Latency to the agent and to a program, and a download: straight and through the daemon, in turn."""
    address = sandbox.run("hostname -I").stdout.split()[0]
    sandbox.files.write("/tmp/program.py", PROGRAM)
    sandbox.start(["python3", "/tmp/program.py"])
    sandbox.run(f"head -c {SIZE_MIB * MIB} /dev/zero > /home/user/big")
    detail = httpx.get(f"{client.api_url}/sandboxes/{sandbox.id}", headers={"x-api-key": client.api_key or ""})
    token = {"x-access-token": detail.raise_for_status().json()["envdAccessToken"]}
    daemon = urlsplit(client.api_url)

    def lines(port: int, path: str, headers: dict[str, str]) -> tuple[Line, Line]:
        place = "agent" if port == AGENT_PORT else f"ports/{port}"
        through = f"/v1/sandboxes/{sandbox.id}/{place}{path}"
        line = Line(str(daemon.hostname), daemon.port or 80, through, {"x-api-key": client.api_key or ""})
        return line, Line(address, port, path, headers)

    rows = [
        _latency("a request to the guest agent", *lines(AGENT_PORT, "/health", {}), count),
        _latency("a request to a program on a port", *lines(PORT, "/", {}), count),
    ]
    through, straight = lines(AGENT_PORT, "/files?path=/home/user/big", token)
    return [*rows, _download(through, straight)]


def _latency(what: str, through: Line, straight: Line, count: int) -> Row:
    pairs = Pairs()
    pairs.take(count, lambda: timed(through.ask), lambda: timed(straight.ask), let_sleep_s=0)
    through.close()
    straight.close()
    mine, theirs = pairs.medians
    added_ms = (mine - theirs) * 1000
    return Row(
        what,
        "straight to the sandbox's address",
        mine,
        theirs,
        "≤ 1 ms more",
        added_ms <= 1,
        f"{added_ms:.2f} ms more",
    )


def _download(through: Line, straight: Line) -> Row:
    pairs = Pairs()
    pairs.take(5, lambda: timed(through.ask), lambda: timed(straight.ask))
    through.close()
    straight.close()
    mine, theirs = pairs.medians
    speed, bare = SIZE_MIB / mine, SIZE_MIB / theirs
    note = f"{speed:.0f} MB/s against {bare:.0f}"
    if speed < 300:
        note += "; the sandbox itself sends no faster" if bare < 330 else "; the relay's one core is what limits it"
    return Row(
        f"a download of {SIZE_MIB} MB through the gateway",
        "straight from the sandbox's address",
        mine,
        theirs,
        "≥ 300 MB/s",
        speed >= 300,
        note,
    )
