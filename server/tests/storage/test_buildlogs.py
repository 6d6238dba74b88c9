from __future__ import annotations

from pathlib import Path

import pytest

from atolld.core.build import LogEntry
from atolld.foundation.errors import Internal
from atolld.foundation.ids import BuildId, new_build_id
from atolld.storage.buildlogs import BuildLogs

LINE = LogEntry(1.5, "info", "hello\nworld \u2028 \ud800", "3")


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    logs, id = BuildLogs(tmp_path / "builds"), new_build_id()
    assert list(logs.read(id)) == []
    assert logs.append(id, LINE)
    assert logs.append(id, LogEntry(2.0, "warn", "", None))
    logs.close(id)
    assert list(BuildLogs(tmp_path / "builds").read(id)) == [LINE, LogEntry(2.0, "warn", "", None)]


def test_only_the_daemon_reads_it(tmp_path: Path) -> None:
    logs, id = BuildLogs(tmp_path / "builds"), new_build_id()
    logs.append(id, LINE)
    file = next((tmp_path / "builds").iterdir())
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_full_log_says_so_once(tmp_path: Path) -> None:
    logs, id = BuildLogs(tmp_path, max_bytes=1000), new_build_id()
    kept = [logs.append(id, LogEntry(0.0, "info", "x" * 100, None)) for _ in range(20)]
    found = list(logs.read(id))
    assert kept.count(True) == len(found) < 20
    assert found[-1].level == "warn" and "full" in found[-1].message
    assert next(tmp_path.iterdir()).stat().st_size < 1200
    # Also for the next daemon.
    assert not BuildLogs(tmp_path, max_bytes=1000).append(id, LINE)


def test_half_a_line_is_no_line(tmp_path: Path) -> None:
    logs, id = BuildLogs(tmp_path), new_build_id()
    logs.append(id, LINE)
    with next(tmp_path.iterdir()).open("ab") as file:
        file.write(b'[1, "info", "cut of')
    assert list(logs.read(id)) == [LINE]


def test_those_of_builds_that_are_gone_go(tmp_path: Path) -> None:
    logs, kept, gone = BuildLogs(tmp_path), new_build_id(), new_build_id()
    for id in (kept, gone):
        logs.append(id, LINE)
    logs.sweep({kept})
    assert list(logs.read(gone)) == []
    logs.remove(kept)
    logs.remove(kept)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("id", ["", "..", "a/b", "../../etc/passwd", "x" * 36])
def test_what_is_no_id_reaches_no_path(tmp_path: Path, id: str) -> None:
    with pytest.raises(Internal):
        BuildLogs(tmp_path).append(BuildId(id), LINE)
