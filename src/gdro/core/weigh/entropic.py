"""The entropic ambiguity set: exponential weights (Eq. 14, 22-24)."""

import numpy as np

from gdro.core.types import FloatArray


def entropic(score_B: FloatArray, base_B: FloatArray, eta: float) -> FloatArray:
    """argmax_q q.S - KL(q | base) / eta: base * exp(eta S), normalised (Eq. 14, 24)."""
    top = score_B[base_B > 0].max()
    q_B = base_B * np.exp(np.minimum(eta * (score_B - top), 0.0))
    return q_B / q_B.sum()
