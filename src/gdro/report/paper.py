"""The page's figures as PNG and SVG for a paper: the same data, drawn by matplotlib on white."""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gdro.core.errors import UnsupportedError
from gdro.core.files import write_bytes
from gdro.report.style import Figure, Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

WIDTH, ROW, ENTRY = 3.3, 0.0105, 0.16
"""Inches: a panel, which is a column of two; a CSS pixel of height; a row of the legend."""
DPI = 200
_DASH = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_SYMBOL = {
    "circle": "o",
    "circle-open": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "star": "*",
}


def draw_files(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Writes `<key>.png` and `<key>.svg` of every figure.

    Raises:
        UnsupportedError: if matplotlib is not installed.
    """
    written = []
    for figure in figures:
        canvas = draw(figure)
        for ending, about in (("svg", {"Date": None}), ("png", {"Software": None})):
            path, buffer = folder / f"{figure.key}.{ending}", io.BytesIO()
            with _style():
                canvas.savefig(buffer, format=ending, metadata=about)
            write_bytes(path, buffer.getvalue())
            written.append(path)
    return written


def draw(figure: Figure) -> "Canvas":
    """The figure by matplotlib. One with a slider is drawn at its first, middle and last place.

    Raises:
        UnsupportedError: if matplotlib is not installed.
    """
    with _style():
        from matplotlib.figure import Figure as Canvas

        places = sorted({0, len(figure.steps) // 2, len(figure.steps) - 1}) if figure.steps else [0]
        rows = [(i, _at(figure, i) if figure.steps else figure.panels) for i in places]
        across = len(figure.panels)
        height = ROW * max(panel.height for panel in figure.panels)
        beside = min(len(figure.legend), 2 * across)
        below = ENTRY * -(-len(figure.legend) // beside) if beside else 0.0
        size = (WIDTH * across, height * len(rows) + below)
        canvas = Canvas(figsize=size, dpi=DPI, layout="constrained")
        grid = canvas.subplots(len(rows), across, squeeze=False)
        for line, (place, panels) in zip(grid, rows, strict=True):
            for axes, panel in zip(line, panels, strict=True):
                _panel(axes, panel)
                # Away from the page a plot has no heading but its own.
                title = panel.title or (figure.title if across == 1 else "")
                when = f", {figure.steps[place]}" if figure.steps else ""
                axes.set_title(_plain(title) + when, fontsize=8, loc="left")
        if figure.legend:
            _legend(canvas, figure, beside)
    return canvas


def _at(figure: Figure, place: int) -> list[Panel]:
    """The panels with the slider at a place."""
    return [
        replace(
            panel,
            data=[bar | {"y": y} for bar, y in zip(panel.data, panel.frames[place], strict=True)],
        )
        for panel in figure.panels
    ]


def _style() -> Any:
    """Matplotlib's settings, in force inside of `with`."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise UnsupportedError(f"a figure needs {error.name}: pip install 'gdro[report]'") from None
    return mpl.rc_context(
        {
            "svg.hashsalt": "gdro",
            "font.size": 8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": color("--muted"),
            "axes.labelcolor": color("--muted"),
            "text.color": color("--ink"),
            "xtick.color": color("--muted"),
            "ytick.color": color("--muted"),
            "text.parse_math": False,
        }  # pyright: ignore[reportArgumentType]
    )


def color(name: str) -> str:
    """A colour of the page on light paper: `var(--c0)` or `--c0`, else as it is."""
    found = re.fullmatch(r"(?:var\()?(--\w+)\)?", name)
    return _palette()[found[1]] if found else name


def _palette() -> dict[str, str]:
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return dict(re.findall(r"(--\w+): (#\w+)", css.split("}")[0]))


def _plain(text: Any) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", str(text)))


def _floats(values: Sequence[Any]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _panel(axes: Any, panel: Panel) -> None:
    bars = [trace for trace in panel.data if trace["type"] == "bar"]
    for trace in panel.data:
        if trace["type"] == "heatmap":
            _heat(axes, trace)
        elif trace["type"] == "bar":
            _bar(axes, trace, bars.index(trace), len(bars))
        else:
            _scatter(axes, trace)
    heat = panel.data[0]["type"] == "heatmap"
    for side in ("x", "y"):
        _axis(axes, side, panel.layout[f"{side}axis"], grid=not heat)
    for shape in panel.layout.get("shapes", []):
        rule = axes.axvline if shape.get("yref") == "paper" else axes.axhline
        level = shape["x0"] if shape.get("yref") == "paper" else shape["y0"]
        rule(level, color=color(shape["line"]["color"]), linewidth=0.8, linestyle=":", zorder=1)
    for note in panel.layout.get("annotations", []):
        _note(axes, note, panel.layout)


def _scatter(axes: Any, trace: dict[str, Any]) -> None:
    x, y = _floats(trace["x"]), _floats(trace["y"])
    line, marker = trace.get("line", {}), trace.get("marker", {})
    if trace.get("fill"):
        axes.fill(x, y, color=color(trace["fillcolor"]), alpha=trace["opacity"], linewidth=0)
        return
    drawn = "lines" in trace["mode"]
    ink = color(line.get("color") or marker.get("color"))
    hollow = str(marker.get("symbol", "")).endswith("-open")
    axes.plot(
        x,
        y,
        color=ink,
        linestyle=_DASH[line.get("dash", "solid")] if drawn else "none",
        linewidth=0.7 * line.get("width", 2),
        alpha=trace.get("opacity", 1),
        marker=_SYMBOL[marker.get("symbol", "circle")] if "markers" in trace["mode"] else None,
        markersize=0.55 * marker.get("size", 6),
        markerfacecolor="white" if hollow else ink,
    )
    if "error_x" in trace:
        reach = [_floats(trace["error_x"][key]) for key in ("arrayminus", "array")]
        axes.errorbar(x, y, xerr=reach, fmt="none", ecolor=ink, elinewidth=1)


def _bar(axes: Any, trace: dict[str, Any], turn: int, count: int) -> None:
    inks = trace["marker"]["color"]
    inks = [color(c) for c in inks] if isinstance(inks, list) else color(inks)
    if trace.get("orientation") == "h":
        drawn = axes.barh(trace["y"], _floats(trace["x"]), height=0.6, color=inks)
        axes.bar_label(drawn, [_plain(t) for t in trace["text"]], fontsize=7, padding=2)
        return
    width = 0.7 / count
    x, y = _floats(trace["x"]) + width * (turn - (count - 1) / 2), _floats(trace["y"])
    hatch = trace["marker"].get("pattern", {}).get("shape") or None
    drawn = axes.bar(x, y, width=0.92 * width, color=inks, hatch=hatch)
    if "error_y" in trace:
        reach = [_floats(trace["error_y"][key]) for key in ("arrayminus", "array")]
        axes.errorbar(x, y, yerr=reach, fmt="none", ecolor=color("--ink"), elinewidth=0.7)
    if "texttemplate" in trace:
        form = re.findall(r"%\{y:(.*?)\}", trace["texttemplate"])[0]
        axes.bar_label(drawn, [_number(v, form) for v in y], fontsize=6, padding=1)


def _heat(axes: Any, trace: dict[str, Any]) -> None:
    x, z = _floats(trace["x"]), np.array([_floats(row) for row in trace["z"]])
    step = (x[-1] - x[0]) / max(len(x) - 1, 1) or 1.0
    axes.set_facecolor(color("--grid"))  # where nothing is known
    drawn = axes.imshow(
        z,
        aspect="auto",
        interpolation="nearest",
        cmap=trace["colorscale"].lower(),
        vmin=trace["zmin"],
        vmax=trace["zmax"],
        extent=(x[0] - step / 2, x[-1] + step / 2, len(z) - 0.5, -0.5),
    )
    form = trace["colorbar"]["tickformat"]
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.02, aspect=30)
    bar.ax.yaxis.set_major_formatter(lambda v, _: _number(v, form))
    bar.outline.set_visible(False)


def _axis(axes: Any, side: str, given: dict[str, Any], *, grid: bool) -> None:
    from matplotlib.ticker import NullLocator

    own = getattr(axes, f"{side}axis")
    getattr(axes, f"set_{side}label")(_plain(given["title"]["text"]))
    if given.get("type") == "log":
        getattr(axes, f"set_{side}scale")("log")
        own.set_minor_locator(NullLocator())
        if "range" in given:
            getattr(axes, f"set_{side}lim")(*(10.0**v for v in given["range"]))
    elif "range" in given:
        getattr(axes, f"set_{side}lim")(*given["range"])
    if given.get("tickmode") == "array":
        own.set_ticks(given["tickvals"], [_plain(t) for t in given["ticktext"]])
        if side == "x" and len(given["tickvals"]) > 6:
            axes.tick_params("x", labelsize=6)
    elif form := given.get("tickformat"):
        own.set_major_formatter(lambda v, _: _number(v, form))
    elif side == "x" and given.get("type") != "log":
        own.set_major_formatter(lambda v, _: f"{v / 1000:g}k" if abs(v) >= 10_000 else f"{v:g}")
    if grid and given.get("showgrid", True):
        own.grid(visible=True, color=color("--grid"), linewidth=0.6)
        axes.set_axisbelow(True)


def _note(axes: Any, note: dict[str, Any], layout: dict[str, Any]) -> None:
    """A label at its place in the data or the frame."""
    x, y = note["x"], note["y"]
    places = []
    for side, value in (("x", x), ("y", y)):
        paper = note.get(f"{side}ref") == "paper"
        log = not paper and layout[f"{side}axis"].get("type") == "log"
        places.append((10.0**value if log else value, paper))
    transform = {
        (True, True): axes.transAxes,
        (True, False): axes.get_yaxis_transform(),
        (False, False): axes.transData,
    }[places[0][1], places[1][1]]
    axes.annotate(
        _plain(note["text"]),
        (places[0][0], places[1][0]),
        xycoords=transform,
        xytext=(0.7 * note.get("xshift", 0), 0.7 * note.get("yshift", 0)),
        textcoords="offset points",
        va="center",
        ha="left",
        fontsize=7,
        color=color(note["font"]["color"]),
        annotation_clip=False,
    )


def _legend(canvas: Any, figure: Figure, beside: int) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D(
            [],
            [],
            color=color(look.color),
            linestyle=_DASH.get(look.dash, "none"),  # pyright: ignore[reportArgumentType]
            marker=_SYMBOL[look.symbol],
            markersize=4,
        )
        for _, look in figure.legend
    ]
    canvas.legend(
        marks,
        [name for name, _ in figure.legend],
        loc="outside lower center",
        frameon=False,
        ncols=beside,
        fontsize=7,
    )


def _number(value: float, form: str) -> str:
    """The few d3 formats that the figures use: `.0%`, `.1%`, `+.0%`, `.2~f`, `.3~g`."""
    if not np.isfinite(value):
        return ""
    found = re.fullmatch(r"(\+?)\.(\d)(~?)([%fg])", form)
    assert found is not None, form
    text = format(value, f"{found[1]}.{found[2]}{found[4]}")
    if found[3] and "." in text:
        text = text.rstrip("0").rstrip(".")
    return text
