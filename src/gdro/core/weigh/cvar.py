"""The CVaR ambiguity set: all mass on the worst share alpha (method D10)."""

import numpy as np

from gdro.core.types import FloatArray


def cvar(score_B: FloatArray, base_B: FloatArray, alpha: float) -> FloatArray:
    """argmax of q.S over q <= base / alpha: the worst mass alpha; ties share by base measure."""
    order = np.argsort(-score_B, kind="stable")
    full = np.searchsorted(np.cumsum(base_B[order]), alpha * (1 - 1e-12))
    edge = score_B[order[min(int(full), len(order) - 1)]]
    above, tied = score_B > edge, score_B == edge
    q_B = np.where(above, base_B / alpha, 0.0)
    q_B[tied] = max(1.0 - q_B.sum(), 0.0) * base_B[tied] / base_B[tied].sum()
    return q_B / q_B.sum()
