"""The square-root law: n proportional to the standard deviation (Eq. 28-31)."""

import numpy as np

from gdro.core.allocate.base import Allocator
from gdro.core.budget import separable
from gdro.core.policy import Batch, Setting
from gdro.core.types import IntArray
from gdro.core.variance import advantage_variance


class Neyman(Allocator):
    """The integers that minimise sum w^2 v / n: n proportional to |w| sqrt(v) (Eq. 30, D18).

    v is the variance of one rollout's term of the gradient. With the proxy `reward` it is taken of
    each prompt: p (1 - p) where the estimator's variance is O(1/n) (unscaled advantages, or the
    aggregation `neutral`), and with std-scaled advantages averaged per prompt the mean squared
    advantage at n_mean, the best constant there is. The other proxies know it of each bin.
    """

    reads_weights = True

    def __init__(self, setting: Setting) -> None:
        config = setting.config.rollout
        self._by_prompt = config.proxy == "reward"
        self._scaled = setting.std_scaled and config.aggregation != "neutral"
        self._n_mean = setting.n_mean

    def allocate(self, batch: Batch, rng: np.random.Generator) -> IntArray:
        if not self._by_prompt:
            # An unseen prompt has no bin, and hardly a choice: it passes for an average one.
            of_bin_P = batch.variance_B[batch.bin_P]
            variance_P = np.where(batch.bin_P >= 0, of_bin_P, batch.variance_B.mean())
        elif self._scaled:
            variance_P = advantage_variance(self._n_mean, batch.p_P)
        else:
            variance_P = batch.p_P * (1 - batch.p_P)
        a_P = batch.weight_P**2 * variance_P
        return separable(a_P, batch.lo_P, batch.hi_P, batch.budget, rng, variance_P)
