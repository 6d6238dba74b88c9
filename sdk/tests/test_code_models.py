"""Results as values: what is read of them, how they display themselves, charts."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from atoll import CodeContext, CodeError, CodeResult, Execution, Internal, Logs, charts

PNG = b"\x89PNG\r\n"
AXES: dict[str, Any] = {"title": "T", "x_label": "x (s)", "y_label": "y", "x_unit": "s", "y_unit": None}
TICKS: dict[str, Any] = {
    "x_ticks": [0, 1],
    "x_tick_labels": ["0", "1"],
    "x_scale": "linear",
    "y_ticks": [0.5],
    "y_tick_labels": ["½"],
    "y_scale": "log",
}
LINE: dict[str, Any] = {"type": "line", **AXES, **TICKS, "elements": [{"label": "a", "points": [[0, 1], [1, "b"]]}]}
BOX: dict[str, Any] = {"label": "b", "min": 1, "first_quartile": 2, "median": 3, "third_quartile": 4, "max": 5}


def test_every_form_is_read() -> None:
    told: dict[str, Any] = {name: name for name in ("text", "html", "markdown", "svg", "latex", "javascript")}
    images = {name: base64.b64encode(PNG).decode() for name in ("png", "jpeg", "pdf")}
    rest = {"json": {"a": 1}, "data": {"c": [1]}, "chart": LINE, "extra": {"x/y": "z"}, "is_main_result": True}
    result = CodeResult.from_json({"type": "result", **told, **images, **rest, "from_the_future": 1})
    assert [getattr(result, name) for name in told] == list(told)
    assert (result.png, result.jpeg, result.pdf) == (PNG, PNG, PNG)
    assert (result.json, result.data, result.extra, result.is_main) == ({"a": 1}, {"c": [1]}, {"x/y": "z"}, True)
    assert isinstance(result.chart, charts.LineChart)
    assert result.formats == [
        *("text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "json", "javascript"),
        *("data", "chart", "x/y"),
    ]
    bundle = result._repr_mimebundle_()
    assert bundle["image/png"] == images["png"]
    assert (bundle["text/html"], bundle["application/json"], bundle["x/y"]) == ("html", {"a": 1}, "z")
    assert (result._repr_png_(), result._repr_html_(), result._repr_json_()) == (PNG, "html", {"a": 1})


def test_what_makes_no_sense_is_left_out() -> None:
    result = CodeResult.from_json({"text": 5, "png": "a", "data": [], "chart": "?", "extra": None})
    assert result == CodeResult()
    assert (result.formats, str(result), result._repr_mimebundle_()) == ([], "()", {})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"type": "bar", **AXES, "elements": [{"label": "l", "group": "g", "value": 2}]},
            (charts.BarChart, [charts.Bar("l", "g", 2)]),
        ),
        (
            {"type": "pie", "title": None, "elements": [{"label": "l", "angle": 90, "radius": 1}]},
            (charts.PieChart, [charts.Slice("l", 90, 1)]),
        ),
        (
            {"type": "box_and_whisker", **AXES, "elements": [BOX, {**BOX, "outliers": [9]}]},
            (charts.BoxChart, [charts.Box("b", 1, 2, 3, 4, 5, []), charts.Box("b", 1, 2, 3, 4, 5, [9])]),
        ),
        ({**LINE, "type": "scatter"}, (charts.ScatterChart, [charts.Points("a", [(0, 1), (1, "b")])])),
        ({"type": "from_the_future", "title": "T", "elements": [7]}, (charts.Chart, [7])),
        ({"type": "pie", "title": "T", "elements": [{}]}, (charts.Chart, [{}])),
        ({"type": "line"}, (charts.Chart, [])),
    ],
)
def test_charts(told: dict[str, Any], expected: tuple[type[charts.Chart], list[Any]]) -> None:
    chart = charts.parse(told)
    assert chart is not None
    assert (type(chart), chart.elements, chart.type, chart.raw) == (*expected, told["type"], told)


def test_a_line_chart_and_a_figure_of_several() -> None:
    chart = charts.parse({"type": "superchart", "title": "S", "elements": [LINE, LINE, None]})
    assert isinstance(chart, charts.SuperChart)
    line, _ = chart.elements
    assert isinstance(line, charts.LineChart)
    assert line.elements == [charts.Points("a", [(0, 1), (1, "b")])]
    assert (line.title, line.x_label, line.x_unit, line.y_unit) == ("T", "x (s)", "s", None)
    assert (line.x_ticks, line.x_scale, line.y_tick_labels, line.y_scale) == ([0, 1], "linear", ["½"], "log")


def test_an_execution_in_a_notebook() -> None:
    results = [CodeResult(png=PNG), CodeResult(html="<b>h</b>"), CodeResult(svg="<svg/>"), CodeResult(text="<2>")]
    error = CodeError("E", "v", "\x1b[31mred\x1b[0m & more")
    page = Execution(results, Logs(["<o>"], []), error)._repr_html_()
    assert page.splitlines() == [
        '<pre style="">&lt;o&gt;</pre>',
        f'<img alt="" src="data:image/png;base64,{base64.b64encode(PNG).decode()}">',
        "<b>h</b>",
        "<svg/>",
        '<pre style="">&lt;2&gt;</pre>',
        '<pre style="background:#fdd">red &amp; more</pre>',
    ]
    assert Execution()._repr_html_() == ""


def test_a_context_without_an_id() -> None:
    with pytest.raises(Internal):
        CodeContext.from_json({"language": "python"})
