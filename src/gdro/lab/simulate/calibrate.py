"""The parameters of a population, fitted to recorded runs.

Sizes and tiers are read off the first run: tiers are the groups of `by_level` in the evaluation of
the base model, or of `by_bin` where the data have no levels, with their shares and success rates.
What training does to them is fitted by the cross-entropy method (Rubinstein 1999; Gaussian in a
bounded space, common random numbers), so that simulated runs of the same configuration have the
recorded reward and share of mixed groups over the steps, and the recorded scores by tier.
"""

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gdro.core.config import ControllerConfig
from gdro.core.errors import DataError
from gdro.core.trace import Trace, read_trace
from gdro.core.types import FloatArray
from gdro.lab.folder import read_jsonl
from gdro.lab.simulate.population import Population
from gdro.lab.simulate.run import K, Training, simulate

STAGES = 6
"""Stretches of a run that its reward and its mixed groups are averaged over."""

FITTED = {
    "speed": (0.001, 0.1, True),
    "share": (0.0, 0.5, False),
    "common": (0.0, 0.5, False),
    "width": (16, 512, True),
    "spread": (0.0, 3.0, False),
    "slip": (0.0, 0.1, False),
    "drift": (0.0, 10.0, False),
}
"""Bounds of what is fitted, and whether on a log scale."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        population: The fitted one.
        error: Root mean square of what is left, over all statistics.
        recorded: float64[S], the statistics of the runs, averaged over runs of one configuration.
        simulated: float64[S], the same of the fitted simulation.
    """

    population: Population
    error: float
    recorded: FloatArray
    simulated: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class _Recorded:
    """Runs of one configuration."""

    config: ControllerConfig
    training: Training
    statistics: FloatArray


