"""What can be said of two methods from many prompts, and how soon a curve reaches a target."""

import numpy as np

from gdro.core.types import FloatArray

RESAMPLES = 10_000
_ROWS = 500
"""Resamples at a time: all of them by all prompts may not fit in memory."""


def bootstrap_means(
    values_NM: FloatArray, *, seed: int = 0, resamples: int = RESAMPLES, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Percentile bootstrap intervals of column means; all columns share their resamples.

    Args:
        values_NM: float64[N, M], N >= 1: one row for each of what is resampled.
        seed: Of the resamples.
        resamples: Their number.
        confidence: Coverage, in (0, 1).

    Returns:
        Lower and upper ends, float64[M].
    """
    rng, n = np.random.default_rng(seed), len(values_NM)
    means = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(_ROWS, resamples - done)) @ values_NM / n
        for done in range(0, resamples, _ROWS)
    ]
    tail = (1 - confidence) / 2
    low_M, high_M = np.quantile(np.concatenate(means), (tail, 1 - tail), axis=0)
    return low_M, high_M


def first_reach(x_G: FloatArray, y_RG: FloatArray, target_R: FloatArray) -> FloatArray:
    """Where each piecewise linear curve first reaches its target; inf where it does not.

    Args:
        x_G: float64[G], increasing.
        y_RG: float64[R, G].
        target_R: float64[R].
    """
    reached_RG = y_RG >= target_R[:, None]
    rows, at_R = np.arange(len(y_RG)), reached_RG.argmax(axis=1)
    before_R = np.maximum(at_R - 1, 0)
    y0_R, y1_R = y_RG[rows, before_R], y_RG[rows, at_R]
    rise_R = np.where(at_R > 0, y1_R - y0_R, 1.0)  # > 0 where it is reached between two knots
    part_R = np.where(at_R > 0, target_R - y0_R, 0.0) / np.where(rise_R > 0, rise_R, 1.0)
    found_R = x_G[before_R] + part_R * (x_G[at_R] - x_G[before_R])
    return np.where(reached_RG.any(axis=1), found_R, np.inf)


def reach_of_mean(
    x_G: FloatArray, y_SG: FloatArray, target_S: FloatArray, *, seed: int = 0,
    resamples: int = RESAMPLES, confidence: float = 0.95,
) -> tuple[float, float, float]:  # fmt: skip
    """Where the mean curve first reaches the mean target, with the bootstrap interval over seeds.

    Args:
        x_G: float64[G], increasing.
        y_SG: float64[S, G], the curve of each seed.
        target_S: float64[S], the target of the same seeds, which are resampled together.
        seed: Of the resamples.
        resamples: Their number.
        confidence: Coverage, in (0, 1).

    Returns:
        The estimate and the interval's ends (resamples at its ranks); inf is "not reached".
    """
    n = len(y_SG)
    weight_RS = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    drawn = first_reach(x_G, weight_RS @ y_SG, weight_RS @ target_S)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail), method="inverted_cdf")
    point = first_reach(x_G, y_SG.mean(axis=0, keepdims=True), target_S.mean(keepdims=True))
    return float(point[0]), float(low), float(high)
