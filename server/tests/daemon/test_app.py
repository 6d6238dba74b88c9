"""A whole daemon in this process, from start to stop, with everything real but the isolation."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from atolld.daemon import logs
from atolld.daemon.app import Daemon
from atolld.daemon.certificates import files_of
from atolld.daemon.first_key import key_file
from atolld.daemon.settings import Settings
from atolld.foundation.errors import FailedPrecondition


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the daemon logs, at its most talkative."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("json", "debug", logging.StreamHandler(stream))
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


class Running:
    """A daemon that serves, and a client with its first key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.daemon = Daemon(settings)

    async def start(self) -> httpx.AsyncClient:
        self.task = asyncio.ensure_future(self.daemon.run())  # noqa: TID251
        listening = asyncio.ensure_future(self.daemon.listening.wait())  # noqa: TID251
        await asyncio.wait({self.task, listening}, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            listening.cancel()
            await self.task
        key = key_file(self.settings.state).read_text().strip()
        return httpx.AsyncClient(base_url=self.settings.url, headers={"x-api-key": key}, timeout=20)

    async def stop(self, end_all: bool = False) -> None:
        self.daemon.stop(end_all)
        await self.task


@pytest.fixture
async def running(settings: Settings) -> AsyncIterator[Running]:
    made = Running(settings)
    yield made
    if not made.task.done():
        await made.stop()


async def test_from_start_to_stop(running: Running, log: io.StringIO) -> None:
    async with await running.start() as http:
        body = {"runtime": "fake", "envs": {"SECRET": "t0ps3cret"}, "metadata": {"run": "7"}}
        made = (await http.post("/v1/sandboxes", json=body)).json()
        assert made["state"] == "running"
        path = f"/v1/sandboxes/{made['id']}"

        echoed = (await http.post(f"{path}/agent/some/path?q=1", content=b"hello", auth=("bob", ""))).json()
        assert (echoed["path"], echoed["body"]) == ("/some/path?q=1", "hello")
        assert echoed["headers"]["authorization"].startswith("Basic ")
        token = echoed["headers"]["x-access-token"]
        assert http.headers["x-api-key"] not in json.dumps(echoed)

        assert (await http.get("/health")).json()["sandboxes"] == 1
        assert 'atoll_sandboxes{runtime="fake",state="running"} 1.0' in (await http.get("/metrics")).text
        assert (await http.get("/v1/doctor")).json()["ok"] is True
        assert any("/init" in line["message"] for line in (await http.get(f"{path}/logs")).json()["items"])
        assert (await http.delete(path)).status_code == 204
        gone = await http.get(f"{path}/agent/some/path")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
        bad = await http.post("/v1/sandboxes", json={"envs": {"A=": "t0ps3cret"}})
        assert bad.status_code == 400
        key = (await http.post("/v1/keys", json={"name": "k"})).json()["secret"]
        first = http.headers["x-api-key"]
    await running.stop()

    told = log.getvalue()
    for secret in ("t0ps3cret", token, key, first):
        assert secret not in told
    created = [json.loads(line) for line in told.splitlines() if '"status": 201' in line]
    assert created and all(line["request_id"].startswith("req_") for line in created)


async def test_a_stop_does_not_wait_for_endless_streams(running: Running) -> None:
    http = await running.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.settings.bind_port)
    writer.write(b"POST /v1/sandboxes HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    await http.get("/health")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await running.stop()
    assert loop.time() - began < 3
    await http.aclose()
    writer.close()
    told = await reader.read()
    assert told.startswith(b"HTTP/1.1 503 ") and b'"unavailable"' in told


async def test_a_second_daemon_does_not_touch_the_first_ones_state(running: Running) -> None:
    http = await running.start()
    with pytest.raises(FailedPrecondition, match="uses the state directory"):
        await Daemon(running.settings).run()
    assert (await http.get("/health")).status_code == 200
    await http.aclose()


async def test_an_address_that_is_taken_is_told_before_anything_is_done(running: Running, settings: Settings) -> None:
    http = await running.start()
    other = settings.model_copy(update={"state_dir": settings.state.parent / "other"})
    with pytest.raises(FailedPrecondition, match="bind_port"):
        await Daemon(other).run()
    assert not (other.state / "atoll.db").exists()
    await http.aclose()


async def test_a_stop_told_during_the_start_is_heeded(settings: Settings) -> None:
    daemon = Daemon(settings)
    daemon.stop()
    await asyncio.wait_for(daemon.run(), 20)


async def test_keys_and_rows_outlive_a_restart(running: Running, settings: Settings) -> None:
    http = await running.start()
    made = (await http.post("/v1/sandboxes", json={"runtime": "fake"})).json()
    await http.aclose()
    await running.stop()
    again = Running(settings)
    async with await again.start() as http:
        # The node without isolation loses its sandboxes with the daemon, and says so.
        ended = (await http.get("/v1/sandboxes", params={"state": "ended"})).json()["items"]
        assert [(one["id"], one["end_reason"]) for one in ended] == [(made["id"], "crashed")]
    await again.stop()


@pytest.fixture
async def secure(settings: Settings, tmp_path: Path) -> AsyncIterator[Running]:
    """A daemon that serves `sandbox.test` with a certificate of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Running(settings.model_copy(update={"tls": "auto", "domain": "sandbox.test", "tls_port": port}))
    yield made
    await made.stop()


@pytest.mark.parametrize("http2", [False, True])
async def test_tls_by_names_below_the_domain(secure: Running, http2: bool) -> None:
    plain = await secure.start()
    port = secure.settings.tls_port
    trusted = ssl.create_default_context(cafile=str(files_of(secure.settings.state, "sandbox.test").authority))
    key = {"x-api-key": plain.headers["x-api-key"]}
    token: dict[str, str] = {}

    async with httpx.AsyncClient(verify=trusted, timeout=20, http2=http2) as client:

        async def ask(method: str, name: str, path: str, body: object = None) -> httpx.Response:
            # The name is what the certificate and the daemon see; the address needs no name server.
            return await client.request(
                method,
                f"https://127.0.0.1:{port}{path}",
                headers={"host": f"{name}:{port}", **key, **token},
                json=body,
                extensions={"sni_hostname": name},
            )

        made = await ask("POST", "api.sandbox.test", "/v2/sandboxes", {"templateID": "base"})
        assert made.status_code == 201, made.text
        assert made.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        id = made.json()["sandboxID"]
        token["x-access-token"] = made.json()["envdAccessToken"]
        assert made.json()["domain"] == f"sandbox.test:{port}"
        echoed = await ask("POST", f"49983-{id}.sandbox.test", "/echo", {"a": 1})
        assert (echoed.status_code, echoed.json()["path"]) == (200, "/echo")
        assert (await ask("DELETE", "api.sandbox.test", f"/sandboxes/{id}")).status_code == 204
        gone = await ask("GET", f"49983-{id}.sandbox.test", "/health")
        assert (gone.status_code, gone.json()["message"]) == (502, "The sandbox was not found")
    await plain.aclose()
