from __future__ import annotations

import base64
import builtins
import os
import random
from typing import Any

import pytest

from atoll._age import MAX_HEADER_BYTES, PIECE_BYTES, Decryptor, Encryptor
from atoll._errors import InvalidArgument, Unavailable

# Written by rage (age in Rust): the format is theirs, and what we read must be what they write.
THEIRS = base64.b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCB4dGFmRmppV21hb0I1Qk5tdWNQUU9RIDE4CjE4SWs2ckdvZXladytDR1dic2FoM3RvWWd4Z3FP"
    "TWlKOEFNUXBseGphMkkKLS0tIGd1TFRYdVpvU2l1bnpCZjluUDJCMCtoKzNzSkFMeHNGaERrUEx1VXZZVDQK9vpN/YIxiofLzeqIezIXa2VMEmzjWIcU"
    "KFjO8m+xCA6Q+3PfFCUF6Kp9t00YCV3Fg9Y6OeL/yUg="
)


def seal(data: bytes, passphrase: str = "x", step: int = 1 << 20) -> bytes:
    encryptor = Encryptor(passphrase, work_factor=2)
    parts = [encryptor.begin()]
    parts += [encryptor.update(data[start : start + step]) for start in range(0, len(data), step)]
    return b"".join([*parts, encryptor.finish()])


def unseal(data: bytes, passphrase: str = "x", step: int = 1 << 20) -> bytes:
    decryptor = Decryptor(passphrase)
    parts = [decryptor.update(data[start : start + step]) for start in range(0, len(data), step)]
    return b"".join([*parts, decryptor.finish()])


def test_what_another_program_wrote_is_read() -> None:
    assert unseal(THEIRS, "correct horse") == b"made by another program\n"


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 300_001])
@pytest.mark.parametrize("step", [9973, 1 << 20])
def test_there_and_back(size: int, step: int) -> None:
    data = os.urandom(size)
    assert unseal(seal(data, "päss", step), "päss", step) == data


def test_two_files_of_the_same_have_nothing_in_common() -> None:
    one, other = seal(b"same"), seal(b"same")
    assert one[60:] != other[60:]


@pytest.mark.parametrize("passphrase", ["y", "x ", "X"])
def test_another_passphrase(passphrase: str) -> None:
    with pytest.raises(InvalidArgument, match="passphrase"):
        unseal(seal(b"data"), passphrase)


def test_an_empty_passphrase() -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        Encryptor("")


HEADER_END = seal(b"").index(b"\n--- ") + 49


def _cut(at: int) -> Any:
    return lambda data: data[:at]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "no archive"),
        (lambda data: b"PK\3\4" + data, "no archive"),
        (lambda data: data.replace(b"org/v1", b"org/v2", 1), "no archive"),
        (lambda data: data.replace(b"scrypt", b"X25519", 1), "no archive"),
        (lambda data: b"age-encryption.org/v1\n" + b"-> x y\n" * MAX_HEADER_BYTES, "no archive"),
        (lambda data: data.replace(b" 2\n", b" 21\n", 1), "work factor"),
        (lambda data: data.replace(b" 2\n", b" 02\n", 1), "no archive"),
        (_cut(20), "cut off"),
        (_cut(HEADER_END + 3), "cut off"),
        (_cut(-1), "cut off"),
        (_cut(-PIECE_BYTES - 16), "cut off"),
        (lambda data: data + b"x", "changed"),
        (lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], "changed"),
    ],
)
def test_what_is_refused(damage: Any, reason: str) -> None:
    # Two whole pieces and a last one that is whole as well.
    good = seal(os.urandom(3 * PIECE_BYTES))
    with pytest.raises(InvalidArgument, match=reason):
        unseal(damage(good))


def test_pieces_out_of_order() -> None:
    good = seal(os.urandom(3 * PIECE_BYTES))
    start, size = len(good) - 3 * (PIECE_BYTES + 16), PIECE_BYTES + 16
    swapped = (
        good[:start] + good[start + size : start + 2 * size] + good[start : start + size] + good[start + 2 * size :]
    )
    with pytest.raises(InvalidArgument, match="changed"):
        unseal(swapped)


def test_damage_anywhere_is_noticed() -> None:
    good = seal(b"some data")
    chance = random.Random(5)
    for _ in range(300):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        # A work factor that became larger would only be slow.
        if bad[:60].split(b"\n")[1].split()[-1] != b"2":
            continue
        with pytest.raises(InvalidArgument):
            unseal(bytes(bad))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(Unavailable, match=r"pip install 'atoll\[archive\]'"):
        Encryptor("x")
    with pytest.raises(Unavailable, match=r"pip install 'atoll\[archive\]'"):
        Decryptor("x")
