from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition
from atolld.images import public_hosts
from atolld.images.apt_sources import mirror_hosts
from atolld.images.build_environment import host_release, release_of
from atolld.images.public_hosts import PublicHosts, public_sources, with_public_sources

PIP = """cat <<'.'
  -i, --index-url <url>       Base URL of the Index (default
                              https://index.example/simple). See https://docs.example/
.
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs that is all there is, besides the shell's own."""
    for name in ("cat", "cp", "sleep", "env"):
        found = next(path for path in (Path("/bin", name), Path("/usr/bin", name)) if path.exists())
        (tmp_path / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "script", "hosts"),
    [
        ("python3", PIP, {"index.example"}),
        ("python3", "echo no module called pip >&2; exit 1", set()),
        ("python3", "echo '(default 15)'", set()),
        ("npm", "echo https://registry.example/", {"registry.example"}),
        ("npm", "echo undefined", set()),
        ("go", "echo https://proxy.example,direct", {"proxy.example"}),
        ("go", "echo 'https://a.example|http://b.example:8080/x,off'", {"a.example", "b.example"}),
        ("go", "printf '\\377'", set()),
        ("other", "echo https://other.example/", set()),
    ],
)
async def test_what_tools_say(tools: Path, name: str, script: str, hosts: set[str]) -> None:
    program(tools / name, script)
    assert await PublicHosts("python3").of_tools() == hosts


async def test_tools_are_asked_once_and_see_no_settings(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://own.example/")
    monkeypatch.setenv("npm_config_registry", "https://own.example/")
    monkeypatch.setenv("GOPROXY", "https://own.example/")
    program(tools / "npm", f"env >{tools}/seen; echo https://registry.example/")
    hosts = PublicHosts("nowhere")
    assert await hosts.of_tools() == {"registry.example"}
    assert "own.example" not in (tools / "seen").read_text()
    (tools / "npm").unlink()
    assert await hosts.of_tools() == {"registry.example"}


async def test_a_tool_that_does_not_answer_is_given_up(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_hosts, "ANSWER_S", 0.05)
    program(tools / "npm", "sleep 30; echo https://registry.example/")
    assert await PublicHosts("nowhere").of_tools() == frozenset()


LISTED = """mkdir -p "$TMPDIR/root/etc/apt"
cat >"$TMPDIR/root/etc/apt/sources.list" <<'.'
deb http://mirror.example/d trixie main
deb http://mirror.example/d trixie-updates main
{security}.
for one in "$@"; do case $one in --setup-hook=*) sh -c "${{one#--setup-hook=}}" hook "$TMPDIR/root";; esac; done
exit 1
"""


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ("deb http://security.example/s trixie-security main\n", "http://security.example/s"),
        ("", "http://mirror.example/d"),
    ],
)
async def test_mirrors_of_a_release(tools: Path, security: str, expected: str) -> None:
    for name in ("mkdir", "sh"):
        (tools / name).symlink_to(Path("/bin", name))
    program(tools / "mmdebstrap", LISTED.format(security=security))
    release = release_of("debian", "trixie")
    main, updates = await public_sources(release)
    assert (main.uris, main.suites) == (("http://mirror.example/d",), ("trixie", "trixie-updates"))
    assert (updates.uris, updates.suites) == ((expected,), ("trixie-security",))
    assert {one.components for one in (main, updates)} == {release.components}
    assert {one.options for one in (main, updates)} == {(("Signed-By", release.keyring),)}
    assert (await with_public_sources(release)).public_sources == (main, updates)
    hosts = PublicHosts()
    found = await hosts.of_release(release)
    assert found == mirror_hosts([main, updates])
    (tools / "mmdebstrap").unlink()
    assert await hosts.of_release(release) == found


@pytest.mark.parametrize("script", [None, "exit 1", "exit 0"])
async def test_a_machine_that_cannot_say_it(tools: Path, script: str | None) -> None:
    if script is not None:
        program(tools / "mmdebstrap", script)
    with pytest.raises(FailedPrecondition, match="where debian trixie is in public"):
        await PublicHosts().of_release(release_of("debian", "trixie"))


@pytest.mark.real
async def test_this_machine_knows_its_own_release() -> None:
    main, security = await public_sources(host_release())
    assert mirror_hosts([main]) and mirror_hosts([security])
    # The daemon's own pip, at least.
    assert await PublicHosts().of_tools()


async def test_what_tools_put_into_their_home_is_gone(tools: Path) -> None:
    program(tools / "npm", f'echo cached >"$HOME/cache"; echo "$HOME" >{tools}/home; echo https://registry.example/')
    assert await PublicHosts("nowhere").of_tools() == {"registry.example"}
    home = tools / (tools / "home").read_text().strip()
    assert home != tools and not home.exists()
