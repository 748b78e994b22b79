"""What can be said of two methods from a few paired seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdro.core.errors import DataError


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


def paired_difference(
    a: Sequence[float], b: Sequence[float], confidence: float = 0.95
) -> Difference:
    """Mean of a - b with its Student t interval, `d +- t s / sqrt(n)`, n - 1 degrees of freedom.

    Raises:
        DataError: if the sequences are empty or differ in length.
    """
    from scipy.special import stdtrit  # imported here: scipy.stats is slow to load

    if len(a) != len(b) or len(a) == 0:
        raise DataError(f"pairs need two equal lengths above 0, got {len(a)} and {len(b)}")
    d = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    mean, n = float(d.mean()), len(d)
    if n == 1:
        return Difference(mean=mean, low=None, high=None, pairs=1)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2) * d.std(ddof=1) / math.sqrt(n))
    return Difference(mean=mean, low=mean - half, high=mean + half, pairs=n)
