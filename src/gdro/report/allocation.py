"""Figures of the rollouts: their price, their frontier, and what they buy."""

from typing import Any

import numpy as np

from gdro.core.trace import Trace
from gdro.core.types import FloatArray
from gdro.core.variance import log_slope
from gdro.report.bins import bin_names, late, passk_name, pooled
from gdro.report.charts import band, curves
from gdro.report.runs import Run
from gdro.report.style import (
    COLORS,
    INK,
    MUTED,
    Figure,
    Panel,
    axis,
    exact,
    known,
    layout,
    line,
    mean,
    numbers,
    smooth,
    thin,
)

BLUE, ORANGE, GREEN = COLORS[:3]


def quantile_passk(mass: FloatArray, boundaries: tuple[float, ...], part: float) -> FloatArray:
    """float64[T], the pass@k below which `part` of float64[T, B] masses lie (within a bin: even).

    NaN for a step without mass.
    """
    found = np.full(len(mass), np.nan)
    for t, row in enumerate(np.nan_to_num(mass)):
        if row.sum() > 0:
            reached = np.concatenate([[0], np.cumsum(row) / row.sum()])
            found[t] = np.interp(part, reached, boundaries)
    return found


def frontier(run: Run) -> Figure | str:
    """The difficulty that the budget reaches, along the steps (figure 7)."""
    if run.trace is None or run.trace.boundaries is None:
        return "no bins by pass@k were recorded"
    trace, edges = run.trace, run.trace.boundaries
    budget, width = smooth(np.nan_to_num(trace.per_bin("rollouts_B")))
    prompts, _ = smooth(np.nan_to_num(trace.per_bin("prompts_B")))
    if not len(trace.records) or not budget.sum() or not prompts.sum():
        return "no rollouts by bin were recorded"
    x = thin(trace.steps.astype(float))
    low, middle, high = (thin(quantile_passk(budget, edges, part)) for part in (0.25, 0.5, 0.75))
    data = thin(quantile_passk(prompts, edges, 0.5))
    there = np.isfinite(low)
    panel = curves(
        [
            line(exact(x), numbers(data), "prompts", MUTED),
            line(exact(x), numbers(middle), "rollouts", ORANGE),
        ],
        axis("step"),
        axis(f"{passk_name(trace)}, harder is up"),
        floor=0,
        upside_down=True,
        bands=[band(exact(x[there]), low[there].tolist(), high[there].tolist(), ORANGE)],
    )
    return Figure(
        key="frontier",
        title="Budget frontier",
        caption="Look at the gap of the two lines: half of the rollouts go to prompts above the "
        "orange line, half of the prompts lie above the grey one; the area holds the middle half "
        f"of the budget (mean over {width} steps).",
        panels=[panel],
    )


def slope_points(trace: Trace) -> tuple[FloatArray, FloatArray, list[int]]:
    """Mean v and rollouts a prompt of each bin over the late steps, and which bins these are."""
    rows = late(trace)
    v_B, n_B = mean(trace.per_bin("variance_B")[rows]), pooled(trace, [rows]).count[0]
    there = np.flatnonzero((v_B > 0) & (n_B > 0))
    return v_B[there], n_B[there], there.tolist()


def slope(run: Run) -> Figure | str:
    """log n against log v, one point a bin, with the fitted slope and the square-root law's."""
    if run.trace is None or not run.trace.records:
        return "no step was recorded"
    v_B, n_B, there = slope_points(run.trace)
    found = log_slope(v_B, n_B) if len(v_B) else float("nan")
    if not np.isfinite(found):
        return "fewer than two bins have a variance and rollouts"
    names = [bin_names(run.trace)[b] for b in there]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(v_B),
        "y": numbers(n_B),
        "name": "",
        "text": names,
        "marker": {"color": BLUE, "size": 9},
        "hovertemplate": "%{text}: v %{x:.3g}, n %{y:.3g}<extra></extra>",
    }
    ends = np.array([v_B.min(), v_B.max()])
    center = np.exp([np.log(v_B).mean(), np.log(n_B).mean()])
    fits = [
        line(
            numbers(ends),
            numbers(center[1] * (ends / center[0]) ** power),
            name,
            color,
            dash=dash,
            hoverinfo="skip",
        )
        for power, name, color, dash in (
            (found, f"slope {found:.2f}", BLUE, "solid"),
            (0.5, "slope .5", MUTED, "dot"),
        )
    ]
    tops = [one["y"][-1] for one in fits]
    both = [*n_B, *(v for one in fits for v in one["y"])]
    frame = layout(
        axis("variance estimate v", **_log_axis(ends)),
        axis("rollouts a prompt", **_log_axis(np.array(both))),
        right=92,
        hovermode="closest",
        annotations=[
            {
                "x": float(np.log10(ends[1])),
                "y": float(np.log10(top)),
                "xanchor": "left",
                "xshift": 12,
                "yshift": shift,
                "text": one["name"],
                "showarrow": False,
                "font": {"color": one["line"]["color"] if one is fits[0] else INK, "size": 12},
            }
            for one, top, shift in zip(
                fits, tops, (7, -7) if tops[0] > tops[1] else (-7, 7), strict=True
            )
        ],
    )
    return Figure(
        key="slope",
        title="Rollouts against variance",
        caption="Compare the solid line with the dotted one, the square-root law: below its slope, "
        "rollouts go where prompts are hard rather than where the gradient is noisy (a point a "
        "bin, last 40% of the steps).",
        panels=[Panel(data=[*fits, points], layout=frame)],
    )


