"""Let code draw a chart in a sandbox: the picture is written here, its data is printed.

    python examples/code_interpreter.py [file for the picture]

Needs a running server and its code interpreter (`atoll template builtin code-interpreter-v1`, once).
"""

from __future__ import annotations

import sys
from pathlib import Path

from atoll import AtollError, Sandbox, charts

DRAW = """
import matplotlib.pyplot as plt

masses = {"Adelie": 3701, "Chinstrap": 3733, "Gentoo": 5076}
plt.bar(list(masses), list(masses.values()))
plt.title("Body mass of penguins")
plt.ylabel("Mass (g)")
plt.show()
sum(masses.values()) / len(masses)
"""


def main() -> int:
    picture = Path(sys.argv[1] if len(sys.argv) > 1 else "penguins.png")
    try:
        with Sandbox.create(template="code-interpreter-v1") as sandbox:
            execution = sandbox.code.run(DRAW, on_stdout=print, timeout_s=60)
    except AtollError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if execution.error is not None:
        print(execution.error.traceback, file=sys.stderr)
        return 1
    for result in execution.results:
        if result.png is not None:
            picture.write_bytes(result.png)
            print(f"The picture is in {picture}.")
        if isinstance(result.chart, charts.BarChart):
            for bar in result.chart.elements:
                print(f"  {bar.label:<10} {bar.value:>6} {result.chart.y_unit or ''}")
    print(f"The code's last value is {execution.text}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
