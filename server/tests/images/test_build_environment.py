from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition
from atolld.images import build_environment
from atolld.images.build_environment import host_release, inherited_environment, public_environment, release_of

from .publicnames import with_names

DUMP = """\
APT "";
APT::Architecture "amd64";
Acquire::Languages "none";
Acquire::http::Proxy "http://u:secret@proxy.example:3128";
Acquire::http::Proxy::direct.example "DIRECT";
Acquire::https::CaInfo "/etc/ssl/corp.pem";
Acquire::Retries "3";
Acquire::Check-Valid-Until "false";
DPkg::Post-Invoke:: "rm -rf /var/cache/apt/archives";
"""


@pytest.fixture
def etc_apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\nURIs: http://mirror.corp.example/debian http://mirror.public.example/debian\nSuites: bookworm\n"
        "Components: main\nSigned-By: /k.gpg\n"
    )
    return tmp_path


async def test_a_build_takes_over_how_to_reach_packages_and_nothing_else(
    etc_apt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dump() -> str:
        return DUMP

    monkeypatch.setattr(build_environment, "_apt_config_dump", dump)
    for name in build_environment._INHERITED_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://env-proxy.example:8080")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for builds")
    environment = await inherited_environment(await with_names(release_of("debian", "bookworm")), etc_apt)
    assert environment.apt_options == (
        'Acquire::http::Proxy "http://u:secret@proxy.example:3128";',
        'Acquire::http::Proxy::direct.example "DIRECT";',
        'Acquire::https::CaInfo "/etc/ssl/corp.pem";',
        'Acquire::Retries "3";',
        'Acquire::Check-Valid-Until "false";',
        f'Dir::Etc::netrc "{etc_apt}/auth.conf";',
        f'Dir::Etc::netrcparts "{etc_apt}/auth.conf.d";',
    )
    assert environment.variables == {"HTTPS_PROXY": "http://env-proxy.example:8080"}
    assert environment.sources[0].options == (("Signed-By", "/k.gpg"),)
    # What must not be found in the image: the mirror and the proxies, but not the public mirror's name.
    hosts = ("env-proxy.example", "mirror.corp.example", "proxy.example")
    assert set(environment.secrets_of_host) == {
        "http://env-proxy.example:8080",
        "http://u:secret@proxy.example:3128",
        *(f"{before}{host}{after}" for host in hosts for before in ("//", "@") for after in ("/", ":")),
    }


async def test_a_mirror_or_proxy_on_the_machine_itself_is_no_word_to_search_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dump() -> str:
        return 'Acquire::http::Proxy "http://127.0.0.1:3142";\n'

    monkeypatch.setattr(build_environment, "_apt_config_dump", dump)
    for name in build_environment._INHERITED_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / "sources.list").write_text(
        "deb http://localhost/debian bookworm main\ndeb http://apt/d bookworm main\n"
    )
    (tmp_path / "sources.list.d").mkdir()
    environment = await inherited_environment(await with_names(release_of("debian", "bookworm")), tmp_path)
    assert set(environment.secrets_of_host) == {"http://127.0.0.1:3142", "//apt/", "//apt:", "@apt/", "@apt:"}


async def test_without_the_setting_a_build_knows_the_public_mirror_only() -> None:
    release = await with_names(release_of("debian", "trixie"))
    environment = public_environment(release)
    assert environment.sources == release.public_sources
    assert (environment.apt_options, dict(environment.variables), environment.secrets_of_host) == ((), {}, ())


@pytest.mark.parametrize(
    ("os_release", "expected"),
    [
        ('ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n', ("debian", "bookworm", ("main",))),
        ('ID="ubuntu"\nVERSION_CODENAME=noble\n', ("ubuntu", "noble", ("main", "universe"))),
    ],
)
def test_the_host_names_the_release(
    tmp_path: Path, os_release: str, expected: tuple[str, str, tuple[str, ...]]
) -> None:
    (tmp_path / "os-release").write_text(os_release)
    release = host_release(tmp_path / "os-release")
    assert (release.distribution, release.codename, release.components) == expected


def test_another_distribution_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text("ID=fedora\n")
    with pytest.raises(FailedPrecondition, match="'fedora'"):
        host_release(tmp_path / "os-release")
