"""Sandboxes: making, finding, describing, ending."""

from __future__ import annotations

import datetime
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping

from e2e.e2b.runners.harness import Run, check, gather_stream, go


@check("Sandbox.create", "Sandbox.get_info", "Sandbox.kill")
async def create_describe_and_kill(run: Run) -> None:
    mark = uuid.uuid4().hex
    sb = await run.create(metadata={"mark": mark, "odd": "a%20b=c&d é"}, timeout=90)
    info = await go(sb.get_info())
    assert info.sandbox_id == sb.sandbox_id
    assert info.metadata == {"mark": mark, "odd": "a%20b=c&d é"}
    assert info.template_id
    assert info.cpu_count >= 1 and info.memory_mb >= 128
    assert str(info.state.value) == "running"
    life = (info.end_at - info.started_at).total_seconds()
    assert 80 <= life <= 95, f"lives {life} s"
    assert tuple(int(part) for part in info.envd_version.split(".")) >= (0, 6, 13)
    by_id = await go(run.Sandbox.get_info(sb.sandbox_id))
    assert by_id.sandbox_id == sb.sandbox_id
    assert await go(sb.kill()) is True
    assert await go(sb.kill()) is False, "the second kill finds it"


@check("Sandbox.create")
async def create_with_everything(run: Run) -> None:
    sb = await run.create(template="base", envs={"A": "1", "EMPTY": ""}, secure=True, allow_internet_access=False)
    answer = await go(sb.commands.run('echo "$A-${EMPTY-unset}-$E2B_SANDBOX-$E2B_SANDBOX_ID"'))
    assert answer.stdout.strip() == f"1--true-{sb.sandbox_id}"
    info = await go(sb.get_info())
    assert info.allow_internet_access is False
    await go(sb.kill())


@check("Sandbox.create")
async def create_as_context(run: Run) -> None:
    if run.flavour == "sync":
        with run.Sandbox.create(timeout=60) as sb:
            assert sb.is_running()
        assert not run.Sandbox.kill(sb.sandbox_id)
    else:
        async with await run.Sandbox.create(timeout=60) as sb:
            assert await sb.is_running()
        assert not await run.Sandbox.kill(sb.sandbox_id)


@check("Sandbox.beta_create")
async def create_in_its_former_spelling(run: Run) -> None:
    sb = await go(run.Sandbox.beta_create(timeout=60))
    run.made.append(sb)
    assert await go(sb.is_running())
    assert await go(sb.kill())


@check("Sandbox.kill")
async def kill_by_id(run: Run) -> None:
    sb = await run.create()
    assert await go(run.Sandbox.kill(sb.sandbox_id)) is True
    assert await go(run.Sandbox.kill(sb.sandbox_id)) is False
    assert await go(sb.is_running()) is False


@check("Sandbox.connect")
async def connect_from_elsewhere(run: Run) -> None:
    await go(run.sb.files.write("/tmp/connect", "seen"))
    other = await go(run.Sandbox.connect(run.sb.sandbox_id))
    assert other.sandbox_id == run.sb.sandbox_id
    assert await go(other.files.read("/tmp/connect")) == "seen"
    assert (await go(other.commands.run("echo $GREETING"))).stdout == "sandbox\n"


@check("Sandbox.connect", "Sandbox.set_timeout")
async def connect_only_lengthens(run: Run) -> None:
    sb = await run.create(timeout=100)
    first = (await go(sb.get_info())).end_at
    await go(sb.connect(timeout=20))
    assert (await go(sb.get_info())).end_at == first, "connect shortened the life"
    await go(sb.connect(timeout=500))
    assert ((await go(sb.get_info())).end_at - first).total_seconds() > 350
    await go(sb.set_timeout(30))
    shortened = (await go(sb.get_info())).end_at
    left = (shortened - datetime.datetime.now(datetime.UTC)).total_seconds()
    assert 20 < left < 32, f"{left} s left after set_timeout(30)"
    await go(run.Sandbox.set_timeout(sb.sandbox_id, 200))
    assert ((await go(sb.get_info())).end_at - shortened).total_seconds() > 150
    await go(sb.kill())


@check("Sandbox.is_running")
async def is_running(run: Run) -> None:
    assert await go(run.sb.is_running()) is True


@check("Sandbox.list", "SandboxPaginator.next_items")
async def list_by_metadata_and_pages(run: Run) -> None:
    mark = f"m {uuid.uuid4().hex} é&="
    made = [await run.create(metadata={"mark": mark, "n": str(number)}) for number in range(3)]
    query = {"metadata": {"mark": mark}}
    paginator = run.Sandbox.list(query=run_query(run, query), limit=2)
    assert paginator.has_next
    first = await go(paginator.next_items())
    assert [item.sandbox_id for item in first] == [made[2].sandbox_id, made[1].sandbox_id], "not the newest first"
    assert paginator.has_next and paginator.next_token
    second = await go(paginator.next_items())
    assert [item.sandbox_id for item in second] == [made[0].sandbox_id]
    assert not paginator.has_next
    assert second[0].metadata == {"mark": mark, "n": "0"}
    await go(made[0].kill())
    rest = await go(run.Sandbox.list(query=run_query(run, query)).next_items())
    assert {item.sandbox_id for item in rest} == {made[1].sandbox_id, made[2].sandbox_id}
    for sandbox in made[1:]:
        await go(sandbox.kill())


