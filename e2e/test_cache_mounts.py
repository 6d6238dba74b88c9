"""What cache mounts hold from build to build."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.builds import asked, build, layer, with_own_cache
from e2e.conftest import Daemon
from e2e.e2b.other_project import key_of_another_project

COUNT = (
    'n=$(ls /c | wc -l); echo held $n; [ $n = 0 ] || test "$(stat -c %U:%a /c/$((n - 1)))" = nobody:640; '
    "echo {text} >/c/$n; chown nobody /c/$n; chmod 640 /c/$n; [ ! -e /c/old ] || cat /c/old"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    yield from with_own_cache(tmp_path_factory.mktemp("atoll-caches"))


def said(daemon: Daemon, text: str, mount: str = "target=/c", force: bool = False) -> list[str]:
    """What a step with a cache says; `text` makes it another step."""
    command = COUNT.format(text=text)
    got, lines = build(daemon, f"FROM template://base\nRUN --mount=type=cache,{mount} {command}", force=force)
    assert got["state"] == "ready", got["failure"]
    return [line for line in lines if line.startswith(("held", "the cache", "CACHED"))]


def test_a_cache_is_there_for_the_next_build(served: Daemon) -> None:
    assert said(served, "one") == ["held 0"]
    assert said(served, "two") == ["held 1"]
    # Another place, the same id.
    assert said(served, "three", "id=/c,target=/c,sharing=locked") == ["held 2"]
    assert said(served, "four", "target=/c,ro") == ["held 3"]
    assert said(served, "five") == ["held 3"]
    assert said(served, "six", "id=other,target=/c") == ["held 0"]
    # A step that is in the cache of layers is not run for the sake of this one.
    assert len(said(served, "two")) == 1 and said(served, "two")[0].startswith("CACHED")
    assert said(served, "two", force=True) == ["held 4"]
    # And nothing of it is in what was built.
    got, _ = build(served, f"FROM template://base\nRUN --mount=type=cache,target=/c {COUNT.format(text='seven')}")
    for digest in got["layers"]:
        assert not list((layer(served, digest) / "c").glob("*"))


def test_it_outlives_the_daemon_and_a_step_that_failed(served: Daemon) -> None:
    got, _ = build(served, "FROM template://base\nRUN --mount=type=cache,target=/k touch /k/x && false")
    assert got["state"] == "failed"
    served.kill_hard()
    served.start()
    got, lines = build(served, "FROM template://base\nRUN --mount=type=cache,target=/k ls /k")
    assert got["state"] == "ready" and "x" in lines


def test_what_is_larger_than_the_sandbox_can_hold_twice_is_not_kept(served: Daemon) -> None:
    one = asked(served, memory_mib=256, cpu=1)
    one.start(
        dockerfile="FROM template://base\n"
        "RUN --mount=type=cache,target=/big head -c 160000000 /dev/urandom >/big/x\n"
        "RUN --mount=type=cache,target=/big ls /big; echo none"
    )
    assert one.ended()["state"] == "ready"
    log = one.log()
    assert [line for line in log if line.startswith("the cache '/big' has more than 128")], log
    assert "none" in log and "x" not in log


def test_twenty_megabytes_come_back_as_they_were(served: Daemon) -> None:
    write = "head -c 20000000 /dev/urandom >/m/x; sha256sum </m/x >/m/sum"
    got, _ = build(served, f"FROM template://base\nRUN --mount=type=cache,target=/m {write}")
    assert got["state"] == "ready"
    got, lines = build(
        served, 'FROM template://base\nRUN --mount=type=cache,target=/m test "$(sha256sum </m/x)" = "$(cat /m/sum)"'
    )
    assert got["state"] == "ready", lines


def test_other_projects_have_nothing_of_it(served: Daemon) -> None:
    mine = said(served, "mine", "id=own,target=/c")
    other = Daemon(
        served.state_dir, served.instance, served.port, served.settings, key=key_of_another_project(served.state_dir)
    )
    assert mine == said(other, "mine", "id=own,target=/c") == ["held 0"]
    assert said(served, "more", "id=own,target=/c") == ["held 1"]
