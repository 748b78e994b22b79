"""Figures by bin: maps over the steps, snapshots, and the mean of the late steps."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gdro.core.trace import Trace
from gdro.core.types import FloatArray
from gdro.report.charts import bars, heat
from gdro.report.runs import Run
from gdro.report.style import CELLS, COLORS, MUTED, Figure, Look, axis, blocks, numbers, text

BLUE, ORANGE = COLORS[:2]
LATE = 0.4
"""The part of the steps, at the end, over which the paper's figure 1 takes its means."""
SNAPSHOTS = 40
"""Most places of the slider."""


def bin_names(trace: Trace) -> list[str]:
    """Each bin by its range of pass@k, `.1–.2`; static groups by their names."""
    if trace.boundaries is None:
        return [text(name, 18) for name in trace.header["bin_names"]]
    edges = [f"{edge:.3g}".lstrip("0") or "0" for edge in trace.boundaries]
    return [f"{low}–{high}" for low, high in pairwise(edges)]


def passk_name(trace: Trace) -> str:
    """`pass@8`, with the run's own k; `group` where bins are static groups."""
    if trace.boundaries is None:
        return "group"
    return f"pass@{trace.header.get('config', {}).get('difficulty', {}).get('k', 8)}"


def late(trace: Trace) -> np.ndarray:
    """Indices of the last 40% of the records."""
    count = len(trace.records)
    return np.arange(count - int(np.ceil(LATE * count)), count)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooled:
    """Means over blocks of steps that pool prompts and rollouts, not ratios: each float64[T', B].

    Attributes:
        step: float64[T'], middle of each block.
        share: Of the prompts that have a bin.
        weight: Mean weight of a prompt; NaN without one.
        mass: Share of prompts times weight.
        count: Rollouts a prompt.
        budget: Share of the rollouts.
        correct: Share of correct rollouts.
    """

    step: FloatArray
    share: FloatArray
    weight: FloatArray
    mass: FloatArray
    count: FloatArray
    budget: FloatArray
    correct: FloatArray


def pooled(trace: Trace, parts: list[np.ndarray]) -> Pooled:
    """By bin, over each of `parts`, indices of records."""
    prompts, weight = np.nan_to_num(trace.per_bin("prompts_B")), trace.per_bin("weight_B")
    rollouts, correct = trace.per_bin("rollouts_B"), trace.per_bin("correct_B")
    weighed, met = prompts * np.isfinite(weight), prompts * np.isfinite(rollouts)
    mass, came = weighed * np.nan_to_num(weight), np.nan_to_num(rollouts)
    marked = came * np.isfinite(correct)

    def ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
        a, b = (np.array([x[i].sum(axis=0) for i in parts]) for x in (top, bottom))
        shape = (len(parts), trace.num_bins)
        out = np.full(shape, np.nan)
        return np.divide(a, b, out=out, where=np.broadcast_to(b > 0, shape))

    def whole(values: FloatArray) -> FloatArray:
        return np.broadcast_to(values.sum(axis=1, keepdims=True), values.shape)

    return Pooled(
        step=np.array([trace.steps[i].mean() for i in parts]),
        share=ratio(prompts, whole(prompts)),
        weight=ratio(mass, weighed),
        mass=ratio(mass, whole(mass)),
        count=ratio(came, met),
        budget=ratio(came, whole(came)),
        correct=ratio(marked * np.nan_to_num(correct), marked),
    )


def weighs(trace: Trace) -> bool:
    """Whether any bin was ever weighed otherwise than 1."""
    weight = trace.per_bin("weight_B")
    return bool((np.abs(weight[np.isfinite(weight)] - 1) > 1e-6).any())


def plays(trace: Trace) -> bool:
    """Whether q has a part in the run: by weights, or by which prompts are drawn."""
    weigh = (trace.header.get("config", {}).get("prompt") or {}).get("weigh")
    return weighs(trace) or weigh not in (None, "none")


def _no_prompts(run: Run) -> bool:
    return run.trace is None or not np.nansum(run.trace.per_bin("prompts_B"))


def triptych(run: Run) -> Figure | str:
    """Share of prompts, weight and reward by bin and step (the paper's figure 3)."""
    if run.trace is None or _no_prompts(run):
        return "no prompts by bin were recorded"
    trace, names = run.trace, bin_names(run.trace)
    found = pooled(trace, blocks(len(trace.records), CELLS))
    panels = [
        heat(found.step, values, names, title, unit=unit, low=0, form=form)
        for values, title, unit, form, shown in (
            (found.share, "Share of prompts", "of the prompts", ".0%", True),
            (found.weight, "Weight", "mean weight", ".2~f", weighs(trace)),
            (found.correct, "Share of correct rollouts", "correct", ".0%", True),
        )
        if shown and np.isfinite(values).any()
    ]
    unseen = float(np.nansum(trace.column("unseen_prompts")))
    whole = unseen + float(np.nansum(trace.per_bin("prompts_B")))
    notes = ["grey: no prompt of that bin"]
    if unseen:
        notes.append(f"{unseen / whole:.0%} of all prompts were unseen, in no bin yet")
    if not weighs(trace):
        notes.append("all weights are 1, and not shown")
    order = (
        f"rows are bins by {passk_name(trace)}, the hardest at the top"
        if trace.boundaries
        else "one row a group"
    )
    look = (
        "prompts should move down while the weight stays bright above them"
        if weighs(trace)
        else "prompts should move down, to where most rollouts are correct"
    )
    return Figure(
        key="triptych",
        title="Prompts, weight and reward by bin",
        caption=f"Read the maps together, {order}: {look} ({'; '.join(notes)}).",
        panels=panels,
    )


