# Generated from `tests/_async/test_sandbox.py` by `scripts/unasync.py`: change that, not this.
"""Sandboxes: made, found, listed, changed, ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import (
    Sandbox,
    Capacity,
    Config,
    ConnectionFailed,
    InvalidArgument,
    NotFound,
    SandboxEnded,
    Unauthenticated,
)

REFUSAL = b'{"error": {"code": "capacity", "message": "the machine is full"}}'


def test_create_sends_what_was_asked_for_and_nothing_else(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(
        cpu=2, memory_mib=1024, timeout_s=None, envs={"A": "1"}, metadata={"run": "7"}, internet=False, config=config
    )
    assert daemon.seen[0].json() == {
        "template": "base",
        "cpu": 2,
        "memory_mib": 1024,
        "timeout_s": None,
        "envs": {"A": "1"},
        "metadata": {"run": "7"},
        "internet": False,
    }
    assert daemon.seen[0].headers["x-api-key"] == "key"
    assert sandbox.created.timings_ms == {"total": 12.5}
    bounds = {"runtime": "container", "disk_mib": 100, "pids_max": 50}
    policy = {"on_timeout": "pause", "keep_memory": False, "auto_resume": False, "on_idle": "pause"}
    Sandbox.create(idle_timeout_s=60, **bounds, **policy, config=config)  # type: ignore[arg-type]
    assert (bounds | policy | {"idle_timeout_s": 60}).items() <= daemon.seen[1].json().items()


def test_a_lost_answer_does_not_make_two_sandboxes(daemon: FakeDaemon, config: Config) -> None:
    daemon.answers["POST /v1/sandboxes"] = [(0, {}, b"")]
    Sandbox.create(config=config)
    first, second = daemon.seen
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert len(daemon.sandboxes) == 1


def test_two_creates_have_two_keys(daemon: FakeDaemon, config: Config) -> None:
    Sandbox.create(config=config)
    Sandbox.create(config=config)
    assert len(daemon.sandboxes) == 2


def test_a_refusal_that_says_when_is_tried_again(daemon: FakeDaemon, config: Config) -> None:
    daemon.answers["POST /v1/sandboxes"] = [(503, {"retry-after": "0"}, REFUSAL), (429, {"retry-after": "0"}, REFUSAL)]
    Sandbox.create(config=config)
    assert len(daemon.seen) == 3


def test_a_refusal_is_an_error_when_it_says_nothing_or_stays(daemon: FakeDaemon, config: Config) -> None:
    daemon.answers["POST /v1/sandboxes"] = [(503, {}, REFUSAL)]
    with pytest.raises(Capacity, match="the machine is full"):
        Sandbox.create(config=config)
    assert len(daemon.seen) == 1
    daemon.answers["POST /v1/sandboxes"] = [(503, {"retry-after": "0"}, REFUSAL)] * 9
    with pytest.raises(Capacity):
        Sandbox.create(config=config)
    assert len(daemon.seen) == 1 + 1 + config.retries


def test_no_daemon_says_how_to_start_one(config: Config) -> None:
    nowhere = replace(config, api_url="http://127.0.0.1:9", retries=1)
    with pytest.raises(ConnectionFailed, match="atoll serve") as caught:
        Sandbox.create(config=nowhere)
    assert caught.value.was_sent is False


def test_a_wrong_key(config: Config) -> None:
    with pytest.raises(Unauthenticated, match="does not exist"):
        Sandbox.create(config=replace(config, api_key="other"))


def test_values_that_json_cannot_hold(config: Config) -> None:
    with pytest.raises(InvalidArgument, match="JSON"):
        Sandbox.create(cpu=float("nan"), config=config)


def test_the_context_manager_kills_even_after_an_error(daemon: FakeDaemon, config: Config) -> None:
    with pytest.raises(ZeroDivisionError):
        with Sandbox.create(config=config):
            raise ZeroDivisionError
    assert daemon.sandboxes == {}


def test_connect_and_info(daemon: FakeDaemon, config: Config) -> None:
    made = Sandbox.create(config=config)
    found = Sandbox.connect(made.id, config=config)
    assert (found.info()).started_at == datetime(2026, 11, 23, 5, 0, 0, 500_000, tzinfo=timezone.utc)
    Sandbox.connect(made.id, timeout_s=60, config=config)
    assert daemon.seen[-1].json() == {"timeout_s": 60}


@pytest.mark.parametrize("id", ["", "nope", "../keys", "a/b", "é?", "x" * 500])
def test_connect_to_what_is_not_there(id: str, config: Config) -> None:
    with pytest.raises(NotFound) as caught:
        Sandbox.connect(id, config=config)
    assert not isinstance(caught.value, SandboxEnded)


def test_what_was_there_has_ended(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    assert sandbox.is_running()
    assert sandbox.kill() is True
    assert sandbox.kill() is False
    assert not sandbox.is_running()
    with pytest.raises(SandboxEnded, match=sandbox.id):
        sandbox.info()
    with pytest.raises(SandboxEnded):
        sandbox.run("true")
    with pytest.raises(SandboxEnded):
        sandbox.files.exists("/a")
    with pytest.raises(SandboxEnded):
        sandbox.files.read("/a")


def test_an_ended_sandbox_says_why(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    sandbox.kill()
    events = b'{"items": [{"type": "sandbox.killed", "data": {"reason": "out_of_memory"}}]}'
    daemon.answers[f"GET /v1/sandboxes/{sandbox.id}/events"] = [(200, {}, events)]
    with pytest.raises(SandboxEnded, match="ran out of memory") as caught:
        sandbox.run("true")
    assert caught.value.details == {"end_reason": "out_of_memory"}


def test_changes(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    sandbox.set_timeout(None)
    assert daemon.seen[-1].json() == {"timeout_s": None}
    assert (sandbox.set_internet(False)).internet is False
    assert (daemon.seen[-1].method, daemon.seen[-1].path) == ("PUT", f"/v1/sandboxes/{sandbox.id}/network")


def test_metrics_and_logs(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    since = datetime(2026, 11, 23, tzinfo=timezone.utc)
    samples = sandbox.metrics(start=since)
    assert datetime.fromisoformat(daemon.seen[-1].params["start"]) == since
    assert [sample.memory_used_bytes for sample in samples] == [5]
    assert [entry.message for entry in sandbox.logs(limit_bytes=100)] == ["m"]
    assert daemon.seen[-1].params == {"limit_bytes": "100"}


def test_lists_come_in_pages_and_as_one(daemon: FakeDaemon, config: Config) -> None:
    for number in range(5):
        Sandbox.create(metadata={"odd": str(number % 2), "&=": "é"}, config=config)
    listing = Sandbox.list(page_size=2, config=config)
    sizes = []
    while listing.has_next:
        sizes.append(len(listing.next_page()))
    assert (sizes, listing.total_running, len(listing.next_page())) == ([2, 2, 1], 5, 0)
    found = [item.id for item in Sandbox.list(metadata={"odd": "1", "&=": "é"}, page_size=1, config=config)]
    assert found == ["sbx2", "sbx4"]


def test_list_filters_reach_the_daemon(daemon: FakeDaemon, config: Config) -> None:
    since = datetime(2026, 11, 23, tzinfo=timezone.utc)
    listing = Sandbox.list(
        state=["running", "ended"], template="base", started_after=since, order="asc", config=config
    )
    listing.next_page()
    assert daemon.seen[-1].query.count("state=") == 2
    assert {"template": "base", "order": "asc"}.items() <= daemon.seen[-1].params.items()


def test_requests_to_a_port(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    assert sandbox.get_url(8000, "/a") == f"{daemon.url}/v1/sandboxes/{sandbox.id}/ports/8000/a"
    response = sandbox.request("POST", 8000, "/a b", params={"q": "1"}, content=b"x")
    assert (response.status_code, response.text) == (418, "ports/8000/a b")
    assert (daemon.seen[-1].body, daemon.seen[-1].params) == (b"x", {"q": "1"})
    with pytest.raises(InvalidArgument):
        sandbox.get_url(0)
