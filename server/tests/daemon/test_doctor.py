from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from atolld.control.testing import FakeTemplates
from atolld.daemon import doctor
from atolld.daemon.doctor import Finding
from atolld.daemon.process_node import OneTemplate
from atolld.daemon.settings import Settings
from atolld.foundation.errors import FailedPrecondition, NotFound, Unavailable
from atolld.foundation.units import GIB
from atolld.host.diskstore import StoreKind, StorePlan
from atolld.host.facts import Disk, Fault, Memory
from atolld.host.manifest import Manifest
from atolld.host.saves import Saves
from atolld.runtime.driver import Fingerprint

from .conftest import FAKE_AGENT


def found(name: str, usable: bool) -> Fingerprint:
    return Fingerprint(name, usable, "" if usable else "it is not installed", "1", "a wall")


def script(path: Path, text: str) -> Path:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_every_fault_comes_with_what_to_do(tmp_path: Path) -> None:
    faults = [
        *doctor.check_basics([Fault("not running as root", "run it as root"), Fault("no DNS server", "name one")]),
        doctor.check_agent(tmp_path / "missing"),
        doctor.check_agent(script(tmp_path / "fails", "exit 3\n")),
        doctor.check_agent(tmp_path),
        doctor.check_uplink(None),
        doctor.check_memory(Memory(GIB, GIB // 2, 0)),
        *doctor.check_runtimes({"gvisor": found("gvisor", False)}),
    ]
    for one in faults:
        assert not one.ok and one.summary and one.remedy, one


def test_a_machine_as_it_should_be() -> None:
    fine = [
        *doctor.check_basics([]),
        doctor.check_agent(FAKE_AGENT),
        doctor.check_templates(FakeTemplates()),
        doctor.check_uplink(("eth0", 1500)),
        doctor.check_memory(Memory(8 * GIB, 4 * GIB, 0)),
        *doctor.check_runtimes({"gvisor": found("gvisor", True)}),
    ]
    assert all(one.ok and one.summary for one in fine)


@pytest.mark.parametrize("free, ok", [(6 * GIB, True), (GIB, False)])
def test_disks(monkeypatch: pytest.MonkeyPatch, free: int, ok: bool) -> None:
    monkeypatch.setattr("atolld.daemon.doctor.facts.read_disk", lambda path: Disk(100 * GIB, free))
    assert doctor.check_disk(Path("/x")).ok is ok


@pytest.mark.parametrize(
    "usable, ok, fatal",
    [
        ({"gvisor": True, "container": False}, [True, False], False),
        ({"gvisor": False, "container": False}, [False, False], True),
    ],
)
def test_one_runtime_that_works_is_enough(usable: Mapping[str, bool], ok: list[bool], fatal: bool) -> None:
    findings = doctor.check_runtimes({name: found(name, works) for name, works in usable.items()})
    assert [one.ok for one in findings] == ok
    assert all(one.fatal is fatal for one in findings)


def test_without_a_name_server_sandboxes_still_run() -> None:
    (one,) = doctor.check_basics([Fault("the host names no DNS server that a sandbox can reach", "x")])
    assert not one.fatal


def test_a_forward_policy_that_drops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listing = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n"
    nft = script(tmp_path / "nft", f"cat <<'E'\n{listing}E\n")
    monkeypatch.setattr("atolld.daemon.doctor.shutil.which", lambda name: str(nft))
    told = doctor.check_forward_policy()
    assert not told.ok and "ip filter FORWARD" in told.summary and "accept" in told.remedy
    script(nft, "echo oh no >&2; exit 1\n")
    assert "oh no" in doctor.check_forward_policy().summary
    monkeypatch.setattr("atolld.daemon.doctor.shutil.which", lambda name: None)
    assert doctor.check_forward_policy().ok


@pytest.mark.parametrize("kind, clones", [("xfs", True), ("plain", True), ("plain", False)])
def test_the_store_is_told_with_its_reason(kind: str, clones: bool) -> None:
    told = doctor.check_store(StorePlan(StoreKind(kind), "mkfs.xfs is not installed", clones))
    assert told.ok is clones and not told.fatal
    assert "mkfs.xfs is not installed" in told.summary
    assert ("xfsprogs" in told.remedy) is not clones


class FakeSaves(Saves):
    def __init__(self, damaged: Mapping[str, bool]) -> None:
        self.damaged = damaged

    def ids(self) -> list[str]:
        return list(self.damaged)

    def verify(self, id: str) -> Manifest:
        if self.damaged[id]:
            raise FailedPrecondition(f"save {id} is damaged: disk.img is gone")
        raise NotFound(id)


def test_damaged_saves_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_saves(FakeSaves({})).ok
    assert doctor.check_saves(FakeSaves({"s1": False})).ok
    told = doctor.check_saves(FakeSaves({"s1": False, "s2": True}))
    assert not told.ok and "save s2 is damaged" in told.summary and told.remedy
    monkeypatch.setattr(doctor, "SAVES_BUDGET_S", -1.0)
    assert "0 of 1" in doctor.check_saves(FakeSaves({"s2": True})).summary


async def test_everything_of_a_daemon_without_isolation(settings: Settings) -> None:
    async def fingerprints() -> Mapping[str, Fingerprint]:
        return {"fake": found("fake", True)}

    findings = await doctor.check_all(settings, fingerprints, OneTemplate())
    assert [one.name for one in findings] == ["node", "agent", "templates", "runtime fake"]
    assert all(one.ok for one in findings)


async def test_runtimes_that_cannot_even_be_looked_for(settings: Settings) -> None:
    async def fingerprints() -> Mapping[str, Fingerprint]:
        raise Unavailable("no cgroup file system is mounted")

    findings = await doctor.check_all(settings, fingerprints, OneTemplate())
    assert findings[-1] == Finding("runtimes", False, "no cgroup file system is mounted", "see the checks above", True)


@pytest.mark.real
async def test_this_machine(tmp_path: Path) -> None:
    async def fingerprints() -> Mapping[str, Fingerprint]:
        return {}

    findings = await doctor.check_all(Settings(), fingerprints, FakeTemplates())
    assert all(one.ok for one in findings if one.name in ("basics", "cgroups")), findings