def run_query(run: Run, values: Mapping[str, object]) -> object:
    return run.e2b.SandboxQuery(**values)


@check("Sandbox.list")
async def list_by_state(run: Run) -> None:
    states = run.e2b.SandboxState
    query = {"metadata": {"suite": "compat"}, "state": [states.RUNNING]}
    running = await go(run.Sandbox.list(query=run_query(run, query)).next_items())
    assert run.sb.sandbox_id in {item.sandbox_id for item in running}
    query["state"] = [states.PAUSED]
    assert await go(run.Sandbox.list(query=run_query(run, query)).next_items()) == []


@check("Sandbox.list")
async def list_in_order(run: Run) -> None:
    run.takes(run.Sandbox.list, "order")
    mark = uuid.uuid4().hex
    made = [await run.create(metadata={"mark": mark}) for _ in range(2)]
    query = run_query(run, {"metadata": {"mark": mark}})
    ascending = await go(run.Sandbox.list(query=query, order="asc").next_items())
    assert [item.sandbox_id for item in ascending] == [one.sandbox_id for one in made]
    after = run_query(run, {"metadata": {"mark": mark}, "started_after": ascending[1].started_at})
    younger = await go(run.Sandbox.list(query=after).next_items())
    assert [item.sandbox_id for item in younger] == [made[1].sandbox_id], "started_after means at that time or later"
    by_template = run_query(run, {"metadata": {"mark": mark}, "template": "no-such-template"})
    assert await go(run.Sandbox.list(query=by_template).next_items()) == []
    for sandbox in made:
        await go(sandbox.kill())


@check("Sandbox.get_metrics")
async def metrics(run: Run) -> None:
    found = await run.until(lambda: run.sb.get_metrics(), 15)
    one = found[-1]
    assert one.cpu_count >= 1 and one.cpu_used_pct >= 0
    assert 0 < one.mem_used <= one.mem_total
    assert 0 < one.disk_used <= one.disk_total
    assert await go(run.Sandbox.get_metrics(run.sb.sandbox_id))
    now = datetime.datetime.now(datetime.UTC)
    before = await go(
        run.sb.get_metrics(start=now - datetime.timedelta(hours=2), end=now - datetime.timedelta(hours=1))
    )
    assert before == []


@check("Sandbox.get_host")
async def host_of_a_port(run: Run) -> None:
    host = run.sb.get_host(8123)
    assert host.startswith(f"8123-{run.sb.sandbox_id}."), host
    await go(run.sb.files.write("/tmp/www/hello.txt", "served"))
    server = await go(
        run.sb.commands.run("cd /tmp/www && exec python3 -m http.server 8123", background=True, timeout=60)
    )
    request = urllib.request.Request(os.environ["E2B_SANDBOX_URL"] + "/hello.txt", headers={"Host": host})

    def fetch() -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError:
            return b""

    assert await run.until(fetch) == b"served"
    await go(server.kill())


@check("Sandbox.get_mcp_url", "Sandbox.get_mcp_token")
async def mcp_address(run: Run) -> None:
    assert run.sb.get_mcp_url() == f"https://{run.sb.get_host(50005)}/mcp"
    await run.raises("SandboxException", run.sb.get_mcp_token, "/etc/mcp-gateway/.token")


@check("Sandbox.create")
async def environment_of_the_system(run: Run) -> None:
    sb = await run.create(envs={"E2B_SANDBOX": "spoofed", "E2B_SANDBOX_ID": "spoofed", "P": "sandbox"})
    said = (await go(sb.commands.run("echo $E2B_SANDBOX $E2B_SANDBOX_ID $P", envs={"P": "request"}))).stdout.split()
    assert said == ["true", sb.sandbox_id, "request"], said
    said = (await go(sb.commands.run("cat /run/e2b/.E2B_SANDBOX_ID"))).stdout.strip()
    assert said == sb.sandbox_id, said
    first = (await go(sb.commands.run("cat /proc/sys/kernel/random/boot_id"))).stdout
    other = (await go(run.sb.commands.run("cat /proc/sys/kernel/random/boot_id"))).stdout
    assert first != other, "two sandboxes share a boot_id"
    await go(sb.kill())


@check("E2B")
async def a_bound_client(run: Run) -> None:
    client = run.e2b.E2B(api_key=os.environ["E2B_API_KEY"], api_url=os.environ["E2B_API_URL"])
    bound = client.Sandbox if run.flavour == "sync" else client.AsyncSandbox
    info = await go(bound.get_info(run.sb.sandbox_id))
    assert info.sandbox_id == run.sb.sandbox_id
    wrong = run.e2b.E2B(api_key="e2b_" + "0" * 40)
    bound = wrong.Sandbox if run.flavour == "sync" else wrong.AsyncSandbox
    await run.raises("AuthenticationException", lambda: bound.get_info(run.sb.sandbox_id))


@check("files.read")
async def nothing_of_a_stream_is_lost(run: Run) -> None:
    await go(run.sb.commands.run("head -c 3000000 /dev/urandom > /tmp/stream.bin"))
    chunks = await gather_stream(await go(run.sb.files.read("/tmp/stream.bin", format="stream")))
    assert sum(len(chunk) for chunk in chunks) == 3_000_000
