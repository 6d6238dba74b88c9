"""The server with a real kernel: what it answers, and how it heals."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from interpreter.tests.support import Server

pytestmark = pytest.mark.timeout(60)


async def test_values_streams_and_errors_in_their_order(server: Server) -> None:
    assert (await server.http.get("/health")).text == "OK"
    assert await server.value("1+1") == "2"
    assert await server.value("'abc'") == "abc"
    told = await server.run("import sys\nprint('a', flush=True)\nprint('b', file=sys.stderr, flush=True)\n1/0")
    assert [(line["type"], line.get("text") or line.get("name")) for line in told] == [
        ("stdout", "a\n"),
        ("stderr", "b\n"),
        ("error", "ZeroDivisionError"),
    ]
    assert await server.value("2") == "2"


async def test_contexts_know_nothing_of_each_other_and_start_anew(server: Server) -> None:
    made = (await server.http.post("/contexts", json={"cwd": "/tmp"})).json()
    assert made["language"] == "python"
    assert made["cwd"] == "/tmp"
    await server.run("x = 1", context_id=made["id"])
    assert await server.value("x", context_id=made["id"]) == "1"
    assert await server.value("'x' in globals()") == "False"
    assert await server.value("import os; os.getcwd()", context_id=made["id"]) == "/tmp"
    assert made in (await server.http.get("/contexts")).json()
    assert (await server.http.post(f"/contexts/{made['id']}/restart")).status_code == 200
    assert await server.value("'x' in globals()", context_id=made["id"]) == "False"
    assert (await server.http.delete(f"/contexts/{made['id']}")).status_code == 204
    gone = await server.http.post("/execute", json={"code": "1", "context_id": made["id"]})
    assert (gone.status_code, gone.text) == (404, f"Context {made['id']} not found")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"code": "1", "context_id": "a", "language": "python"}, 400, "Only one of"),
        ({"code": "1", "context_id": "nope"}, 404, "Context nope not found"),
        ({"code": "1", "language": "cobol"}, 400, "there is no kernel for 'cobol'"),
        ({"code": "1", "language": "../x"}, 400, "not the name of a language"),
        ({"code": 1}, 400, "'code' must be a text"),
        ({}, 400, "'code' is missing"),
        ({"code": "1", "env_vars": {"A": 1}}, 400, "object of texts"),
        ({"code": "1", "env_vars": {"A B": "1"}}, 400, "cannot be the name"),
        ([], 400, "must be a JSON object"),
    ],
)
async def test_refusals(server: Server, body: object, status: int, says: str) -> None:
    answer = await server.http.post("/execute", json=body)
    assert answer.status_code == status
    assert says in answer.text


async def test_a_directory_that_is_not_there_is_refused(server: Server) -> None:
    answer = await server.http.post("/contexts", json={"cwd": "/nowhere"})
    assert (answer.status_code, answer.text) == (400, "the working directory '/nowhere' does not exist")


async def test_variables_live_for_one_execution(server: Server) -> None:
    look = "import os; os.environ.get('ATOLL_TEST')"
    assert await server.value(look, env_vars={"ATOLL_TEST": "it's"}) == "it's"
    assert await server.value(f"{look} is None") == "True"
    # Those of the sandbox stay, and come back after an execution had its own.
    assert await server.value(look, sandbox_envs={"ATOLL_TEST": "all"}) == "all"
    assert await server.value(look, env_vars={"ATOLL_TEST": "one"}) == "one"
    assert await server.value(look) == "all"


async def test_silence_is_filled_with_keepalives(server: Server) -> None:
    told = await server.run("import time; time.sleep(0.7); 3")
    assert told[-1]["text"] == "3"
    assert told.count({"type": "keepalive"}) >= 2


async def test_who_goes_away_interrupts_the_code(server: Server) -> None:
    await server.value("1")
    with pytest.raises(httpx.ReadTimeout):
        await server.http.post("/execute", json={"code": "n = 0\nwhile True: n += 1"}, timeout=0.15)
    assert await server.value("n > 0") == "True"


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
async def test_a_kernel_that_ends_is_told_and_comes_back(server: Server, end: str) -> None:
    told = await server.run(f"import os; x = 1; {end}")
    assert [line["name"] for line in told if line["type"] == "error"] == ["ContextRestarting"]
    assert await server.value("'x' in globals()") == "False"


async def test_a_restart_ends_what_runs(server: Server) -> None:
    made = (await server.http.post("/contexts", json={})).json()
    running = asyncio.ensure_future(server.run("import time; time.sleep(60)", context_id=made["id"]))  # noqa: TID251
    while not running.done():
        await asyncio.sleep(0.3)
        await server.http.post(f"/contexts/{made['id']}/restart")
    assert [line["name"] for line in await running if line["type"] == "error"] == ["ContextRestarting"]
    assert await server.value("4", context_id=made["id"]) == "4"


async def test_output_without_end_is_passed_on_at_the_reader_s_pace(server: Server) -> None:
    size = 0
    async with server.http.stream("POST", "/execute", json={"code": "while True: print('x' * 1000)"}) as answer:
        async for piece in answer.aiter_bytes():
            size += len(piece)
            if size > 4 * 1024 * 1024:
                break
    assert await server.value("5") == "5"


async def test_forked_processes_write_in_their_turn(server: Server) -> None:
    code = """
import os
print("before", flush=True)
if (pid := os.fork()) == 0:
    print("child", flush=True)
    os._exit(0)
os.waitpid(pid, 0)
7"""
    told = await server.run(code)
    text = "".join(line["text"] for line in told if line["type"] == "stdout")
    assert text == "before\nchild\n"
    assert told[-1]["text"] == "7"
