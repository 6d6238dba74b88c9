"""What the pages of E2B's documentation show with its code interpreter's Python client, page by page, in examples of
our own: the same calls with arguments of the same form. What synchronous.py tries is not here again."""

from __future__ import annotations

import base64
import io
import tempfile
import uuid
from pathlib import Path

from e2b import Template, default_build_logger
from e2b_code_interpreter import Sandbox
from e2b_code_interpreter.charts import BarChart, ChartType

from e2e.e2b.runners.kitchen import WHEEL, lay_out
from e2e.interpreter.runners.told import page

PNG = b"\x89PNG\r\n\x1a\n"
BARS = """
import matplotlib.pyplot as plt
plt.figure(figsize=(6, 4))
plt.bar(["pears", "plums", "figs"], [3, 5, 8], label="baskets", color="green")
plt.xlabel("Fruit")
plt.ylabel("Sold")
plt.title("A day at the market")
plt.tight_layout()
plt.show()
"""
INDENTED = """
  import sys
  import time
  print("first")
  time.sleep(0.3)
  print("second", file=sys.stderr)
  time.sleep(0.3)
  print("last")
"""


@page
def quickstart(sandbox: Sandbox) -> None:
    assert sandbox.run_code("print('open')").logs.stdout == ["open\n"]
    listed = {entry.name: entry.type.value for entry in sandbox.files.list("/")}
    assert listed["home"] == "dir" and listed["bin"], listed


@page
def streaming(sandbox: Sandbox) -> None:
    lines: list[str] = []
    # Code that is indented throughout, as text in a program often is.
    execution = sandbox.run_code(
        INDENTED,
        on_error=lambda error: lines.append(f"error: {error.name}"),
        on_stdout=lambda line: lines.append(f"stdout: {line}"),
        on_stderr=lambda line: lines.append(f"stderr: {line}"),
    )
    assert [line.rstrip() for line in lines] == ["stdout: first", "stderr: second", "stdout: last"], lines
    assert execution.error is None
    shown: list[object] = []
    sandbox.run_code(BARS, on_result=shown.append)
    assert len(shown) == 1 and shown[0].chart.type == ChartType.BAR and shown[0].png, shown  # type: ignore[attr-defined]


@page
def static_charts(sandbox: Sandbox) -> None:
    first = sandbox.run_code(
        "import matplotlib.pyplot as plt\nplt.plot([2, 4, 9]); plt.ylabel('y'); plt.show()"
    ).results[0]
    picture = base64.b64decode(first.png or "", validate=True)
    assert picture.startswith(PNG) and len(picture) > 1000, picture[:20]


@page
def interactive_charts(sandbox: Sandbox) -> None:
    chart = sandbox.run_code(BARS).results[0].chart
    assert isinstance(chart, BarChart) and chart.type == ChartType.BAR
    assert (chart.title, chart.x_label, chart.y_label) == ("A day at the market", "Fruit", "Sold"), chart.to_dict()
    assert chart.x_unit is None and chart.y_unit is None
    assert [(bar.label, float(bar.value), bar.group) for bar in chart.elements] == [
        ("pears", 3, "baskets"), ("plums", 5, "baskets"), ("figs", 8, "baskets"),
    ]  # fmt: skip


@page
def contexts(sandbox: Sandbox) -> None:
    """By their ids; synchronous.py hands over the contexts themselves."""
    context = sandbox.create_code_context(cwd="/home/user", language="python", request_timeout=60)
    assert sandbox.run_code("kept = 1; kept", context=context).text == "1"
    sandbox.restart_code_context(context.id)
    gone = sandbox.run_code("kept", context=context).error
    assert gone is not None and gone.name == "NameError"
    sandbox.remove_code_context(context.id)
    assert context.id not in [one.id for one in sandbox.list_code_contexts()]


@page
def packages_while_it_runs(sandbox: Sandbox) -> None:
    """Installed by commands, and there for kernels that run already; from files, so that no network is needed."""
    with tempfile.TemporaryDirectory() as directory:
        lay_out(Path(directory))
        sandbox.files.write(f"/tmp/{WHEEL}", (Path(directory) / WHEEL).read_bytes())
        for name in ("package.json", "index.js"):
            sandbox.files.write(f"/tmp/module/{name}", (Path(directory) / "module" / name).read_bytes())
    sandbox.commands.run(f"pip install /tmp/{WHEEL}")
    assert sandbox.run_code("\n  import tiny\n  tiny.SIZE\n").text == "tiny"
    sandbox.commands.run("npm install /tmp/module")
    assert sandbox.run_code("const tiny = require('tiny-module')\ntiny", language="javascript").text == "tiny"
    typed = 'import word from "tiny-module";\nconst twice: string = await Promise.resolve(word + word);\ntwice;'
    assert sandbox.run_code(typed, language="ts").text == "tinytiny"


@page
def analysing_data(sandbox: Sandbox) -> None:
    """What a program does with a model's code: its data goes in as a file, and pictures come out."""
    table = io.BytesIO(b"day,price\n2020-01-01,5\n2021-01-01,7\n")
    written = sandbox.files.write("prices.csv", table)
    assert written.path == "/home/user/prices.csv", written
    execution = sandbox.run_code(f"""
import pandas as pd, matplotlib.pyplot as plt
prices = pd.read_csv("{written.path}", parse_dates=["day"])
prices.groupby(prices.day.dt.year).price.mean().plot()
display(plt.gcf())""")
    assert execution.error is None and all(result.png for result in execution.results), execution
    assert execution.results, execution
    failed = sandbox.run_code("prices.nothing").error
    assert failed is not None and failed.name == "AttributeError" and "nothing" in failed.value and failed.traceback


def packages_in_a_template() -> None:
    """A template of one's own over the code interpreter's, and code in its sandboxes."""
    own = f"suite-packages-{uuid.uuid4().hex[:10]}"
    with tempfile.TemporaryDirectory() as directory:
        lay_out(Path(directory))
        template = (
            Template(file_context_path=directory)
            .from_template("code-interpreter-v1")
            .copy(WHEEL, "/tmp/")
            .copy("module", "/opt/module")
            .pip_install([f"/tmp/{WHEEL}"])
            .npm_install(["/opt/module"])
        )
        Template.build(template, own, cpu_count=2, memory_mb=2048, on_build_logs=default_build_logger())
    with Sandbox.create(own, timeout=120) as sandbox:
        assert sandbox.run_code("import tiny; tiny.SIZE").text == "tiny"
        assert sandbox.run_code("require('tiny-module')", language="js").text == "tiny"
