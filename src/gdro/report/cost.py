"""What a run spent: time by phase, rollouts, tokens."""

import numpy as np

from gdro.report.runs import Run
from gdro.report.style import COLORS, INK, MUTED, Figure, Panel, axis, layout, mean, numbers

BLUE = COLORS[0]


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
        axis("seconds a step", range=[0, 1.75 * max(seconds.values())]),
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
