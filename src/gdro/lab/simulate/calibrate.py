"""The parameters of a population, fitted to recorded runs.

Sizes and tiers are read off the first run: tiers are the groups of `by_level` in the evaluation of
the base model, or of `by_bin` where the data have no levels, with their shares and success rates.
What training does to them is fitted by least squares, with the same draws for every candidate, so
that simulated runs of the same configuration have the recorded reward and share of mixed groups
over the steps, and the recorded scores, by tier and in all.
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
from scipy.optimize import least_squares

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
    "common": (0.0, 0.1, False),
    "memory": (0.0, 0.8, False),
    "width": (16, 512, True),
    "spread": (0.0, 3.0, False),
    "slip": (0.0, 0.1, False),
    "drift": (0.0, 10.0, False),
}
"""Bounds of what is fitted, and whether on a log scale."""

PROBE = 0.1
"""Of the range of a parameter: how far off its effect is measured, well above the noise."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A run of which only the scores after training are known.

    Attributes:
        config: Its method.
        training: Its steps, batch and learning rate, relative to that of the first run folder.
        mean: mean@8 by tier.
        passed: pass@8 by tier.
    """

    config: ControllerConfig
    training: Training
    mean: Sequence[float]
    passed: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        population: The fitted one.
        error: Root mean square of what is left: tiers count by their share; reward, mixed groups,
            either score by tier and in all, alike; and so do configurations.
        recorded: float64[S], the statistics of the runs, averaged over runs of one configuration;
            nan where unknown.
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
    scores: Sequence[Scores] = (),
    fit: Sequence[str] = tuple(FITTED),
    rounds: int = 5,
    seeds: int = 4,
    pool: Executor | None = None,
) -> Calibration:
    """Fits a population to run folders (`trace.jsonl`, `evals.jsonl`).

    Args:
        runs: The folders; of any methods, on one data set. The learning rate of the first (in its
            `recipe.yaml`) is what `Training.lr` = 1 means.
        start: Where the search begins; what is not fitted stays as it is here.
        scores: Further runs on the same data set, of which there is no folder.
        fit: What is fitted, of `FITTED`.
        rounds: At most so many steps of the search, each of one probe a parameter and a trial; 0
            only measures how far off the start is.
        seeds: Simulated runs of each configuration.
        pool: Runs the probes; None: one after the other.

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
    if any(len(s.mean) != len(first) or len(s.passed) != len(first) for s in scores):
        raise DataError(f"scores must be of the {len(first)} tiers of the runs")
    known = np.nansum(loaded[0].trace.per_bin("population_B"), 1).max(initial=1)
    start = replace(_with_tiers(start or Population(), first), train=int(known))
    recorded = _grouped(loaded, list(first), start.shares) + [_of(s, start.shares) for s in scores]
    target = np.concatenate([r.statistics for r in recorded])
    weight = np.concatenate([_weights(r.statistics, start.shares) for r in recorded])
    weight = np.sqrt(weight / weight.sum())

    def missed(x: FloatArray) -> FloatArray:
        return weight * np.nan_to_num(x - target)

    statistics = partial(_statistics, recorded=recorded, seeds=seeds)

    def slopes(point: FloatArray) -> FloatArray:
        probe = np.where(point + PROBE <= 1, PROBE, -PROBE)
        points = [point, *(point + np.diag(probe))]
        run_all = map if pool is None else pool.map
        here, *there = run_all(statistics, [_at(start, fit, x) for x in points])
        return np.transpose(
            [(missed(x) - missed(here)) / h for x, h in zip(there, probe, strict=True)]
        )

    point = np.clip(_point(start, fit), 0.01, 0.99)  # within the bounds, strictly
    population = start
    if rounds:
        found = least_squares(
            lambda point: missed(statistics(_at(start, fit, point))),
            point,
            slopes,  # pyright: ignore[reportArgumentType] (its stub says str)
            bounds=(0, 1),
            max_nfev=rounds + 1,
        )
        population = _at(start, fit, found.x)
    fresh = _statistics(population, recorded=recorded, seeds=2 * seeds, first=seeds)
    error = float(np.linalg.norm(missed(fresh)))
    return Calibration(population=population, error=error, recorded=target, simulated=fresh)


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


def _statistics(
    population: Population, recorded: list[_Recorded], seeds: int, first: int = 0
) -> FloatArray:
    parts: list[list[FloatArray]] = [[] for _ in recorded]
    for seed in range(first, first + seeds):  # one world after the other
        for r, part in zip(recorded, parts, strict=True):
            part.append(_of_simulated(simulate(r.config, population, r.training, seed)))
    return np.concatenate([np.mean(part, axis=0) for part in parts])


def _of_simulated(run: dict[str, Any]) -> FloatArray:
    after = run["after"]
    scores = [after[f"{m}@{K}"] for m in ("tier_mean", "mean", "tier_pass", "pass")]
    return _joined(run["reward"], run["mixed"], *scores)


def _joined(
    reward: Any, mixed: Any, tier_mean: Any, mean: float, tier_pass: Any, passed: float
) -> FloatArray:
    stages = [float(np.mean(part)) for x in (reward, mixed) for part in np.array_split(x, STAGES)]
    return np.array([*stages, *tier_mean, mean, *tier_pass, passed])


def _weights(statistics: FloatArray, shares: Sequence[float]) -> FloatArray:
    """Of the squares; 0 where nothing is known."""
    stages = [1 / STAGES] * STAGES
    weight = np.array([*stages, *stages, *shares, 1, *shares, 1])
    weight = np.where(np.isfinite(statistics), weight, 0)
    return weight / weight.sum()


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


def _of(scores: Scores, shares: Sequence[float]) -> _Recorded:
    unknown = np.full(STAGES, np.nan)
    mean, passed = (float(np.dot(shares, x)) for x in (scores.mean, scores.passed))
    statistics = _joined(unknown, unknown, scores.mean, mean, scores.passed, passed)
    return _Recorded(config=scores.config, training=scores.training, statistics=statistics)


def _grouped(loaded: list[_Loaded], tiers: list[str], shares: Sequence[float]) -> list[_Recorded]:
    groups: dict[str, list[tuple[_Loaded, FloatArray]]] = {}
    for run in loaded:
        mean, passed = ([run.after[t][f"{m}@{K}"] for t in tiers] for m in ("mean", "pass"))
        reward, mixed = run.trace.column("reward"), run.trace.column("mixed_fraction")
        if len(reward) < STAGES or not np.isfinite([reward, mixed]).all():
            raise DataError(f"a trace to calibrate on needs {STAGES} steps with reward and mixed")
        header = run.trace.header
        key = repr((header["config"], header["n_mean"], len(reward), run.rate))
        in_all = [float(np.dot(shares, x)) for x in (mean, passed)]
        found = _joined(reward, mixed, mean, in_all[0], passed, in_all[1])
        groups.setdefault(key, []).append((run, found))
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
