"""The page of one run: its figures, tables and numbers."""

import json
from dataclasses import asdict
from typing import Any

from gdro.core.config import ControllerConfig
from gdro.core.tree import leaves
from gdro.report.allocation import frontier, mixed, noise, price, slope
from gdro.report.bins import dynamics, late_means, snapshots, triptych
from gdro.report.content import Content, sort_out
from gdro.report.cost import phase_seconds, phases, spent
from gdro.report.curriculum import curriculum_numbers
from gdro.report.health import check_health
from gdro.report.outcome import benchmarks, evaluation, families, reward
from gdro.report.paths import drift, lead, stages
from gdro.report.prompts import prompt_tables
from gdro.report.runs import Run
from gdro.report.style import clean
from gdro.report.words import count, duration

SECTIONS = {
    "Outcome": (evaluation, reward, benchmarks, families),
    "Curriculum": (triptych, drift, lead, stages, snapshots, late_means),
    "Allocation": (dynamics, frontier, slope, price, noise, mixed),
    "Cost": (phases,),
}
"""Each function returns a figure, or says why there is none."""
_ABOUT = ("method", "model", "seed", "started", "device")


def about_one(run: Run) -> Content:
    """All that the page of one run shows."""
    about = [(key, clean(run.about[key])) for key in _ABOUT if run.about.get(key) is not None]
    sections, missing = sort_out(
        {name: [(f.__name__, f(run)) for f in figures] for name, figures in SECTIONS.items()}
    )
    tables, without = prompt_tables(run)
    return Content(
        title=clean(run.name),
        about=about or [("method", clean(run.method))],
        tiles=_tiles(run),
        findings=check_health(run),
        sections=sections,
        prompts=tables,
        spent=spent(run),
        config=_config(run),
        missing=[*run.notes, *missing, *without],
        numbers=numbers_of(run),
    )


def numbers_of(run: Run) -> dict[str, Any]:
    """What summary.json says of a run: plain values, null where nothing is known."""
    return {
        "name": run.name,
        "method": run.method,
        "seed": run.seed,
        "steps": len(run.trace.records) if run.trace is not None else None,
        "spent": {name: run.spent(name) for name in ("rollouts", "trained", "tokens")},
        "seconds": run.seconds,
        "seconds_a_step": phase_seconds(run.trace) if run.trace is not None else None,
        "evaluations": {
            split: [
                {"step": e.step, "rollouts": e.rollouts, f"mean@{e.k}": e.mean}
                | {f"pass@{e.k}": e.passk, "worst_family": e.worst_family, **e.groups}
                for e in points
            ]
            for split, points in run.evals.items()
        },
        "curriculum": curriculum_numbers(run.trace) if run.trace is not None else None,
        "health": [asdict(finding) for finding in check_health(run)],
    }


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """(value, what it is, a second line) of the numbers at the top."""
    tiles = []
    points = run.evals.get(run.split or "", [])
    if points:
        first, last = points[0], points[-1]
        for name, before, after in (
            (f"mean@{last.k}", first.mean, last.mean),
            (f"pass@{last.k}", first.passk, last.passk),
        ):
            if after is not None:
                once = first is last or before is None
                change = "measured once" if once else f"from {before:.1%}"
                tiles.append((f"{after:.1%}", f"{name} on {clean(run.split)}", change))
        if (worst := last.worst_family) is not None:
            tiles.append((f"{worst[1]:.1%}", "worst family", clean(worst[0])))
    steps = len(run.trace.records) if run.trace is not None else 0
    for value, name in ((run.spent("rollouts"), "rollouts"), (run.spent("tokens"), "tokens")):
        if value is not None:
            tiles.append((count(value), name, f"{count(value / steps)} a step" if steps else ""))
    if run.seconds is not None:
        tiles.append((duration(run.seconds), "wall time", f"{steps:,} steps"))
    return tiles


def _config(run: Run) -> list[dict[str, Any]]:
    """Every leaf of the controller's configuration; `changed` where it is not the default."""
    if run.trace is None or not run.trace.header.get("config"):
        return []
    default = leaves(ControllerConfig().to_dict())
    top = {"n_mean": run.trace.header.get("n_mean")}
    return [
        {
            "path": clean(path),
            "value": _value(value),
            "default": _value(default.get(path)),
            "changed": path in default and default[path] != value,
        }
        for path, value in leaves(top | run.trace.header["config"]).items()
    ]


def _value(value: Any) -> str:
    return clean(value if isinstance(value, str) else json.dumps(value), 200)
