"""Many at once, and many in a row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from atoll import Config, Sandbox
from e2e.conftest import Daemon

MIB = 1024**2


def test_fifty_at_once(daemon: Daemon, client: Config) -> None:
    def one(number: int) -> str:
        with Sandbox.create(memory_mib=256, envs={"N": str(number)}, config=client) as sb:
            return sb.run("echo $N").stdout.strip()

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(one, range(50))) == [str(number) for number in range(50)]
    assert daemon.api("GET", "/v1/sandboxes").json()["items"] == []


def test_more_than_fits_is_refused_before_anything_is_made(own_daemon: Daemon) -> None:
    own_daemon.stop()
    own_daemon.settings["ATOLL_MAX_SANDBOXES"] = "5"
    own_daemon.start()

    def one(_: int) -> int:
        return own_daemon.api("POST", "/v1/sandboxes", json={"memory_mib": 128}).status_code

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, range(20)))
    assert sorted(set(answers)) == [201, 503]
    assert answers.count(201) == 5
    listed = own_daemon.api("GET", "/v1/sandboxes").json()["items"]
    assert len(listed) == 5


def test_two_hundred_in_a_row_leave_nothing(daemon: Daemon, client: Config) -> None:
    for _ in range(5):
        Sandbox.create(config=client).kill()
    before = daemon.settle()
    files, memory = daemon.open_files(), daemon.rss_bytes()
    for number in range(200):
        sb = Sandbox.create(memory_mib=128, config=client)
        if number % 20 == 0:
            assert sb.run("echo x").stdout == "x\n"
        sb.kill()
    after = daemon.settle()
    assert not after.processes
    assert after.cgroups == before.cgroups
    assert after.rules.count("\n") <= before.rules.count("\n") + 2
    for kind in ("namespaces", "links", "loops", "mounts", "files"):
        now, then = len(getattr(after, kind)), len(getattr(before, kind))
        assert now <= then, f"{kind}: {then} before, {now} after: {after.difference(before)}"
    assert daemon.open_files() <= files + 3
    assert daemon.rss_bytes() - memory < 8 * MIB
