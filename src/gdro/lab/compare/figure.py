"""The figures of a comparison: relative gains, and pass@k against rollouts. SVG and PNG."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gdro.core.errors import UnsupportedError
from gdro.core.files import write_bytes
from gdro.report.paper import color

ENDINGS: dict[str, Any] = {"svg": {"Date": None}, "png": {"Software": None}}
"""Kinds of files, with what is left out of each: the same results are the same bytes."""

DASHES = ("-", "--", ":", "-.")
COLUMNS = 3
CHARACTERS = 14
"""Of a legend, in an inch; an entry's line and space are as wide as seven."""


def draw(results: dict[str, Any], folder: Path) -> list[str]:
    """Writes the figures that the results allow, and removes those that they do not.

    Args:
        results: Of a study, as in results.json.
        folder: Where they go.

    Returns:
        Names of the SVG files.

    Raises:
        UnsupportedError: if matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise UnsupportedError(f"a figure needs {error.name}: pip install 'gdro[report]'") from None
    from matplotlib.figure import Figure

    blocks = results["suites"]
    methods = [name for name in results["methods"] if name != results["baseline"]]
    curves = [b for b in blocks.values() if "curve" in b["methods"][b["baseline"]]]
    plans: list[tuple[str, list[Any], float, Callable[..., None]]] = [
        ("gains", list(blocks.values()) if methods else [], 1.5 + 0.46 * len(methods), _gains),
        ("curves", curves, 3.6, _curves),
    ]
    style: Any = {"svg.hashsalt": "gdro", "font.size": 9, "axes.spines.top": False,
             "axes.spines.right": False, "axes.edgecolor": color("--muted"),
             "text.color": color("--ink"), "axes.labelcolor": color("--muted"),
             "xtick.color": color("--muted"), "ytick.color": color("--muted")}  # fmt: skip
    names = []
    with mpl.rc_context(style):
        for name, shown, height, panel in plans:
            if not shown:  # one of earlier results would be taken for these
                for ending in ENDINGS:
                    (folder / f"{name}.{ending}").unlink(missing_ok=True)
                continue
            across = min(len(shown), COLUMNS)
            down = -(-len(shown) // across)
            figure = Figure(figsize=(1.2 + 3.6 * across, height * down + 0.3), layout="constrained")
            share = "row" if name == "gains" else False
            axes = figure.subplots(down, across, squeeze=False, sharey=share).ravel().tolist()
            for axis, block in zip(axes, shown, strict=False):
                panel(axis, block)
                axis.set_title(f"{block['recipe']}, {len(block['seeds'])} seeds", fontsize=10,
                               loc="left")  # fmt: skip
            for axis in axes[len(shown) :]:
                axis.remove()
            handles, labels = axes[0].get_legend_handles_labels()
            fit = int(CHARACTERS * figure.get_figwidth() / (max(map(len, labels)) + 7))
            figure.legend(handles, labels, loc="outside lower center", frameon=False,
                          ncols=max(1, min(len(labels), fit)))  # fmt: skip
            for ending, about in ENDINGS.items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=ending, dpi=150, metadata=about)
                write_bytes(folder / f"{name}.{ending}", buffer.getvalue())
            names.append(f"{name}.svg")
    return names


def _gains(axis: Any, block: dict[str, Any]) -> None:
    """A forest plot: a row for each method, pass@k above mean@k."""
    k, baseline = block["k"], block["baseline"]
    others = [name for name in block["methods"] if name != baseline]
    axis.axvline(0, color=color("--muted"), linewidth=1)
    marks = ((f"pass@{k}", "--c0", "o", -0.14), (f"mean@{k}", "--c1", "s", 0.14))
    for metric, name, marker, shift in marks:
        found = [block["methods"][m]["difference"][metric].get("relative") for m in others]
        rows = [(100 * d["mean"], i + shift, d) for i, d in enumerate(found) if d]
        look = {"color": color(name), "linestyle": "none", "marker": marker, "markersize": 5}
        axis.plot([x for x, *_ in rows], [y for _, y, _ in rows], label=metric, **look)
        for _, y, d in rows:
            if d["low"] is not None:
                axis.plot([100 * d["low"], 100 * d["high"]], [y, y], color=color(name))
    axis.set_yticks(range(len(others)), others, color=color("--ink"))
    axis.set_ylim(len(others) - 0.5, -0.5)
    axis.grid(axis="x", color=color("--grid"))
    axis.set_axisbelow(True)
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:+g}%" if x else "0")
    axis.set_xlabel(f"relative to {baseline}, 95% over seeds")


def _curves(axis: Any, block: dict[str, Any]) -> None:
    """The mean over seeds with its interval, and the baseline's final height."""
    methods, baseline = block["methods"], block["baseline"]
    for i, (name, found) in enumerate(methods.items()):
        curve, own = found["curve"], color(f"--c{i % 7}")
        x, low, high = curve["rollouts"], curve["low"], curve["high"]
        axis.plot(x, curve["mean"], color=own, label=name, linestyle=DASHES[i // 7 % len(DASHES)])
        if None not in low:
            axis.fill_between(x, low, high, color=own, alpha=0.12, linewidth=0)
    axis.axhline(methods[baseline]["curve"]["mean"][-1], color=color("--muted"), linewidth=1,
                 linestyle=":")  # fmt: skip
    axis.grid(axis="y", color=color("--grid"))
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(_locator())
    axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
    axis.set_xlabel("rollouts")
    axis.set_ylabel(f"pass@{block['k']}")


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)
