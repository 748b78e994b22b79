"""What a run spent: time by phase, rollouts, tokens."""

import numpy as np

from gdro.core.trace import Trace
from gdro.report.runs import Run
from gdro.report.style import COLORS, INK, MUTED, Figure, Panel, axis, layout, mean, numbers

BLUE = COLORS[0]
OURS = ("plan", "observe", "rest of gdro")
"""Phases that a run without gdro does not have."""


def phases(run: Run) -> Figure | str:
    """Mean seconds of a step by phase."""
    seconds = phase_seconds(run.trace) if run.trace is not None else {}
    if not seconds:
        return "no times were recorded"
    whole = sum(seconds.values()) or 1.0
    rows = list(range(len(seconds)))[::-1]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": numbers(seconds.values()),
        "y": rows,
        "marker": {"color": [BLUE if n in OURS else MUTED for n in seconds]},
        "text": [f"{_seconds(s)} · {s / whole:.1%}" for s in seconds.values()],
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"color": INK},
        "hoverinfo": "skip",
    }
    frame = layout(
        axis("seconds a step", range=[0, 1.75 * max(seconds.values())]),
        axis("", tickmode="array", tickvals=rows, ticktext=list(seconds), showgrid=False),
        height=60 + 34 * max(3, len(rows)),
        bargap=0.35,
    )
    return Figure(
        key="phases",
        title="Time of a step",
        caption="Look at the blue bars, what gdro adds to a step: they should be too short to see.",
        panels=[Panel(data=[bars], layout=frame)],
    )


def phase_seconds(trace: Trace) -> dict[str, float]:
    """Mean seconds of a step in each phase that was timed; what no phase covers is `other`."""
    timed = {
        name: value
        for name in ("generation", "reward", "update", "plan", "observe", "hook", "step")
        if np.isfinite(value := float(mean(trace.column(f"time.{name}"))))
    }
    step, hook = timed.pop("step", 0.0), timed.pop("hook", None)
    if not timed:
        return {}
    if hook is not None:  # plan and observe are parts of it
        timed["rest of gdro"] = max(hook - sum(timed.get(name, 0.0) for name in OURS), 0.0)
    other = step - sum(timed.values())
    return timed | ({"other": other} if other > 1e-3 * step else {})


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def spent(run: Run) -> list[tuple[str, float | None, float | None, float | None]]:
    """Rows of what was spent: its name, and as far as known all of it, trained on, screened out.

    Tokens are known apart only where every rollout trained.
    """
    rows = []
    rollouts, trained = run.spent("rollouts"), run.spent("trained")
    if rollouts is not None:
        rest = None if trained is None else max(rollouts - trained, 0.0)
        rows.append(("rollouts", rollouts, trained, rest))
    tokens = run.spent("tokens")
    if tokens is not None:
        whole = trained is not None and trained == rollouts
        rows.append(
            ("completion tokens", tokens, tokens if whole else None, 0.0 if whole else None)
        )
    if run.seconds is not None:
        rows.append(("seconds of the steps", run.seconds, None, None))
    return rows