def _log_axis(values: FloatArray) -> dict[str, Any]:
    """A logarithmic axis with ticks at 1, 2 and 5."""
    low, high = np.log10(values.min()), np.log10(values.max())
    pad = 0.08 * (high - low) or 0.1
    low, high = float(low - pad), float(high + pad)
    decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 3, 5, 7)]
    ticks = [t for t in ticks if low <= np.log10(t) <= high]
    if len(ticks) > 6:
        ticks = [t for t in ticks if f"{t:e}"[0] in "125"]
    names = [f"{t:.3g}" for t in ticks]
    return {
        "type": "log", "range": [low, high], "tickmode": "array", "tickvals": ticks,
        "ticktext": names,
    }  # fmt: skip


def price(run: Run) -> Figure | str:
    """The shadow price, and the mean rollouts that it holds to the budget."""
    if run.trace is None:
        return "no trace"
    trace, panels = run.trace, []
    x = exact(thin(trace.steps.astype(float)))
    if known(trace, "price"):
        prices = [line(x, numbers(thin(trace.column("price"))), "price", BLUE)]
        panels.append(curves(prices, axis("step"), axis("μ"), label=False, title="Shadow price"))
    count = mean_rollouts(trace)
    if np.isfinite(count).any():
        n_mean = trace.header.get("n_mean")
        panels.append(
            curves(
                [line(x, numbers(thin(count)), "rollouts a prompt", ORANGE)],
                axis("step"),
                axis(""),
                label=False,
                floor=0,
                title="Rollouts a prompt, all prompts",
                reference=(n_mean, "budget") if isinstance(n_mean, int | float) else None,
            )
        )
    if not panels:
        return "neither a price nor rollouts were recorded"
    return Figure(
        key="price",
        title="The price of a rollout" if len(panels) == 2 else "Rollouts and their budget",
        caption="Look for a price that settles, and for rollouts that stay on the dotted line: the "
        "budget is then met by the price and not by luck."
        if len(panels) == 2
        else "Look for rollouts that stay on the dotted line: every step then costs the same (this "
        "allocator has no shadow price, or none was recorded).",
        panels=panels,
    )


def mean_rollouts(trace: Trace) -> FloatArray:
    """float64[T], rollouts of a step over its prompts, unseen ones among them."""
    prompts = np.nansum(trace.per_bin("prompts_B"), axis=1)
    prompts = prompts + np.nan_to_num(trace.column("unseen_prompts"))
    out = np.full(len(prompts), np.nan)
    return np.divide(trace.column("rollouts"), prompts, out=out, where=prompts > 0)


def noise(run: Run) -> Figure | str:
    """WSE and VarProxy against the uniform allocation, as ratios."""
    lines = []
    for name, key, color in (("WSE", "wse", BLUE), ("VarProxy", "varproxy", ORANGE)):
        if run.trace is not None and known(run.trace, key, f"{key}_uniform"):
            base = run.trace.column(f"{key}_uniform")
            ratio = np.divide(
                run.trace.column(key), base, out=np.full(len(base), np.nan), where=base > 0
            )
            lines.append(
                line(
                    exact(thin(run.trace.steps.astype(float))),
                    numbers(thin(smooth(ratio)[0])),
                    name,
                    color,
                )
            )
    if not lines:
        return "neither WSE nor VarProxy was recorded"
    return Figure(
        key="noise",
        title="Gradient noise against uniform rollouts",
        caption="Look for curves below 1: the same rollouts then buy a less noisy gradient; an "
        "allocator that favours hard prompts may pay for it here.",
        panels=[curves(lines, axis("step"), axis("ratio"), reference=(1, "uniform"))],
    )


def mixed(run: Run) -> Figure | str:
    """Groups that carry a gradient at all."""
    if run.trace is None or not known(run.trace, "mixed_fraction"):
        return "no share of mixed groups was recorded"
    curve, width = smooth(run.trace.column("mixed_fraction"))
    lines = [
        line(
            exact(thin(run.trace.steps.astype(float))),
            numbers(thin(curve)),
            "mixed",
            GREEN,
            hovertemplate="%{y:.1%}<extra></extra>",
        )
    ]
    return Figure(
        key="mixed",
        title="Groups with a gradient",
        caption="Look for a high and level share: a group that is all right or all wrong teaches "
        f"GRPO nothing, whatever its weight (mean over {width} steps).",
        panels=[curves(lines, axis("step"), axis("", tickformat=".0%"), floor=0, label=False)],
    )
