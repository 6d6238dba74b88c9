"""What E2B documents of its Python client with asyncio: `python -m e2e.interpreter.runners.asynchronous`."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from e2b_code_interpreter import AsyncSandbox, OutputMessage
from e2b_code_interpreter.charts import LineChart

from e2e.interpreter.runners import plots
from e2e.interpreter.runners.told import EXAMPLES, example, tell


@example
async def run_code(sandbox: AsyncSandbox) -> None:
    await sandbox.run_code("x = 1")
    assert (await sandbox.run_code("x += 1; x")).text == "2"


@example
async def streaming(sandbox: AsyncSandbox) -> None:
    seen: list[str] = []

    async def note(message: OutputMessage) -> None:
        await asyncio.sleep(0)
        seen.append(message.line)

    await sandbox.run_code("print('a')\nimport sys\nprint('b', file=sys.stderr)", on_stdout=note, on_stderr=note)
    assert [text.strip() for text in seen] == ["a", "b"], seen


@example
async def errors_are_values(sandbox: AsyncSandbox) -> None:
    execution = await sandbox.run_code("raise KeyError('k')")
    assert execution.error is not None and execution.error.name == "KeyError"


@example
async def contexts_side_by_side(sandbox: AsyncSandbox) -> None:
    one, other = await asyncio.gather(sandbox.create_code_context(), sandbox.create_code_context(language="js"))
    began = time.monotonic()
    python, javascript, _ = await asyncio.gather(
        sandbox.run_code("import time; time.sleep(1); 1", context=one),
        sandbox.run_code("await new Promise(done => setTimeout(done, 1000)); 2", context=other),
        sandbox.run_code("import time; time.sleep(1)"),
    )
    assert (python.text, javascript.text) == ("1", "2")
    assert time.monotonic() - began < 2.5
    for context in (one, other):
        await sandbox.restart_code_context(context)
        await sandbox.remove_code_context(context)


@example
async def in_one_context_code_runs_in_turn(sandbox: AsyncSandbox) -> None:
    await sandbox.run_code("n = 0")
    await asyncio.gather(*[sandbox.run_code("n += 1") for _ in range(10)])
    assert (await sandbox.run_code("n")).text == "10"


@example
async def a_cancelled_call_interrupts(sandbox: AsyncSandbox) -> None:
    running = asyncio.create_task(  # noqa: TID251 - a user of the client has only asyncio
        sandbox.run_code("kept = 3\nimport time\ntime.sleep(60)")
    )
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with asyncio.timeout(5):
        assert (await sandbox.run_code("kept")).text == "3"


@example
async def charts_and_data(sandbox: AsyncSandbox) -> None:
    [result] = (await sandbox.run_code(plots.LINE)).results
    assert isinstance(result.chart, LineChart) and result.png
    [frame] = (await sandbox.run_code("import pandas as pd; pd.DataFrame({'a': [1.5]})")).results
    assert frame.data == {"a": [1.5]}


@example
async def environment_variables(sandbox: AsyncSandbox) -> None:
    execution = await sandbox.run_code("import os; os.environ['ONCE']", envs={"ONCE": "1"})
    assert execution.text == "1"


async def main() -> None:
    began = time.monotonic()
    sandbox = await AsyncSandbox.create(timeout=120)
    tell("create", began, None)
    try:
        for body in EXAMPLES:
            began, error = time.monotonic(), None
            try:
                await body(sandbox)
            except Exception as fault:
                error = fault
            tell(body.__name__, began, error)
    finally:
        await sandbox.kill()


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.flush()
    # The client's native transport may abort while the interpreter ends, after everything was said: see `many`.
    os._exit(0)
