"""The chi-square ambiguity set: mixtures within a radius of the base measure (method D10)."""

import numpy as np

from gdro.core.types import FloatArray


def chi_square(score_B: FloatArray, base_B: FloatArray, rho: float) -> FloatArray:
    """argmax of q.S over sum_b (q - base)^2 / base <= rho.

    q = base * (S - x)_+ up to scale. The divergence grows with x, so x is found by bisection;
    once rho admits it, the mass is on the largest score alone.
    """
    held = base_B > 0
    spread = np.ptp(score_B[held])
    if rho == 0 or spread == 0:
        return base_B.copy()
    top_B = _argmax(score_B, base_B)
    if _divergence(top_B, base_B) <= rho * (1 + 1e-12):  # equal but for rounding
        return top_B
    score_B = np.where(held, (score_B - score_B[held].max()) / spread, 0.0)
    mean = base_B @ score_B
    # With nothing cut off the answer is exact here; cutting lowers the divergence.
    low, high = mean - np.sqrt(base_B @ (score_B - mean) ** 2) / np.sqrt(rho), 0.0
    while low < (x := (low + high) / 2) < high:
        if _divergence(_tilted(score_B, base_B, x), base_B) <= rho:
            low = x
        else:
            high = x
    return _tilted(score_B, base_B, low)


def _tilted(score_B: FloatArray, base_B: FloatArray, x: float) -> FloatArray:
    q_B = base_B * np.maximum(score_B - x, 0.0)
    return q_B / q_B.sum()


def _divergence(q_B: FloatArray, base_B: FloatArray) -> float:
    held = base_B > 0
    return float(np.sum((q_B[held] - base_B[held]) ** 2 / base_B[held]))


def _argmax(score_B: FloatArray, base_B: FloatArray) -> FloatArray:
    """All mass on the largest score that has base measure; ties share by base measure."""
    q_B = np.where(score_B == score_B[base_B > 0].max(), base_B, 0.0)
    return q_B / q_B.sum()
