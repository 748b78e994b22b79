"""Where several methods end: bars by benchmark, marks by family, paired differences."""

from typing import Any

import numpy as np

from gdro.core.seeds import Difference, t_interval
from gdro.report.charts import bars
from gdro.report.methods import (
    SCORES,
    SEEDS,
    Comparison,
    Method,
    Score,
    baseline_of,
)
from gdro.report.style import (
    COLORS,
    INK,
    MUTED,
    Figure,
    Look,
    Panel,
    axis,
    clean,
    layout,
    numbers,
    text,
)

PATTERNS = ("", "/", "x", ".")
"""Of bars beyond seven methods."""
TALL = 140
"""Most pixels of a row of marks, one a method: more than so many share its height."""


def benchmarks(comparison: Comparison) -> Figure | str:
    """Scores of every split at equal compute, a bar a method (the paper's figure 1)."""
    splits = list(dict.fromkeys(row["split"] for row in comparison.table if row["split"]))
    scores = {key: SCORES[key][0] for key in ("mean", "passk")}
    # With one split a group is a score, else a panel is.
    plan = (
        [("", [(splits[0], key) for key in scores], list(scores.values()))]
        if len(splits) == 1
        else [(scores[key], [(split, key) for split in splits], splits) for key in scores]
    )
    panels = []
    for title, places, names in plan:
        cells = [
            [_cell(comparison, method.label, *place) for place in places]
            for method in comparison.methods
        ]
        if not any(cell for row in cells for cell in row):
            continue
        panel = bars(
            [text(name) for name in names],
            [
                (text(m.label), [c.mean if c else None for c in row], m.look.color)
                for m, row in zip(comparison.methods, cells, strict=True)
            ],
            "",
            axis("", tickformat=".0%"),
            title=title,
            errors=[[_reach(c) for c in row] for row in cells],
        )
        for i, bar in enumerate(panel.data):
            shape = PATTERNS[i // len(COLORS) % len(PATTERNS)]
            bar["marker"] |= {"pattern": {"shape": shape}} if shape else {}
        panels.append(panel)
    if not panels:
        return "no run was evaluated at that compute"
    return Figure(
        key="benchmarks",
        title=f"Benchmarks at {comparison.where}",
        caption="Look for a method that is ahead on every benchmark, by more than its 95% "
        f"interval (drawn from {SEEDS} seeds on).",
        panels=panels,
        legend=legend_of(comparison),
    )


def _cell(comparison: Comparison, label: str, split: str, key: str) -> Difference | None:
    rows = (r for r in comparison.table if r["method"] == label and r["split"] == split)
    return next((row[key] for row in rows), None)


def _of_family(name: str) -> Score:
    """mean@k of a family."""
    return lambda e: e.groups.get("by_family", {}).get(name, {}).get(f"mean@{e.k}")


def families(comparison: Comparison) -> Figure | str:
    """mean@k of every family at equal compute: mean over seeds, with its interval."""
    split, compute = comparison.split, comparison.compute
    every = {
        name: None
        for run in comparison.runs
        for e in run.evals.get(split, [])
        for name in e.groups.get("by_family", {})
    }
    found: list[dict[str, list[float]]] = [
        {
            name: scores
            for name in every
            if (
                scores := [
                    v
                    for run in method.runs
                    if (v := compute.score(run.evals.get(split, []), _of_family(name))) is not None
                ]
            )
        }
        for method in comparison.methods
    ]
    best = {n: max(np.mean(own[n]) for own in found if n in own) for own in found for n in own}
    names = sorted(best, key=best.__getitem__, reverse=True)[-30:]
    if not names:
        return "no run recorded families at that compute"
    means = [{n: t_interval(own[n]) for n in names if n in own} for own in found]
    panel = _rows(
        [text(n) for n in names],
        [[own.get(n) for n in names] for own in means],
        comparison.methods,
        axis("", tickformat=".0%", range=[-0.03, 1.03]),
        "%{x:.1%}",
    )
    return Figure(
        key="families",
        title=f"mean@k by family at {comparison.where}",
        caption="Look at the lowest rows: there the methods part, while on easy families all "
        f"marks lie together (lines: 95% intervals, from {SEEDS} seeds on).",
        panels=[panel],
        legend=legend_of(comparison),
    )


def paired(comparison: Comparison) -> Figure | str:
    """Paired differences to the baseline at equal compute, in points."""
    if len(comparison.methods) < 2:
        return "it takes two methods"
    if not comparison.differences:
        return "no method shares an evaluated seed with the baseline"
    base, panels = baseline_of(comparison.methods), []
    for key, rows in comparison.differences.items():
        others = [method for method, _ in rows]
        ends = [abs(v) for _, d in rows for v in (d.mean, d.low, d.high) if v is not None]
        reach = 1.1 * max(ends) or 0.01
        pairs = [f"{d.mean:+.1%} ({d.pairs})" for _, d in rows]
        panel = _rows(
            [text(method.label) for method in others],
            [[d if i == j else None for j in range(len(rows))] for i, (_, d) in
             enumerate(rows)],
            others,
            axis("", tickformat="+.0%", range=[-reach, reach], nticks=4),
            "%{x:+.1%}",
            dodge=False,
            title=SCORES[key][0],
            at_right=pairs,
        )  # fmt: skip
        panel.layout["shapes"] = [
            {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": 0, "x1": 0,
             "line": {"color": MUTED, "width": 1, "dash": "dot"}}
        ]  # fmt: skip
        panels.append(panel)
    return Figure(
        key="paired",
        title=f"Differences to {clean(base.label)}, paired by seed, at {comparison.where}",
        caption="Look for lines that stay to the right of the dotted one: 95% t intervals of "
        "the paired differences in points, their number of pairs in brackets (a mark without "
        "a line is a single pair).",
        panels=panels,
    )


def _rows(
    names: list[str],
    cells: list[list[Difference | None]],
    methods: list[Method],
    x: dict[str, Any],
    hover: str,
    *,
    dodge: bool = True,
    title: str = "",
    at_right: list[str] | None = None,
) -> Panel:
    """One row a name, one mark a method, with its interval."""
    places, data = np.arange(len(names))[::-1], []
    step = 0.7 / len(methods) if dodge else 0.0
    for i, (method, row) in enumerate(zip(methods, cells, strict=True)):
        shift = step * ((len(methods) - 1) / 2 - i)
        reach = [_reach(c) or (0.0, 0.0) for c in row]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": text(method.label),
                "y": (places + shift).tolist(),
                "x": numbers(np.nan if c is None else c.mean for c in row),
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": numbers(up for _, up in reach),
                    "arrayminus": numbers(down for down, _ in reach),
                    "color": method.look.color,
                    "thickness": 1.5,
                    "width": 0,
                },
                "marker": {
                    "size": 9,
                    "color": method.look.color,
                    "symbol": method.look.symbol,
                },
                "hovertemplate": f"{hover} {text(method.label)}<extra></extra>",
            }
        )
    notes = [
        {"xref": "paper", "x": 1, "xanchor": "left", "xshift": 5, "y": float(y), "text": note,
         "showarrow": False, "font": {"color": INK, "size": 12}}
        for y, note in zip(places, at_right or [], strict=False)
    ]  # fmt: skip
    frame = layout(
        x,
        axis(
            "",
            tickmode="array",
            tickvals=places.tolist(),
            ticktext=names,
            range=[-0.7, len(names) - 0.3],
            showgrid=not dodge,
        ),
        height=70 + max(24, min(10 * len(methods), TALL) if dodge else 0) * max(2, len(names)),
        right=86 if at_right else 16,
        hovermode="closest",
        annotations=notes,
    )
    return Panel(data=data, layout=frame, title=title)


def legend_of(comparison: Comparison) -> list[tuple[str, Look]]:
    """Names and looks of all methods."""
    return [(method.label, method.look) for method in comparison.methods]


def _reach(cell: Difference | None) -> tuple[float, float] | None:
    """How far an interval reaches down and up."""
    if cell is None or cell.low is None or cell.high is None or cell.pairs < SEEDS:
        return None
    return cell.mean - cell.low, cell.high - cell.mean
