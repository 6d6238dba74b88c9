"""Starts IPython's kernel with what results of the interpreter need, in the sandbox's own Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))

# Loaded ahead, so that the first plot does not wait for them; code that does not import them sees nothing of it.
AHEAD = ("numpy", "pandas", "matplotlib.pyplot", "e2b_charts")


def main() -> None:
    """As `python -m ipykernel_launcher` does."""
    from ipykernel.kernelapp import IPKernelApp

    import atoll_display
    import atoll_kernel
    from atoll_line import VARIABLE, Line, LineSession

    # What code imports is looked for where it runs, not here.
    sys.path[:] = ["" if path == HERE else path for path in sys.path]
    app = IPKernelApp.instance(
        kernel_class=atoll_kernel.AtollKernel, outstream_class="atoll_streams.LineStream", session=LineSession()
    )
    # What ran is remembered in memory: a database would be written to at each execution, by a thread of its own.
    app.initialize([*sys.argv[1:], "--HistoryManager.enabled=False"])
    assert app.shell is not None
    atoll_display.setup(app.shell)
    if os.environ.pop("ATOLL_KERNEL_AHEAD", "") == "1":
        _import_ahead()
        _settle(app.shell)
    if descriptor := os.environ.pop(VARIABLE, ""):
        _in_loop(lambda: app.kernel.take_line(Line(int(descriptor))))
    app.start()


def _in_loop(work: Callable[[], None]) -> None:
    """Call `work` once the event loop runs."""
    from tornado.ioloop import IOLoop

    IOLoop.current().add_callback(work)


def _import_ahead() -> None:
    import importlib

    for name in AHEAD:
        try:
            importlib.import_module(name)
        except Exception:
            # The sandbox's owner may have changed or removed it: code that imports it is told why.
            continue
    try:
        _draw_ahead()
    except Exception:
        return


def _draw_ahead() -> None:
    """Draw a picture into nothing: what the first one loads is loaded then."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from atoll_display import chart_of

    figure = Figure()
    FigureCanvasAgg(figure)
    figure.subplots().plot([1, 2], label="ahead")
    figure.savefig(io.BytesIO(), format="png")
    chart_of(figure)


def _settle(shell: Any) -> None:
    """Load what the first execution loads, and keep what is there now out of all later garbage collections: each would
    read all of it, and memory that was saved is slow at its first use."""
    import gc

    shell.display_formatter.format(0)
    # Made at its first use.
    assert shell.logger is not None
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main()
