"""Stands for what the machine's own tools say, with names of nobody's."""

from __future__ import annotations

from dataclasses import replace

from atolld.foundation.errors import FailedPrecondition
from atolld.images.apt_sources import AptSource
from atolld.images.build_environment import Release, release_of
from atolld.images.public_hosts import PublicHosts

MIRROR, SECURITY, INDEX, REGISTRY = (
    "mirror.public.example",
    "security.public.example",
    "index.public.example",
    "npm.public.example",
)


async def with_names(release: Release) -> Release:
    """See `with_public_sources`."""
    signed = (("Signed-By", release.keyring),)
    code = release.codename
    main = AptSource((f"http://{MIRROR}/{release.distribution}",), (code, f"{code}-updates"), ("main",), signed)
    security = AptSource((f"http://{SECURITY}/security",), (f"{code}-security",), ("main",), signed)
    return replace(release, public_sources=(main, security))


class Known(PublicHosts):
    """`of_release` fails when `unknown`. `asked`: how often the tools were."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown = False
        self.asked = 0

    async def of_tools(self) -> frozenset[str]:
        self.asked += 1
        return frozenset({INDEX, REGISTRY})

    async def of_release(self, release: Release) -> frozenset[str]:
        assert release == release_of("debian", "bookworm")
        if self.unknown:
            raise FailedPrecondition("mmdebstrap does not say")
        return frozenset({MIRROR, SECURITY})
