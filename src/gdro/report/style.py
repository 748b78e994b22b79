"""The visual language: what a figure is, its colours, its numbers and its strings.

Colours are names of CSS variables (`var(--c0)`); the page's script resolves them, so that one
figure serves light, dark and print. Strings from data go through `text` before they reach plotly,
which would read `<a href=...>` in a label as a link.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gdro.core.trace import Trace
from gdro.core.types import FloatArray

INK, MUTED, GRID = "var(--ink)", "var(--muted)", "var(--grid)"
COLORS = [f"var(--c{i})" for i in range(7)]
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
HEAT = "Cividis"
HEIGHT = 270
POINTS, CELLS = 500, 200
"""Most points of a curve and most columns of a heat map; longer runs are averaged in blocks."""

TOP, BOTTOM = 12, 40


@dataclass(frozen=True, kw_only=True)
class Look:
    """How something is drawn everywhere. A `dash` or `symbol` of "" is no part of it."""

    color: str
    dash: str = ""
    symbol: str = "circle"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot: plotly's data and layout. Several panels of a figure stand side by side.

    `frames[i][j]` is the `y` of the j-th trace at the i-th place of the figure's slider.
    """

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    title: str = ""
    frames: list[list[list[float | None]]] = field(default_factory=list)

    @property
    def height(self) -> int:
        """CSS pixels, reserved before anything is drawn."""
        return self.layout["height"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A titled figure whose caption says, in one sentence, what to look for.

    `legend` holds names and `Look`s. `steps` names the places of its slider, the last of which is
    shown first.
    """

    key: str
    title: str
    caption: str
    panels: list[Panel]
    legend: list[tuple[str, Look]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


def clean(value: object, limit: int = 60) -> str:
    """A string from data on one line: no control or direction marks, and not too long."""
    visible = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in str(value))
    short = " ".join(visible.split())
    return short if len(short) <= limit else short[: limit - 1] + "…"


def text(value: object, limit: int = 28) -> str:
    """`clean`, escaped for plotly, which reads a little HTML in every label."""
    short = clean(value, limit)
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def numbers(values: Iterable[float]) -> list[float | None]:
    """For JSON: four significant digits, NaN as null."""
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values]


def exact(values: Iterable[float]) -> list[float | None]:
    """For JSON: positions on an axis, to a tenth."""
    return [round(float(v), 1) if np.isfinite(v) else None for v in values]


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """A quiet axis."""
    return {
        "title": {"text": title, "standoff": 6, "font": {"size": 12, "color": MUTED}},
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "tickfont": {"color": MUTED},
        **more,
    }


def layout(
    x: dict[str, Any], y: dict[str, Any], height: int = HEIGHT, right: int = 16, **more: Any
) -> dict[str, Any]:
    """The frame that all plots share.

    Labels make room below and on the left only: on the right they would take it from the axis that
    chooses them, which plotly may then never finish.
    """
    return {
        "height": height,
        "xaxis": x | {"automargin": "height"},
        "yaxis": y | {"automargin": "left"},
        "showlegend": False,
        "hovermode": "x unified",
        "margin": {"l": 48, "r": right, "t": TOP, "b": BOTTOM, "pad": 0},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {
            "bgcolor": "var(--paper)",
            "bordercolor": GRID,
            "font": {"color": INK, "size": 12},
            "align": "left",
        },
        **more,
    }


def line(x: Sequence[Any], y: Sequence[Any], name: str, color: str, **more: Any) -> dict[str, Any]:
    """A curve. `name` has gone through `text`."""
    style = {"color": color, "width": more.pop("width", 2), "dash": more.pop("dash", "solid")}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "name": name,
        "line": style,
        "hovertemplate": "%{y:.3~g}",
        **more,
    }


def known(trace: Trace, *names: str) -> bool:
    """Whether every column holds a number somewhere."""
    return all(np.isfinite(trace.column(name)).any() for name in names)


def blocks(count: int, most: int) -> list[np.ndarray]:
    """Indices 0..count-1 in at most `most` blocks of neighbours, equally long but for the last."""
    width = -(-count // most) or 1
    return [np.arange(i, min(i + width, count)) for i in range(0, count, width)]


def thin(values: FloatArray, most: int = POINTS) -> FloatArray:
    """Means over blocks of neighbours (NaN left out); axis 0 becomes at most `most` long."""
    if len(values) <= most:
        return values
    return np.array([mean(values[b]) for b in blocks(len(values), most)])


def mean(values: FloatArray) -> Any:
    """Mean over axis 0 without NaN; NaN where nothing is known."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def smooth(values: FloatArray) -> tuple[FloatArray, int]:
    """A centred moving mean over about a twentieth of the run, and its width in steps."""
    half = len(values) // 40
    padded = [mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    return np.array(padded, dtype=np.float64), 2 * half + 1