def calibrate(
    runs: Sequence[Path],
    start: Population | None = None,
    *,
    fit: Sequence[str] = tuple(FITTED),
    rounds: int = 5,
    candidates: int = 16,
    seeds: int = 2,
    pool: Executor | None = None,
) -> Calibration:
    """Fits a population to run folders (`trace.jsonl`, `evals.jsonl`).

    Args:
        runs: The folders; of any methods, on one data set. The learning rate of the first (in its
            `recipe.yaml`) is what `Training.lr` = 1 means.
        start: Where the search begins; what is not fitted stays as it is here.
        fit: What is fitted, of `FITTED`.
        rounds: Of the cross-entropy method.
        candidates: Simulated in each.
        seeds: Simulated runs of each candidate and configuration.
        pool: Runs the candidates; None: one after the other.

    Raises:
        DataError: if a folder lacks the trace or the last evaluation, the first one that before
            training, or the runs have other tiers.
    """
    loaded = [_loaded(Path(run)) for run in runs]
    if not loaded:
        raise DataError("calibration needs at least one run folder")
    first = loaded[0].before
    if first is None:
        raise DataError(f"{runs[0]}: the first run needs an evaluation before training (step 0)")
    if any(set(run.after) != set(first) for run in loaded):
        raise DataError("the runs to calibrate on must be of one data set: their tiers differ")
    known = np.nansum(loaded[0].trace.per_bin("population_B"), 1).max(initial=1)
    start = replace(_with_tiers(start or Population(), first), train=int(known))
    recorded = _grouped(loaded, list(first))
    target = np.concatenate([r.statistics for r in recorded])

    rng = np.random.default_rng(0)
    mean, deviation = _point(start, fit), np.full(len(fit), 0.25)
    best: tuple[float, FloatArray] = (math.inf, mean)
    run_all = map if pool is None else pool.map
    for _ in range(rounds):
        points = np.clip(rng.normal(mean, deviation, (candidates, len(fit))), 0, 1)
        points[0] = mean if best[0] == math.inf else best[1]
        populations = [_at(start, fit, point) for point in points]
        found = list(run_all(partial(_statistics, recorded=recorded, seeds=seeds), populations))
        errors = [float(np.sqrt(np.mean((x - target) ** 2))) for x in found]
        elite = np.argsort(errors, kind="stable")[: max(candidates // 5, 2)]
        best = min(best, (errors[elite[0]], points[elite[0]]), key=lambda b: b[0])
        mean = points[elite].mean(0)
        deviation = 0.5 * deviation + 0.5 * points[elite].std(0)
    population = _at(start, fit, best[1])
    simulated = _statistics(population, recorded=recorded, seeds=2 * seeds)
    error = float(np.sqrt(np.mean((simulated - target) ** 2)))
    return Calibration(population=population, error=error, recorded=target, simulated=simulated)


def _point(population: Population, fit: Sequence[str]) -> FloatArray:
    """Where a population is in the unit cube; `_at` is its inverse."""
    point = []
    for name in fit:
        low, high, logarithmic = FITTED[name]
        value = getattr(population, name)
        ratio = math.log(value / low) / math.log(high / low) if logarithmic else None
        point.append((value - low) / (high - low) if ratio is None else ratio)
    return np.clip(point, 0, 1)


def _at(start: Population, fit: Sequence[str], point: FloatArray) -> Population:
    """The population at a point of the unit cube."""
    values: dict[str, Any] = {}
    for name, x in zip(fit, point.tolist(), strict=True):
        low, high, logarithmic = FITTED[name]
        value = low * (high / low) ** x if logarithmic else low + (high - low) * x
        values[name] = round(value) if name == "width" else float(f"{value:.4g}")
    return replace(start, **values)


def _statistics(population: Population, recorded: list[_Recorded], seeds: int) -> FloatArray:
    parts = []
    for r in recorded:
        runs = [simulate(r.config, population, r.training, seed) for seed in range(seeds)]
        parts.append(np.mean([_of_simulated(run) for run in runs], axis=0))
    return np.concatenate(parts)


def _of_simulated(run: dict[str, Any]) -> FloatArray:
    after = run["after"]
    return _joined(run["reward"], run["mixed"], after[f"tier_mean@{K}"], after[f"tier_pass@{K}"])


def _joined(reward: Any, mixed: Any, mean: Any, passed: Any) -> FloatArray:
    stages = [float(np.mean(part)) for x in (reward, mixed) for part in np.array_split(x, STAGES)]
    return np.array([*stages, *mean, *passed])


Groups = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Loaded:
    """A run's trace and learning rate, and its scores by tier before (if known) and after."""

    trace: Trace
    rate: float
    before: Groups | None
    after: Groups


def _loaded(folder: Path) -> _Loaded:
    trace, lines = read_trace(folder / "trace.jsonl"), read_jsonl(folder / "evals.jsonl")
    if not lines or lines[-1]["step"] != len(trace.records):
        raise DataError(f"{folder}: has no evaluation after the last step of its trace")
    if any(f"mean@{K}" not in line for line in (lines[0], lines[-1])):
        raise DataError(f"{folder}: its evaluations are not of k = {K}")
    name = "by_level" if "by_level" in lines[0] else "by_bin"
    if name not in lines[0]:
        raise DataError(f"{folder}: its evaluations have neither by_level nor by_bin")
    before = lines[0][name] if lines[0]["step"] == 0 else None
    recipe = folder / "recipe.yaml"
    rate = yaml.safe_load(recipe.read_text())["learning_rate"] if recipe.exists() else 1.0
    return _Loaded(trace=trace, rate=float(rate), before=before, after=lines[-1][name])


def _with_tiers(start: Population, before: Groups) -> Population:
    """Tiers as evaluated; half a right answer is added, for those with none."""
    size = sum(tier["prompts"] for tier in before.values())
    rates = []
    for tier in before.values():
        samples = tier["prompts"] * K
        rates.append((tier[f"mean@{K}"] * samples + 0.5) / (samples + 1))
    shares = tuple(tier["prompts"] / size for tier in before.values())
    return replace(start, shares=shares, rates=tuple(rates), test=round(size))


def _grouped(loaded: list[_Loaded], tiers: list[str]) -> list[_Recorded]:
    groups: dict[str, list[tuple[_Loaded, FloatArray]]] = {}
    for run in loaded:
        mean, passed = ([run.after[t][f"{m}@{K}"] for t in tiers] for m in ("mean", "pass"))
        reward, mixed = run.trace.column("reward"), run.trace.column("mixed_fraction")
        if len(reward) < STAGES or not np.isfinite([reward, mixed]).all():
            raise DataError(f"a trace to calibrate on needs {STAGES} steps with reward and mixed")
        header = run.trace.header
        key = repr((header["config"], header["n_mean"], len(reward), run.rate))
        groups.setdefault(key, []).append((run, _joined(reward, mixed, mean, passed)))
    recorded = []
    for members in groups.values():
        run = members[0][0]
        n_mean = float(run.trace.header["n_mean"])
        training = Training(
            steps=len(run.trace.records),
            prompts=round(run.trace.records[0]["budget"] / n_mean),
            n_mean=n_mean,
            lr=run.rate / loaded[0].rate,
            equal="steps",
        )
        recorded.append(
            _Recorded(
                config=ControllerConfig.from_dict(run.trace.header["config"]),
                training=training,
                statistics=np.mean([statistics for _, statistics in members], axis=0),
            )
        )
    return recorded
