"""Debian's own registry (`scripts/registry.sh`) on a port of its own, and pushing to it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from e2e.conftest import free_port

PROGRAM = Path(os.environ.get("ATOLL_CACHE_DIR", "/var/cache/atoll"), "bin/docker-registry")
USER, PASSWORD = "me", "secret"
# bcrypt of the password, as `htpasswd -B` makes it; and of an account's key as Google's registries take it, which is
# `ACCOUNT` of e2e/e2b/runners/kitchen.py.
_HTPASSWD = """\
me:$2b$05$AEplKJkJbB7vfsO7ary.b.42G3Jr00Pez1jgQ.hPotTm.cbHOg6yO
_json_key:$2b$05$EZMYgRJB2SGV3lFPxWrrtOO9ThTS6hGvNeh0TVJYjCsWhL5l5Sjji
"""
_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}
"""
OCI = "application/vnd.oci.image."


@dataclass
class LocalRegistry:
    """Starts with `start`; `name` is how references call it."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def make(directory: Path) -> LocalRegistry:
        """Write its configuration."""
        directory.mkdir()
        made = LocalRegistry(directory, free_port())
        (directory / "htpasswd").write_text(_HTPASSWD)
        config = _CONFIG.format(root=directory / "data", port=made.port, htpasswd=directory / "htpasswd")
        (directory / "config.yml").write_text(config)
        return made

    @property
    def name(self) -> str:
        return f"localhost:{self.port}"

    def start(self) -> None:
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", self.directory / "config.yml"], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if self.call("GET", "/v2/").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError((self.directory / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        url = path if path.startswith("http") else f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, auth=(USER, PASSWORD), timeout=120, **more)

    def blob(self, repository: str, source: bytes | Path) -> dict[str, Any]:
        """Upload a blob; returns digest and size."""
        data = source if isinstance(source, bytes) else source.read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = self.call("POST", f"/v2/{repository}/blobs/uploads/")
        begun.raise_for_status()
        # The location has a query of its own.
        place = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
        put = self.call("PUT", str(place), content=data)
        assert put.status_code == 201, put.text
        return {"digest": digest, "size": len(data)}

    def manifest(self, repository: str, tag: str, media_type: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Upload a manifest or index; returns a descriptor of it."""
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **value}).encode()
        put = self.call("PUT", f"/v2/{repository}/manifests/{tag}", content=data, headers={"content-type": media_type})
        assert put.status_code == 201, put.text
        return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}

    def image(
        self, repository: str, tag: str, layers: Sequence[tuple[bytes | Path, str]], run: Mapping[str, Any], arch: str
    ) -> dict[str, Any]:
        """Push an image. `layers`: uncompressed tars with `""`, `gzip` or `zstd`; returns its entry for an index."""
        descriptors, diff_ids = [], []
        for source, how in layers:
            data = source if isinstance(source, bytes) else source.read_bytes()
            diff_ids.append(f"sha256:{hashlib.sha256(data).hexdigest()}")
            if how == "gzip":
                data = gzip.compress(data, 1)
            elif how == "zstd":
                data = subprocess.run(["zstd", "-qc1"], input=data, capture_output=True, check=True).stdout
            kind = f"{OCI}layer.v1.tar{'+' if how else ''}{how}"
            descriptors.append({"mediaType": kind, **self.blob(repository, data)})
        config = {
            "architecture": arch,
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        described = {"mediaType": f"{OCI}config.v1+json", **self.blob(repository, json.dumps(config).encode())}
        made = self.manifest(repository, tag, f"{OCI}manifest.v1+json", {"config": described, "layers": descriptors})
        return {**made, "platform": {"os": "linux", "architecture": arch}}
