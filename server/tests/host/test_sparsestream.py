from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from atolld.foundation.errors import InvalidArgument
from atolld.host.sparsestream import BLOCK_BYTES, SparseWriter, read_sparse

END = b"\xff" * 8


def image(path: Path, size: int, data: dict[int, bytes]) -> Path:
    path.touch()
    os.truncate(path, size)
    with path.open("r+b") as file:
        for at, what in data.items():
            file.seek(at)
            file.write(what)
    return path


def write(path: Path, size: int, stream: bytes, step: int = 1 << 20) -> None:
    writer = SparseWriter(path, size)
    try:
        for start in range(0, len(stream), step):
            writer.write(stream[start : start + step])
        writer.finish()
    finally:
        writer.close()
        writer.close()


@pytest.mark.parametrize(
    ("size", "data"),
    [
        (0, {}),
        (10, {}),
        (10, {3: b"abc"}),
        (10 * BLOCK_BYTES, {}),
        (10 * BLOCK_BYTES + 7, {0: b"a", 5 * BLOCK_BYTES - 1: b"bc", 10 * BLOCK_BYTES + 6: b"z"}),
        (300 * BLOCK_BYTES, {100 * BLOCK_BYTES: os.urandom(3 * BLOCK_BYTES)}),
    ],
)
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_an_image_comes_back(tmp_path: Path, size: int, data: dict[int, bytes], step: int) -> None:
    source = image(tmp_path / "a", size, data)
    stream = b"".join(read_sparse(source))
    write(tmp_path / "b", size, stream, step)
    assert (tmp_path / "b").read_bytes() == source.read_bytes()
    assert b"".join(read_sparse(tmp_path / "b")) == stream
    assert (tmp_path / "b").stat().st_blocks * 512 <= (len(data) + 3) * 2 * BLOCK_BYTES


def test_zeros_are_left_out_although_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(4 * BLOCK_BYTES))
    assert b"".join(read_sparse(tmp_path / "a")) == END


def block(number: int, size: int = BLOCK_BYTES) -> bytes:
    return number.to_bytes(8, "big") + b"x" * size


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"", "cut off"),
        (block(0), "cut off"),
        (block(0)[:-1], "cut off"),
        (END[:-1], "cut off"),
        (block(3) + END, "out of its place"),
        (block(2**64 - 2) + END, "out of its place"),
        (block(1) + block(0) + END, "out of its place"),
        (block(1) + block(1) + END, "out of its place"),
        (END + b"x", "follows the end"),
        (END + END, "follows the end"),
    ],
)
def test_what_is_refused(tmp_path: Path, stream: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        write(tmp_path / "a", 3 * BLOCK_BYTES, stream)


def test_random_streams_stay_inside_the_file(tmp_path: Path) -> None:
    chance = random.Random(7)
    for number in range(200):
        path = tmp_path / str(number)
        stream = b"".join(
            chance.choice([0, 1, 2, 3, 2**63, 2**64 - 1]).to_bytes(8, "big")
            + chance.randbytes(chance.choice([0, BLOCK_BYTES]))
            for _ in range(4)
        )
        try:
            write(path, 2 * BLOCK_BYTES + 5, stream, 10_000)
        except InvalidArgument:
            pass
        assert path.stat().st_size == 2 * BLOCK_BYTES + 5
        path.unlink()
