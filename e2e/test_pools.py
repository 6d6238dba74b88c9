"""Sandboxes that wait in a warm pool, and whom they are given to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from atoll import Config, Pool, Sandbox
from e2e.conftest import Daemon
from e2e.inside import wait_until

WAIT_S = 60
READ_STEP = "python3 -c 'import time; print(time.time())'"


@pytest.fixture
def pool(client: Config) -> Iterator[Pool]:
    made = Pool.set("base", ready=2, runtime="gvisor", config=client)
    _wait_full(made, client)
    yield made
    made.delete()


def _wait_full(pool: Pool, client: Config) -> None:
    wait_until(lambda: Pool.get(pool.id, config=client).warm == 2, WAIT_S, "the pool is full")


def _claims(pool: Pool, client: Config) -> int:
    return Pool.get(pool.id, config=client).info.claims


def test_each_owner_gets_what_was_asked_for_and_nothing_of_another(pool: Pool, client: Config) -> None:
    with Sandbox.create(envs={"MINE": "1"}, internet=False, config=client) as told:
        with Sandbox.create(config=client) as silent:
            assert _claims(pool, client) == 2
            for sandbox, mine in ((told, "1"), (silent, "")):
                said = sandbox.run('echo "$MINE|$ATOLL_SANDBOX_ID|$(hostname)|$(id -un)"').stdout.strip()
                assert said == f"{mine}|{sandbox.id}|{sandbox.id}|user"
            assert told.run("echo a > mine; pwd").exit_code == silent.run("test ! -e mine").exit_code == 0


def test_one_that_stood_still_has_the_right_time(pool: Pool, client: Config) -> None:
    time.sleep(3)
    with Sandbox.create(config=client) as sandbox:
        assert _claims(pool, client) == 1
        before = time.time()
        there = float(sandbox.run(READ_STEP).stdout)
        assert before - 0.5 < there < time.time() + 0.5


def test_the_token_of_one_opens_no_other(pool: Pool, daemon: Daemon, client: Config) -> None:
    made = [daemon.api("POST", "/sandboxes", json={"templateID": "base", "secure": True}).json() for _ in range(2)]
    assert _claims(pool, client) == 2
    for number, sandbox in enumerate(made):
        for owner in (number, 1 - number):
            headers = {
                "e2b-sandbox-id": sandbox["sandboxID"],
                "e2b-sandbox-port": "49983",
                "x-access-token": made[owner]["envdAccessToken"],
            }
            answer = httpx.get(f"{daemon.url}/envs", headers=headers, timeout=30)
            assert answer.status_code == (200 if owner == number else 401), answer.text
    for sandbox in made:
        assert daemon.api("DELETE", f"/sandboxes/{sandbox['sandboxID']}").status_code == 204


def test_those_that_were_killed_while_they_stood_still_are_nobodys(pool: Pool, daemon: Daemon, client: Config) -> None:
    for process in daemon.census().processes:
        os.kill(int(process.partition(":")[0]), signal.SIGKILL)
    for _ in range(3):
        with Sandbox.create(config=client) as sandbox:
            assert sandbox.run("echo hi").stdout == "hi\n"
    _wait_full(pool, client)
