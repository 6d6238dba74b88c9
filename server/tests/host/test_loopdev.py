"""Loop devices live as long as their last user."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.units import MIB
from atolld.host.loopdev import attached, list_attached


@pytest.mark.real
@pytest.mark.parametrize("direct_io", [True, False])
def test_a_device_is_backed_by_its_image_and_leaves_with_the_block(tmp_path: Path, direct_io: bool) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * MIB)
    with attached(image, direct_io=direct_io) as device:
        assert list_attached(tmp_path) == {image: device}
        with open(device, "rb") as file:
            assert file.read(4) == b"xxxx"
    assert list_attached(tmp_path) == {}


@pytest.mark.real
def test_an_image_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"), attached(tmp_path / "link", direct_io=False):
        pytest.fail("attached a link")


def test_no_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), attached(tmp_path / "none", direct_io=False):
        pytest.fail("attached nothing")
