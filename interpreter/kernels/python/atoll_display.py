"""What results carry besides their text: the data of data frames, of charts, and pictures that are shown."""

from __future__ import annotations

import math
from typing import Any

from IPython.core.formatters import BaseFormatter
from IPython.core.interactiveshell import InteractiveShell
from traitlets import ObjectName, Unicode

MAX_CELLS = 1_000_000


class _DataFormatter(BaseFormatter):
    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    _return_type = (dict, str)


class _ChartFormatter(BaseFormatter):
    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    _return_type = (dict, str)

    def __call__(self, obj: Any) -> Any:
        # Not by type: matplotlib's inline backend forgets the printers of figures when it is configured.
        if type(obj).__name__ == "Figure" and type(obj).__module__.startswith("matplotlib."):
            return chart_of(obj)
        return super().__call__(obj)


def setup(shell: InteractiveShell) -> None:
    """Add the formatters to a kernel's shell."""
    assert shell.display_formatter is not None
    formatters = shell.display_formatter.formatters
    data = _DataFormatter(parent=shell.display_formatter)
    data.for_type_by_name("pandas.core.frame", "DataFrame", data_of)
    # pandas 3 says of itself that it is `pandas.DataFrame`.
    data.for_type_by_name("pandas", "DataFrame", data_of)
    formatters["e2b/data"] = data
    formatters["e2b/chart"] = _ChartFormatter(parent=shell.display_formatter)
    _show_pictures()


def data_of(frame: Any) -> dict[str, list[Any]] | None:
    """A data frame's columns, by name; dates and times as ISO 8601; None for one that is too large to send."""
    if frame.size > MAX_CELLS:
        return None
    return {str(name): [_plain(value) for value in frame.iloc[:, index]] for index, name in enumerate(frame.columns)}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "isoformat"):
        # NaT has the method, and a text that is no time.
        text = value.isoformat()
        return None if text == "NaT" else text
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return _plain(value.item())
    if type(value).__name__ == "NAType":
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)) or hasattr(value, "tolist"):
        return [_plain(item) for item in (value.tolist() if hasattr(value, "tolist") else value)]
    return str(value)


def chart_of(figure: Any) -> dict[str, Any] | None:
    """What a figure shows; None for an empty one, and for one that cannot be told or is too large to."""
    if sum(len(line.get_xdata(orig=False)) for axes in figure.axes for line in axes.lines) > MAX_CELLS:
        return None
    try:
        from e2b_charts import chart_figure_to_dict

        chart = chart_figure_to_dict(figure)
    except Exception:
        # The picture is shown in any case.
        return None
    return chart if isinstance(chart, dict) and chart else None


def _show_pictures() -> None:
    try:
        from PIL import ImageShow
    except ImportError:
        return

    from IPython.display import display

    class _Notebook(ImageShow.Viewer):
        def show(self, image: Any, **options: Any) -> bool:
            display(image)
            return True

    ImageShow.register(_Notebook(), order=0)
