"""Figures of the curriculum along the steps: where prompts, weights and rollouts are."""

import numpy as np

from gdro.core.theory import entropy
from gdro.core.trace import Trace
from gdro.core.types import FloatArray
from gdro.report.bins import passk_name, plays, weighs
from gdro.report.charts import bars, curves
from gdro.report.curriculum import curriculum_numbers, hard_part
from gdro.report.runs import Run
from gdro.report.style import (
    COLORS,
    MUTED,
    Figure,
    Look,
    Panel,
    axis,
    exact,
    line,
    numbers,
    smooth,
    thin,
)

BLUE, ORANGE, GREEN = COLORS[:3]
MASSES = (0.25, 0.5, 0.75)
"""Thresholds of pass@k at and above which the mass of the prompts is drawn."""


def mean_bin(values: FloatArray) -> FloatArray:
    """float64[T], mean bin index of float64[T, B] masses; NaN for a step without any."""
    values = np.nan_to_num(values)
    whole = values.sum(axis=1)
    index = np.arange(values.shape[1])
    return np.divide(values @ index, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def mass_above(trace: Trace, limit: float) -> FloatArray | None:
    """float64[T], share of a step's prompts whose pass@k is at least `limit` (within a bin: even).

    None for static groups.
    """
    part_B = hard_part(trace, limit)
    if part_B is None:
        return None
    prompts = np.nan_to_num(trace.per_bin("prompts_B"))
    whole = prompts.sum(axis=1)
    above = prompts @ (1 - part_B)
    return np.divide(above, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def entropies(values: FloatArray) -> FloatArray:
    """float64[T], entropy in nats of float64[T, B] masses; NaN for a step without any."""
    values = np.nan_to_num(values)
    sums = values.sum(axis=1)
    return np.array(
        [entropy(v / s) if s > 0 else np.nan for v, s in zip(values, sums, strict=True)]
    )


def drift(run: Run) -> Figure | str:
    """Mean bin, mass above thresholds, bins in use: of prompts, weights and rollouts (figure 4)."""
    if run.trace is None or not np.nansum(run.trace.per_bin("prompts_B")):
        return "no prompts by bin were recorded"
    trace = run.trace
    prompts, rollouts = trace.per_bin("prompts_B"), trace.per_bin("rollouts_B")
    nothing = np.full(len(trace.records), np.nan)
    x = exact(thin(trace.steps.astype(float)))

    def lines(*named: tuple[str, FloatArray, str]) -> list[dict]:
        return [
            line(x, numbers(thin(smooth(values)[0])), name, color)
            for name, values, color in named
            if np.isfinite(values).any()
        ]

    panels: list[Panel] = []
    if trace.boundaries is not None:
        data = mean_bin(prompts)
        drawn = lines(
            ("prompts", data, MUTED),
            ("weight", data + lead_of_weight(trace), BLUE),
            ("rollouts", mean_bin(rollouts), ORANGE),
        )
        title = "Mean bin (harder is up)"
        panels.append(curves(drawn, axis("step"), axis("bin"), upside_down=True, title=title))
        masses = [
            (f"≥ {limit:g}".replace("0.", "."), mass, color)
            for limit, color in zip(MASSES, (BLUE, ORANGE, GREEN), strict=True)
            if (mass := mass_above(trace, limit)) is not None
        ]
        share = axis("", tickformat=".0%")
        title = f"Prompts with {passk_name(trace)} of at least"
        above = [one | {"hovertemplate": "%{y:.1%}"} for one in lines(*masses)]
        panels.append(curves(above, axis("step"), share, floor=0, title=title))
    in_use = lines(
        ("prompts", np.exp(entropies(prompts)), MUTED),
        ("q", trace.column("effective_support") if plays(trace) else nothing, BLUE),
        ("rollouts", np.exp(entropies(rollouts)), ORANGE),
    )
    for one in in_use:
        one["customdata"] = [round(float(np.log(v)), 3) if v else None for v in one["y"]]
        one["hovertemplate"] = "%{y:.2f} bins, entropy %{customdata:.2f}"
    word = "bins" if trace.boundaries else "groups"
    panels.append(
        curves(
            in_use,
            axis("step"),
            axis(word),
            floor=0,
            reference=(trace.num_bins, f"all {trace.num_bins}"),
            title=f"{word.capitalize()} in use (exp of the entropy)",
        )
    )
    return Figure(
        key="drift",
        title="Where prompts, weights and rollouts are",
        caption="Look for grey that sinks to easier bins while colour stays above it, and for "
        f"neither to end in a single bin (mean over {smooth(trace.steps.astype(float))[1]} steps; "
        "hover for the entropy in nats).",
        panels=panels,
    )


def lead_of_weight(trace: Trace) -> FloatArray:
    """float64[T], mean bin of the weighted prompts minus that of the prompts; below 0 is harder.

    NaN where all weights are 1.
    """
    if not weighs(trace):
        return np.full(len(trace.records), np.nan)
    prompts = trace.per_bin("prompts_B")
    return mean_bin(prompts * trace.per_bin("weight_B")) - mean_bin(prompts)


def lead_of_rollouts(trace: Trace) -> FloatArray:
    """float64[T], mean bin of the rollouts minus that of the prompts; below 0 is harder."""
    return mean_bin(trace.per_bin("rollouts_B")) - mean_bin(trace.per_bin("prompts_B"))


def lead(run: Run) -> Figure | str:
    """How far weight and rollouts lead the data, and Eq. 32 (figure 6).

    Eq. 32 counts each bin of a batch once, however few prompts it holds: its curve moves with
    where the data are as well as with the weights, so that only the others say who leads.
    """
    if run.trace is None:
        return "no trace"
    if run.trace.boundaries is None:
        return "static groups have no order in which to lead"
    trace = run.trace
    x = exact(thin(trace.steps.astype(float)))
    weight = lead_of_weight(trace)
    alone = np.where(np.isfinite(weight), trace.column("lead_lag"), np.nan)
    lines = [
        line(x, numbers(thin(smooth(values)[0])), name, color, dash=dash)
        for name, values, color, dash in (
            ("Eq. 32", alone, MUTED, "dash"),
            ("weight", weight, BLUE, "solid"),
            ("rollouts", lead_of_rollouts(trace), ORANGE, "solid"),
        )
        if np.isfinite(values).any()
    ]
    if not lines:
        return "neither weights nor rollouts by bin were recorded"
    notes = [f"mean over {smooth(weight)[1]} steps"]
    if np.isfinite(alone).any():
        notes.append("dashed: the weights alone, each bin counted once")
    return Figure(
        key="lead",
        title="Lead and lag",
        caption="Look for solid curves above the dotted line: there weight or rollouts go to "
        "harder prompts than the data's average, by so many bins, and a gap that closes means the "
        f"policy has caught up ({'; '.join(notes)}).",
        panels=[
            curves(
                lines,
                axis("step"),
                axis("bins, harder is up"),
                reference=(0, "even"),
                upside_down=True,
            )
        ],
    )


def stages(run: Run) -> Figure | str:
    """Budget share of the unsolved third over the four quarters of the run."""
    if run.trace is None or not run.trace.records:
        return "no step was recorded"
    table = curriculum_numbers(run.trace)
    if table["hard_budget"] is None:
        return "static groups have no hardest third"
    shown = [i for i, v in enumerate(table["hard_budget"]) if v is not None]
    if not shown:
        return "no rollouts by bin were recorded"
    names = [f"{a}–{b}" if a != b else f"{a}" for a, b in (table["stages"][i] for i in shown)]
    series = [
        (name, [table[key][i] for i in shown], color)
        for name, key, color in (
            ("of the prompts", "hard_prompts", MUTED),
            ("of the rollouts", "hard_budget", BLUE),
        )
    ]
    panel = bars(names, series, "steps", axis("", tickformat=".0%"), written=".0%")
    return Figure(
        key="stages",
        title="Budget of the unsolved third",
        caption=f"Look at blue above grey: bins with {passk_name(run.trace)} below 1/3 then get "
        "more of the rollouts than they are of the prompts, in that quarter of the run (prompts "
        "that were not seen before count as outside).",
        panels=[panel],
        legend=[(name, Look(color=color)) for name, _, color in series],
    )
