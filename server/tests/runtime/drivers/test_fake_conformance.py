"""The fake driver keeps every promise that needs no machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.runtime.conformance import CHECKS, run_check
from atolld.runtime.conformance.fake_lab import FakeLab

NOTHING_RUNS = "nothing runs in a fake sandbox"
GAPS = {
    "agent_is_pid_1": NOTHING_RUNS,
    "root_file_system": NOTHING_RUNS,
    "log_takes_output": NOTHING_RUNS,
    "set_user_id_works": NOTHING_RUNS,
    "memory_bomb": NOTHING_RUNS,
    "fork_bomb": NOTHING_RUNS,
    "cpu_quota": NOTHING_RUNS,
    "guest_sees_its_memory": NOTHING_RUNS,
    "guest_sees_its_cpus": NOTHING_RUNS,
    "goes_on_after_a_checkpoint": NOTHING_RUNS,
    "a_restored_copy_has_the_memory_and_goes_its_own_way": NOTHING_RUNS,
    "a_restored_guest_is_saved_again": NOTHING_RUNS,
    "connections_end_and_new_ones_come": NOTHING_RUNS,
    "an_open_deleted_file_is_named": NOTHING_RUNS,
    "full_memory_and_little_cpu": NOTHING_RUNS,
    "a_guest_goes_on_in_a_shell": NOTHING_RUNS,
    "a_new_guest_starts_in_a_shell": NOTHING_RUNS,
    "the_agent_is_sealed_in_a_shell": NOTHING_RUNS,
    "full_memory_in_a_shell": NOTHING_RUNS,
    "a_shell_of_another_kind_is_refused": NOTHING_RUNS,
    "a_damaged_image_in_a_shell": NOTHING_RUNS,
    "wait_in_another_process": "a fake world is seen by one process",
    "destroy_after_a_failed_start": "it looks at no network namespace",
}


@pytest.mark.parametrize("check", CHECKS)
async def test_conformance(check: str, tmp_path: Path) -> None:
    await run_check(check, FakeLab(tmp_path), GAPS)
