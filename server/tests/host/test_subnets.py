"""The registry of ranges: several instances, comebacks, crashes, and forwarding given back."""

from __future__ import annotations

import json
import os
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from atolld.foundation.errors import Conflict
from atolld.host import netns
from atolld.host.instance import Instance
from atolld.host.subnets import SubnetRegistry

ONE, TWO = Instance.named("one"), Instance.named("two")
FIRST, SECOND = IPv4Network("10.192.0.0/18"), IPv4Network("10.192.64.0/18")


class Fixture:
    def __init__(self, directory: Path, forwarding: str) -> None:
        self.directory = directory / "registry"
        self.ip_forward = directory / "ip_forward"
        self.ip_forward.write_text(forwarding)
        self.registry = SubnetRegistry(self.directory, self.ip_forward)

    def edit(self, instance: Instance, **values: object) -> None:
        path = self.directory / f"{instance.name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fixture:
    monkeypatch.setattr(netns, "list_owned", lambda instance: set())
    return Fixture(tmp_path, "0\n")


def nothing() -> list[IPv4Network]:
    return []


def test_instances_get_different_ranges_and_find_their_own_again(off: Fixture) -> None:
    assert off.registry.claim(ONE, nothing) == FIRST
    assert off.registry.claim(TWO, nothing) == SECOND
    assert off.registry.claim(ONE, lambda: [FIRST]) == FIRST


def test_the_hosts_networks_are_kept_clear_of(off: Fixture) -> None:
    assert off.registry.claim(ONE, lambda: [IPv4Network("10.0.0.0/8")]) == IPv4Network("100.96.0.0/18")


def test_a_wanted_range_is_checked_against_other_instances(off: Fixture) -> None:
    wanted = IPv4Network("10.192.3.0/24")
    off.registry.claim(ONE, nothing)
    with pytest.raises(Conflict, match="overlaps"):
        off.registry.claim(TWO, nothing, wanted=wanted)
    assert off.registry.claim(TWO, nothing, wanted=IPv4Network("10.5.0.0/20")) == IPv4Network("10.5.0.0/20")


def test_a_range_in_use_is_not_exchanged(off: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    off.registry.claim(ONE, nothing)
    wanted = IPv4Network("10.5.0.0/20")
    monkeypatch.setattr(netns, "list_owned", lambda instance: {3})
    with pytest.raises(Conflict, match="still use"):
        off.registry.claim(ONE, nothing, wanted=wanted)
    monkeypatch.setattr(netns, "list_owned", lambda instance: set())
    assert off.registry.claim(ONE, nothing, wanted=wanted) == wanted


def test_two_daemons_of_one_name_are_refused(off: Fixture) -> None:
    off.registry.claim(ONE, nothing)
    parent = os.getppid()
    stat = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
    off.edit(ONE, pid=parent, started_ticks=int(stat[19]))
    with pytest.raises(Conflict, match=str(parent)):
        off.registry.claim(ONE, nothing)


def test_a_crashed_instance_keeps_its_range_only_while_sandboxes_live(
    off: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    off.registry.claim(ONE, nothing)
    off.edit(ONE, pid=2**22, started_ticks=1)
    monkeypatch.setattr(netns, "list_owned", lambda instance: {0} if instance.name == "one" else set())
    assert off.registry.claim(TWO, nothing) == SECOND
    off.registry.release(TWO)
    monkeypatch.setattr(netns, "list_owned", lambda instance: set())
    assert off.registry.claim(TWO, nothing) == FIRST
    assert not (off.directory / "one.json").exists()


def test_forwarding_goes_off_with_the_last_one_if_it_was_off(off: Fixture) -> None:
    off.registry.claim(ONE, nothing)
    off.registry.claim(TWO, nothing)
    assert off.ip_forward.read_text() == "1\n"
    off.registry.release(ONE)
    assert off.ip_forward.read_text() == "1\n"
    for _ in range(2):
        off.registry.release(TWO)
        assert off.ip_forward.read_text() == "0\n"


def test_forwarding_that_was_on_stays_on(tmp_path: Path) -> None:
    on = Fixture(tmp_path, "1\n")
    on.registry.claim(ONE, nothing)
    on.registry.release(ONE)
    assert on.ip_forward.read_text() == "1\n"


def test_releasing_what_was_never_claimed_is_success(off: Fixture) -> None:
    off.registry.release(ONE)
    assert not off.directory.exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pool": "x", "pid": 1, "started_ticks": 1}', "null"])
def test_a_damaged_line_is_told_and_not_guessed(off: Fixture, text: str) -> None:
    off.registry.claim(TWO, nothing)
    (off.directory / "one.json").write_text(text)
    with pytest.raises(Conflict, match=r"one\.json"):
        off.registry.claim(TWO, nothing)
