"""Driving builds over the API, for tests."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.conftest import CACHE, Daemon, make_daemon


@dataclass(frozen=True)
class Asked:
    """A build that was asked for."""

    daemon: Daemon
    template_id: str
    build_id: str

    @property
    def path(self) -> str:
        return f"/v1/templates/{self.template_id}/builds/{self.build_id}"

    def start(self, **body: Any) -> Asked:
        answer = self.daemon.api("POST", self.path, json=body)
        assert answer.status_code == 202, answer.text
        return self

    def get(self) -> dict[str, Any]:
        return dict(self.daemon.api("GET", self.path).json())

    def log(self) -> list[str]:
        answer = self.daemon.api("GET", f"{self.path}/logs")
        return [json.loads(line)["message"] for line in answer.text.splitlines()]

    def until_said(self, line: str, timeout_s: float = 60) -> None:
        """Wait until the log has exactly this line."""
        deadline = time.monotonic() + timeout_s
        while line not in self.log():
            assert time.monotonic() < deadline, f"{line!r} was not said: {self.log()}"
            time.sleep(0.05)

    def ended(self, timeout_s: float = 180) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while (build := self.get())["state"] in ("waiting", "building"):
            assert time.monotonic() < deadline, f"not ended after {timeout_s} s: {self.log()}"
            time.sleep(0.01)
        return build

    def cancel(self) -> None:
        assert self.daemon.api("DELETE", self.path).status_code == 204


def asked(daemon: Daemon, name: str | None = None, **bounds: Any) -> Asked:
    answer = daemon.api("POST", "/v1/templates", json={"name": name or f"t{secrets.token_hex(4)}", **bounds})
    assert answer.status_code == 201, answer.text
    return Asked(daemon, answer.json()["template_id"], answer.json()["build_id"])


def build(daemon: Daemon, dockerfile: str, name: str | None = None, **body: Any) -> tuple[dict[str, Any], list[str]]:
    """The build when it has ended, and its log."""
    one = asked(daemon, name).start(dockerfile=dockerfile, **body)
    return one.ended(), one.log()


def upload(daemon: Daemon, files: Mapping[str, bytes]) -> str:
    """Upload files; returns the name to build with."""
    made, name = io.BytesIO(), secrets.token_hex(16)
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for path, contents in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.mtime = len(contents), 0o644, 1_000_000_000
            archive.addfile(info, io.BytesIO(contents))
    answer = daemon.api("PUT", f"/v1/build-files/{name}", content=made.getvalue())
    assert answer.status_code == 201, answer.text
    return name


def with_own_cache(base: Path, **settings: str) -> Iterator[Daemon]:
    """A daemon with a cache of its own, in which `base` is the machine's and nothing was built."""
    cache = base / "cache"
    (cache / "layers").mkdir(parents=True)
    shutil.copytree(CACHE / "templates", cache / "templates")
    for template in (CACHE / "templates").glob("*.json"):
        for digest in json.loads(template.read_text())["layers"]:
            if not (cache / "layers" / digest).exists():
                subprocess.run(["cp", "-al", CACHE / "layers" / digest, cache / "layers"], check=True)
                shutil.rmtree(cache / "layers" / digest / "pins", ignore_errors=True)
    if (CACHE / "bin").is_dir():
        shutil.copytree(CACHE / "bin", cache / "bin", symlinks=True)
    try:
        yield from make_daemon(base, ATOLL_CACHE_DIR=str(cache), **settings)
    finally:
        shutil.rmtree(cache)


def layer(daemon: Daemon, digest: str) -> Path:
    """Where the files of a layer are."""
    return Path(daemon.settings["ATOLL_CACHE_DIR"]) / "layers" / digest / "root"