def dynamics(run: Run) -> Figure | str:
    """Rollouts per prompt, and share of the budget, by bin and step (figure 8)."""
    if run.trace is None or _no_prompts(run):
        return "no prompts by bin were recorded"
    trace, names = run.trace, bin_names(run.trace)
    found = pooled(trace, blocks(len(trace.records), CELLS))
    if not all(np.isfinite(values).any() for values in (found.count, found.budget)):
        return "no rollouts by bin were recorded"
    return Figure(
        key="dynamics",
        title="Where the rollouts go",
        caption="Look for a bright band on the left map that stands above the mass on the right: "
        "a prompt there gets more rollouts than its share (grey: no prompt of that bin).",
        panels=[
            heat(found.step, found.count, names, "Rollouts a prompt", unit="rollouts a prompt"),
            heat(
                found.step,
                found.budget,
                names,
                "Share of all rollouts",
                unit="of the rollouts",
                low=0,
                form=".0%",
            ),
        ],
    )


def snapshots(run: Run) -> Figure | str:
    """Share of prompts against share of weight and of budget, along the run (figures 5 and 9)."""
    if run.trace is None or _no_prompts(run):
        return "no prompts by bin were recorded"
    trace, parts = run.trace, blocks(len(run.trace.records), SNAPSHOTS)
    found = pooled(trace, parts)
    known = np.flatnonzero(np.isfinite(found.share).any(axis=1))
    last, share = known[-1], [numbers(row) for row in found.share[known]]
    panels = []
    for title, name, values, color, shown in (
        ("Prompts and weight", "of the weight", found.mass, BLUE, weighs(trace)),
        ("Prompts and rollouts", "of the rollouts", found.budget, ORANGE, True),
    ):
        if not shown or not np.isfinite(values).any():
            continue
        other = [numbers(row) for row in values[known]]
        top = max(v for rows in (share, other) for row in rows for v in row if v is not None)
        panel = bars(
            bin_names(trace),
            [("of the prompts", numbers(found.share[last]), MUTED), (name, other[-1], color)],
            passk_name(trace),
            axis("", tickformat=".0%"),
            title=title,
            top=min(1.08 * top, 1.02),
        )
        panel.frames.extend([list(pair) for pair in zip(share, other, strict=True)])
        panels.append(panel)
    if not panels:
        return "neither weights nor rollouts by bin were recorded"
    names = [_span(trace.steps[parts[i]]) for i in known]
    legend = [(bar["name"], bar["marker"]["color"]) for p in panels for bar in p.data]
    return Figure(
        key="snapshots",
        title="Bins along the run",
        caption="Move the slider: where a coloured bar is above the grey one, the bin gets more "
        "than its share of the prompts.",
        panels=panels,
        legend=[(name, Look(color=color)) for name, color in dict(legend).items()],
        steps=names,
    )


def _span(steps: np.ndarray) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]}–{steps[-1]}"


def late_means(run: Run) -> Figure | str:
    """Weight and rollouts by bin over the last 40% of the steps (figure 1)."""
    if run.trace is None or _no_prompts(run):
        return "no prompts by bin were recorded"
    trace, rows = run.trace, late(run.trace)
    found, names = pooled(trace, [rows]), bin_names(run.trace)
    n_mean = trace.header.get("n_mean")
    budget = (n_mean, "mean") if isinstance(n_mean, int | float) else None
    panels = [
        bars(
            names,
            [(name, numbers(values[0]), color)],
            passk_name(trace),
            axis(""),
            title=title,
            form=".3~g",
            written=".2~f" if len(names) <= 6 else "",
            reference=reference,
        )
        for title, name, values, color, reference, shown in (
            ("Weight", "mean weight", found.weight, BLUE, (1, "mean"), weighs(trace)),
            ("Rollouts a prompt", "rollouts a prompt", found.count, ORANGE, budget, True),
        )
        if shown and np.isfinite(values).any()
    ]
    if not panels:
        return "neither weights nor rollouts by bin were recorded in the last 40% of the steps"
    return Figure(
        key="late",
        title=f"The last {LATE:.0%} of the steps ({_span(trace.steps[rows])})",
        caption="Look at the slope from left, the hardest bin, to right: the steeper, the more the "
        "controller presses on what is not solved."
        if trace.boundaries
        else "Look for groups above the dotted line: the controller presses on them.",
        panels=panels,
    )
