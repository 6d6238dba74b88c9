from __future__ import annotations

import pytest

from atolld.control.live import Live, LiveTable
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.sandbox import Sandbox, SandboxSpec
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import ProjectId, TemplateId, new_sandbox_id

S = SandboxState
MINE, THEIRS = ProjectId("mine"), ProjectId("theirs")


def _live(state: SandboxState, project_id: ProjectId = MINE, runtime: str = "fake") -> Live:
    address = "10.0.0.2" if state in (S.RUNNING, S.STOPPING) else None
    spec = SandboxSpec(runtime=runtime)
    return Live(
        Sandbox(new_sandbox_id(), project_id, TemplateId("t"), "base", spec, state, 1.0, "token", address=address)
    )


@pytest.mark.parametrize(
    ("state", "reachable"), [(S.CREATING, False), (S.RUNNING, True), (S.STOPPING, True), (S.ENDED, False)]
)
async def test_endpoint(state: SandboxState, reachable: bool) -> None:
    table, live = LiveTable(), _live(state)
    assert table.endpoint(live.id) is None
    table.add(live)
    endpoint = table.endpoint(live.id)
    assert (endpoint is not None) is reachable
    if endpoint is not None:
        assert (endpoint.address, endpoint.agent_token, endpoint.project_id, endpoint.state) == (
            "10.0.0.2",
            "token",
            MINE,
            state,
        )


async def test_table() -> None:
    table = LiveTable()
    mine, theirs, new = _live(S.RUNNING), _live(S.RUNNING, THEIRS, "gvisor"), _live(S.CREATING)
    for live in (mine, theirs, new):
        table.add(live)
    assert table.get(MINE, mine.id) is mine
    with pytest.raises(NotFound):
        table.get(MINE, theirs.id)
    assert table.running(MINE) == [mine]
    assert table.running() == [mine, theirs]
    assert table.counts() == {(S.RUNNING, "fake"): 1, (S.RUNNING, "gvisor"): 1, (S.CREATING, "fake"): 1}
    table.remove(mine)
    table.remove(mine)
    assert mine.gone.is_set()
    assert table.find(mine.id) is None
    assert len(table) == len(list(table)) == 2


async def test_the_first_reason_to_give_up_counts() -> None:
    live = _live(S.CREATING)
    live.give_up(EndReason.KILLED, "first")
    live.give_up(EndReason.SHUTDOWN, "second")
    assert live.abort is not None
    assert (live.abort.reason, live.abort.message) == (EndReason.KILLED, "first")


async def test_a_sandbox_is_found_by_its_agents_token_as_long_as_it_lives() -> None:
    table, live = LiveTable(), _live(S.RUNNING)
    assert table.by_token("token") is None
    table.add(live)
    assert (table.by_token("token"), table.by_token("tok"), table.by_token("")) == (live.id, None, None)
    table.remove(live)
    assert table.by_token("token") is None
