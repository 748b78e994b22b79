"""The parameters of a population, fitted to recorded runs.

Sizes and tiers are the recorded ones. What training does to them is fitted by least squares, with
the same draws for every candidate, so that simulated runs of the same configurations have the
recorded reward and share of mixed groups over the steps, and the recorded scores, by tier and in
all: those of the configuration with the most runs as they are, those of others as differences from
it, since differences are what a simulation is for.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gdro.core.types import FloatArray
from gdro.lab.simulate.population import Population
from gdro.lab.simulate.recorded import Recorded, Runs
from gdro.lab.simulate.run import simulate

FITTED = {
    "speed": (0.1, 1.2, True),
    "near": (0.0, 0.8, False),
    "novelty": (0.2, 10.0, True),
    "gain": (0.0, 0.7, False),
    "spread": (0.0, 2.0, False),
    "slip": (0.0, 0.03, False),
    "drift": (0.0, 0.25, False),
}
"""Bounds of what is fitted, and whether on a log scale. The search begins in the middle."""

PROBE = 0.1
"""Of the range of a parameter: how far off its effect is measured, well above the noise."""

DAMPING = (0.003, 0.03, 0.3)
"""Of the steps that a round tries, as shares of the curvature (Levenberg-Marquardt)."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        population: The fitted one.
        error: Root mean square of what is left, on fresh seeds: tiers count by their share;
            reward, mixed groups, either score by tier and in all, alike; and so do configurations.
        simulated: Of the fitted population, the runs as they were recorded.
    """

    population: Population
    error: float
    simulated: tuple[FloatArray, ...]


def calibrate(
    target: Recorded,
    start: Population | None = None,
    *,
    fit: Sequence[str] = tuple(FITTED),
    rounds: int = 5,
    seeds: int = 2,
    pool: Executor | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Fits a population.

    Args:
        target: What is to be met; its learning rates are relative to the population's.
        start: What is not fitted stays as it is here.
        fit: What is fitted, of `FITTED`.
        rounds: Steps of the search, each of one probe a parameter and a few trials; 0 only
            measures how far off the start is.
        seeds: Simulated runs of each configuration.
        pool: Runs the probes; None: one after the other.
        say: Told after each round how far off the best one is.
    """
    tiers = {name: getattr(target, name) for name in ("shares", "rates", "train", "test")}
    start = replace(start or Population(), **tiers)
    wanted = np.concatenate([runs.statistics(target.shares) for runs in target.runs])
    weight = np.concatenate([runs.weights(target.shares) for runs in target.runs])
    weight = np.sqrt(weight / weight.sum())
    ends = np.cumsum([len(runs.statistics(target.shares)) for runs in target.runs])
    baseline = int(np.argmax([runs.seeds for runs in target.runs]))

    def weighed(left: FloatArray) -> FloatArray:
        """The baseline's as they are; the scores of others as differences from it."""
        left, scores = left.copy(), 2 * (len(target.shares) + 1)
        last_I = np.subtract.outer(ends, np.arange(scores, 0, -1))
        others = np.arange(len(ends)) != baseline
        left[last_I[others]] -= left[last_I[baseline]]
        return weight * left

    def left_of(populations: Sequence[Population], first: int, number: int) -> list[FloatArray]:
        jobs = [(p, runs, seed) for p in populations for seed in range(first, first + number)
                for runs in target.runs]  # fmt: skip
        run_all: Any = map if pool is None else partial(pool.map, chunksize=4)
        found = np.concatenate(list(run_all(_simulated, jobs)))
        return list(found.reshape(len(populations), number, -1).mean(1) - wanted)

    def missed(populations: Sequence[Population]) -> list[FloatArray]:
        return [weighed(left) for left in left_of(populations, 0, seeds)]

    population = start
    if rounds:
        point = np.full(len(fit), 0.5)
        (here,) = missed([_at(start, fit, point)])
        for number in range(rounds):
            probe = np.diag(np.where(point + PROBE <= 1, PROBE, -PROBE))
            near = missed([_at(start, fit, x) for x in point + probe])
            slopes = np.transpose([(x - here) / h for x, h in zip(near, probe.sum(1), strict=True)])
            curvature = slopes.T @ slopes
            trials = [
                np.clip(
                    point
                    - np.linalg.solve(
                        curvature + d * np.trace(curvature) / len(fit) * np.eye(len(fit)),
                        slopes.T @ here,
                    ),
                    0,
                    1,
                )
                for d in DAMPING
            ]
            # A trial that overshoots is worse than the best probe, or than to stay.
            tried = missed([_at(start, fit, x) for x in trials])
            points, left = [point, *trials, *(point + probe)], [here, *tried, *near]
            best = int(np.argmin([np.linalg.norm(x) for x in left]))
            point, here = points[best], left[best]
            say(f"round {number + 1}: missed by {np.linalg.norm(here):.4f}")
            if best == 0:
                break
        population = _at(start, fit, point)
    (fresh,) = left_of([population], seeds, 2 * seeds)
    simulated = np.split(wanted + fresh, ends[:-1])
    return Calibration(
        population=population,
        error=float(np.linalg.norm(weighed(fresh))),
        simulated=tuple(simulated),
    )


def _at(start: Population, fit: Sequence[str], point: FloatArray) -> Population:
    """The population at a point of the unit cube."""
    values: dict[str, Any] = {}
    for name, x in zip(fit, point.tolist(), strict=True):
        low, high, logarithmic = FITTED[name]
        value = low * (high / low) ** x if logarithmic else low + (high - low) * x
        values[name] = float(f"{value:.4g}")
    return replace(start, **values)


def _simulated(job: tuple[Population, Runs, int]) -> FloatArray:
    """The statistics of a run of the same configuration."""
    population, runs, seed = job
    return runs.of_run(simulate(runs.config, population, runs.training, seed))
