"""Charts of a report as inline SVG, drawn by pygal: bars, stacked bars and lines.

A chart runs no script, loads nothing and brings no style of its own: colours and sizes are
CHART_STYLE's, from variables of the page. What a chart tells does not belong here.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET

import pygal
from pygal.etree import etree as pygal_etree
from pygal.style import Style

# The library leaves a finder of plug-ins behind, in a form that Python warns of at every later import.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

_WIDTH: Final = 820
_FONT: Final = 14
_CHARACTER: Final = 8.5
"""Width of a digit of that size, with some room."""
_BAR: Final = 42
"""Height of a bar with the space around it."""

CHART_STYLE: Final = """
.chart { overflow-x: auto; margin: .75rem 0; }
.chart svg { display: block; width: 100%; min-width: 36rem; height: auto; }
.chart text { font-family: inherit; font-size: 14px; fill: var(--text); stroke: none; }
.chart .background { fill: none; }
.chart .axis.x text { text-anchor: middle; }
.chart .axis.y text { text-anchor: end; }
.chart .axis path { stroke: none; fill: none; }
.chart .horizontal .axis.y path { stroke: none; }
.chart .vertical .axis.y path { stroke: var(--line); }
.chart .legends text { fill: var(--text); }
.chart .color-0 { fill: var(--chart-a); stroke: var(--chart-a); }
.chart .color-1 { fill: var(--chart-b); stroke: var(--chart-b); }
.chart .color-2 { fill: var(--chart-c); stroke: var(--chart-c); }
.chart .rect { stroke: none; }
.chart .rect.second { fill: var(--chart-b); }
.chart .legends rect { stroke: none; }
.chart path.line { stroke-width: 1; }
.chart .series path.line { stroke-width: 2.5; }
.chart.trend .serie-2 path.line { stroke-dasharray: 7 5; }
.chart .nofill { fill: none; }
.chart .text-overlay text { stroke: none; font-variant-numeric: tabular-nums; }
.chart .horizontalbar-graph .text-overlay text { fill: var(--text); text-anchor: start; font-weight: 600; }
.chart .horizontalstackedbar-graph .text-overlay text { fill: var(--page); font-weight: 600; }
.chart.verdicts .color-0 { fill: var(--chart-clear); }
.chart.verdicts .color-1 { fill: var(--chart-listed); }
.chart.verdicts .color-2 { fill: var(--chart-unknown); }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: int
    is_second: bool = False
    """In the second colour: it counts something else than the bars before it."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one colour, one for each label of the chart; None where there is none."""

    name: str
    values: Sequence[int | None]


def bar_chart(name: str, bars: Sequence[Bar], *, title: str, description: str) -> str:
    """Horizontal bars from top to bottom, each with its number at its end."""
    most = max((bar.value for bar in bars), default=0)
    chart = pygal.HorizontalBar(
        **_common(height=_BAR * len(bars) + 20),
        show_legend=False,
        show_x_labels=False,
        print_values=True,
        print_values_position="top",
        range=(0, _with_room(most)),
    )
    # The library draws from the bottom up.
    upwards = bars[::-1]
    chart.x_labels = [bar.label for bar in upwards]
    chart.add("", [_bar(bar) for bar in upwards])
    return _svg(chart, name, title=title, description=description)


def stacked_chart(name: str, labels: Sequence[str], series: Sequence[Series], *, title: str, description: str) -> str:
    """One horizontal bar a label, made of its parts; a part that is too narrow for its number shows none."""
    most = max((sum(values) for values in _columns(labels, series)), default=0)
    chart = pygal.HorizontalStackedBar(
        **_common(height=_BAR * len(labels) + 60),
        legend_at_bottom=True,
        legend_at_bottom_columns=len(series),
        show_x_labels=False,
        print_values=True,
        range=(0, max(most, 1)),
    )
    chart.x_labels = list(labels)[::-1]
    for one in series:
        chart.add(one.name, [_part(value or 0, most) for value in one.values[::-1]])
    return _svg(chart, name, title=title, description=description)


def line_chart(name: str, labels: Sequence[str], series: Sequence[Series], *, title: str, description: str) -> str:
    """Lines over time. Of many labels only some are shown, so that they can be read."""
    most = max((value or 0 for one in series for value in one.values), default=0)
    chart = pygal.Line(
        **_common(height=320),
        margin_right=60,
        legend_at_bottom=True,
        legend_at_bottom_columns=len(series),
        show_x_guides=False,
        dots_size=3,
        truncate_label=-1,
        allow_interruptions=True,
        range=(0, max(most, 1)),
    )
    every = -(-len(labels) // 6)
    shown = range(len(labels) - 1, -1, -every)
    chart.x_labels = [label if place in shown else "" for place, label in enumerate(labels)]
    chart.y_labels = _ticks(most)
    for one in series:
        chart.add(one.name, list(one.values))
    return _svg(chart, name, title=title, description=description)


def _common(*, height: int) -> dict[str, object]:
    # The sizes are for the layout only; the style as such is taken out again.
    style = Style(value_font_size=_FONT, label_font_size=_FONT, major_label_font_size=_FONT, legend_font_size=_FONT)
    return {
        "style": style,
        "width": _WIDTH,
        "height": height,
        "margin": 8,
        "js": (),
        "css": (),
        "value_formatter": _number,
        "no_data_text": "",
        "truncate_legend": -1,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{round(value):,}"


def _nothing(_value: float) -> str:
    return ""


def _with_room(most: int) -> float:
    """The end of the axis that leaves the longest number room behind its bar."""
    plot = _WIDTH * 0.75
    return max(most, 1) * plot / (plot - _CHARACTER * len(_number(most)) - 20)


def _bar(bar: Bar) -> dict[str, object]:
    return {"value": bar.value, "node": {"class": "rect second"}} if bar.is_second else {"value": bar.value}


def _part(value: int, most: int) -> dict[str, object]:
    width = _WIDTH * 0.75 * value / most if most else 0
    fits = width > _CHARACTER * len(_number(value)) + 8
    return {"value": value, "formatter": _number if fits else _nothing}


def _columns(labels: Sequence[str], series: Sequence[Series]) -> Iterable[list[int]]:
    return ([one.values[place] or 0 for one in series] for place in range(len(labels)))


def _ticks(most: int) -> list[int]:
    """Whole numbers from 0 in equal steps of 1, 2 or 5 times a power of ten, at most seven of them."""
    step = 1
    while most / step > 6:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return list(range(0, most + 1, step)) if most else [0, 1]


def _svg(chart: pygal.graph.graph.Graph, name: str, *, title: str, description: str) -> str:
    # Another tree library, where it happens to be installed, would give another text.
    pygal_etree.to_etree()
    chart.uuid = name
    root = chart.render_tree()
    _prune(root)
    root.attrib.pop("xmlns", None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    told = ET.Element("title", id=f"{name}-title")
    told.text = title
    described = ET.Element("desc", id=f"{name}-description")
    described.text = description
    root[:0] = [told, described]
    return f'<div class="chart {name}">{ET.tostring(root, encoding="unicode")}</div>'


def _prune(element: ET.Element) -> None:
    """Take out scripts, styles, comments, and what only a script would use."""
    for child in list(element):
        is_element = isinstance(child.tag, str)
        if not is_element or child.tag in {"defs", "title", "desc"} or "tooltip" in child.get("class", "").split():
            element.remove(child)
            continue
        child.attrib.pop("id", None)
        _prune(child)
