"""What can be said of methods from a few seeds of each: intervals, paired differences, curves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdro.core.errors import DataError
from gdro.core.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference.

    Attributes:
        mean: Mean of the differences.
        low: Lower end of the t interval; None with a single pair.
        high: Upper end.
        pairs: Number of pairs.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int


def t_interval(values: Sequence[float] | FloatArray, confidence: float = 0.95) -> Difference:
    """Mean with its Student t interval, `d +- t s / sqrt(n)`, n - 1 degrees of freedom.

    Raises:
        DataError: if there is no value.
    """
    from scipy.special import stdtrit  # imported here: scipy.stats is slow to load

    d = np.asarray(values, np.float64)
    if not len(d):
        raise DataError("a mean needs at least one value, got none")
    mean, n = float(d.mean()), len(d)
    if n == 1:
        return Difference(mean=mean, low=None, high=None, pairs=1)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2) * d.std(ddof=1) / math.sqrt(n))
    return Difference(mean=mean, low=mean - half, high=mean + half, pairs=n)


def paired_difference(
    a: Sequence[float], b: Sequence[float], confidence: float = 0.95
) -> Difference:
    """Mean of a - b with its t interval.

    Raises:
        DataError: if the sequences are empty or differ in length.
    """
    if len(a) != len(b) or len(a) == 0:
        raise DataError(f"pairs need two equal lengths above 0, got {len(a)} and {len(b)}")
    return t_interval(np.asarray(a, np.float64) - np.asarray(b, np.float64), confidence)


def on_common_knots(
    curves: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> tuple[FloatArray, FloatArray]:
    """Piecewise linear curves at all their knots, where their mean is determined by its values.

    Args:
        curves: x (increasing) and y of each; beyond its ends a curve is level.

    Returns:
        x, float64[G], and y of each curve there, float64[S, G].
    """
    knots_G = np.unique(np.concatenate([np.asarray(x, np.float64) for x, _ in curves]))
    return knots_G, np.array([np.interp(knots_G, x, y) for x, y in curves])
