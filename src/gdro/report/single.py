"""The figures of one run. Each function returns a figure, or says why there is none."""

from itertools import pairwise

import numpy as np

from gdro.core.trace import Trace
from gdro.core.types import FloatArray
from gdro.report.curriculum import curriculum_numbers
from gdro.report.outcome import evaluation, families, known, reward
from gdro.report.runs import Run
from gdro.report.style import (
    CELLS,
    COLORS,
    INK,
    MUTED,
    Figure,
    Panel,
    axis,
    blocks,
    curves,
    exact,
    heat,
    layout,
    line,
    mean,
    numbers,
    smooth,
    text,
    thin,
)

BLUE, ORANGE, GREEN = COLORS[:3]


def bin_names(trace: Trace) -> list[str]:
    """Each bin by its range of pass@k, `.1–.2`; static groups by their names."""
    if trace.boundaries is None:
        return [text(name, 18) for name in trace.header["bin_names"]]
    edges = [f"{edge:.3g}".lstrip("0") or "0" for edge in trace.boundaries]
    return [f"{low}–{high}" for low, high in pairwise(edges)]


def passk_name(trace: Trace) -> str:
    """`pass@8`, with the run's own k."""
    return f"pass@{trace.header.get('config', {}).get('difficulty', {}).get('k', 8)}"


def triptych(run: Run) -> Figure | str:
    """Share of prompts, weight and rollouts per prompt, by bin and step."""
    if run.trace is None or not np.nansum(run.trace.per_bin("prompts_B")):
        return "no prompts by bin were recorded"
    trace, names = run.trace, bin_names(run.trace)
    x, share, weight, count = triptych_data(trace)
    unit = passk_name(trace) if trace.boundaries else "group"
    panels = [heat(x, share, names, "Share of prompts", unit="of the prompts", low=0, form=".0%")]
    if np.isfinite(weight).any():
        panels.append(heat(x, weight, names, "Weight", unit="mean weight", low=0))
    if np.isfinite(count).any():
        panels.append(heat(x, count, names, "Rollouts per prompt", unit="rollouts a prompt"))
    unseen = float(np.nansum(trace.column("unseen_prompts")))
    whole = unseen + float(np.nansum(trace.per_bin("prompts_B")))
    note = f" ({unseen / whole:.0%} of all prompts were unseen, in no bin yet.)" if unseen else ""
    order = (
        f"rows are bins by {unit}, the hardest at the top"
        if trace.boundaries
        else "one row a group"
    )
    return Figure(
        key="triptych",
        title="Prompts, weight and rollouts by bin",
        caption=f"Read the three maps together, {order}: as prompts move down, weight and rollouts "
        f"should stay bright above the mass of the prompts.{note}",
        panels=panels,
    )


def triptych_data(trace: Trace, most: int = CELLS) -> tuple[FloatArray, ...]:
    """float64[T'] middle step of a column; float64[T', B] share, mean weight, rollouts a prompt."""
    prompts, weight = np.nan_to_num(trace.per_bin("prompts_B")), trace.per_bin("weight_B")
    rollouts = trace.per_bin("rollouts_B")
    parts = blocks(prompts, most)
    x = np.array([trace.steps[b].mean() for b in parts])

    def ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
        sums = np.array([[np.nansum(a[b], axis=0) for b in parts] for a in (top, bottom)])
        return np.divide(sums[0], sums[1], out=np.full(sums[0].shape, np.nan), where=sums[1] > 0)

    whole = np.broadcast_to(prompts.sum(axis=1, keepdims=True), prompts.shape)
    weighed = np.where(np.isfinite(weight), prompts, 0)
    met = np.where(np.isfinite(rollouts), prompts, 0)
    return x, ratio(prompts, whole), ratio(weighed * weight, weighed), ratio(rollouts, met)


def lead(run: Run) -> Figure | str:
    """Mean bin of the data and of the weights, and the gap between them (Eq. 32)."""
    if run.trace is None or not known(run.trace, "lead_lag"):
        return "no lead–lag was recorded"
    prompts = np.nan_to_num(run.trace.per_bin("prompts_B"))
    whole = prompts.sum(axis=1)
    data = np.divide(
        prompts @ np.arange(prompts.shape[1]),
        whole,
        out=np.full(len(whole), np.nan),
        where=whole > 0,
    )
    gap = run.trace.column("lead_lag")
    x = exact(thin(run.trace.steps.astype(float)))
    gap_line, width = smooth(gap)
    panels = [
        curves(
            [line(x, numbers(thin(gap_line)), "lead–lag", BLUE)],
            axis("step"),
            axis("bins"),
            title="Weights minus data (harder is up)",
            label=False,
            reference=(0, "even"),
            upside_down=True,
        )
    ]
    if np.isfinite(data).any():
        both = [
            line(x, numbers(thin(smooth(values)[0])), name, color)
            for values, name, color in ((data, "data", MUTED), (data + gap, "weights", BLUE))
        ]
        panels.insert(
            0,
            curves(
                both, axis("step"), axis("bin"), upside_down=True, title="Mean bin (harder is up)"
            ),
        )
    return Figure(
        key="lead",
        title="Lead and lag",
        caption="Look for the weights above the data (values below 0): the pressure then leads the "
        f"policy to harder prompts, while a gap that closes means it has caught up "
        f"(mean over {width} steps).",
        panels=panels,
    )


