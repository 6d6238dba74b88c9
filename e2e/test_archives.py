"""A snapshot leaves one machine in a file and goes on, with its memory, on another that trusts the first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atoll import AtollError, FailedPrecondition, InvalidArgument, PermissionDenied, Sandbox, Snapshot
from atoll._age import Decryptor, Encryptor
from e2e.conftest import Daemon, make_daemon

CACHE = Path(os.environ.get("ATOLL_CACHE_DIR", "/var/cache/atoll"))
PASSPHRASE = "correct horse battery staple"
COUNTER = """
import os, time
held = "x" * 50_000_000
n = 0
while True:
    n += 1
    with open("/home/user/n.new", "w") as file:
        file.write(str(n))
    os.rename("/home/user/n.new", "/home/user/n")
    time.sleep(0.05)
"""


@pytest.fixture
def there(own_daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Another machine: another instance, state directory, key and cache, in which there is no template at all."""
    base = tmp_path_factory.mktemp("there")
    (base / "cache" / "bin").mkdir(parents=True)
    for tool in CACHE.joinpath("bin").iterdir():
        shutil.copy2(tool, base / "cache" / "bin" / tool.name)
    key = subprocess.run(
        [sys.executable, "-m", "atolld", "archive-key"],
        env=own_daemon.environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    yield from make_daemon(base, ATOLL_CACHE_DIR=str(base / "cache"), ATOLL_ARCHIVE_TRUST=key)


@pytest.fixture
def archive(own_daemon: Daemon, tmp_path: Path) -> Path:
    """Of a sandbox in which a program counts, holding 50 MB: enough for the parts of its memory to be noted."""
    with Sandbox.create(runtime="gvisor", config=own_daemon.config) as sandbox:
        sandbox.files.write("/home/user/count.py", COUNTER)
        sandbox.start(["python3", "/home/user/count.py"])
        sandbox.run("until [ -s n ] && [ $(cat n) -gt 3 ]; do sleep 0.05; done", cwd="/home/user", check=True)
        snapshot = sandbox.snapshot("counting")
        snapshot.export(tmp_path / "box.atoll", passphrase=PASSPHRASE)
    return tmp_path / "box.atoll"


def opened(archive: Path) -> bytes:
    decryptor = Decryptor(PASSPHRASE)
    return decryptor.update(archive.read_bytes()) + decryptor.finish()


def sealed(path: Path, content: bytes) -> Path:
    encryptor = Encryptor(PASSPHRASE, work_factor=4)
    path.write_bytes(encryptor.begin() + encryptor.update(content) + encryptor.finish())
    return path


def resigned(content: bytes, signer: Daemon, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The archive with another manifest, signed again with the signer's own key."""
    length = int.from_bytes(content[8:12], "big")
    manifest = json.loads(content[12 : 12 + length])
    change(manifest)
    text = json.dumps(manifest).encode()
    key = Ed25519PrivateKey.from_private_bytes((signer.state_dir / "archive.key").read_bytes())
    signature = key.sign(b"atoll archive manifest 1\0" + text)
    head = content[:8] + len(text).to_bytes(4, "big") + text + key.public_key().public_bytes_raw() + signature
    return head + content[12 + length + 96 :]


def leftovers(daemon: Daemon) -> list[str]:
    saves = daemon.state_dir / "layers" / ".saves"
    layers = Path(daemon.settings["ATOLL_CACHE_DIR"]) / "layers"
    return [*(os.listdir(saves) if saves.exists() else []), *(os.listdir(layers) if layers.exists() else [])]


def cleaned(daemon: Daemon, timeout_s: float = 10) -> list[str]:
    """What is left after at most `timeout_s`: a client that breaks off does not wait until the daemon has noticed."""
    deadline = time.monotonic() + timeout_s
    while leftovers(daemon) and time.monotonic() < deadline:
        time.sleep(0.05)
    return leftovers(daemon)


def test_memory_goes_on_elsewhere_and_nothing_else_is_taken(
    own_daemon: Daemon, there: Daemon, archive: Path, tmp_path: Path
) -> None:
    content = opened(archive)
    assert b"counting" not in archive.read_bytes()
    files = json.loads(content[12 : 12 + int.from_bytes(content[8:12], "big")])["memory"]
    assert "runs.json" in {file["name"] for file in files}

    def other_engine(manifest: dict[str, Any]) -> None:
        manifest["engine"] = "gvisor 0.0~19990101"

    def other_cpu(manifest: dict[str, Any]) -> None:
        manifest["cpu_flags"].append("a_flag_of_tomorrow")

    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    refused: list[tuple[Path, str, type[AtollError], str]] = [
        (archive, "another passphrase", InvalidArgument, "passphrase"),
        (sealed(tmp_path / "flipped", bytes(flipped)), PASSPHRASE, InvalidArgument, "damaged"),
        (sealed(tmp_path / "cut", content[:-5]), PASSPHRASE, InvalidArgument, "cut off"),
        (sealed(tmp_path / "longer", content + b"x"), PASSPHRASE, InvalidArgument, "follows its end"),
        (
            sealed(tmp_path / "engine", resigned(content, own_daemon, other_engine)),
            PASSPHRASE,
            FailedPrecondition,
            "1999",
        ),
        (
            sealed(tmp_path / "cpu", resigned(content, own_daemon, other_cpu)),
            PASSPHRASE,
            FailedPrecondition,
            "tomorrow",
        ),
    ]
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    refused.append((tmp_path / "damaged", PASSPHRASE, InvalidArgument, "damaged"))
    for file, passphrase, kind, reason in refused:
        with pytest.raises(kind, match=reason):
            Snapshot.import_(file, passphrase=passphrase, config=there.config)
        assert cleaned(there) == [], file.name
    assert list(Snapshot.list(config=there.config)) == []

    snapshot = Snapshot.import_(archive, passphrase=PASSPHRASE, name="box", config=there.config)
    with Sandbox.create(template="box", config=there.config) as sandbox:
        before = int(sandbox.run("cat /home/user/n", check=True).stdout)
        assert before > 3
        sandbox.run(
            f"until [ -s n ] && [ $(cat n) -gt {before + 5} ]; do sleep 0.05; done", cwd="/home/user", check=True
        )
        assert "count.py" in sandbox.run("ps -eo args", check=True).stdout
        # The template came with it: this machine has none of its own.
        assert sandbox.run("python3 -c 'print(6*7)'", check=True).stdout == "42\n"
    assert snapshot.delete()


def test_a_machine_that_is_not_trusted(own_daemon: Daemon, there: Daemon, archive: Path, tmp_path: Path) -> None:
    # `there` trusts `own_daemon`, and not the other way round.
    stranger = resigned(opened(archive), _with_key(there), lambda manifest: None)
    with pytest.raises(PermissionDenied, match=r"atoll-archive-.*archive_trust"):
        Snapshot.import_(sealed(tmp_path / "stranger", stranger), passphrase=PASSPHRASE, config=own_daemon.config)
    assert len(list(Snapshot.list(config=own_daemon.config))) == 1


def _with_key(daemon: Daemon) -> Daemon:
    subprocess.run(
        [sys.executable, "-m", "atolld", "archive-key"], env=daemon.environment, check=True, capture_output=True
    )
    return daemon
