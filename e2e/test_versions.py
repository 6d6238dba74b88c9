"""What stays of builds on disk, however often somebody builds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from atoll import Sandbox
from e2e.builds import asked
from e2e.conftest import CACHE, Daemon, make_daemon

PATIENCE_S = 30
KEPT, MOST = 1, 6


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    base = tmp_path_factory.mktemp("atoll-versions")
    yield from make_daemon(base, ATOLL_VERSIONS_KEPT=str(KEPT), ATOLL_MAX_VERSIONS=str(MOST))


def build(daemon: Daemon, line: str, state: str = "ready", **rest: object) -> str:
    """Build another version of `app` to its end; its id."""
    one = asked(daemon, "app", **rest).start(dockerfile=f"FROM template://base\n{line}")
    assert one.ended()["state"] == state, one.log()
    return one.build_id


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def listed(daemon: Daemon) -> set[str]:
    return {one["id"] for one in daemon.api("GET", "/v1/templates/app/builds").json()["items"]}


def logged(daemon: Daemon) -> set[str]:
    return {path.stem for path in (daemon.state_dir / "builds").iterdir()}


def pinned(daemon: Daemon) -> set[str]:
    names = {path.name.partition(".")[2] for path in CACHE.glob(f"layers/*/pins/{daemon.instance}.*")}
    return {name for name in names if "-" in name}


def test_rebuilding_for_ever_fills_no_disk(served: Daemon) -> None:
    versions = [build(served, f"ENV N={number}") for number in range(2)]
    with Sandbox.create(template=f"app:{versions[0]}", config=served.config) as used:
        versions += [build(served, f"ENV N={number}") for number in range(2, 5)]
        failures = [build(served, "RUN false", "failed") for _ in range(2)]
        # The first is used, the fourth is the newest without a tag, and the fifth has the tag `default`.
        ready = {versions[0], *versions[-2:]}
        until(lambda: listed(served) == {*ready, failures[-1]} == logged(served))
        until(lambda: pinned(served) == ready)
        assert used.run("echo $N").stdout == "0\n"
    until(lambda: pinned(served) == set(versions[-2:]))
    for tag in "abcd":
        build(served, f"ENV TAG={tag}", tags=[tag])
    refused = served.api("POST", "/v1/templates", json={"name": "other"})
    assert refused.status_code == 429
    assert f"may have {MOST} versions of templates; it has {MOST}" in refused.text
    assert served.api("DELETE", "/v1/templates/app").status_code == 204
    until(lambda: not pinned(served) and not logged(served))
    build(served, "ENV A=1")
