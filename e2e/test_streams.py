"""Large things pass through without being held."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

from atoll import Config, Sandbox
from e2e.conftest import Daemon

GIB = 1024**3
MIB = 1024**2


def test_a_gibibyte_up_and_down(daemon: Daemon, client: Config, tmp_path: Path) -> None:
    source, back = tmp_path / "up", tmp_path / "down"
    block = bytes(range(256)) * 4096
    digest = hashlib.sha256()
    with open(source, "wb") as file:
        for number in range(GIB // len(block)):
            piece = number.to_bytes(8, "big") + block[8:]
            digest.update(piece)
            file.write(piece)
    peak = base = daemon.rss_bytes()
    with Sandbox.create(memory_mib=1024, disk_mib=4096, config=client) as sb:

        def look(_done: int, _total: int | None = None) -> None:
            nonlocal peak
            peak = max(peak, daemon.rss_bytes())

        sb.files.upload(source, "/home/user/big", on_progress=look)
        assert sb.files.stat("/home/user/big").size == GIB
        sb.files.download("/home/user/big", back, on_progress=look)
    with open(back, "rb") as returned:
        assert hashlib.file_digest(returned, "sha256").hexdigest() == digest.hexdigest()
    assert peak - base < 20 * MIB, f"the daemon grew by {(peak - base) / MIB:.1f} MiB"


def numbered(chunks: Iterator[bytes]) -> int:
    """Check that the lines are 0, 1, 2, ... and return how many there were."""
    rest, expected = b"", 0
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            assert int(line) == expected
            expected += 1
    assert rest == b""
    return expected


def test_a_hundred_megabytes_to_a_slow_reader(daemon: Daemon, client: Config) -> None:
    count = 13_000_000  # about 100 MB of decimal lines
    base = daemon.rss_bytes()
    with Sandbox.create(config=client) as sb:
        process = sb.start(["seq", "0", str(count - 1)])

        def slowly() -> Iterator[bytes]:
            for number, event in enumerate(process):
                if number % 400 == 0:
                    time.sleep(0.02)
                yield getattr(event, "data", b"")

        assert numbered(slowly()) == count
        assert process.wait().exit_code == 0
    assert daemon.rss_bytes() - base < 20 * MIB
