"""An image made to take the machine down, pulled by a real daemon: refused in bounded time, and nobody notices."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import os
import platform
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import Daemon, InvalidArgument, Sandbox
from e2e.conftest import Daemon as Served
from e2e.conftest import make_daemon

CACHE = Path(os.environ.get("ATOLL_CACHE_DIR", "/var/cache/atoll"))
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
# Its bound is a minute, here: see `decompress.seconds_of`; the rest is for other work on the machine, and the removal.
PATIENCE_S = 180
MOST_MIB = 100
OCI = "application/vnd.oci.image"


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon with a cache of its own, in which `base` is the machine's."""
    base = tmp_path_factory.mktemp("atoll-hostile")
    cache = base / "cache"
    cache.mkdir()
    subprocess.run(["cp", "-al", CACHE / "layers", CACHE / "templates", cache], check=True)
    for pins in cache.glob("layers/*/pins"):
        shutil.rmtree(pins)
    if (CACHE / "bin").is_dir():
        shutil.copytree(CACHE / "bin", cache / "bin", symlinks=True)
    try:
        yield from make_daemon(base, ATOLL_CACHE_DIR=str(cache))
    finally:
        shutil.rmtree(cache)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def registry() -> Iterator[str]:
    """Serves `evil`, an image whose layer has ten million files, and which is small when it is compressed."""
    headers = b"".join(tarfile.TarInfo(f"f{number}").tobuf() for number in range(10_000))
    layer = gzip.compress(headers) * 1000
    rootfs = {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}
    config = json.dumps({"architecture": ARCH, "os": "linux", "rootfs": rootfs}).encode()
    parts = [
        {"mediaType": f"{OCI}.{kind}", "digest": digest(data), "size": len(data)}
        for kind, data in (("config.v1+json", config), ("layer.v1.tar+gzip", layer))
    ]
    manifest = json.dumps({"schemaVersion": 2, "config": parts[0], "layers": parts[1:]}).encode()
    served = {"/v2/evil/manifests/1": manifest, **{f"/v2/evil/blobs/{digest(one)}": one for one in (config, layer)}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = served.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("content-length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_ten_million_files(served: Served, registry: str) -> None:
    before, rss_before = files_of(served), served.rss_bytes()
    most_rss, slowest_s, created = 0, 0.0, 0
    failures: list[Exception] = []

    def pull() -> None:
        try:
            Daemon(served.config).images.pull(f"{registry}/evil:1")
        except Exception as error:
            failures.append(error)

    begun = time.monotonic()
    pulling = threading.Thread(target=pull)
    pulling.start()
    while pulling.is_alive():
        started = time.monotonic()
        with Sandbox.create(config=served.config) as sandbox:
            assert sandbox.run("echo on").stdout == "on\n"
        created, slowest_s = created + 1, max(slowest_s, time.monotonic() - started)
        most_rss = max(most_rss, served.rss_bytes())
        pulling.join(1)
        assert time.monotonic() - begun < PATIENCE_S
    print(f"refused after {time.monotonic() - begun:.0f} s; {created} sandboxes, the slowest in {slowest_s:.1f} s")
    (failure,) = failures
    assert isinstance(failure, InvalidArgument), failure
    assert "takes longer than" in failure.message or "entries" in failure.message
    assert slowest_s < 10
    assert (most_rss - rss_before) / 2**20 < MOST_MIB
    assert files_of(served) == before


def files_of(served: Served) -> set[Path]:
    """Of the cache, but the locks."""
    cache = Path(served.settings["ATOLL_CACHE_DIR"])
    return {path for path in cache.rglob("*") if not path.is_dir() and path.suffix != ".lock"}
