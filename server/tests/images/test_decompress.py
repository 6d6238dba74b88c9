from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition, InvalidArgument
from atolld.images.decompress import FREE_OF_RATIO_BYTES, MAX_LAYER_BYTES, limit_of, open_layer

DATA = os.urandom(300_000) + bytes(2_000_000)
needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed: apt-get install zstd")


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


FORMS = {
    "plain": lambda: DATA,
    "gzip": lambda: gzip.compress(DATA),
    "gzip of several members": lambda: gzip.compress(DATA[:1000]) + gzip.compress(b"") + gzip.compress(DATA[1000:]),
    "gzip with padding": lambda: gzip.compress(DATA) + bytes(1000),
    "zstd": lambda: zstd(DATA),
    "zstd with a skippable frame": lambda: b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstd(DATA),
}


@pytest.mark.parametrize("form", [pytest.param(one, marks=needs_zstd if "zstd" in one else ()) for one in FORMS])
def test_every_form_gives_the_same_bytes(tmp_path: Path, form: str) -> None:
    path = tmp_path / "layer"
    path.write_bytes(FORMS[form]())
    with open_layer(path) as stream:
        begin = b""
        while len(begin) < 700_000 and (piece := stream.read(77_777)):
            begin += piece
        assert begin == DATA[: len(begin)]
        assert stream.drain() == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
        assert stream.size_bytes == len(DATA)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(DATA)[:-100_000], "cut off|damaged"),
        (gzip.compress(DATA)[:5000] + b"\xff" * 5000, "damaged"),
        (gzip.compress(DATA)[:-8] + b"12345678", "damaged"),
        (b"\xfd7zXZ\0data", "xz"),
        (b"BZh91AY", "bzip2"),
        pytest.param(b"\x28\xb5\x2f\xfd nonsense", "damaged", marks=needs_zstd),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "layer"
    path.write_bytes(data)
    with pytest.raises(InvalidArgument, match=reason), open_layer(path) as stream:
        stream.drain()


@pytest.mark.parametrize("form", ["gzip", pytest.param("zstd", marks=needs_zstd)])
def test_a_bomb_is_refused_while_it_unpacks(tmp_path: Path, form: str) -> None:
    path = tmp_path / "layer"
    bomb = bytes(50_000_000)
    path.write_bytes(gzip.compress(bomb) if form == "gzip" else zstd(bomb))
    read = 0
    with pytest.raises(InvalidArgument, match="more than 1 MiB unpacked"), open_layer(path, 1 << 20) as stream:
        while piece := stream.read(10_000):
            read += len(piece)
    assert read <= 1 << 20


def test_the_limit_goes_with_the_size() -> None:
    assert limit_of(10) == FREE_OF_RATIO_BYTES
    assert limit_of(50 << 20) == 5000 << 20
    assert limit_of(1 << 40) == MAX_LAYER_BYTES


def test_without_zstd_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "layer"
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(FailedPrecondition, match="apt-get install zstd"), open_layer(path):
        pass
