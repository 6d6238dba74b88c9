from __future__ import annotations

import json
from typing import Any

import pytest

from atolld.foundation.errors import FailedPrecondition, InvalidArgument
from atolld.images.oci import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
    Platform,
    choose,
    host_platform,
    parse_config,
    parse_manifest,
)

DIGEST = "sha256:" + "ab" * 32
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 10}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 5}


def manifest(**changes: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": CONFIG, "layers": [LAYER], **changes}).encode()


def entry(platform: str) -> Descriptor:
    return Descriptor("m", DIGEST.replace("a", str(len(platform) % 10)), 1, Platform(*platform.split("/")))


def test_a_manifest() -> None:
    found = parse_manifest(manifest())
    assert isinstance(found, Manifest)
    assert (found.config.digest, [layer.size_bytes for layer in found.layers]) == (DIGEST, [5])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not an object"),
        (b"x" * (MAX_MANIFEST_BYTES + 1), "at most"),
        (manifest(schemaVersion=1), "version 1"),
        (manifest(layers={}), "not a list"),
        (manifest(layers=[LAYER] * 300), "300 entries"),
        (manifest(layers=[{**LAYER, "size": -1}]), "size of a blob"),
        (manifest(layers=[{**LAYER, "size": True}]), "size of a blob"),
        (manifest(layers=[{**LAYER, "size": 1 << 60}]), "size of a blob"),
        (manifest(layers=[{**LAYER, "digest": "sha256:../../etc/passwd"}]), "not a digest"),
        (manifest(layers=[{**LAYER, "digest": "sha512:" + "0" * 128}]), "not a digest"),
        (manifest(config={**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}), "something else"),
        (manifest(config={**CONFIG, "size": 1 << 30}), "at most"),
        (json.dumps({"schemaVersion": 2, "manifests": [CONFIG] * 3000}).encode(), "3000 entries"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        parse_manifest(data)


@pytest.mark.parametrize(
    ("there", "wanted", "chosen"),
    [
        (["linux/arm64/v8", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/arm64", "linux/arm64/v8"], "linux/arm64", "linux/arm64/v8"),
        (["windows/amd64", "linux/amd64/v1"], "linux/amd64", "linux/amd64/v1"),
    ],
)
def test_the_entry_for_this_machine_is_chosen(there: list[str], wanted: str, chosen: str) -> None:
    assert str(choose([entry(one) for one in there], Platform(*wanted.split("/"))).platform) == chosen


def test_without_an_entry_it_says_what_is_there() -> None:
    with pytest.raises(FailedPrecondition, match="only for: linux/s390x, windows/amd64"):
        choose([entry("windows/amd64"), entry("linux/s390x"), entry("unknown/unknown")], Platform("linux", "amd64"))
    # Code of another level of the processor is not for every machine.
    with pytest.raises(FailedPrecondition):
        choose([entry("linux/amd64/v4")], Platform("linux", "amd64"))
    with pytest.raises(FailedPrecondition, match="riscv64"):
        host_platform("riscv64")


def test_a_config() -> None:
    run = {"Env": ["PATH=/bin", "A=b=c", "=x"], "User": "1000:100", "Cmd": ["sh"], "Entrypoint": None}
    stored = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [DIGEST]}, "config": run}
    found = parse_config(json.dumps(stored).encode())
    assert (str(found.platform), found.diff_ids) == ("linux/amd64", (DIGEST,))
    assert (found.run.env, found.run.user) == ({"PATH": "/bin", "A": "b=c"}, "1000:100")
    assert (found.run.cmd, found.run.entrypoint, found.run.workdir) == (("sh",), (), "")


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"rootfs": {"diff_ids": ["x"]}},
        {"rootfs": {"diff_ids": []}, "config": []},
        {"rootfs": {"diff_ids": []}, "config": {"Env": [1]}},
        {"rootfs": {"diff_ids": []}, "config": {"User": "a\0b"}},
        {"rootfs": {"diff_ids": []}, "config": {"Cmd": ["x"] * 5000}},
    ],
)
def test_what_is_no_config_is_refused(stored: object) -> None:
    with pytest.raises(InvalidArgument):
        parse_config(json.dumps(stored).encode())
