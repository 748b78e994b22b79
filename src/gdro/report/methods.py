"""Runs of one method taken together: means and intervals over seeds, at equal compute."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from gdro.core.errors import DataError
from gdro.core.seeds import Difference, on_common_knots, paired_difference, t_interval
from gdro.core.tree import leaves
from gdro.core.types import FloatArray
from gdro.report.runs import Evaluation, Run
from gdro.report.style import COLORS, DASHES, SYMBOLS, Look, clean

BASELINE = "grpo"
LOOKS = len(COLORS) * len(DASHES)
"""Methods beyond this many look like an earlier one; the page says so."""
SEEDS = 3
"""Intervals are drawn from this many seeds on: of two, Student's t reaches 13 standard errors."""
_OWN = {
    "seed", "output_dir", "eval_base", "run_name", "report_to", "heatmap_every", "samples_per_step",
    "logging_dir", "logging_steps", "save_steps", "save_strategy", "save_total_limit",
}  # fmt: skip
"""Settings of recipe.yaml in which runs of one method may differ: none moves a score."""

Score = Callable[[Evaluation], float | None]
SCORES: dict[str, tuple[str, Score]] = {
    "mean": ("mean@k", lambda e: e.mean),
    "passk": ("pass@k", lambda e: e.passk),
    "worst": ("worst family", lambda e: (e.worst_family or ("", None))[1]),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """Runs that differ in their seed alone."""

    label: str
    look: Look
    runs: list[Run]


def methods_of(runs: list[Run]) -> list[Method]:
    """Groups runs that differ in their seed alone; one whose seed is unknown or taken is alone."""
    groups: dict[str, list[Run]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for i, run in enumerate(runs):
        own = _settings(run)
        key = json.dumps(own, sort_keys=True, default=str)
        taken = {other.seed for other in groups.get(key, [])}
        if run.seed is None or run.seed in taken:
            key = f"{i}: {key}"
        groups.setdefault(key, []).append(run)
        settings[key] = own
    labels = _labels([group[0] for group in groups.values()], list(settings.values()))
    return [
        Method(
            label=label,
            look=Look(
                color=COLORS[i % len(COLORS)],
                dash=DASHES[i // len(COLORS) % len(DASHES)],
                symbol=SYMBOLS[(i + i // len(COLORS)) % len(SYMBOLS)],
            ),
            runs=group,
        )
        for i, (label, group) in enumerate(zip(labels, groups.values(), strict=True))
    ]


def _labels(runs: list[Run], settings: list[dict[str, Any]]) -> list[str]:
    """A name for the method of each run: that of the preset, of the run, or what differs."""
    presets = [run.method for run in runs]
    names = [
        clean(run.method if presets.count(run.method) == 1 else _without_seed(run), 28)
        for run in runs
    ]
    labels = []
    for name, own in zip(names, settings, strict=True):
        alike = [other for taken, other in zip(names, settings, strict=True) if taken == name]
        more = f" ({_difference(own, alike)})" if len(alike) > 1 else ""
        labels.append(clean(name + more, 60))
    return [
        label if labels.count(label) == 1 else clean(f"{name} ({run.path.name})", 60)
        for label, name, run in zip(labels, names, runs, strict=True)
    ]


def _difference(own: dict[str, Any], all_: list[dict[str, Any]]) -> str:
    """What a method sets of that in which methods differ."""
    known = dict.fromkeys(key for other in all_ for key in other)
    differs = [key for key in known if any(other.get(key) != own.get(key) for other in all_)]
    return ", ".join(f"{key.rpartition('.')[2]} {own.get(key, 'not set')}" for key in differs)


def _without_seed(run: Run) -> str:
    """The name of a run less its seed, in which alone those of a method differ."""
    return run.name.removesuffix(f"-seed{run.seed}")


def _settings(run: Run) -> dict[str, Any]:
    """All that runs of one method share, by path."""
    file, recipe = run.path / "recipe.yaml", {}
    if file.exists():
        try:
            recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (ValueError, yaml.YAMLError) as error:
            raise DataError(f"{file}: is not YAML ({error})") from None
        if not isinstance(recipe, dict):
            raise DataError(f"{file}: must hold a mapping, got {type(recipe).__name__}")
    header = run.trace.header if run.trace is not None else {}
    config = header.get("config") or run.about.get("controller")
    about = {"method": run.method, "model": run.about.get("model"), "n_mean": header.get("n_mean")}
    found = about | leaves({"gdro": config or {}} | recipe)
    return {name: value for name, value in found.items() if name not in _OWN}


class Compute:
    """What runs are compared over: cumulative rollouts if every run knows them, else steps."""

    def __init__(self, runs: list[Run]) -> None:
        self.counted = all(
            all(e.rollouts is not None for line in run.evals.values() for e in line)
            and (run.trace is None or np.isfinite(run.trace.column("rollouts")).all())
            for run in runs
        )
        self.unit = "training rollouts" if self.counted else "step"
        ends = [self.at(points[-1]) for run in runs if (points := run.evals.get(run.split or ""))]
        self.equal = min((end for end in ends if end > 0), default=0.0)
        """What every run that was evaluated in training has spent at least."""

    def at(self, evaluation: Evaluation) -> float:
        """Where an evaluation stands."""
        return float(evaluation.rollouts if self.counted else evaluation.step)  # pyright: ignore[reportArgumentType]

    def along(self, run: Run) -> FloatArray:
        """float64[T], where the steps of the trace stand."""
        assert run.trace is not None
        rollouts = run.trace.column("rollouts") if self.counted else np.array([])
        return np.cumsum(rollouts) if self.counted else run.trace.steps.astype(float)

    def curve(self, points: list[Evaluation], score: Score) -> tuple[list[float], list[float]]:
        """x and y of a score where it is known."""
        known = [(self.at(e), v) for e in points if (v := score(e)) is not None]
        return [x for x, _ in known], [v for _, v in known]

    def score(self, points: list[Evaluation], score: Score) -> float | None:
        """A score at equal compute, on a straight line between two evaluations."""
        x, y = self.curve(points, score)
        if not x or not x[0] <= self.equal <= x[-1] * (1 + 1e-9):
            return None
        return float(np.interp(self.equal, x, y))


def average(curves: list[tuple[list[float], list[float]]]) -> tuple[FloatArray, ...]:
    """x, mean, low, high over seeds, where all curves are; low and high are NaN below 3 seeds."""
    x, y_SG = on_common_knots(curves)
    inside = (x >= max(c[0][0] for c in curves)) & (x <= min(c[0][-1] for c in curves))
    x, y_SG = x[inside], y_SG[:, inside]
    ends = [t_interval(column) if len(column) >= SEEDS else None for column in y_SG.T]
    low, high = (
        np.array([getattr(e, end) if e else np.nan for e in ends], dtype=np.float64)
        for end in ("low", "high")
    )
    return x, y_SG.mean(axis=0), low, high


def table(methods: list[Method], compute: Compute) -> list[dict[str, Any]]:
    """One row a method and split: scores at equal compute with their intervals, and the cost."""
    rows = []
    for method in methods:
        splits = list(dict.fromkeys(split for run in method.runs for split in run.evals)) or [""]
        for split in splits:
            row: dict[str, Any] = {
                "method": method.label,
                "look": method.look,
                "seeds": len(method.runs),
                "split": clean(split),
                "k": next(
                    (run.evals[split][-1].k for run in method.runs if run.evals.get(split)), 0
                ),
            }
            for key, (_, score) in SCORES.items():
                found = [compute.score(run.evals.get(split, []), score) for run in method.runs]
                known = [v for v in found if v is not None]
                row[key] = t_interval(known) if known else None
            for key in ("rollouts", "tokens"):
                row[key] = _mean([run.spent(key) for run in method.runs])
            row["seconds"] = _mean([run.seconds for run in method.runs])
            rows.append(row)
    return rows


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def baseline_of(methods: list[Method]) -> Method:
    """`grpo` where it is, else the first; a variant of it is it only where there is no other."""
    of_preset = [m for m in methods if m.runs[0].method == BASELINE]
    return next((m for m in of_preset if m.label == BASELINE), [*of_preset, *methods][0])


def differences(
    methods: list[Method], compute: Compute, split: str
) -> dict[str, list[tuple[Method, Difference]]]:
    """By score, each method minus the baseline at equal compute, paired by seed.

    A method that shares no seed with the baseline is left out.
    """
    base = baseline_of(methods)
    ours = {run.seed: run for run in base.runs}
    found: dict[str, list[tuple[Method, Difference]]] = {}
    for key, (_, score) in SCORES.items():
        rows = []
        for method in methods:
            if method is base:
                continue
            pairs = [
                (a, b)
                for run in method.runs
                if run.seed is not None and run.seed in ours
                if (a := compute.score(run.evals.get(split, []), score)) is not None
                if (b := compute.score(ours[run.seed].evals.get(split, []), score)) is not None
            ]
            if pairs:
                rows.append(
                    (method, paired_difference([a for a, _ in pairs], [b for _, b in pairs]))
                )
        if rows:
            found[key] = rows
    return found


class Comparison:
    """Several runs, grouped by method, on one axis of compute."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.methods = methods_of(runs)
        self.compute = Compute(runs)
        self.split = next((run.split for run in runs if run.split), "")
        self.table = table(self.methods, self.compute)
        self.differences = differences(self.methods, self.compute, self.split)

    @property
    def where(self) -> str:
        """The compute at which methods are compared, in words."""
        return f"{self.compute.equal:,.0f} {'rollouts' if self.compute.counted else 'steps'}"