def support(run: Run) -> Figure | str:
    """Effective number of bins that q plays."""
    if run.trace is None or not known(run.trace, "effective_support"):
        return "no effective support was recorded"
    x = exact(thin(run.trace.steps.astype(float)))
    entropy = numbers(thin(run.trace.column("entropy")))
    lines = [
        line(
            x,
            numbers(thin(run.trace.column("effective_support"))),
            "",
            BLUE,
            customdata=entropy,
            hovertemplate="%{y:.2f} bins, entropy %{customdata:.3f}<extra></extra>",
        )
    ]
    return Figure(
        key="support",
        title="Bins in play",
        caption="Look for the middle: at the dotted line q is uniform and the adversary plays no "
        "part, near 1 it stares at a single bin (hover for the entropy of q in nats).",
        panels=[
            curves(
                lines,
                axis("step"),
                axis("effective support of q"),
                floor=0,
                reference=(run.trace.num_bins, f"all {run.trace.num_bins} bins"),
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
    bars = []
    for name, key, color in (
        ("of the prompts", "hard_prompts", MUTED),
        ("of the rollouts", "hard_budget", BLUE),
    ):
        values = [table[key][i] for i in shown]
        bars.append(
            {
                "type": "bar",
                "x": list(range(len(shown))),
                "y": values,
                "name": name,
                "marker": {"color": color},
                "texttemplate": "%{y:.0%}",
                "textposition": "outside",
                "cliponaxis": False,
                "textangle": 0,
                "constraintext": "none",
                "textfont": {"color": color if color != MUTED else INK},
                "hovertemplate": f"%{{y:.1%}} {name}<extra></extra>",
            }
        )
    top = max(v for bar in bars for v in bar["y"] if v is not None)
    frame = layout(
        axis(
            "steps",
            tickmode="array",
            tickvals=list(range(len(shown))),
            ticktext=names,
            showgrid=False,
        ),
        axis("", tickformat=".0%", range=[0, max(1.15 * top, 0.01)]),
        bargap=0.35,
        bargroupgap=0.06,
        hovermode="closest",
    )
    return Figure(
        key="stages",
        title="Budget of the unsolved third",
        caption=f"Look at blue above grey: bins with {passk_name(run.trace)} below 1/3 then get "
        "more of the rollouts than they are of the prompts, in that quarter of the run.",
        panels=[Panel(data=bars, layout=frame)],
        legend=[(bar["name"], bar["marker"]["color"]) for bar in bars],
    )


def price(run: Run) -> Figure | str:
    """The shadow price, and the mean rollouts that it holds to the budget."""
    if run.trace is None or not known(run.trace, "price"):
        return "this allocator has no shadow price, or none was recorded"
    trace = run.trace
    x = exact(thin(trace.steps.astype(float)))
    prompts = np.nansum(trace.per_bin("prompts_B"), axis=1) + np.nan_to_num(
        trace.column("unseen_prompts")
    )
    rollouts = trace.column("rollouts")
    count = np.divide(rollouts, prompts, out=np.full(len(prompts), np.nan), where=prompts > 0)
    panels = [
        curves(
            [line(x, numbers(thin(trace.column("price"))), "price", BLUE)],
            axis("step"),
            axis("μ"),
            label=False,
            title="Shadow price",
        )
    ]
    if np.isfinite(count).any():
        n_mean = trace.header.get("n_mean")
        panels.append(
            curves(
                [line(x, numbers(thin(count)), "rollouts a prompt", ORANGE)],
                axis("step"),
                axis(""),
                label=False,
                floor=0,
                title="Rollouts a prompt",
                reference=(n_mean, "budget") if isinstance(n_mean, int | float) else None,
            )
        )
    return Figure(
        key="price",
        title="The price of a rollout",
        caption="Look for a price that settles, and for rollouts that stay on the dotted line: the "
        "budget is then met by the price and not by luck.",
        panels=panels,
    )


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


def phases(run: Run) -> Figure | str:
    """Mean seconds of a step by phase."""
    names = ("generation", "update", "plan", "observe")
    seconds = {n: float(mean(run.trace.column(f"time.{n}"))) for n in names} if run.trace else {}
    seconds = {n: s for n, s in seconds.items() if np.isfinite(s)}
    if not seconds or run.trace is None:
        return "no times were recorded"
    step = float(mean(run.trace.column("time.step")))
    if step > sum(seconds.values()):
        seconds["other"] = step - sum(seconds.values())
    whole = sum(seconds.values()) or 1.0
    rows = list(range(len(seconds)))[::-1]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": numbers(seconds.values()),
        "y": rows,
        "marker": {"color": [BLUE if n in ("plan", "observe") else MUTED for n in seconds]},
        "text": [f"{_seconds(s)} · {s / whole:.1%}" for s in seconds.values()],
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"color": INK},
        "hoverinfo": "skip",
    }
    frame = layout(
        axis("seconds a step", range=[0, 1.45 * max(seconds.values())]),
        axis("", tickmode="array", tickvals=rows, ticktext=list(seconds), showgrid=False),
        height=60 + 34 * max(3, len(rows)),
        bargap=0.35,
    )
    return Figure(
        key="phases",
        title="Time of a step",
        caption="Look at the blue bars, the controller's own work: they should be too short to "
        "see.",
        panels=[Panel(data=[bars], layout=frame)],
    )


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


SECTIONS = {
    "Outcome": (evaluation, reward, families),
    "Curriculum": (triptych, lead, support, stages),
    "Allocation": (price, noise, mixed),
    "Cost": (phases,),
}
