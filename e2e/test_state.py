"""A program that has much to lose goes on through pauses, forks and rollbacks as if nothing had been."""

from __future__ import annotations

import hashlib
import random
import time
from typing import Any

import pytest

from atoll import Config, Sandbox
from e2e.inside import ask, launch
from e2e.programs.steady import BLOCK_BYTES, PORT, WORKERS

CYCLES = 20
FORK_AT = (4, 9, 14)
ROLL_BACK_AT = (7, 17)
TRUE = ("ticks_are_counted", "file_is_right", "child_is_alive", "pool_works")
SAME = ("block", "pid", "boot_id")


class Watch:
    """What was seen last of one run of the program, and what must hold of the next look."""

    def __init__(self, sandbox: Sandbox, seen: dict[str, Any]) -> None:
        self.sandbox = sandbox
        self.seen = seen

    def look(self, *, mark: int | None = None, since: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take stock and compare: nothing is lost and everything goes on from `since` (the last look)."""
        before = since or self.seen
        now = ask(self.sandbox, PORT, *(("GET", "/") if mark is None else ("PUT", f"/{mark}")))
        wrong = [name for name in TRUE if now[name] is not True]
        assert not wrong, f"not so: {wrong}"
        for name in SAME:
            assert now[name] == before[name], name
        assert now["mark"] == (before["mark"] if mark is None else mark)
        assert now["ticks"] >= before["ticks"]
        assert now["asked"] == before["asked"] + 1
        assert now["child"] == [before["child"][0], before["child"][1] + 1]
        assert all(later >= earlier for later, earlier in zip(now["beats"], before["beats"], strict=True))
        self.seen = now
        return now

    def look_until_all_move(self) -> None:
        """The timer and every thread of the pool go on."""
        start = self.look()
        for _ in range(100):
            now = self.look()
            if now["ticks"] > start["ticks"] and all(now["beats"][n] > start["beats"][n] for n in range(WORKERS)):
                return
            time.sleep(0.02)
        raise AssertionError(f"something stands still: {start} and then {now}")


def test_twenty_pauses_three_forks_two_rollbacks(client: Config) -> None:
    sandbox = Sandbox.create(memory_mib=1024, timeout_s=900, metadata={"is": "steady"}, config=client)
    started: list[Sandbox] = [sandbox]
    try:
        watch = Watch(sandbox, launch(sandbox, "steady", PORT))
        block = random.Random(20).randbytes(BLOCK_BYTES)
        assert watch.seen["block"] == hashlib.blake2b(block).hexdigest()
        for cycle in range(1, CYCLES + 1):
            watch.look(mark=cycle)
            assert watch.sandbox.pause()
            assert watch.sandbox.info().state == "paused"
            assert watch.sandbox.resume()
            watch.look_until_all_move()
            if cycle in FORK_AT:
                watch = fork(watch)
                started.append(watch.sandbox)
            if cycle in ROLL_BACK_AT:
                roll_back(watch)
    finally:
        for one in started:
            one.kill()


def fork(watch: Watch) -> Watch:
    """Both go on from the same moment, each its own way; the sibling is what is watched from now on."""
    (sibling,) = watch.sandbox.fork()
    assert sibling.id != watch.sandbox.id
    other = Watch(sibling, watch.seen)
    other.look(mark=1000)
    watch.look(mark=2000)
    other.look_until_all_move()
    watch.look_until_all_move()
    assert watch.sandbox.kill()
    return other


def roll_back(watch: Watch) -> None:
    """What was done since is gone, from memory and from the file."""
    then = watch.look(mark=3000)
    snapshot = watch.sandbox.snapshot()
    watch.look_until_all_move()
    watch.look(mark=4000)
    later = watch.seen
    assert watch.sandbox.rollback(snapshot).id == watch.sandbox.id
    now = watch.look(since=then)
    assert now["mark"] == 3000 and now["asked"] < later["asked"]
    watch.look_until_all_move()
    assert snapshot.delete()


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_database_under_load_survives_ten_pauses(client: Config, journal: str) -> None:
    port, path = 8102, "/home/user/rows.db"
    with Sandbox.create(timeout_s=600, config=client) as sandbox:
        launch(sandbox, "ledger", port, path, journal, str(port))
        committed = 0
        for cycle in range(10):
            committed = _more(sandbox, port, committed)
            # The last one keeps files only: the writer is gone, what it committed is not.
            assert sandbox.pause(keep_memory=cycle < 9)
            assert sandbox.resume()
            assert _intact(sandbox, path) >= committed
        assert sandbox.request("GET", port).status_code == 502
        launch(sandbox, "ledger", port, path, journal, str(port))
        _more(sandbox, port, committed)


def _more(sandbox: Sandbox, port: int, than: int) -> int:
    """Wait until more rows are committed; the writer has met no error."""
    for _ in range(200):
        told = ask(sandbox, port)
        assert not told["error"], told["error"]
        if told["committed"] > than + 5:
            return int(told["committed"])
        time.sleep(0.05)
    raise AssertionError(f"no rows came after {than}: {told}")


CHECK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=30)
assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
count, last = database.execute("SELECT count(*), max(n) FROM rows").fetchone()
assert count == last, (count, last)
print(last)
"""


def _intact(sandbox: Sandbox, path: str) -> int:
    """The number of rows of a database without faults or gaps."""
    return int(sandbox.run(["python3", "-c", CHECK, path], check=True, timeout_s=60).stdout)
