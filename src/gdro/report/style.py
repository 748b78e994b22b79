"""The visual language: what a figure is, and the few ways in which we draw one.

Colours are names of CSS variables (`var(--c0)`); the page's script resolves them, so that one
figure serves light, dark and print. Strings from data go through `text` before they reach plotly,
which would read `<a href=...>` in a label as a link.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gdro.core.types import FloatArray

INK, MUTED, GRID = "var(--ink)", "var(--muted)", "var(--grid)"
COLORS = [f"var(--c{i})" for i in range(7)]
DASHES = ("solid", "dash", "dot", "dashdot")
HEAT = "Cividis"
HEIGHT = 270
POINTS, CELLS = 500, 200
"""Most points of a curve and most columns of a heat map; longer runs are averaged in blocks."""

_TOP, _BOTTOM = 12, 40


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot: plotly's data and layout. Several panels of a figure stand side by side."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    title: str = ""

    @property
    def height(self) -> int:
        """CSS pixels, reserved before anything is drawn."""
        return self.layout["height"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A titled figure whose caption says, in one sentence, what to look for."""

    key: str
    title: str
    caption: str
    panels: list[Panel]
    legend: list[tuple[str, str]] = field(default_factory=list)


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
        "automargin": True,
        "tickfont": {"color": MUTED},
        **more,
    }


def layout(
    x: dict[str, Any], y: dict[str, Any], height: int = HEIGHT, right: int = 16, **more: Any
) -> dict[str, Any]:
    """The frame that all plots share."""
    return {
        "height": height,
        "xaxis": x,
        "yaxis": y,
        "showlegend": False,
        "hovermode": "x unified",
        "margin": {"l": 48, "r": right, "t": _TOP, "b": _BOTTOM, "pad": 0},
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


def curves(
    lines: list[dict[str, Any]],
    x: dict[str, Any],
    y: dict[str, Any],
    *,
    floor: float | None = None,
    ceiling: float | None = None,
    title: str = "",
    label: bool = True,
    reference: tuple[float, str] | None = None,
    upside_down: bool = False,
) -> Panel:
    """Curves on one frame, each named at its right end in its own colour.

    Args:
        lines: From `line`; those with an empty name get no label.
        x: Horizontal axis.
        y: Vertical axis.
        floor: Lowest value that the axis must show.
        ceiling: Highest value that the axis must show.
        title: Of the panel.
        label: Name the curves at their ends.
        reference: A horizontal line to compare with, and its name.
        upside_down: Small values (harder bins) at the top.
    """
    values = [v for one in lines for v in one["y"] if v is not None]
    values += [v for v in (floor, ceiling, reference and reference[0]) if v is not None]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    low, high = (low if low == floor else low - pad), (high if high == ceiling else high + pad)
    named = [
        (one["name"], one["line"]["color"], last)
        for one in lines
        if one["name"]
        if (last := next((v for v in reversed(one["y"]) if v is not None), None)) is not None
    ]
    named = named if label else []
    shapes, notes, right = [], [], 16
    if reference is not None:
        level, name = reference
        shapes.append(
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": level,
                "y1": level,
                "line": {"color": MUTED, "width": 1, "dash": "dot"},
            }
        )
        named.append((name, MUTED, level))
    if named:
        heights = [(v - low) / (high - low) for *_, v in named]
        if upside_down:
            heights = [1 - h for h in heights]
        spread = _spread(heights, 15 / (HEIGHT - _TOP - _BOTTOM))
        notes = [
            {
                "xref": "paper",
                "x": 1,
                "xanchor": "left",
                "xshift": 5,
                "yref": "paper",
                "y": at,
                "yanchor": "middle",
                "text": name,
                "showarrow": False,
                "font": {"color": color, "size": 12},
            }
            for (name, color, _), at in zip(named, spread, strict=True)
        ]
        right = 16 + round(7.7 * max(len(name) for name, *_ in named))
    left, end = _ends([v for one in lines for v in one["x"] if v is not None])
    span = [high, low] if upside_down else [low, high]
    frame = layout(
        x | {"range": [left, end]},
        y | {"range": span},
        HEIGHT,
        right,
        shapes=shapes,
        annotations=notes,
    )
    return Panel(data=lines, layout=frame, title=title)


def heat(
    x: FloatArray,
    values: FloatArray,
    names: list[str],
    title: str,
    *,
    unit: str,
    low: float | None = None,
    form: str = ".2~f",
) -> Panel:
    """A map over time: one row a bin, bin 0 (the hardest) at the top.

    Args:
        x: float64[T], where the columns stand.
        values: float64[T, B], NaN is left blank.
        names: Of the bins.
        title: Of the panel.
        unit: Of a cell, for the hover.
        low: Where the colours start; None for the smallest value.
        form: Number format of a cell.
    """
    known = values[np.isfinite(values)]
    bottom = float(known.min()) if low is None else low
    top = float(np.quantile(known, 0.995))
    if top <= bottom:
        bottom, top = bottom - 0.5, bottom + 0.5
    rows = list(range(len(names)))
    shown = rows if len(rows) <= 12 else rows[:: -(-len(rows) // 12)]
    data = {
        "type": "heatmap",
        "x": exact(x),
        "y": rows,
        "z": [numbers(row) for row in values.T],
        "colorscale": HEAT,
        "zmin": float(f"{bottom:.4g}"),
        "zmax": float(f"{top:.4g}"),
        "hovertemplate": f"step %{{x:.0f}}<br>bin %{{y}}<br>"
        f"<b>%{{z:{form}}}</b> {unit}<extra></extra>",
        "colorbar": {
            "thickness": 9,
            "outlinewidth": 0,
            "len": 1,
            "xpad": 6,
            "ypad": 0,
            "nticks": 5,
            "tickformat": form,
            "tickfont": {"size": 11, "color": MUTED},
        },
    }
    frame = layout(
        axis("step", showgrid=False),
        axis(
            "",
            showgrid=False,
            autorange="reversed",
            tickmode="array",
            tickvals=shown,
            ticktext=[names[i] for i in shown],
            ticks="",
        ),
        right=8,
        hovermode="closest",
    )
    return Panel(data=[data], layout=frame, title=title)


def blocks(values: FloatArray, most: int) -> list[np.ndarray]:
    """Indices of 0..T-1 in at most `most` blocks of neighbours."""
    return np.array_split(np.arange(len(values)), min(len(values), most)) if len(values) else []


def thin(values: FloatArray, most: int = POINTS) -> FloatArray:
    """Means over blocks of neighbours (NaN left out); axis 0 becomes at most `most` long."""
    if len(values) <= most:
        return values
    return np.array([mean(values[b]) for b in blocks(values, most)])


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


def _ends(x: list[float]) -> tuple[float, float]:
    """The range of an axis that ends where its data end, with room for a marker."""
    pad = 0.02 * (max(x) - min(x)) or 0.5
    return min(x) - pad, max(x) + pad


def _spread(values: list[float], gap: float) -> list[float]:
    """Places of labels, 0 to 1, in order and at least `gap` from each other."""
    order = sorted(range(len(values)), key=values.__getitem__)
    gap = min(gap, 1 / max(1, len(values) - 1))
    at: list[float] = []
    for i in order:
        at.append(max(values[i], at[-1] + gap) if at else max(values[i], 0.0))
    ceiling = 1.0
    for j in reversed(range(len(at))):
        at[j] = min(at[j], ceiling)
        ceiling = at[j] - gap
    places = dict(zip(order, at, strict=True))
    return [places[i] for i in range(len(values))]
