"""Rollouts where they are expected to raise pass@k most: a first success, or a mixed group."""

import numpy as np

from gdro.core.allocate.base import Allocator
from gdro.core.budget import concave
from gdro.core.policy import Batch, Setting
from gdro.core.types import FloatArray, IntArray


class Progress(Allocator):
    """Maximises sum E[k (1 - p)^(k - 1) h(n, p)] over the posterior of each p.

    The first factor is what pass@k gains from a little more success, the second the mean gradient
    of a group of n, in units of the prompt's (D16): an all-wrong group has none. h is concave in n,
    so the exact integer optimum takes the largest marginals. It is the gain of pass@k where
    gradients are alike in length, prompts do not teach each other, and each counts alike in the
    loss (`aggregation=prompt`); where rollouts do, the push is n h, which is not concave.
    """

    def __init__(self, setting: Setting) -> None:
        self.k, self.std_scaled = setting.config.rollout.k, setting.std_scaled

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        last = int(batch.hi_P.max(initial=1))
        gain_PN = progress(batch.a_P, batch.b_P, self.k, last, self.std_scaled)
        marginal_PK = np.diff(gain_PN, axis=1, prepend=0.0)
        variance_P = batch.p_P * (1 - batch.p_P)
        return concave(marginal_PK, 1, batch.lo_P, batch.hi_P, batch.budget, rng, variance_P)


def progress(
    a_P: FloatArray, b_P: FloatArray, k: int, n_max: int, std_scaled: bool = True
) -> FloatArray:
    """E[(1 - p)^(k - 1) h(n, p)] under p ~ Beta(a, b), for n = 2, ..., n_max.

    With h as a sum over the number right, c, every term is a moment of the posterior:
    E[p^i (1 - p)^j] = (a)_i (b)_j / (a + b)_(i + j), (x)_i = x (x + 1) ... (x + i - 1). Without std
    scaling h is (n - 1) / n, whatever p.

    Returns:
        (P, n_max - 1), column n - 2 for groups of n.
    """
    from scipy.special import gammaln

    def rising_PI(x_P: FloatArray, last: int) -> FloatArray:
        """log (x)_i, i = 0, ..., last."""
        logs = np.log(x_P[:, None] + np.arange(last))
        return np.concatenate([np.zeros((x_P.size, 1)), np.cumsum(logs, axis=1)], axis=1)

    right_PI = rising_PI(a_P, n_max)
    wrong_PI = rising_PI(b_P, n_max + k)
    total_PI = rising_PI(a_P + b_P, n_max + k)
    if not std_scaled:
        n_N = np.arange(2, n_max + 1)
        return np.exp(wrong_PI[:, [k - 1]] - total_PI[:, [k - 1]]) * ((n_N - 1) / n_N)
    gain_NP = np.empty((n_max - 1, a_P.size))
    for n in range(2, n_max + 1):
        c = np.arange(1, n)
        log_C = gammaln(n + 1) - gammaln(c + 1) - gammaln(n - c + 1)
        log_C += 0.5 * np.log(c * (n - c) * (n - 1) / n) - np.log(n)
        log_PC = right_PI[:, c - 1] + wrong_PI[:, n - c + k - 2] + log_C
        gain_NP[n - 2] = np.exp(log_PC - total_PI[:, [n + k - 3]]).sum(axis=1)
    return gain_NP.T
