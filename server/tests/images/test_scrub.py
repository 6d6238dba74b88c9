from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition, Internal
from atolld.images.apt_sources import parse_deb822
from atolld.images.build_environment import Release, release_of
from atolld.images.scrub import check_no_traces, scrub

from .publicnames import with_names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image as mmdebstrap leaves it on a machine with a mirror of its own."""
    for name in ("etc/apt/apt.conf.d", "etc/apt/sources.list.d", "var/log/apt", "var/lib/apt/lists/partial", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    files = {
        "etc/apt/sources.list": "deb http://mirror.corp.example/debian bookworm main\n",
        "etc/apt/sources.list.d/0000build.sources": "URIs: http://mirror.corp.example/debian\n",
        "etc/apt/apt.conf.d/99mmdebstrap": 'Acquire::http::Proxy "http://proxy.corp.example:3128";\n',
        "etc/apt/apt.conf.d/70debconf": "DPkg::Pre-Install-Pkgs {};\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/hostname": "build-host\n",
        "etc/resolv.conf": "nameserver 10.1.2.3\n",
        "var/log/dpkg.log": "mirror.corp.example\n",
        "var/log/apt/term.log": "x\n",
        "var/lib/apt/lists/mirror.corp.example_debian_InRelease": "x\n",
        "tmp/left": "x",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("release", [release_of("debian", "bookworm"), release_of("ubuntu", "noble")])
async def test_nothing_of_the_build_machine_stays(root: Path, release: Release) -> None:
    release = await with_names(release)
    assert release.public_sources
    scrub(root, release)
    check_no_traces(root, ["mirror.corp.example", "http://proxy.corp.example:3128", "build-host"])
    assert (root / "etc/machine-id").read_bytes() == b""
    assert (root / "etc/resolv.conf").read_bytes() == b""
    assert (root / "etc/hostname").read_text() == "sandbox\n"
    assert "127.0.0.1\tlocalhost" in (root / "etc/hosts").read_text()
    assert [p.name for p in (root / "etc/apt/apt.conf.d").iterdir()] == ["70debconf"]
    (sources,) = (root / "etc/apt/sources.list.d").iterdir()
    assert tuple(parse_deb822(sources.read_text())) == release.public_sources
    assert not (root / "etc/apt/sources.list").exists()
    assert list((root / "var/lib/apt/lists").iterdir()) == []
    assert [p.name for p in (root / "var/log").rglob("*")] == ["apt"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("etc/deep/er/file", "x mirror.corp.example y", "trace of the build machine in /etc/deep/er/file"),
        ("home/user/.npmrc", "registry=http://mirror.corp.example/", "/home/user/.npmrc"),
        ("usr/local/share/ca-certificates/corp.crt", "-----BEGIN", "certificate that no package brought"),
    ],
)
def test_a_trace_is_found(root: Path, name: str, text: str, said: str) -> None:
    scrub(root, release_of("debian", "bookworm"))
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    with pytest.raises(Internal, match=said):
        check_no_traces(root, ["mirror.corp.example"])


def test_links_in_the_image_are_replaced_or_left_but_never_followed(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "resolv.conf").write_text("nameserver 10.9.9.9\n")
    (outside / "secret").write_text("mirror.corp.example")
    for name, target in (("etc/resolv.conf", "resolv.conf"), ("etc/leak", "secret")):
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(outside / target)
    (root / "var/tmp").symlink_to(outside)
    scrub(root, release_of("debian", "bookworm"))
    check_no_traces(root, ["mirror.corp.example"])
    assert (outside / "resolv.conf").read_text() == "nameserver 10.9.9.9\n"
    assert (outside / "secret").exists()
    assert not (root / "etc/resolv.conf").is_symlink()


def test_unknown_distributions_are_refused() -> None:
    with pytest.raises(FailedPrecondition, match="fedora"):
        release_of("fedora", "40")
