"""Charts as data: what a figure that code has drawn in a sandbox shows, read from `CodeResult.chart`. Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Coordinate = str | float


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Any chart. `type`: "line", "scatter", "bar", "pie", "box_and_whisker", "superchart" or "unknown", or one that a
    newer template knows. `raw`: all of it as the template told it."""

    type: str
    title: str | None
    elements: Sequence[Any]
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class AxesChart(Chart):
    """A chart with two axes; a unit is what stands in parentheses at the end of a label."""

    x_label: str | None
    y_label: str | None
    x_unit: str | None
    y_unit: str | None


@dataclass(frozen=True)
class Points:
    """One line or cloud of points. A coordinate is a number, or a text for dates (ISO 8601) and categories."""

    label: str
    points: Sequence[tuple[Coordinate, Coordinate]]


@dataclass(frozen=True, kw_only=True)
class PointChart(AxesChart):
    """Points in axes. Scales are matplotlib's ("linear", "log" ...), "datetime" or "categorical"."""

    elements: Sequence[Points]
    x_ticks: Sequence[Coordinate]
    x_tick_labels: Sequence[str]
    x_scale: str
    y_ticks: Sequence[Coordinate]
    y_tick_labels: Sequence[str]
    y_scale: str


@dataclass(frozen=True, kw_only=True)
class LineChart(PointChart):
    """Points joined by lines."""


@dataclass(frozen=True, kw_only=True)
class ScatterChart(PointChart):
    """Points by themselves."""


@dataclass(frozen=True)
class Bar:
    """One bar; `group` is what the legend calls it."""

    label: str
    group: str
    value: Coordinate


@dataclass(frozen=True, kw_only=True)
class BarChart(AxesChart):
    """Bars, standing or lying."""

    elements: Sequence[Bar]


@dataclass(frozen=True)
class Slice:
    """One slice of a pie; `angle` in degrees."""

    label: str
    angle: float
    radius: float


@dataclass(frozen=True, kw_only=True)
class PieChart(Chart):
    """A pie."""

    elements: Sequence[Slice]


@dataclass(frozen=True)
class Box:
    """One box with its whiskers, from `min` to `max`."""

    label: str
    min: float
    first_quartile: float
    median: float
    third_quartile: float
    max: float
    outliers: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class BoxChart(AxesChart):
    """Boxes with whiskers."""

    elements: Sequence[Box]


@dataclass(frozen=True, kw_only=True)
class SuperChart(Chart):
    """A figure of several charts."""

    elements: Sequence[Chart]


def parse(value: Any) -> Chart | None:
    """The chart in `value`; a plain `Chart` when its type is new or a part of it is missing, None when it is none."""
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        return None
    try:
        return _parse(value)
    except (KeyError, TypeError, ValueError):
        return _plain(value)


def _parse(value: Mapping[str, Any]) -> Chart:
    kind = value["type"]
    elements = value["elements"]
    if kind in ("line", "scatter"):
        points = [Points(one["label"], [(x, y) for x, y in one["points"]]) for one in elements]
        given = _axes(value) | {name: value[name] for name in _TICKS} | _scales(value)
        return (LineChart if kind == "line" else ScatterChart)(elements=points, **given)
    if kind == "bar":
        return BarChart(elements=[Bar(one["label"], one["group"], one["value"]) for one in elements], **_axes(value))
    if kind == "pie":
        slices = [Slice(one["label"], one["angle"], one["radius"]) for one in elements]
        return PieChart(elements=slices, **_common(value))
    if kind == "box_and_whisker":
        boxes = [Box(**{name: one[name] for name in _BOX}, outliers=one.get("outliers") or []) for one in elements]
        return BoxChart(elements=boxes, **_axes(value))
    if kind == "superchart":
        charts = [chart for one in elements if (chart := parse(one)) is not None]
        return SuperChart(elements=charts, **_common(value))
    return _plain(value)


_TICKS = ("x_ticks", "x_tick_labels", "y_ticks", "y_tick_labels")
_BOX = ("label", "min", "first_quartile", "median", "third_quartile", "max")


def _common(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": value["type"], "title": value.get("title"), "raw": value}


def _axes(value: Mapping[str, Any]) -> dict[str, Any]:
    return _common(value) | {name: value.get(name) for name in ("x_label", "y_label", "x_unit", "y_unit")}


def _scales(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.get(name) or "unknown" for name in ("x_scale", "y_scale")}


def _plain(value: Mapping[str, Any]) -> Chart:
    elements = value.get("elements")
    return Chart(elements=elements if isinstance(elements, list) else [], **_common(value))
