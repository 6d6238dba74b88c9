from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition
from atolld.images.apt_sources import (
    AptSource,
    mirror_hosts,
    parse_deb822,
    parse_one_line,
    read_sources,
    select_release,
)
from atolld.images.backports import turned_to

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
# in the middle
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main

types: deb
uris: https://vendor.example/apt
suites: stable
components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
"""


def test_deb822_keeps_enabled_binary_sources_with_their_options() -> None:
    first, second = parse_deb822(DEB822)
    assert first == AptSource(
        ("http://mirror.example/debian",),
        ("bookworm", "bookworm-updates"),
        ("main", "contrib"),
        (("Signed-By", "/usr/share/keyrings/debian-archive-keyring.gpg"),),
    )
    assert second.uris == ("https://vendor.example/apt",)
    assert dict(second.options)["Signed-By"].splitlines()[1] == " -----BEGIN PGP PUBLIC KEY BLOCK-----"


def test_what_is_written_reads_back_the_same() -> None:
    sources = parse_deb822(DEB822)
    assert parse_deb822("\n".join(source.to_deb822() for source in sources)) == sources


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "deb http://m.example/debian bookworm main",
            [AptSource(("http://m.example/debian",), ("bookworm",), ("main",))],
        ),
        (
            "deb [ arch=amd64,arm64 signed-by=/k.gpg ] http://m.example/d bookworm main contrib # why",
            [
                AptSource(
                    ("http://m.example/d",),
                    ("bookworm",),
                    ("main", "contrib"),
                    (("Architectures", "amd64 arm64"), ("Signed-By", "/k.gpg")),
                )
            ],
        ),
        (
            "deb [trusted=yes] file:/srv/repo ./",
            [AptSource(("file:/srv/repo",), ("./",), (), (("Trusted", "yes"),))],
        ),
        ("deb-src http://m.example/debian bookworm main", []),
        ("# deb http://m.example/debian bookworm main", []),
        ("deb http://m.example/debian", []),
        ("", []),
    ],
)
def test_one_line_form(line: str, expected: list[AptSource]) -> None:
    assert parse_one_line(line) == expected


def test_read_sources_takes_both_forms_and_ignores_other_files(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/d bookworm main\n")
    (tmp_path / "sources.list.d/b.sources").write_text(
        "Types: deb\nURIs: http://b.example/d\nSuites: s\nComponents: main\n"
    )
    (tmp_path / "sources.list.d/c.list.disabled").write_text("deb http://c.example/d bookworm main\n")
    assert [source.uris[0] for source in read_sources(tmp_path)] == ["http://a.example/d", "http://b.example/d"]


def test_select_release_takes_the_distribution_and_leaves_vendors_and_discs_out() -> None:
    sources = [
        AptSource(("cdrom:[Debian]/",), ("bookworm",), ("main",)),
        AptSource(
            ("http://m.example/d", "cdrom:x"),
            ("bookworm", "bookworm-backports"),
            ("main",),
            (("Architectures", "i386"),),
        ),
        AptSource(("http://m.example/s",), ("bookworm-security",), ("main", "contrib"), (("Signed-By", "/k"),)),
        AptSource(("http://vendor.example/d",), ("bookworm",), ("stable",)),
        AptSource(("http://other.example/d",), ("trixie",), ("main",)),
    ]
    assert select_release(sources, "bookworm", ("main",)) == [
        AptSource(("http://m.example/d",), ("bookworm",), ("main",)),
        AptSource(("http://m.example/s",), ("bookworm-security",), ("main",), (("Signed-By", "/k"),)),
    ]


def test_select_release_without_the_release_says_what_to_do() -> None:
    security_only = [AptSource(("http://m.example/s",), ("bookworm-security",), ("main",))]
    with pytest.raises(FailedPrecondition, match=r"no apt source .* 'bookworm'.*build_inherit_host"):
        select_release(security_only, "bookworm", ("main",))


def test_mirror_hosts_also_of_a_list_of_mirrors(tmp_path: Path) -> None:
    mirrors = tmp_path / "debian.list"
    mirrors.write_text("# ours\nhttps://one.example/debian priority:1\n\nhttp://two.example:8080/debian\n")
    sources = [
        AptSource(("http://user:pw@three.example:3142/debian", "file:/srv/repo"), ("s",), ("main",)),
        AptSource((f"mirror+file://{mirrors}",), ("s",), ("main",)),
        AptSource(("mirror+file:///nowhere",), ("s",), ("main",)),
    ]
    assert mirror_hosts(sources) == {"one.example", "two.example", "three.example"}


def test_backports_come_from_the_place_of_the_release() -> None:
    sources = [
        AptSource(
            ("http://m.example/d",), ("bookworm", "bookworm-updates"), ("main", "contrib"), (("Signed-By", "/k"),)
        ),
        AptSource(("http://m.example/s",), ("bookworm-security",), ("main",)),
    ]
    assert turned_to(sources, "bookworm", "bookworm-backports") == [
        AptSource(("http://m.example/d",), ("bookworm-backports",), ("main",), (("Signed-By", "/k"),))
    ]
