"""Figures of what a run achieved: evaluations, families, reward."""

import numpy as np

from gdro.report.charts import bars, curves
from gdro.report.runs import Evaluation, Run
from gdro.report.style import (
    COLORS,
    MUTED,
    Figure,
    Look,
    Panel,
    axis,
    clean,
    exact,
    known,
    layout,
    line,
    numbers,
    smooth,
    text,
    thin,
)

BLUE, ORANGE, GREEN = COLORS[:3]


def evaluation(run: Run) -> Figure | str:
    """mean@k and pass@k on the run's main split, from before to after."""
    points = run.evals.get(run.split or "", [])
    if not points:
        return "no evaluation was recorded"
    k, x = points[-1].k, [e.step for e in points]
    lines = []
    for name, values, color in (
        (f"pass@{k}", [e.passk for e in points], ORANGE),
        (f"mean@{k}", [e.mean for e in points], BLUE),
    ):
        if any(v is not None for v in values):
            marks = {"mode": "lines+markers", "marker": {"size": 7}}
            lines.append(line(x, values, name, color, hovertemplate="%{y:.1%}", **marks))
    if not lines:
        return f"the evaluations hold neither mean@{k} nor pass@{k}"
    return Figure(
        key="evaluation",
        title=f"Evaluation on {clean(run.split)}",
        caption=f"Look at how far mean@{k} rises from the first point to the last, and whether "
        f"pass@{k} rises with it: a falling pass@{k} means that the policy only sharpened "
        "what it could do already.",
        panels=[curves(lines, axis("step"), axis("", tickformat=".0%"), floor=0)],
    )


def benchmarks(run: Run) -> Figure | str:
    """mean@k and pass@k of every split, before and after (the paper's figure 1)."""
    ends = {split: (points[0], points[-1]) for split, points in run.evals.items() if points}
    if not ends:
        return "no evaluation was recorded"
    k = {pair[1].k for pair in ends.values()}
    name = f"@{k.pop()}" if len(k) == 1 else "@k"
    values = {
        f"{word}{name}": [[getattr(e, key) for e in pair] for pair in ends.values()]
        for word, key in (("mean", "mean"), ("pass", "passk"))
    }
    values = {n: rows for n, rows in values.items() if any(v is not None for r in rows for v in r)}
    if not values:
        return "the evaluations hold neither mean@k nor pass@k"
    if len(ends) == 1:  # one group a score instead of one panel a score
        values = {"": [rows[0] for rows in values.values()]}
        names = [f"mean{name}", f"pass{name}"][: len(values[""])]
    else:
        names = [text(split) for split in ends]
    panels = [
        bars(
            names,
            [
                (word, numbers(np.nan if pair[i] is None else pair[i] for pair in rows), color)
                for i, (word, color) in enumerate((("before", MUTED), ("after", BLUE)))
            ],
            "",
            axis("", tickformat=".0%"),
            title=title,
            written=".1%",
        )
        for title, rows in values.items()
    ]
    return Figure(
        key="benchmarks",
        title="Before and after"
        if len(ends) > 1
        else f"Before and after on {clean(next(iter(ends)))}",
        caption="Look for blue above grey in every pair: what rises in one and falls in another "
        "was traded, not learnt.",
        panels=panels,
        legend=[("before", Look(color=MUTED)), ("after", Look(color=BLUE))],
    )


def families(run: Run) -> Figure | str:
    """mean@k of every family (and level), before and after."""
    points = run.evals.get(run.split or "", [])
    panels = [
        p
        for key, word in (("by_family", "family"), ("by_level", "level"))
        if points and (p := _dumbbell(points, key, word))
    ]
    if not panels:
        return "no evaluation by family or level was recorded"
    return Figure(
        key="families",
        title="Before and after, by part of the suite",
        caption="Look at the lowest rows: the method is meant for them, and none should end to the "
        "left of where it began.",
        panels=panels,
        legend=[("before", Look(color=MUTED)), ("after", Look(color=BLUE))],
    )


def _dumbbell(points: list[Evaluation], key: str, word: str) -> Panel | None:
    first, last = points[0], points[-1]
    score = f"mean@{last.k}"
    after = {n: g[score] for n, g in last.groups.get(key, {}).items() if score in g}
    before = {n: g[score] for n, g in first.groups.get(key, {}).items() if score in g}
    if not after:
        return None
    names = sorted(after, key=after.__getitem__, reverse=True)
    left_out = max(0, len(names) - 30)
    names = names[-30:]
    rows = list(range(len(names)))[::-1]
    data = []
    for name, y in zip(names, rows, strict=True):
        if name in before:
            data.append(
                line([before[name], after[name]], [y, y], "", MUTED, width=1.5, hoverinfo="skip")
            )
    for label, scores, color, symbol in (
        ("before", before, MUTED, "circle-open"),
        ("after", after, BLUE, "circle"),
    ):
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": label,
                "y": rows,
                "x": numbers(scores.get(n, np.nan) for n in names),
                "marker": {
                    "color": color,
                    "size": 9,
                    "symbol": symbol,
                    "line": {"width": 2, "color": color},
                },
                "hovertemplate": f"{label} %{{x:.1%}}<extra></extra>",
            }
        )
    title = f"{score} by {word}" + (f" (the lowest 30; {left_out} more)" if left_out else "")
    labels = [text(f"{word} {name}" if name.isdigit() else name) for name in names]
    frame = layout(
        axis("", tickformat=".0%", range=[-0.03, max(1.0, *after.values()) + 0.03]),
        axis(
            "",
            tickmode="array",
            tickvals=rows,
            ticktext=labels,
            range=[-0.7, len(rows) - 0.3],
            showgrid=False,
        ),
        height=70 + 24 * max(3, len(rows)),
        hovermode="closest",
    )
    return Panel(data=data, layout=frame, title=title)


def reward(run: Run) -> Figure | str:
    """Mean correct over the rollouts of each step: raw and smoothed."""
    if run.trace is None or not known(run.trace, "reward"):
        return "no reward was recorded"
    x, raw = run.trace.steps.astype(float), run.trace.column("reward")
    curve, width = smooth(raw)
    thinned = exact(thin(x))
    lines = [
        line(thinned, numbers(thin(raw)), "", BLUE, width=1, opacity=0.35, hoverinfo="skip"),
        line(
            thinned,
            numbers(thin(curve)),
            "mean",
            BLUE,
            width=2.5,
            hovertemplate="%{y:.1%}<extra></extra>",
        ),
    ]
    return Figure(
        key="reward",
        title="Share of correct training rollouts",
        caption=f"Look for a steady rise (bold: mean over {width} steps); its height is no score, "
        "because extra rollouts for hard prompts pull it down.",
        panels=[curves(lines, axis("step"), axis("", tickformat=".0%"), floor=0, label=False)],
    )
