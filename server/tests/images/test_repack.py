from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition
from atolld.images.repack import repack
from atolld.images.tree import OPAQUE
from atolld.images.unpack import unpack

from .tars import entry, folder, hard, link, tar


@pytest.mark.real
def test_a_layer_comes_back_as_it_was(tmp_path: Path) -> None:
    lower, one, two = (tmp_path / name for name in ("lower", "one", "two"))
    for root in (lower, one, two):
        root.mkdir()
    (lower / "gone").touch()
    data = tar(
        folder(".", mtime=3),
        entry(".wh.gone"),
        folder("d", mtime=5, uid=7),
        entry("d/.wh..wh..opq"),
        entry("d/f", data=b"x", mode=0o4755),
        hard("d/g", "d/f"),
        link("l", "/etc"),
        folder(".wh.not-this"[4:]),
    )
    unpack(io.BytesIO(data), one, (lower,), reserve_bytes=0)
    packed = b"".join(repack(one))
    unpack(io.BytesIO(packed), two, (lower,), reserve_bytes=0)
    assert b"".join(repack(two)) == packed
    assert (two / "gone").lstat().st_rdev == 0
    assert os.getxattr(two / "d", OPAQUE) == b"y"
    assert ((two / "d").stat().st_uid, (two / "d/f").stat().st_nlink) == (7, 2)


def test_what_no_image_takes_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    with pytest.raises(FailedPrecondition, match="socket"):
        b"".join(repack(tmp_path))
