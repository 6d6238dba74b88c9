from __future__ import annotations

import pytest

from atolld.foundation.errors import PermissionDenied, Unavailable
from atolld.images.addresses import Reach, reach_of, resolve


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("8.8.8.8", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("10.0.0.1", Reach.PRIVATE),
        ("172.16.5.5", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("127.0.0.1", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("::ffff:169.254.169.254", Reach.FORBIDDEN),
        ("64:ff9b::a00:1", Reach.PRIVATE),
        ("2002:7f00:1::", Reach.LOOPBACK),
        ("169.254.169.254", Reach.FORBIDDEN),
        ("fe80::1", Reach.FORBIDDEN),
        ("0.0.0.0", Reach.FORBIDDEN),
        ("224.0.0.1", Reach.FORBIDDEN),
        ("255.255.255.255", Reach.FORBIDDEN),
    ],
)
def test_how_far_in_an_address_lies(address: str, reach: Reach) -> None:
    assert reach_of(address) is reach


async def test_an_address_further_in_than_allowed_is_refused() -> None:
    assert await resolve("127.0.0.1", 80, Reach.LOOPBACK) == ("127.0.0.1", Reach.LOOPBACK)
    with pytest.raises(PermissionDenied, match="may not send"):
        await resolve("127.0.0.1", 80, Reach.PUBLIC)
    with pytest.raises(PermissionDenied, match="no registry is asked"):
        await resolve("169.254.169.254", 80, Reach.LOOPBACK)
    with pytest.raises(Unavailable, match="cannot be found"):
        await resolve("nowhere.invalid", 80, Reach.PUBLIC)
