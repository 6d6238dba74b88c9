from __future__ import annotations

import logging
from pathlib import Path

import pytest

from atolld.core.network import NetworkPolicy
from atolld.foundation.clock import ManualClock
from atolld.images import build_environment
from atolld.images.build_settings import DIRECTORY, BuildSettings, SandboxSettings, release_in
from atolld.images.build_tools import read_tools
from atolld.images.build_trust import VARIABLES, own_bundle
from atolld.images.hostfiles import Host

from .publicnames import INDEX, MIRROR, REGISTRY, SECURITY, Known

DEBIAN = 'ID=debian\nVERSION_CODENAME="bookworm"\n'
PUBLIC = f"URIs: http://{MIRROR}/debian\n"
CORP = f"URIs: https://me:hunter22@mirror.corp.example/debian https://{MIRROR}/debian\n"
SOURCE = "Types: deb\n{}Suites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: {}\n"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Stage:
    """A machine and an image of files."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine, self.image = directory / "machine", directory / "image"
        self.environ: dict[str, str] = {}
        self.dump = ""
        self.clock = ManualClock()
        self.asked: list[str] = []
        self.addresses: dict[str, list[str]] = {}
        self.reachable: set[str] = set()
        self.public = Known()
        self.put("/etc/os-release", DEBIAN)
        self.put("/usr/lib/os-release", DEBIAN, self.image)

        async def dump() -> str:
            return self.dump

        monkeypatch.setattr(build_environment, "_apt_config_dump", dump)

    def put(self, path: str, text: str, root: Path | None = None) -> None:
        where = (root or self.machine) / path.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)

    @property
    def host(self) -> Host:
        return Host(self.machine, Path("/root"), self.environ)

    async def settings(self, inherit: bool = True) -> SandboxSettings:
        settings = BuildSettings(
            inherit,
            host=self.host,
            clock=self.clock,
            answering=self.answers,
            resolve=self.resolve,
            public=self.public,
        )
        return await settings.for_sandbox([self.image])

    async def resolve(self, host: str) -> list[str]:
        return self.addresses.get(host, ["203.0.113.7"])

    async def answers(self, host: str) -> bool:
        self.asked.append(host)
        return host in self.reachable


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


async def test_a_plain_machine_lends_nothing(stage: Stage) -> None:
    stage.put("/etc/ssl/certs/ca-certificates.crt", "distribution's")
    stage.put("/etc/apt/sources.list.d/debian.sources", SOURCE.format(PUBLIC, KEYRING))
    stage.environ |= {"AWS_SECRET_ACCESS_KEY": "x", "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    assert await stage.settings() == SandboxSettings({}, {}, NetworkPolicy(), ())


async def test_nothing_is_lent_when_the_setting_is_off(stage: Stage) -> None:
    stage.put("/etc/apt/sources.list.d/debian.sources", SOURCE.format(CORP, KEYRING))
    stage.environ |= {"HTTPS_PROXY": "http://proxy.corp.example:3128"}
    assert await stage.settings(inherit=False) == SandboxSettings()


async def test_a_mirror_of_the_machine(stage: Stage) -> None:
    stage.put("/etc/apt/sources.list.d/debian.sources", SOURCE.format(CORP, "/etc/apt/keyrings/corp.gpg"))
    stage.put("/etc/apt/keyrings/corp.gpg", "KEY")
    stage.put("/etc/apt/auth.conf", "machine mirror.corp.example login me password s3cretword\n")
    stage.put("/etc/apt/auth.conf.d/more.conf", "machine other.example login you password an0ther1\n")
    stage.put("/etc/ssl/corp.pem", "CORP CA")
    stage.dump = (
        'Acquire::http::Proxy "http://u:pr0xypass@proxy.corp.example:3128";\n'
        'Acquire::https::CaInfo "/etc/ssl/corp.pem";\n'
        'Acquire::https::SslKey "/etc/nowhere.pem";\n'
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/find-proxy";\n'
        'Acquire::Retries "3";\nAPT::Architecture "amd64";\n'
    )
    found = await stage.settings()
    files = {path.removeprefix(f"{DIRECTORY}/"): data.decode() for path, data in found.files.items()}
    assert found.envs == {"APT_CONFIG": f"{DIRECTORY}/apt.conf"}
    conf = files.pop("apt.conf").splitlines()
    assert conf == [
        'Acquire::http::Proxy "http://u:pr0xypass@proxy.corp.example:3128";',
        f'Acquire::https::CaInfo "{DIRECTORY}/0-corp.pem";',
        'Acquire::Retries "3";',
        f'Dir::Etc::netrc "{DIRECTORY}/auth.conf";',
        f'Dir::Etc::sourcelist "{DIRECTORY}/host.sources";',
    ]
    assert files == {
        "0-corp.pem": "CORP CA",
        "auth.conf": "machine mirror.corp.example login me password s3cretword\n"
        "machine other.example login you password an0ther1\n",
        "mirrors0.txt": f"https://me:hunter22@mirror.corp.example/debian\nhttps://{MIRROR}/debian\n",
        "3-corp.gpg": "KEY",
        "host.sources": f"Types: deb\nURIs: mirror+file:{DIRECTORY}/mirrors0.txt\nSuites: bookworm bookworm-updates\n"
        f"Components: main\nSigned-By: {DIRECTORY}/3-corp.gpg\n",
    }
    for text in ("//mirror.corp.example/", "@mirror.corp.example/", "@proxy.corp.example:", "hunter22", "pr0xypass"):
        assert text in found.forbidden
    assert "s3cretword" in found.forbidden and "an0ther1" in found.forbidden
    assert not [text for text in found.forbidden if MIRROR in text]
    assert "hunter22" not in repr(found) and "pr0xypass" not in repr(found)


@pytest.mark.parametrize(
    ("image", "suites"),
    [
        (DEBIAN, "bookworm bookworm-updates"),
        ("ID=debian\nVERSION_CODENAME=trixie\n", "trixie trixie-updates"),
        ("ID=ubuntu\nVERSION_CODENAME=noble\n", None),
        ("ID=alpine\n", None),
        ("", None),
    ],
)
async def test_the_mirror_serves_images_of_its_distribution(stage: Stage, image: str, suites: str | None) -> None:
    stage.put("/etc/apt/sources.list.d/debian.sources", SOURCE.format(CORP, KEYRING))
    stage.put("/usr/lib/os-release", image, stage.image)
    sources = (await stage.settings()).files.get(f"{DIRECTORY}/host.sources")
    assert (sources is None) == (suites is None)
    if sources is not None and suites is not None:
        assert f"Suites: {suites}\n" in sources.decode()
        assert f"Signed-By: {KEYRING}\n" in sources.decode()


@pytest.mark.parametrize(
    ("environ", "dump", "reachable", "given_up"),
    [
        ({}, "", set(), [MIRROR, SECURITY]),
        ({}, "", {SECURITY}, [MIRROR]),
        ({}, "", {MIRROR, SECURITY}, []),
        ({"http_proxy": "http://p.example:1"}, "", set(), []),
        ({}, 'Acquire::http::Proxy "http://p.example:1";', set(), []),
    ],
)
async def test_public_mirrors_out_of_reach_are_given_up_at_once(
    stage: Stage, environ: dict[str, str], dump: str, reachable: set[str], given_up: list[str]
) -> None:
    stage.put("/etc/apt/sources.list.d/d.sources", SOURCE.format("URIs: http://mirror.corp.example/debian\n", KEYRING))
    stage.environ |= environ
    stage.dump, stage.reachable = dump, reachable
    conf = (await stage.settings()).files[f"{DIRECTORY}/apt.conf"].decode()
    assert [line for line in conf.splitlines() if "127.0.0.1" in line] == [
        f'Acquire::http::Proxy::{host} "http://127.0.0.1:9/";' for host in given_up
    ]
    assert ('Acquire::Retries::Delay "false";' in conf) == bool(given_up)
    assert bool(stage.asked) == (not environ and not dump)


async def test_mirrors_are_not_lent_when_nobody_knows_the_public_ones(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.put("/etc/apt/sources.list.d/debian.sources", SOURCE.format(CORP, KEYRING))
    stage.public.unknown = True
    assert await stage.settings() == SandboxSettings()
    assert "not lent to builds: mmdebstrap does not say" in caplog.text


@pytest.mark.parametrize(
    ("registry", "omitted"),
    [(f"https://{REGISTRY}/", False), ("https://npm.corp.example/", True), (None, False)],
)
async def test_lock_files_name_public_registries_only(stage: Stage, registry: str | None, omitted: bool) -> None:
    if registry is not None:
        stage.put("/etc/npmrc", f"registry={registry}\n")
    found = await stage.settings()
    npmrc = found.files.get(f"{DIRECTORY}/npmrc", b"").decode()
    assert ("omit-lockfile-registry-resolved=true" in npmrc) == omitted == bool(found.forbidden)
    # Tools that are told nothing are not asked.
    assert bool(stage.public.asked) == (registry is not None)


async def test_a_list_of_mirrors_comes_along(stage: Stage) -> None:
    stage.put("/etc/apt/sources.list.d/d.sources", SOURCE.format("URIs: mirror+file:/etc/apt/mirrors.txt\n", KEYRING))
    stage.put("/etc/apt/mirrors.txt", "# ours\nhttp://mirror.corp.example/debian priority:1\n")
    found = await stage.settings()
    assert found.files[f"{DIRECTORY}/mirrors0.txt"] == b"http://mirror.corp.example/debian priority:1\n"
    assert "//mirror.corp.example/" in found.forbidden


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"http_proxy": "http://p.example:1"}, {"http_proxy": "http://p.example:1"}),
        (
            {"HTTPS_PROXY": "p.example:1", "NO_PROXY": "localhost"},
            {"HTTPS_PROXY": "p.example:1", "NO_PROXY": "localhost"},
        ),
        ({"http_proxy": "http://127.0.0.1:3128", "no_proxy": "x"}, {"no_proxy": "x"}),
        ({"http_proxy": "http://localhost:3128"}, {}),
        ({"HTTP_PROXY": "http://[::1]:3128"}, {}),
    ],
)
async def test_proxies(
    stage: Stage, environ: dict[str, str], expected: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    stage.environ |= environ
    with caplog.at_level(logging.WARNING):
        found = await stage.settings()
    assert found.envs == expected
    assert bool(caplog.records) == (set(expected) - {"no_proxy"} != set(environ) - {"no_proxy"})
    if expected.get("HTTPS_PROXY"):
        assert "//p.example:" in found.forbidden


async def test_private_addresses_are_opened_to_builds(stage: Stage) -> None:
    stage.environ |= {
        "http_proxy": "http://proxy.corp.example:3128",
        "PIP_INDEX_URL": "https://pip.corp.example/simple",
        "PIP_EXTRA_INDEX_URL": f"https://{INDEX}/simple http://10.1.1.1/",
    }
    stage.addresses = {
        "proxy.corp.example": ["10.0.0.5", "203.0.113.9"],
        "pip.corp.example": ["192.168.7.7", "169.254.169.254", "127.0.0.1"],
        INDEX: ["10.66.66.66"],
        "10.1.1.1": ["10.1.1.1"],
    }
    found = await stage.settings()
    assert found.network == NetworkPolicy(private=("10.0.0.5/32", "10.1.1.1/32", "192.168.7.7/32"))
    assert not [text for text in found.forbidden if INDEX in text]


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ({}, {}, None),
        ({"/usr/local/share/ca-certificates/a.crt": "OWN"}, {}, "SYSTEM\nOWN\n"),
        ({"/usr/local/share/ca-certificates/a/b.crt": "YSTE"}, {}, "SYSTEM\n"),
        ({"/etc/pki/ca-trust/source/anchors/a.pem": "OWN"}, {}, "SYSTEM\nOWN\n"),
        ({"/x.pem": "NAMED"}, {"REQUESTS_CA_BUNDLE": "/x.pem"}, "SYSTEM\nNAMED\n"),
        ({"/x.pem": "NAMED", "/etc/pip.conf": "[global]\ncert=/x.pem\n"}, {}, "SYSTEM\nNAMED\n"),
        ({}, {"SSL_CERT_FILE": "/gone.pem"}, None),
    ],
)
async def test_certificates(stage: Stage, files: dict[str, str], environ: dict[str, str], expected: str | None) -> None:
    stage.put("/etc/ssl/certs/ca-certificates.crt", "SYSTEM\n")
    for path, text in files.items():
        stage.put(path, text)
    stage.environ |= environ
    bundle = own_bundle(stage.host)
    assert (bundle.decode() if bundle else None) == expected
    found = await stage.settings()
    if expected:
        assert found.files[f"{DIRECTORY}/ca.crt"].decode() == expected
        assert found.files[f"{DIRECTORY}/apt.conf"] == f'Acquire::https::CaInfo "{DIRECTORY}/ca.crt";\n'.encode()
        assert {found.envs[name] for name in VARIABLES} == {f"{DIRECTORY}/ca.crt"}
    else:
        assert found.files == {}


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ({"/etc/pip.conf": "[global]\nindex-url = https://pip.corp.example/simple\ntimeout=9\n"}, {}, {
            "PIP_INDEX_URL": "https://pip.corp.example/simple", "PIP_DEFAULT_TIMEOUT": "9",
            "UV_DEFAULT_INDEX": "https://pip.corp.example/simple"}),
        ({"/root/.config/pip/pip.conf": "[install]\nextra-index-url=\n  http://a/\n  http://b/\n[list]\nx=y\n"}, {}, {
            "PIP_EXTRA_INDEX_URL": "http://a/ http://b/"}),
        ({"/own.conf": "[global]\ntrusted_host = a\n"}, {"PIP_CONFIG_FILE": "/own.conf"}, {"PIP_TRUSTED_HOST": "a"}),
        ({"/etc/pip.conf": "[global]\nindex-url=http://a/\n"}, {
            "PIP_INDEX_URL": "https://b/", "UV_INDEX_URL": "https://c/"}, {
            "PIP_INDEX_URL": "https://b/", "UV_INDEX_URL": "https://c/"}),
        ({}, {"PIP_FIND_LINKS": "/opt/wheels", "PIP_CACHE_DIR": "/x"}, {}),
        ({}, {"PIP_FIND_LINKS": "/opt/wheels https://w/"}, {"PIP_FIND_LINKS": "https://w/"}),
        ({"/etc/pip.conf": "no section = 1\n"}, {}, {}),
        ({}, {"GOPROXY": "https://go.corp.example", "GOPATH": "/x"}, {"GOPROXY": "https://go.corp.example"}),
        ({"/etc/npmrc": "registry = https://npm.corp.example/\n"}, {}, {
            "npm_config_registry": "https://npm.corp.example/"}),
    ],
)  # fmt: skip
def test_variables_of_tools(
    stage: Stage, files: dict[str, str], environ: dict[str, str], expected: dict[str, str]
) -> None:
    for path, text in files.items():
        stage.put(path, text)
    stage.environ |= environ
    assert read_tools(stage.host).envs == expected


async def test_npm(stage: Stage) -> None:
    stage.put("/etc/npmrc", "registry=https://first.example/\ncache=/x\n; registry=https://comment.example/\n")
    stage.put(
        "/root/.npmrc",
        '//npm.corp.example/:_authToken=${TOKEN}\n@corp:registry = "https://npm.corp.example/"\nprefix=/y\nlonely\n',
    )
    stage.environ |= {
        "TOKEN": "npm_secret1",
        "NPM_CONFIG_REGISTRY": "https://npm.corp.example/all/",
        "npm_config_strict_ssl": "false",
        "npm_config_cache": "/z",
    }
    found = await stage.settings()
    assert found.files[f"{DIRECTORY}/npmrc"].decode().splitlines() == [
        "//npm.corp.example/:_authToken=npm_secret1",
        "@corp:registry=https://npm.corp.example/",
        "omit-lockfile-registry-resolved=true",
        "registry=https://npm.corp.example/all/",
        "strict-ssl=false",
    ]
    assert found.envs["npm_config_globalconfig"] == f"{DIRECTORY}/npmrc"
    assert "npm_secret1" in found.forbidden and "//npm.corp.example/" in found.forbidden


async def test_the_machine_is_read_again_after_a_while(stage: Stage) -> None:
    settings = BuildSettings(host=stage.host, clock=stage.clock, resolve=stage.resolve, public=stage.public)
    assert (await settings.for_sandbox([stage.image])).envs == {}
    stage.environ["http_proxy"] = "http://p.example:1"
    assert (await settings.for_sandbox([stage.image])).envs == {}
    await stage.clock.advance(61)
    assert (await settings.for_sandbox([stage.image])).envs == {"http_proxy": "http://p.example:1"}


def test_the_release_of_an_image(tmp_path: Path) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    for layer in (low, high):
        (layer / "usr/lib").mkdir(parents=True)
        (layer / "etc").mkdir()
    assert release_in([high, low]) == ("", "")
    (low / "etc/os-release").write_text("ID=alpine\n")
    assert release_in([high, low]) == ("alpine", "")
    (low / "usr/lib/os-release").write_text(DEBIAN)
    assert release_in([high, low]) == ("debian", "bookworm")
    (high / "usr/lib/os-release").symlink_to("/etc/os-release")
    (high / "etc/os-release").write_text("x" * 100_000)
    assert release_in([high, low]) == ("", "")
    (high / "etc/os-release").unlink()
    (high / "etc/os-release").mkdir()
    assert release_in([high, low]) == ("", "")
