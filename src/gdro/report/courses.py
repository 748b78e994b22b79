"""Curves of several methods: the mean over seeds, with its interval."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gdro.core.types import FloatArray
from gdro.report.bins import plays
from gdro.report.charts import band, curves
from gdro.report.curriculum import hard_part
from gdro.report.methods import SCORES, Comparison, average
from gdro.report.paths import lead_of_rollouts, lead_of_weight
from gdro.report.runs import Run
from gdro.report.style import Figure, axis, exact, line, numbers, smooth, text, thin

POINTS = 200
"""Most points of a run's curve before seeds are averaged."""
_LOOK = {
    "mean": "Look at the height of the curves at one and the same compute",
    "passk": "Look for curves that rise: a falling one lost prompts that it could solve before",
    "worst": "Look at who lifts the family that is lowest at that time; the mean can hide it",
}


def score(comparison: Comparison, key: str) -> Figure | str:
    """One evaluation score of every method."""
    title, score = SCORES[key]
    found = {
        method.label: [
            c
            for run in method.runs
            if (c := comparison.compute.curve(run.evals.get(run.split or "", []), score))[0]
        ]
        for method in comparison.methods
    }
    shown = f"{title[0].upper()}{title[1:]}" if key == "worst" else f"Evaluation: {title}"
    return _figure(
        comparison,
        key,
        f"{shown}, mean@k" if key == "worst" else shown,
        _LOOK[key],
        found,
        axis("", tickformat=".0%"),
        ".1%",
        marked=True,
        floor=0,
    )


def series(
    comparison: Comparison,
    key: str,
    title: str,
    caption: str,
    values: Callable[[Run], FloatArray | None],
    y: dict[str, Any],
    hover: str,
    **more: Any,
) -> Figure | str:
    """One series of every run's trace, smoothed."""
    found = {method.label: [] for method in comparison.methods}
    for method in comparison.methods:
        for run in method.runs:
            y_T = values(run) if run.trace is not None and run.trace.records else None
            if y_T is None or not np.isfinite(y_T).any():
                continue
            x_T, y_T = comparison.compute.along(run), smooth(y_T)[0]
            known = np.isfinite(y_T)
            found[method.label].append(
                (thin(x_T[known], POINTS).tolist(), thin(y_T[known], POINTS).tolist())
            )
    return _figure(comparison, key, title, caption, found, y, hover, marked=False, **more)


def _figure(
    comparison: Comparison,
    key: str,
    title: str,
    caption: str,
    found: dict[str, list[tuple[list[float], list[float]]]],
    y: dict[str, Any],
    hover: str,
    *,
    marked: bool,
    **more: Any,
) -> Figure | str:
    """The mean of each method's curves, with its interval; single curves where there is none."""
    lines, bands, intervals = [], [], False
    for method in comparison.methods:
        own, look = found[method.label], method.look
        if not own:
            continue
        x, mean, low, high = (thin(values) for values in average(own))
        if not len(x):  # the runs have no step in common
            continue
        if np.isfinite(low).any():
            bands.append(band(exact(x), low.tolist(), high.tolist(), look.color))
            intervals = True
        elif len(own) > 1:
            lines += [
                line(exact(a), numbers(b), "", look.color, width=1, opacity=0.4,
                     hoverinfo="skip")
                for a, b in own
            ]  # fmt: skip
        marks = {"mode": "lines+markers", "marker": {"size": 7, "symbol": look.symbol}}
        lines.append(
            line(
                exact(x),
                numbers(mean),
                text(method.label),
                look.color,
                dash=look.dash,
                hovertemplate=f"%{{y:{hover}}}",
                **(marks if marked else {}),
            )
        )
    if not lines:
        return "no run recorded it"
    several = any(len(own) > 1 for own in found.values())
    note = "" if not several else " (bold: mean over seeds"
    note += ", area: its 95% interval)" if intervals else ")" if several else ""
    panel = curves(lines, axis(comparison.compute.unit), y, bands=bands, **more)
    return Figure(key=key, title=title, caption=f"{caption}{note}.", panels=[panel])


def column(name: str) -> Callable[[Run], FloatArray | None]:
    """A column of the trace."""
    return lambda run: None if run.trace is None else run.trace.column(name)


def weight_lead(run: Run) -> FloatArray | None:
    """float64[T], where bins have an order and anything is weighed."""
    trace = run.trace
    return None if trace is None or trace.boundaries is None else lead_of_weight(trace)


def rollouts_lead(run: Run) -> FloatArray | None:
    """float64[T], where bins have an order."""
    trace = run.trace
    return None if trace is None or trace.boundaries is None else lead_of_rollouts(trace)


def support(run: Run) -> FloatArray | None:
    """float64[T], bins that q plays, where it has a part in the run."""
    trace = run.trace
    return trace.column("effective_support") if trace is not None and plays(trace) else None


def hard_share(run: Run) -> FloatArray | None:
    """float64[T], the unsolved third's share of each step's rollouts."""
    part_B = hard_part(run.trace) if run.trace is not None else None
    if run.trace is None or part_B is None:
        return None
    rollouts = np.nan_to_num(run.trace.per_bin("rollouts_B"))
    whole = rollouts.sum(axis=1) + np.nan_to_num(run.trace.column("unseen_rollouts"))
    return np.divide(rollouts @ part_B, whole, out=np.full(len(whole), np.nan), where=whole > 0)
