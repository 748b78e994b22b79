"""The few ways in which a figure is drawn: curves over steps, maps over steps, bars."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gdro.core.types import FloatArray
from gdro.report.style import (
    BOTTOM,
    GRID,
    HEAT,
    HEIGHT,
    INK,
    MUTED,
    TOP,
    Panel,
    axis,
    exact,
    layout,
    numbers,
)


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
    bands: Sequence[dict[str, Any]] = (),
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
        bands: From `band`; behind the curves.
    """
    height = HEIGHT
    values = [v for one in (*lines, *bands) for v in one["y"] if v is not None]
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
        shapes.append(rule(level))
        named.append((name, MUTED, level))
    if named:
        heights = [(v - low) / (high - low) for *_, v in named]
        if upside_down:
            heights = [1 - h for h in heights]
        height = max(height, TOP + BOTTOM + 15 * len(named))
        places = spread_labels(heights, 15 / (height - TOP - BOTTOM))
        notes = [
            end_label(at, name, color) for (name, color, _), at in zip(named, places, strict=True)
        ]
        right = 16 + round(7.7 * max(len(name) for name, *_ in named))
    left, end = _ends([v for one in lines for v in one["x"] if v is not None])
    span = [high, low] if upside_down else [low, high]
    frame = layout(
        x | {"range": [left, end]},
        y | {"range": span},
        height,
        right,
        shapes=shapes,
        annotations=notes,
    )
    return Panel(data=[*bands, *lines], layout=frame, title=title)


def band(
    x: Sequence[Any], low: Sequence[float], high: Sequence[float], color: str
) -> dict[str, Any]:
    """The area between two curves."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *reversed(x)],
        "y": [*numbers(low), *reversed(numbers(high))],
        "name": "",
        "line": {"width": 0, "color": color},
        "fill": "toself",
        "fillcolor": color,
        "opacity": 0.16,
        "hoverinfo": "skip",
    }


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
        values: float64[T, B], NaN is left in the colour of the grid.
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
        plot_bgcolor=GRID,
    )
    return Panel(data=[data], layout=frame, title=title)


def bars(
    names: Sequence[str],
    series: Sequence[tuple[str, Sequence[float | None], str]],
    x: str,
    y: dict[str, Any],
    *,
    title: str = "",
    form: str = ".1%",
    written: str = "",
    errors: Sequence[Sequence[tuple[float, float] | None]] | None = None,
    reference: tuple[float, str] | None = None,
    top: float | None = None,
) -> Panel:
    """Bars side by side, one group a name.

    Args:
        names: Of the groups, gone through `text`.
        series: Name, values and colour of each bar of a group.
        x: Title of the horizontal axis.
        y: Vertical axis; it begins at 0.
        title: Of the panel.
        form: Number format of the hover.
        written: Number format above the bars; "" for none.
        errors: Per series and group, how far its interval reaches down and up.
        reference: A horizontal line to compare with, and its name.
        top: End of the vertical axis; None for what the values need.
    """
    places = list(range(len(names)))
    data = []
    for i, (name, values, color) in enumerate(series):
        bar = {
            "type": "bar",
            "x": places,
            "y": list(values),
            "name": name,
            "marker": {"color": color},
            "hovertemplate": f"%{{y:{form}}} {name}<extra></extra>",
        }
        if written:
            bar |= {
                "texttemplate": f"%{{y:{written}}}",
                "textposition": "outside",
                "cliponaxis": False,
                "textangle": 0,
                "constraintext": "none",
                "textfont": {"color": INK if color == MUTED else color},
            }
        if errors is not None and any(errors[i]):
            reach = [e or (np.nan, np.nan) for e in errors[i]]
            bar["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": numbers(up for _, up in reach),
                "arrayminus": numbers(down for down, _ in reach),
                "color": INK,
                "thickness": 1,
                "width": 3,
            }
        data.append(bar)
    shapes, notes, right = [], [], 16
    if reference is not None:
        level, name = reference
        shapes = [rule(level)]
        notes = [end_label(level, name, MUTED) | {"yref": "y"}]
        right += round(7.7 * len(name))
    if top is None:
        highest = max((v for bar in data for v in bar["y"] if v is not None), default=0.0)
        if errors is not None:
            reach = (e[1] for row in errors for e in row if e)
            highest += max(reach, default=0.0)
        top = max(1.15 * max(highest, reference[0] if reference else 0.0), 0.01)
    every = -(-len(names) // 12)
    frame = layout(
        axis(
            x,
            tickmode="array",
            tickvals=places[::every],
            ticktext=list(names)[::every],
            showgrid=False,
        ),
        y | {"range": [0, top]},
        right=right,
        bargap=0.3 if len(names) > 2 else 0.5,
        bargroupgap=0.06,
        hovermode="closest",
        shapes=shapes,
        annotations=notes,
    )
    return Panel(data=data, layout=frame, title=title)


def rule(level: float) -> dict[str, Any]:
    """A dotted horizontal line."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": level,
        "y1": level,
        "line": {"color": MUTED, "width": 1, "dash": "dot"},
    }


def end_label(y: float, name: str, color: str) -> dict[str, Any]:
    """A name to the right of the frame."""
    return {
        "xref": "paper",
        "x": 1,
        "xanchor": "left",
        "xshift": 5,
        "yref": "paper",
        "y": y,
        "yanchor": "middle",
        "text": name,
        "showarrow": False,
        "font": {"color": color, "size": 12},
    }


def _ends(x: list[float]) -> tuple[float, float]:
    """The range of an axis that ends where its data end, with room for a marker."""
    pad = 0.02 * (max(x) - min(x)) or 0.5
    return min(x) - pad, max(x) + pad


def spread_labels(values: list[float], gap: float) -> list[float]:
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
