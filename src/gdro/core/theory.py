"""What the theory speaks of (paper 4; method section 5)."""

import numpy as np

from gdro.core.types import FloatArray


def entropy(q_B: FloatArray) -> float:
    """-sum q log q in nats; its exponential is the effective support, in bins."""
    held = q_B[q_B > 0]
    return float(-(held * np.log(held)).sum())


def lead_lag(weight_B: FloatArray, share_B: FloatArray) -> float:
    """Mean bin index of the weights minus that of the data (Eq. 32), in bins.

    Negative: the adversary works on harder bins than the data's average.

    Args:
        weight_B: Weights of the bins alone, normalised here.
        share_B: Shares of the bins in the data, normalised here.
    """
    index = np.arange(len(weight_B))
    return float(index @ weight_B / np.sum(weight_B) - index @ share_B / np.sum(share_B))


def robust_value(loss_B: FloatArray, eta: float) -> float:
    """R_eta = max_q {q.L + H(q) / eta} = log(sum_b exp(eta L_b)) / eta (Eq. 22-24), eta > 0.

    Attained at `entropic` with a uniform base measure; max L <= R_eta <= max L + log(B)/eta (25).
    """
    top = float(np.max(loss_B))
    return top + float(np.log(np.sum(np.exp(eta * (loss_B - top))))) / eta
